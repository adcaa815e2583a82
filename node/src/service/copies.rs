//! What lacks copies, as far as the catalog says who holds what.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::catalog::item::Kind;
use keepwell_protocol::catalog::member::NodeBody;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::id::{BlobId, NodeId, StorageId};
use keepwell_protocol::wire;
use keepwell_store::counts::Count;
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;

use crate::engine::absence::dead;
use crate::engine::closure;

/// How many blobs are on fewer disks than refs ask for, of those that refs ask several copies of. The dead count for nothing.
///
/// It goes through all refs, unless none asks for more than one copy.
pub(super) fn under_replicated(snapshot: &Snapshot) -> Result<u64, StoreError> {
    if snapshot.count(Count::Replicated)? == 0 {
        return Ok(0);
    }
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
fn storages(snapshot: &Snapshot) -> Result<BTreeMap<NodeId, StorageId>, StoreError> {
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
