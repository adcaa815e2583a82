//! Checkers of deletions. They walk from the refs over the links themselves, and trust none of the counts that deletions go by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keepwell_protocol::catalog::item::Kind;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::id::{BlobFact, BlobId, ValueId};
use keepwell_store::audit::{Note, Noted};
use keepwell_store::counts::Count;
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;

use super::{Violation, World};
use crate::engine::{Engine, closure};

/// S17: what a node has purged is reached by no ref that it knows.
pub(super) fn check_purged(engine: &Engine, purged: &[BlobFact]) -> Result<(), String> {
    if purged.is_empty() {
        return Ok(());
    }
    let snapshot = engine.store().snapshot().map_err(text)?;
    let reached = reached(&snapshot, |_, _| true).map_err(text)?;
    match purged.iter().find(|fact| reached.contains(&fact.sha1)) {
        Some(fact) => Err(format!("S17: blob {} was purged, and a ref reaches it", fact.sha1)),
        None => check_noted(&snapshot, purged.iter().map(|fact| fact.sha1)),
    }
}

/// Whoever has deleted something remembers it, and on what that rested.
fn check_noted(snapshot: &Snapshot, gone: impl IntoIterator<Item = BlobId>) -> Result<(), String> {
    let from = snapshot.last_note().map_err(text)?.and_then(|last| last.checked_sub(NOTES_BACK));
    let mut noted = BTreeSet::new();
    for (_, Noted { note, .. }) in snapshot.notes_after(from, usize::MAX).map_err(text)? {
        match note {
            Note::Purged { blobs, .. } => noted.extend(blobs.into_iter().map(|(id, _)| id)),
            Note::Dropped { blob, .. } => drop(noted.insert(blob.sha1)),
            _ => {}
        }
    }
    match gone.into_iter().find(|id| !noted.contains(id)) {
        Some(id) => Err(format!("blob {id} was deleted, and the audit log does not say so")),
        None => Ok(()),
    }
}

impl World {
    /// A crash in the last call of a commit may leave it made and told to nobody: what was deleted so lies in the trash.
    pub(super) fn hear_of_deletions(&mut self, node: usize) -> Result<(), Violation> {
        let Some(engine) = self.nodes[node].engine() else { return Ok(()) };
        let gone = match unheard(self, node, engine) {
            Ok(gone) => gone,
            Err(_) if self.nodes[node].disk_crashed() => return self.crashed(node),
            Err(error) => return Err(self.violation(error.to_string())),
        };
        let ids: Vec<BlobId> = gone.iter().map(|(fact, _)| fact.sha1).collect();
        let (purged, dropped): (Vec<_>, Vec<_>) = gone.into_iter().partition(|(_, was_purged)| *was_purged);
        let purged: Vec<BlobFact> = purged.into_iter().map(|(fact, _)| fact).collect();
        self.judge(node, |_| check_purged(engine, &purged).map_err(|broken| format!("before it crashed: {broken}")))?;
        purged.into_iter().for_each(|fact| self.oracle.purged(node, fact));
        dropped.into_iter().for_each(|(fact, _)| self.oracle.gave_up(node, fact));
        ids.iter().for_each(|id| self.note_loss_by_flips(id));
        Ok(())
    }
}

/// What a node is believed to hold and has deleted; whether because nothing needed it.
fn unheard(world: &World, node: usize, engine: &Engine) -> Result<Vec<(BlobFact, bool)>, StoreError> {
    let (snapshot, mut gone) = (engine.store().snapshot()?, Vec::new());
    for (_, fact) in world.oracle.held.iter().filter(|(holder, _)| *holder == node) {
        if snapshot.blob(&fact.sha1)?.is_none() && snapshot.trashed(&fact.sha1)?.is_some() {
            gone.push((*fact, snapshot.was_purged(&fact.sha1)?));
        }
    }
    Ok(gone)
}
/// How many notes are looked at: more than one step writes.
const NOTES_BACK: u64 = 2_000;

/// S20: when a node has given a copy up, as many others hold theirs as the refs that it knows ask for, unless one of them lost its disk.
/// Of a node that is down it is believed that it holds what it may.
pub(super) fn check_dropped(world: &World, node: usize, blob: &BlobId) -> Result<(), String> {
    let Some(engine) = world.nodes[node].engine() else { return Ok(()) };
    let snapshot = engine.store().snapshot().map_err(text)?;
    check_noted(&snapshot, [*blob])?;
    let copies = copies_wanted(&snapshot, blob).map_err(text)?;
    let held = world.good_copies(blob, node) + world.rotten_lately(blob, node);
    if held < (copies - world.lied_copies().min(copies)).max(1) && !world.oracle.lost.contains(blob) {
        return Err(format!("S20: blob {blob} was given up, {copies} copies are wanted, and {held} others hold it"));
    }
    Ok(())
}

/// S21: when nothing goes wrong any more and every node has been asked to give up what it has, nothing that a ref reaches has more copies
/// than are wanted, and as many as liars may be.
pub(super) fn check_surplus_gone(world: &World) -> Result<(), String> {
    let engines = world.honest().filter_map(|(_, node)| node.engine());
    let snapshots: Vec<Arc<Snapshot>> =
        engines.map(|engine| engine.store().snapshot()).collect::<Result<_, _>>().map_err(text)?;
    let Some(catalog) = snapshots.first() else { return Ok(()) };
    for id in reached(catalog, |_, _| true).map_err(text)? {
        let copies = copies_wanted(catalog, &id).map_err(text)?;
        let mut held = 0;
        for snapshot in &snapshots {
            // What a lease covers is no surplus there.
            let is_leased = snapshot.covering_lease(&id, world.now_ms).map_err(text)?.is_some();
            held += u32::from(!is_leased && snapshot.blob(&id).map_err(text)?.is_some());
        }
        if held > copies + world.plan.liars {
            return Err(format!("S21: {held} nodes hold blob {id}, and {copies} copies are wanted"));
        }
    }
    Ok(())
}

/// S24: when nothing goes wrong any more, nothing is left that no ref reaches, no lease covers and no grace keeps, and what is counted as live
/// is what is reached.
pub(super) fn check_garbage_gone(world: &World) -> Result<(), String> {
    for (number, engine) in world.honest().filter_map(|(number, node)| Some((number, node.engine()?))) {
        let snapshot = engine.store().snapshot().map_err(text)?;
        let mark = snapshot.mark().map_err(text)?.ok_or_else(|| format!("S24: node {number} is not settled"))?;
        if !mark.undercounted.is_empty() || !mark.unreached.is_empty() {
            return Err(format!("S24: what node {number} counts as live is not what is reached: {mark:?}"));
        }
        let reached = reached(&snapshot, |_, _| true).map_err(text)?;
        let visited = snapshot.visit_blobs::<StoreError>(&BlobId([0; BlobId::LEN]), |id, record| {
            let is_kept = reached.contains(&id) || snapshot.covering_lease(&id, world.now_ms)?.is_some();
            if !is_kept && record.grace_until_ms < world.now_ms {
                return Err(StoreError::Inconsistent(format!("S24: node {number} keeps blob {id}, which nothing needs")));
            }
            Ok(true)
        });
        visited.map_err(text)?;
    }
    Ok(())
}

/// The copies that refs ask for of each blob that they reach.
pub(super) fn all_wanted(catalog: &Snapshot) -> Result<BTreeMap<BlobId, u32>, StoreError> {
    let ids = reached(catalog, |_, _| true)?;
    ids.into_iter().map(|id| Ok((id, copies_wanted(catalog, &id)?))).collect()
}

/// The most copies that a value asks for which reaches `id`, by a walk from each of them.
fn copies_wanted(catalog: &Snapshot, id: &BlobId) -> Result<u32, StoreError> {
    let mut most = 0;
    catalog.visit_items(Kind::REF, "", |_, row| {
        for body in row.values().iter().filter_map(|value| RefBody::of(value).ok()) {
            let roots: Vec<BlobId> = body.links.iter().map(|link| link.sha1).collect();
            closure::visit(catalog, &roots, |reached| {
                most = if reached == *id { most.max(body.copies) } else { most };
                Ok(true)
            })?;
        }
        Ok::<_, StoreError>(true)
    })?;
    Ok(most)
}

/// S18: whatever a backed value reaches is held by somebody, unless a disk was lost that may have had the only copy. A value that came back
/// when its delete became void counts as unbacked.
pub(super) fn check_kept(world: &World) -> Result<(), String> {
    let engines = world.keepers().filter_map(|(_, node)| node.engine());
    let snapshots: Vec<Arc<Snapshot>> =
        engines.map(|engine| engine.store().snapshot()).collect::<Result<_, _>>().map_err(text)?;
    let Some(catalog) = snapshots.first() else { return Ok(()) };
    let counts = |id: &ValueId, body: &RefBody| !body.unbacked && !catalog.came_back(id).unwrap_or(false);
    let roots = roots(catalog, counts).map_err(text)?;
    for id in reached_from(catalog, &roots).map_err(text)? {
        let mut is_held = world.oracle.lost.contains(&id);
        for snapshot in &snapshots {
            is_held |= snapshot.blob(&id).map_err(text)?.is_some();
        }
        if !is_held && !world.is_gone_with_removed(catalog, &roots, &id).map_err(text)? {
            return Err(format!("S18: a ref reaches blob {id}, and nobody holds it"));
        }
    }
    Ok(())
}

/// S19: nothing that was purged lies in the trash of a node that knows a ref which reaches it.
pub(super) fn check_restored(snapshot: &Snapshot) -> Result<(), String> {
    let reached = reached(snapshot, |_, _| true).map_err(text)?;
    for id in reached {
        if snapshot.was_purged(&id).map_err(text)? {
            return Err(format!("S19: blob {id} lies in the trash, and a ref reaches it"));
        }
    }
    Ok(())
}

/// The bytes in the trash are what a walk over it finds.
pub(super) fn check_trash_counted(snapshot: &Snapshot) -> Result<(), String> {
    let (counted, (_, walked)) = (snapshot.count(Count::TrashBytes).map_err(text)?, snapshot.trash_size().map_err(text)?);
    if counted == walked { Ok(()) } else { Err(format!("{counted} bytes are counted in the trash, and {walked} are there")) }
}

/// The blobs that the values which `counts` reach over links.
fn reached(catalog: &Snapshot, counts: impl Fn(&ValueId, &RefBody) -> bool) -> Result<BTreeSet<BlobId>, StoreError> {
    reached_from(catalog, &roots(catalog, counts)?)
}

fn reached_from(catalog: &Snapshot, roots: &[BlobId]) -> Result<BTreeSet<BlobId>, StoreError> {
    let mut reached = BTreeSet::new();
    closure::visit(catalog, roots, |id| {
        reached.insert(id);
        Ok(true)
    })?;
    Ok(reached)
}

/// What the values name which `counts`.
fn roots(catalog: &Snapshot, counts: impl Fn(&ValueId, &RefBody) -> bool) -> Result<Vec<BlobId>, StoreError> {
    let mut roots = Vec::new();
    catalog.visit_items(Kind::REF, "", |_, row| {
        let bodies = row.values().iter().filter_map(|value| Some((value.id, RefBody::of(value).ok()?)));
        for (_, body) in bodies.filter(|(id, body)| counts(id, body)) {
            roots.extend(body.links.iter().map(|link| link.sha1));
        }
        Ok::<_, StoreError>(true)
    })?;
    Ok(roots)
}

fn text(error: StoreError) -> String {
    error.to_string()
}
