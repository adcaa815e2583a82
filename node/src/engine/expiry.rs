//! Ending refs: writing the marks of values whose deadline has passed, while this machine's clock is trusted.
//!
//! A value without a mark goes on as before, here and everywhere: it is shown, and it keeps what it reaches. A mark is an entry like any
//! other, so what it leaves unneeded goes the way of all garbage.

use std::collections::BTreeSet;

use keepwell_protocol::catalog::expiry::mark_after_ms;
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::id::NodeId;
use keepwell_store::error::StoreError;

use super::author::{Batch, Mark};
use super::{Engine, Step};
use crate::limits::EXPIRIES_PER_STEP;

impl Engine {
    /// Writes the marks that are this node's to write now: a portion of them, the earliest deadlines first.
    pub(super) fn expire(&self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        if self.clock_doubt().is_some() || self.is_index_damaged() {
            return Ok(());
        }
        let expired = step.txn.expired_values(step.now_ms, EXPIRIES_PER_STEP)?;
        if expired.is_empty() || !self.is_member(step.txn)? {
            return Ok(());
        }
        let members: Vec<NodeId> = self.members(step.txn)?.into_keys().collect();
        let (mut marks, mut marked) = (Vec::new(), BTreeSet::new());
        for expiry in expired {
            let item = Item::reference(&expiry.name);
            let row = step.txn.item(&item)?;
            let Some(value) = row.values().iter().find(|value| value.id == expiry.value) else { continue };
            let after_ms = mark_after_ms(&self.home.node, &value.author, &members, &value.id);
            // Two marks of one ref would need two entries: the other comes with the next step.
            if expiry.expires_ms.saturating_add(after_ms) <= step.now_ms && marked.insert(expiry.name) {
                marks.push(Mark { item, value: value.id });
            }
        }
        self.publish(step, Batch { marks, ..Batch::default() })
    }
}

#[cfg(test)]
mod tests;
