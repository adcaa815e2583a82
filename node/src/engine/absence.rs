//! Who is waited for: every member but the dead, the absent, and those who were removed.
//!
//! An admin declares a member dead, which is an item of the catalog. Absent is who has been silent for [`ABSENT_AFTER_MS`] of the time that
//! this node has run: a clock that jumps, or a laptop that sleeps, makes nobody absent. What was noted of that survives a restart, but for
//! the last of it: a disk that was put back may be one of when others were out of reach, and they are to be heard before it acts alone.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::catalog::item::{Item, Kind};
use keepwell_protocol::catalog::member::NodeBody;
use keepwell_protocol::gc::question::Why;
use keepwell_protocol::id::{NodeId, StorageId};
use keepwell_protocol::wire;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;
use keepwell_store::tables::{Access, Tables};

use super::{Engine, Step};
use crate::limits::{ABSENT_AFTER_MS, ABSENT_AFTER_START_MS, MAX_TICK_GAP_MS, SILENCE_NOTED_EVERY_MS};

/// For how long this node has run without hearing from each member. Kept when the engine starts anew in one process, which is no start of the node: a
/// disk that is full for days fails a step now and then, and whoever is gone stays gone.
#[derive(Default)]
pub(super) struct Absence {
    /// In milliseconds; none before the first tick.
    silent_ms: Option<BTreeMap<NodeId, u64>>,
    /// When the last tick was; none before the first.
    ticked_ms: Option<u64>,
    /// When the silences were last written down, or the first tick was.
    noted_ms: u64,
}

impl Engine {
    /// As time passes: whoever was not heard has been silent for longer.
    pub(super) fn absence_on_tick(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        let noted = step.txn.silences()?;
        let before = self.absence.silent_ms.clone().unwrap_or_else(|| at_start(&noted));
        // A tick that comes late tells of a machine that slept: it could not have heard anybody.
        let passed_ms = step.steady_ms.saturating_sub(self.absence.ticked_ms.unwrap_or(step.steady_ms)).min(MAX_TICK_GAP_MS);
        if self.absence.ticked_ms.replace(step.steady_ms).is_none() {
            self.absence.noted_ms = step.steady_ms;
        }
        let heard: BTreeSet<NodeId> = self.replication.heard_since_tick();
        let mut members = BTreeMap::new();
        for node in self.members(step.txn)?.into_keys() {
            let silent_ms = before.get(&node).copied().unwrap_or_default().saturating_add(passed_ms);
            members.insert(node, if heard.contains(&node) { 0 } else { silent_ms });
        }
        let was_silent = |node: &NodeId| noted.get(node).is_some_and(|ms| *ms > 0);
        let comes_back = members.iter().any(|(node, ms)| *ms == 0 && was_silent(node));
        let is_due = step.steady_ms.saturating_sub(self.absence.noted_ms) >= SILENCE_NOTED_EVERY_MS;
        let is_noted = comes_back || (is_due && members.values().any(|ms| *ms > 0));
        let members = self.absence.silent_ms.insert(members);
        if is_noted {
            self.absence.noted_ms = step.steady_ms;
            step.txn.put_silences(members)?;
        }
        Ok(())
    }

    /// The other members that may still write and be heard: who is neither dead nor absent. Who is connected is about to be heard.
    pub(super) fn waited_for(&self, txn: &Transaction<'_>) -> Result<Vec<NodeId>, StoreError> {
        let members = self.members(txn)?.into_keys();
        Ok(members.filter(|node| !self.is_absent(node) || self.is_connected(node)).collect())
    }

    fn is_absent(&self, node: &NodeId) -> bool {
        let silent = self.absence.silent_ms.as_ref().and_then(|silent| silent.get(node));
        silent.is_some_and(|ms| *ms >= ABSENT_AFTER_MS)
    }

    /// The other members that nobody declared dead or removed, with the disks that their records name.
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
        let (dead, removed) = (dead(txn)?, txn.removed()?);
        members.retain(|node, _| !dead.contains(node) && !removed.contains(node));
        Ok(members)
    }

    /// Why this node may delete nothing whatever others say: it was declared dead, and nobody asks what it knows any more.
    pub(super) fn refuses_as_dead(&self, txn: &Transaction<'_>) -> Result<Option<Why>, StoreError> {
        Ok((!txn.item(&Item::death(&self.home.node))?.is_empty()).then_some(Why::DeclaredDead))
    }

    /// Whether others count on this node, and it can count on itself: then what it deletes has been agreed on with them.
    pub(super) fn is_counted_on(&self, txn: &Transaction<'_>) -> Result<bool, StoreError> {
        Ok(self.is_member(txn)? && self.refuses_by_itself(txn)?.is_none())
    }
}

/// For how long members count as silent when this node starts, by what was noted.
fn at_start(noted: &BTreeMap<NodeId, u64>) -> BTreeMap<NodeId, u64> {
    noted.iter().map(|(node, ms)| (*node, (*ms).min(ABSENT_AFTER_MS - ABSENT_AFTER_START_MS))).collect()
}

/// The members that an admin declared dead.
pub fn dead<A: Access>(tables: &Tables<A>) -> Result<BTreeSet<NodeId>, StoreError> {
    let mut dead = BTreeSet::new();
    tables.visit_items::<StoreError>(Kind::DEATH, "", |key, row| {
        dead.extend(key.parse::<NodeId>().ok().filter(|_| !row.is_empty()));
        Ok(true)
    })?;
    Ok(dead)
}
