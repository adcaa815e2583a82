//! Leases in the world: users take, renew and end them, and a checker holds each node to those that it has acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::clock::Doubt;
use keepwell_protocol::id::{BlobId, LeaseId};
use keepwell_protocol::name::OwnerName;
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;

use super::{Violation, World};
use crate::engine::{Engine, Input, LeaseOp, LeaseUse, Reply, RequestId, closure};

/// How long a lease in the world lasts at most (milliseconds).
const LASTS_MS: u64 = 20_000;

/// The leases that nodes have acknowledged, by node: until when.
pub(super) type Acknowledged = BTreeMap<(usize, LeaseId), u64>;

impl World {
    /// A user takes a lease on some blobs, or changes one that the node gave.
    pub(super) fn lease(&mut self, node: usize) -> Result<(), Violation> {
        let owner = OwnerName::of_user("user", &node.to_string());
        let given: Vec<LeaseId> = self.oracle.leases.keys().filter(|(giver, _)| *giver == node).map(|(_, id)| *id).collect();
        let ttl_ms = 1 + self.draw(LASTS_MS);
        let known = given.get(usize::try_from(self.draw(2 * given.len() as u64)).unwrap_or(0));
        let op = match known.map(|lease| LeaseUse { lease: *lease, owner: owner.clone() }) {
            None => LeaseOp::Add { owner, ttl_ms, is_flat: ttl_ms.is_multiple_of(3), blobs: self.some_held(node, 3) },
            Some(used) => match self.draw(3) {
                0 => LeaseOp::Remove(used),
                1 => LeaseOp::Renew { used, ttl_ms },
                _ => LeaseOp::Give { used, blobs: self.some_held(node, 2) },
            },
        };
        self.give(node, Input::Lease { request: RequestId(7), op })
    }

    /// Leases end by the clock of their node, unless that is contradicted; what has ended does not come back when a clock is set back.
    pub(super) fn end_acknowledged_leases(&mut self, node: usize) {
        let doubt = self.nodes[node].engine().and_then(Engine::clock_doubt);
        if !doubt.is_some_and(Doubt::is_contradicted) {
            let now_ms = self.clock_of(node);
            self.oracle.leases.retain(|(giver, _), until_ms| *giver != node || *until_ms > now_ms);
        }
    }

    /// Whether a node says that a lease ended with this step; if so, it is no longer held to it.
    pub(super) fn is_removed_lease(&mut self, node: usize, reply: &Reply) -> bool {
        match reply {
            Reply::Leased(id, lease) if lease.expires_ms <= self.clock_of(node) => {
                self.oracle.leases.remove(&(node, *id));
                true
            }
            _ => false,
        }
    }
}

/// S22: what a node has purged or given up is covered by no lease that it has acknowledged and that has not ended. S3: it knows those leases.
pub(super) fn check_deleted(
    engine: &Engine,
    acknowledged: &Acknowledged,
    node: usize,
    gone: impl IntoIterator<Item = BlobId>,
) -> Result<(), String> {
    let gone: BTreeSet<BlobId> = gone.into_iter().collect();
    if gone.is_empty() {
        return Ok(());
    }
    let live = acknowledged.iter().filter(|((giver, _), _)| *giver == node);
    for ((_, id), until_ms) in live {
        let covered = covered(engine, id, *until_ms).map_err(|error| error.to_string())?;
        let covered = covered.ok_or_else(|| format!("S3: lease {id} was acknowledged and has gone, or ends sooner"))?;
        if let Some(blob) = gone.intersection(&covered).next() {
            return Err(format!("S22: blob {blob} was deleted, and lease {id} covers it"));
        }
    }
    Ok(())
}

/// What no ref reaches is found when it may go: it has a number, a grace whose end is waited for, or waits for a lease that is there.
pub(super) fn check_none_forgotten(snapshot: &Snapshot) -> Result<(), String> {
    let text = |error: StoreError| error.to_string();
    let mut waiting = BTreeSet::new();
    for (lease, blob) in snapshot.waiting_for_leases().map_err(text)? {
        if snapshot.lease(&lease).map_err(text)?.is_some() {
            waiting.insert(blob);
        }
    }
    let mut forgotten = None;
    let visited = snapshot.visit_blobs(&BlobId([0; BlobId::LEN]), |id, record| {
        let is_found = snapshot.is_live(&id)?
            || snapshot.is_in_grace(&id, &record)?
            || snapshot.is_unneeded_since(&id)?.is_some()
            || waiting.contains(&id);
        if !is_found {
            forgotten = Some(id);
        }
        Ok::<_, StoreError>(is_found)
    });
    visited.map_err(text)?;
    forgotten.map_or(Ok(()), |id| Err(format!("blob {id} is not needed, and no collection will find it")))
}

/// What a lease covers, by a walk of its own; none if there is no such lease that lasts so long.
fn covered(engine: &Engine, id: &LeaseId, until_ms: u64) -> Result<Option<BTreeSet<BlobId>>, StoreError> {
    let snapshot = engine.store().snapshot()?;
    let Some(lease) = snapshot.lease(id)?.filter(|lease| lease.expires_ms >= until_ms) else { return Ok(None) };
    let roots = snapshot.leased_blobs(id, &BlobId([0; BlobId::LEN]), usize::MAX)?;
    let mut covered: BTreeSet<BlobId> = roots.iter().copied().collect();
    if !lease.is_flat {
        closure::visit(&snapshot, &roots, |id| {
            covered.insert(id);
            Ok(true)
        })?;
    }
    Ok(Some(covered))
}
