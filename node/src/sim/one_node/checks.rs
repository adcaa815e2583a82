//! What must hold of a node whenever it can be looked at. Each check names the invariant of docs/SAFETY.md that it shows broken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use keepwell_protocol::catalog::item::Kind;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::id::{BlobId, BootId, EntryHash, Seq};
use keepwell_protocol::log::entry::{Entry, EntryError};
use keepwell_protocol::log::vector::{Chain, Head};
use keepwell_protocol::name::RefName;
use keepwell_store::error::StoreError;
use keepwell_store::fsck::{Depth, Fault};
use keepwell_store::ingest::leftovers;
use keepwell_store::store::{Snapshot, Store};

use super::oracle::{Known, RefValue};
use crate::engine::Engine;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its number in docs/SAFETY.md.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken: {}", self.invariant, self.what)
    }
}

/// Why something was not found to be in order.
#[derive(Debug)]
pub enum Trouble {
    /// An invariant is broken.
    Violated(Violation),
    /// The disk did not answer; a fault may excuse that.
    Failed(String),
}

impl Trouble {
    /// A broken invariant.
    pub fn violated(invariant: &'static str, what: impl Into<String>) -> Trouble {
        Trouble::Violated(Violation { invariant, what: what.into() })
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Inconsistent(what) => Trouble::violated("S7", what),
            other => Trouble::Failed(other.to_string()),
        }
    }
}

/// The entries of one home and its copies: what stands, or stood, at each position of each boot.
#[derive(Debug, Default)]
pub struct Positions {
    written: BTreeMap<(BootId, Seq), EntryHash>,
    published: BTreeMap<(Chain, Seq), EntryHash>,
}

impl Positions {
    /// Notes an entry that was published; the log must have it from now on.
    pub fn publish(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let (chain, head) = self.write(bytes)?;
        self.published.insert((chain, head.seq), head.hash);
        Ok(())
    }

    /// Notes an entry that somebody may have seen.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(Chain, Head), Trouble> {
        let unreadable = |error: EntryError| Trouble::violated("S14", format!("an entry that cannot be read: {error}"));
        let Entry { chain, head, .. } = Entry::reopen(bytes).map_err(unreadable)?;
        let stood = *self.written.entry((chain.boot, head.seq)).or_insert(head.hash);
        if stood == head.hash {
            return Ok((chain, head));
        }
        Err(Trouble::violated("S14", format!("position {} of boot {} was written twice", head.seq, chain.boot)))
    }

    /// Checks that every published entry stands in the log, and notes those that were durable and not yet told.
    pub fn check(&mut self, snapshot: &Snapshot) -> Result<(), Trouble> {
        let mut from = 0;
        while let Some((arrival, bytes)) = snapshot.entry_from(from)? {
            self.write(&bytes)?;
            from = arrival + 1;
        }
        for ((chain, seq), hash) in &self.published {
            if snapshot.head_at(chain, *seq)? != Some(Head { seq: *seq, hash: *hash }) {
                return Err(Trouble::violated("S2", format!("published entry {seq} of boot {} is not in the log", chain.boot)));
            }
        }
        Ok(())
    }
}

/// What the node says it knows, of the blobs in `universe` and of all refs.
pub fn observe(snapshot: &Snapshot, universe: &BTreeSet<BlobId>) -> Result<Known, Trouble> {
    let mut known = Known::default();
    snapshot.visit_blobs(&BlobId([0; BlobId::LEN]), |id, record| {
        known.held.insert(id, record.fact(id));
        Ok::<_, StoreError>(true)
    })?;
    for parent in universe {
        let children: BTreeSet<_> = snapshot.children(parent)?.into_iter().collect();
        if !children.is_empty() {
            known.links.insert(*parent, children);
        }
    }
    snapshot.visit_items(Kind::REF, "", |key, row| {
        let name: RefName = key.parse().map_err(|_| Trouble::violated("S3", format!("a ref is called {key}")))?;
        if let (Some(value), []) = (row.winner(), row.conflicts()) {
            let body = RefBody::of(value).map_err(|error| Trouble::violated("S3", format!("ref {key}: {error}")))?;
            known.refs.insert(name, RefValue { body, rev: Some(value.id) });
            return Ok(true);
        }
        Err(Trouble::violated("S8", format!("ref {key} has {} values with one author", row.values().len())))
    })?;
    known.unlinks = snapshot.queued_unlinks()?.into_iter().map(|(id, _)| id).collect();
    Ok(known)
}

/// S1, S4 and S7, and of S5 what files show: `reput` are the blobs that were put again after a deletion.
pub fn check_home(engine: &Engine, snapshot: &Snapshot, reput: &BTreeSet<BlobId>) -> Result<(), Trouble> {
    check_bytes(engine.store(), snapshot, reput)?;
    check_holdings(engine, snapshot)?;
    let differing = engine.compare_rebuild()?;
    if !differing.is_empty() {
        return Err(Trouble::violated("S7", format!("a rebuild changes {}", differing.join(", "))));
    }
    Ok(())
}

/// S4, of a node that was just started: nothing half taken in is left.
pub fn check_leftovers(store: &Store) -> Result<(), Trouble> {
    let left = leftovers(store.fs()).map_err(|error| Trouble::Failed(error.to_string()))?;
    match left.first() {
        Some(id) => Err(Trouble::violated("S4", format!("ingest {id} was left"))),
        None => Ok(()),
    }
}

fn check_bytes(store: &Store, snapshot: &Snapshot, reput: &BTreeSet<BlobId>) -> Result<(), Trouble> {
    snapshot.visit_blobs(&BlobId([0; BlobId::LEN]), |id, record| match store.check_blob(snapshot, &id, &record, Depth::Full)? {
        None => Ok(true),
        // A disk that does not answer has said nothing of the blob.
        Some(Fault::Unreadable { why, .. }) => Err(Trouble::Failed(why)),
        Some(fault) if reput.contains(&id) => Err(Trouble::violated("S5", format!("blob {id}, put again: {fault:?}"))),
        Some(fault) => Err(Trouble::violated("S1", format!("blob {id}: {fault:?}"))),
    })
}

/// What the log says this node holds is what its records say.
fn check_holdings(engine: &Engine, snapshot: &Snapshot) -> Result<(), Trouble> {
    let node = engine.home().node;
    let mut held = 0;
    snapshot.visit_blobs(&BlobId([0; BlobId::LEN]), |id, record| {
        held += 1;
        let told = snapshot.holders(&id)?.into_iter().any(|holding| holding.node == node && holding.fact == record.fact(id));
        if told { Ok(true) } else { Err(Trouble::violated("S3", format!("the log does not say that {id} is held"))) }
    })?;
    let counted = snapshot.count(keepwell_store::counts::Count::Blobs)?;
    if counted == held { Ok(()) } else { Err(Trouble::violated("S7", format!("{held} records, {counted} holdings"))) }
}
