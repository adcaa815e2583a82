//! Who is waited for: every member but the dead and the absent.
//!
//! An admin declares a member dead, which is an item of the catalog. Absent is who has been silent for [`ABSENT_AFTER_MS`] of the time that
//! this node has run: a clock that jumps, or a laptop that sleeps, makes nobody absent. What was noted of that survives a restart.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::catalog::authority::{Authority, role_of};
use keepwell_protocol::catalog::change::Write;
use keepwell_protocol::catalog::item::{Item, Kind};
use keepwell_protocol::catalog::member::{DeathBody, NodeBody};
use keepwell_protocol::id::{NodeId, StorageId};
use keepwell_protocol::wire;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use super::author::{Batch, OwnWrite};
use super::effect::{Effect, Reply};
use super::input::RequestId;
use super::{Engine, Step};
use crate::limits::{ABSENT_AFTER_MS, MAX_TICK_GAP_MS, SILENCE_NOTED_EVERY_MS};

/// For how long this node has run without hearing from each member.
#[derive(Default)]
pub(super) struct Absence {
    /// In milliseconds; none before the first tick.
    silent_ms: Option<BTreeMap<NodeId, u64>>,
    ticked_ms: u64,
    noted_ms: u64,
}

impl Engine {
    /// As time passes: whoever was not heard has been silent for longer.
    pub(super) fn absence_on_tick(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        let noted = step.txn.silences()?;
        let before = self.absence.silent_ms.take().unwrap_or_else(|| noted.clone());
        // A tick that comes late tells of a machine that slept: it could not have heard anybody.
        let passed_ms = match self.absence.ticked_ms {
            0 => {
                self.absence.noted_ms = step.now_ms;
                0
            }
            before => step.now_ms.saturating_sub(before).min(MAX_TICK_GAP_MS),
        };
        self.absence.ticked_ms = step.now_ms;
        let heard: BTreeSet<NodeId> = self.replication.heard_since_tick();
        let mut members = BTreeMap::new();
        for node in self.members(step.txn)?.into_keys() {
            let silent_ms = before.get(&node).copied().unwrap_or_default().saturating_add(passed_ms);
            members.insert(node, if heard.contains(&node) { 0 } else { silent_ms });
        }
        let was_silent = |node: &NodeId| noted.get(node).is_some_and(|ms| *ms > 0);
        let comes_back = members.iter().any(|(node, ms)| *ms == 0 && was_silent(node));
        let is_due = step.now_ms.saturating_sub(self.absence.noted_ms) >= SILENCE_NOTED_EVERY_MS;
        if comes_back || (is_due && members.values().any(|ms| *ms > 0)) {
            self.absence.noted_ms = step.now_ms;
            step.txn.put_silences(&members)?;
        }
        self.absence.silent_ms = Some(members);
        Ok(())
    }

    /// The other members that may still write and be heard: who is neither dead nor absent.
    pub(super) fn waited_for(&self, txn: &Transaction<'_>) -> Result<Vec<NodeId>, StoreError> {
        let members = self.members(txn)?.into_keys();
        Ok(members.filter(|node| !self.is_absent(node)).collect())
    }

    fn is_absent(&self, node: &NodeId) -> bool {
        let silent = self.absence.silent_ms.as_ref().and_then(|silent| silent.get(node));
        silent.is_some_and(|ms| *ms >= ABSENT_AFTER_MS)
    }

    /// The other members that nobody declared dead, with the disks that their records name.
    pub(super) fn members(&self, txn: &Transaction<'_>) -> Result<BTreeMap<NodeId, StorageId>, StoreError> {
        let mut members = BTreeMap::new();
        txn.visit_items(Kind::NODE, "", |key, row| {
            let node = key.parse().map_err(|_| StoreError::Inconsistent(format!("`{key}` is no node")))?;
            let body = row.winner().and_then(|value| wire::decode_own::<NodeBody>(&value.body).ok());
            // One whose record cannot be read is waited for, and its word counts for no disk.
            let storage = body.map_or(StorageId([0; StorageId::LEN]), |body| body.storage);
            members.insert(node, storage);
            Ok::<_, StoreError>(true)
        })?;
        members.remove(&self.home.node);
        txn.visit_items(Kind::DEATH, "", |key, row| {
            if let Ok(node) = key.parse::<NodeId>()
                && !row.is_empty()
            {
                members.remove(&node);
            }
            Ok::<_, StoreError>(true)
        })?;
        Ok(members)
    }

    /// Declares a member dead, or takes that back.
    pub(super) fn declare(
        &self,
        step: &mut Step<'_, '_>,
        request: RequestId,
        node: &NodeId,
        is_dead: bool,
    ) -> Result<(), StoreError> {
        let own = &self.home.node;
        let role = role_of(own, &step.txn.item(&Item::network())?, &step.txn.item(&Item::node(own))?);
        let item = Item::death(node);
        let row = step.txn.item(&item)?;
        let body = is_dead.then(|| wire::encode(&DeathBody { declared_ms: step.now_ms }));
        let write = Write { item: item.clone(), replaces: vec![], body: body.clone() };
        let authority = Authority { network: &self.home.network, author: *own, role };
        let reply = match authority.judge(&write, &row) {
            Err(refused) => Reply::MayNotAdmit(refused),
            Ok(()) if row.is_empty() == is_dead => {
                self.publish(step, Batch { writes: vec![OwnWrite { item, body }], ..Batch::default() })?;
                Reply::Declared
            }
            // It is so already.
            Ok(()) => Reply::Declared,
        };
        step.effects.push(Effect::Reply(request, reply));
        Ok(())
    }
}
