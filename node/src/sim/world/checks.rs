//! The checkers: what must be true of the whole world when it has come to rest. They belong to no node and see all of them.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::catalog::doc::Doc;
use keepwell_protocol::catalog::item::{Item, Kind};
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::catalog::row::Row;
use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_protocol::log::vector::Vector;
use keepwell_store::error::StoreError;
use keepwell_store::fsck::Depth;
use keepwell_store::store::Snapshot;

use super::World;
use super::deletions;
use super::leases;
use super::model::Model;
use crate::engine::Engine;

/// What a world that came to rest shows.
#[derive(Default)]
pub(super) struct Ended {
    /// Refs with more than one value.
    pub(super) conflicts: u64,
    /// Boots that are known to have forked.
    pub(super) forks: u64,
    /// How often the links of a blob were forgotten.
    pub(super) unlinked: u64,
    /// Entries that are void because their author was removed.
    pub(super) void: u64,
}

/// Checks all of it.
pub(super) fn check_all(world: &World) -> Result<Ended, String> {
    let mut vectors: Vec<Vector> = Vec::new();
    let mut ended = Ended::default();
    for (number, node) in world.honest() {
        let engine = node.engine().ok_or_else(|| format!("node {number} does not run"))?;
        let context = |broken: String| format!("node {number}: {broken}");
        let snapshot = engine.store().snapshot().map_err(|error| context(error.to_string()))?;
        let model = Model::of(&snapshot).map_err(|error| context(error.to_string()))?;
        (ended.unlinked, ended.void) = (model.unlinked as u64, model.void as u64);
        let vector = snapshot.vector().map_err(|error| context(error.to_string()))?;
        ended.conflicts = check_catalog(&snapshot, &model).map_err(context)?;
        ended.forks = snapshot.forked().map_err(|error| context(error.to_string()))?.len() as u64;
        check_documents(&snapshot, &model).map_err(context)?;
        check_blobs(world, number, engine, &snapshot).map_err(context)?;
        check_moved(&snapshot).map_err(context)?;
        check_announced(engine, &snapshot, &model).map_err(context)?;
        deletions::check_restored(&snapshot).map_err(context)?;
        deletions::check_trash_counted(&snapshot).map_err(context)?;
        leases::check_none_forgotten(&snapshot).map_err(context)?;
        world.check_ended(&snapshot).map_err(context)?;
        check_rebuild(engine).map_err(context)?;
        check_promises(world, &model).map_err(context)?;
        vectors.push(vector);
    }
    check_converged(&vectors)?;
    deletions::check_kept(world)?;
    Ok(ended)
}

/// S8, S27: an item's values are those that no known write replaces that counts. The number of refs with conflicts.
fn check_catalog(snapshot: &Snapshot, model: &Model) -> Result<u64, String> {
    let mut conflicts = 0;
    let mut naming: BTreeMap<BlobId, BTreeSet<String>> = BTreeMap::new();
    for (item, writes) in &model.writes {
        let (expected, found) = (Row::of(writes), snapshot.item(item).map_err(|error| error.to_string())?);
        if expected != found {
            return Err(format!("S8: item {item:?} shows {found:?}, its writes amount to {expected:?}"));
        }
        if item.kind == Kind::REF {
            conflicts += u64::from(!found.conflicts().is_empty());
            note_links(item, &found, &mut naming)?;
        }
    }
    check_naming(snapshot, model, &naming)?;
    check_links(snapshot, model)?;
    check_holdings(snapshot, model)?;
    Ok(conflicts)
}

fn note_links(item: &Item, row: &Row, naming: &mut BTreeMap<BlobId, BTreeSet<String>>) -> Result<(), String> {
    for value in row.values() {
        let body = RefBody::of(value).map_err(|error| error.to_string())?;
        for link in body.links {
            naming.entry(link.sha1).or_default().insert(item.key.clone());
        }
    }
    Ok(())
}

/// S8: whoever asks by blob is told of every ref whose values name it, and of no other.
fn check_naming(snapshot: &Snapshot, model: &Model, naming: &BTreeMap<BlobId, BTreeSet<String>>) -> Result<(), String> {
    let none = BTreeSet::new();
    for id in model.blobs().chain(naming.keys()) {
        let found = snapshot.refs_naming(id).map_err(|error| error.to_string())?;
        if !naming.get(id).unwrap_or(&none).iter().eq(&found) {
            return Err(format!("S8: blob {id} is said to be named by {found:?}"));
        }
    }
    Ok(())
}

fn check_links(snapshot: &Snapshot, model: &Model) -> Result<(), String> {
    for (parent, links) in &model.links {
        let found = snapshot.children(parent).map_err(|error| error.to_string())?;
        if !links.children().iter().eq(&found) {
            return Err(format!("S9: the links of {parent} are not those of its facts"));
        }
        // Nobody puts a blob with fewer links than before: what a ref reaches has all that it ever had.
        if snapshot.is_reached(parent).map_err(|error| error.to_string())? && !links.ever.iter().eq(&found) {
            return Err(format!("S9: {parent} is reached, and has lost links"));
        }
    }
    Ok(())
}

fn check_holdings(snapshot: &Snapshot, model: &Model) -> Result<(), String> {
    for id in model.blobs() {
        let found: BTreeSet<NodeId> = snapshot.holders(id).map_err(|error| error.to_string())?.iter().map(|h| h.node).collect();
        if found != model.holders(id) {
            return Err(format!("S11: the holders of {id} are not those who say so"));
        }
    }
    Ok(())
}

/// automerge, given the same changes, has the same heads and the same writes in the same places.
fn check_documents(snapshot: &Snapshot, model: &Model) -> Result<(), String> {
    let whole = model.documents.iter().filter(|(document, _)| !model.forked.contains(document));
    for ((shard, epoch), changes) in whole {
        let state = snapshot.doc(*shard, *epoch).map_err(|error| error.to_string())?;
        let doc = Doc::build(changes.iter().map(|(change, first)| (change, *first))).map_err(|error| error.to_string())?;
        if !doc.heads().iter().eq(state.heads.keys()) {
            return Err(format!("S7: document ({shard}, {epoch}) has other heads than its state"));
        }
        for (id, order, write) in doc.writes(*epoch).map_err(|error| error.to_string())? {
            let known = model.writes.get(&write.item).is_some_and(|writes| writes.iter().any(|w| (w.0, w.1) == (id, order)));
            if !known && !model.void_writes.contains(&id) {
                return Err(format!("S7: document ({shard}, {epoch}) holds a write {id} that no entry made there"));
            }
        }
    }
    Ok(())
}

/// S1, S3: what was acknowledged is held, whole; what is recorded is there and announced.
fn check_blobs(world: &World, number: usize, engine: &Engine, snapshot: &Snapshot) -> Result<(), String> {
    for (_, fact) in world.oracle.held.iter().filter(|(node, _)| *node == number) {
        let record = snapshot.blob(&fact.sha1).map_err(|error| error.to_string())?;
        if record.is_none_or(|record| record.fact(fact.sha1) != *fact) {
            return Err(format!("S3: blob {} was acknowledged and is not recorded", fact.sha1));
        }
    }
    let checked = snapshot.visit_blobs::<StoreError>(&BlobId([0; 20]), |id, record| {
        if let Some(fault) = engine.store().check_blob(snapshot, &id, &record, Depth::Full)? {
            return Err(StoreError::Inconsistent(format!("S1: blob {id}: {fault:?}")));
        }
        if !snapshot.is_held_by(&id, &engine.home().node)? {
            return Err(StoreError::Inconsistent(format!("S11: blob {id} is recorded, and the log does not say so")));
        }
        Ok(true)
    });
    checked.map_err(|error| error.to_string())
}

/// S1: what this node's log says that it holds is recorded.
fn check_announced(engine: &Engine, snapshot: &Snapshot, model: &Model) -> Result<(), String> {
    for id in model.blobs().filter(|id| model.holders(id).contains(&engine.home().node)) {
        if snapshot.blob(id).map_err(|error| error.to_string())?.is_none() {
            return Err(format!("S1: blob {id} is announced and not recorded"));
        }
    }
    Ok(())
}

/// S5: what was deleted is out of the way in the end.
fn check_moved(snapshot: &Snapshot) -> Result<(), String> {
    match snapshot.queued_unlinks().map_err(|error| error.to_string())?.first() {
        Some((id, row)) => Err(format!("S5: the file of blob {id} is never moved: {row:?}")),
        None => Ok(()),
    }
}

fn check_rebuild(engine: &Engine) -> Result<(), String> {
    match engine.compare_rebuild() {
        Ok(differences) if differences.is_empty() => Ok(()),
        Ok(differences) => Err(format!("S7: a rebuild changes {differences:?}")),
        Err(error) => Err(format!("S7: the derived tables cannot be rebuilt: {error}")),
    }
}

/// S3: every acknowledged value's entry is known here, on whichever branch.
fn check_promises(world: &World, model: &Model) -> Result<(), String> {
    for (id, (author, name)) in &world.oracle.values {
        if !model.has_write(&Item::reference(name.as_ref()), id) {
            return Err(format!("S3: value {id} of {name} was acknowledged by node {author} and is not known"));
        }
    }
    Ok(())
}

/// All nodes have applied the same entries; with the check of each against the model, they show the same.
fn check_converged(vectors: &[Vector]) -> Result<(), String> {
    for (number, vector) in vectors.iter().enumerate() {
        if vector != &vectors[0] {
            let (news, lacks) = (vector.news_since(&vectors[0]).len(), vectors[0].news_since(vector).len());
            return Err(format!(
                "nodes 0 and {number} of {} have not converged: {news} chains ahead, {lacks} behind",
                vectors.len()
            ));
        }
    }
    Ok(())
}
