//! What lacks copies, as far as the catalog says who holds what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use keepwell_protocol::catalog::item::Kind;
use keepwell_protocol::catalog::member::NodeBody;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::id::{BlobId, NodeId, StorageId};
use keepwell_protocol::wire;
use keepwell_store::counts::Count;
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;

use super::Node;
use crate::engine::absence::dead;
use crate::engine::closure;

/// A count is made again when this many times as long as it took has passed since: so it takes no more than a twentieth of the time of who
/// asks without pause.
const PAUSE: u64 = 20;
/// While nothing is written, it is made again after this time (milliseconds).
const MOST_MS: u64 = 60_000;

/// What was counted last, for whoever asks again soon: a count goes through all refs.
#[derive(Debug, Default)]
pub struct LastCount(Mutex<Option<Counted>>);

#[derive(Debug, Clone, Copy)]
struct Counted {
    lacking: u64,
    /// How many entries the log had.
    entries: u64,
    /// When it was done, and how long it took, in milliseconds.
    at_ms: u64,
    took_ms: u64,
}

impl LastCount {
    /// The last count if it still goes, else a new one.
    fn get(
        &self,
        entries: u64,
        now_ms: &dyn Fn() -> u64,
        count: impl FnOnce() -> Result<u64, StoreError>,
    ) -> Result<u64, StoreError> {
        // Who asks meanwhile waits and has this one.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let began_ms = now_ms();
        let still_goes = |counted: &Counted| {
            let age_ms = began_ms.abs_diff(counted.at_ms);
            age_ms < counted.took_ms.saturating_mul(PAUSE) || (counted.entries == entries && age_ms < MOST_MS)
        };
        if let Some(counted) = last.filter(still_goes) {
            return Ok(counted.lacking);
        }
        let lacking = count()?;
        let at_ms = now_ms();
        *last = Some(Counted { lacking, entries, at_ms, took_ms: at_ms.saturating_sub(began_ms) });
        Ok(lacking)
    }
}

/// How many blobs are on fewer disks than refs ask for, of those that refs ask several copies of. The dead count for nothing.
///
/// A node that is asked again and again may tell what it counted a moment ago.
pub(super) fn under_replicated(node: &dyn Node, snapshot: &Snapshot) -> Result<u64, StoreError> {
    if snapshot.count(Count::Replicated)? == 0 {
        return Ok(0);
    }
    match node.last_count() {
        Some(last) => last.get(snapshot.next_arrival()?, &|| node.now_ms(), || count(snapshot)),
        None => count(snapshot),
    }
}

/// Goes through all refs.
fn count(snapshot: &Snapshot) -> Result<u64, StoreError> {
    let (storages, wanted) = (storages(snapshot)?, wanted(snapshot)?);
    let mut lacking = 0;
    for (id, copies) in wanted {
        let holders = snapshot.holders(&id)?;
        let disks: BTreeSet<&StorageId> = holders.iter().filter_map(|holding| storages.get(&holding.node)).collect();
        lacking += u64::from((disks.len() as u64) < u64::from(copies));
    }
    Ok(lacking)
}

/// The blobs that refs ask several copies of, and how many.
fn wanted(snapshot: &Snapshot) -> Result<BTreeMap<BlobId, u32>, StoreError> {
    let mut wanted: BTreeMap<BlobId, u32> = BTreeMap::new();
    snapshot.visit_items::<StoreError>(Kind::REF, "", |_, row| {
        for body in row.values().iter().filter_map(|value| RefBody::of(value).ok()).filter(|body| body.copies > 1) {
            let roots: Vec<BlobId> = body.links.iter().map(|link| link.sha1).collect();
            closure::visit(snapshot, &roots, |id| {
                let copies = wanted.entry(id).or_default();
                *copies = body.copies.max(*copies);
                Ok(true)
            })?;
        }
        Ok(true)
    })?;
    Ok(wanted)
}

/// The disks of the members that nobody declared dead or removed.
pub(super) fn storages(snapshot: &Snapshot) -> Result<BTreeMap<NodeId, StorageId>, StoreError> {
    let (dead, removed) = (dead(snapshot)?, snapshot.removed()?);
    let mut storages = BTreeMap::new();
    snapshot.visit_items::<StoreError>(Kind::NODE, "", |key, row| {
        let body = row.winner().and_then(|value| wire::decode_own::<NodeBody>(&value.body).ok());
        if let (Ok(node), Some(body)) = (key.parse::<NodeId>(), body)
            && !dead.contains(&node)
            && !removed.contains(&node)
        {
            storages.insert(node, body.storage);
        }
        Ok(true)
    })?;
    Ok(storages)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn it_is_counted_again_when_something_was_written_and_a_while_has_passed_or_after_most_ms() {
        let (last, clock, counts) = (LastCount::default(), Cell::new(1_000), Cell::new(0));
        let asked = |at_ms: u64, entries: u64| {
            clock.set(at_ms);
            let count = || {
                clock.set(clock.get() + 10);
                counts.set(counts.get() + 1);
                Ok(counts.get())
            };
            last.get(entries, &|| clock.get(), count).map_err(|error| error.to_string()).unwrap()
        };
        assert_eq!(asked(1_000, 1), 1);
        let done_ms = 1_010;
        assert_eq!(asked(done_ms + 10 * PAUSE - 1, 2), 1, "a moment ago");
        assert_eq!(asked(done_ms + MOST_MS - 1, 1), 1, "nothing was written");
        assert_eq!(asked(done_ms + 10 * PAUSE, 2), 2);
        assert_eq!(asked(done_ms + 10 * PAUSE + 10 + MOST_MS, 2), 3);
        assert_eq!(asked(5, 2), 4, "the clock was set back");
    }
}
