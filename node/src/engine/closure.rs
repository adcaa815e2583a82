//! The closure of a blob: itself and everything that link facts tie it to. Computed over the catalog, whatever is held here.

use std::collections::BTreeSet;

use keepwell_protocol::id::BlobId;
use keepwell_store::error::StoreError;
use keepwell_store::tables::{Access, Tables};

/// The blobs in the closure of `roots` that this node does not hold, in order, at most `limit` of them.
pub fn missing<A: Access>(tables: &Tables<A>, roots: &[BlobId], limit: usize) -> Result<Vec<BlobId>, StoreError> {
    let mut missing = Vec::new();
    visit(tables, roots, |id| {
        if tables.blob(&id)?.is_none() {
            missing.push(id);
        }
        Ok(missing.len() < limit)
    })?;
    Ok(missing)
}

/// As [`missing`], without `but` and what it alone leads to.
pub(super) fn missing_but<A: Access>(
    tables: &Tables<A>,
    roots: &[BlobId],
    but: &BlobId,
    limit: usize,
) -> Result<Vec<BlobId>, StoreError> {
    let mut missing = Vec::new();
    visit_below(tables, roots, |id| Ok(id == but), |id| missing.push(id))?;
    let mut named = Vec::new();
    for id in missing {
        if named.len() < limit && tables.blob(&id)?.is_none() {
            named.push(id);
        }
    }
    Ok(named)
}

/// Visits each blob in the closure of `roots` that is not `live`, nor behind one that is: those are, too.
pub(super) fn visit_below<A: Access>(
    tables: &Tables<A>,
    roots: &[BlobId],
    is_live: impl Fn(&BlobId) -> Result<bool, StoreError>,
    mut visit: impl FnMut(BlobId),
) -> Result<(), StoreError> {
    let (mut seen, mut due) = (BTreeSet::new(), roots.to_vec());
    while let Some(id) = due.pop() {
        if seen.insert(id) && !is_live(&id)? {
            visit(id);
            due.extend(tables.children(&id)?.iter().map(|child| child.sha1));
        }
    }
    Ok(())
}

/// Visits each blob in the closure of `roots` once, parents before their children, until `visit` returns false.
pub fn visit<A: Access>(
    tables: &Tables<A>,
    roots: &[BlobId],
    mut visit: impl FnMut(BlobId) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let mut seen = BTreeSet::new();
    let mut due: Vec<BlobId> = roots.iter().rev().copied().collect();
    while let Some(id) = due.pop() {
        if !seen.insert(id) {
            continue;
        }
        if !visit(id)? {
            break;
        }
        due.extend(tables.children(&id)?.iter().rev().map(|child| child.sha1));
    }
    Ok(())
}
