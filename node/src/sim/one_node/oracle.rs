//! The oracle: what one node must know, as plain maps, and what each request must make of it.
//!
//! It is the engine's specification in miniature: no log, no index, no entries. What it says after a request is what the node must
//! say; after a crash the node must say what it said before the request in flight, or after it, and nothing between.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{PutOutcome, RefOp, RefRefusal, RefSet};
use keepwell_protocol::catalog::reference::{RefBody, RefLink};
use keepwell_protocol::id::{BlobFact, BlobId, ValueId};
use keepwell_protocol::name::RefName;
use keepwell_store::limits::INLINE_MAX_BYTES;

/// What a node knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The blobs that it holds.
    pub held: BTreeMap<BlobId, BlobFact>,
    /// What each parent is said to refer to, held or not.
    pub links: BTreeMap<BlobId, BTreeSet<BlobFact>>,
    /// The refs and their values.
    pub refs: BTreeMap<RefName, RefValue>,
    /// The deleted blobs whose bytes are still to be moved away.
    pub unlinks: BTreeSet<BlobId>,
}

/// The value of a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefValue {
    /// What it says.
    pub body: RefBody,
    /// Its id; none while it has not been acknowledged: then any will do.
    pub rev: Option<ValueId>,
}

/// What a write of refs makes known: the refs written, and whether each has a value now.
pub type RefsWritten = Vec<(RefName, bool)>;

impl Known {
    /// Takes one blob that is put.
    pub fn put(&mut self, fact: BlobFact, children: &[BlobId]) -> PutOutcome {
        let (mut missing, mut seen, mut due) = (Vec::new(), BTreeSet::from([fact.sha1]), children.to_vec());
        while let Some(id) = due.pop() {
            if seen.insert(id) {
                missing.extend(Some(id).filter(|id| !self.held.contains_key(id)));
                due.extend(self.links.get(&id).into_iter().flatten().map(|child| child.sha1));
            }
        }
        let itself = children.iter().find(|id| **id == fact.sha1 && !self.held.contains_key(*id));
        missing.extend(itself);
        if !missing.is_empty() {
            return PutOutcome::Missing { sha1: fact.sha1, children: missing };
        }
        let existed = self.held.insert(fact.sha1, fact).is_some();
        self.unlinks.remove(&fact.sha1);
        let children: Vec<BlobFact> = children.iter().filter_map(|id| self.held.get(id)).copied().collect();
        if !children.is_empty() {
            self.links.entry(fact.sha1).or_default().extend(children);
        }
        PutOutcome::Held { fact, existed }
    }

    /// Deletes a blob; what it was.
    pub fn delete(&mut self, id: &BlobId) -> Option<BlobFact> {
        let gone = self.held.remove(id)?;
        if gone.size_bytes > INLINE_MAX_BYTES as u64 {
            self.unlinks.insert(*id);
        }
        Some(gone)
    }

    /// Takes back a record; what it was.
    pub fn forget(&mut self, id: &BlobId) -> Option<BlobFact> {
        self.held.remove(id)
    }

    /// Writes all of `ops` in order, each seeing those before it, or refuses and changes nothing.
    pub fn write_refs(&mut self, now_ms: u64, ops: &[RefOp]) -> Result<RefsWritten, RefRefusal> {
        let mut after = self.clone();
        let written = ops.iter().map(|op| after.write_ref(now_ms, op)).collect::<Result<_, _>>()?;
        *self = after;
        Ok(written)
    }

    /// Takes over the ids of the values that have been acknowledged.
    pub fn learn_rev(&mut self, name: &RefName, rev: Option<ValueId>) {
        if let Some(value) = self.refs.get_mut(name) {
            value.rev = rev;
        }
    }

    /// How `found` differs from this; none when it does not. Ids that are unknown here may be any.
    pub fn difference(&self, found: &Known) -> Option<String> {
        let mut expected = self.clone();
        for (name, value) in &mut expected.refs {
            value.rev = value.rev.or_else(|| found.refs.get(name)?.rev);
        }
        first_difference("blob", &expected.held, &found.held)
            .or_else(|| first_difference("links of", &expected.links, &found.links))
            .or_else(|| first_difference("ref", &expected.refs, &found.refs))
            .or_else(|| (expected.unlinks != found.unlinks).then(|| unlinks_differ(&expected.unlinks, &found.unlinks)))
    }

    fn write_ref(&mut self, now_ms: u64, op: &RefOp) -> Result<(RefName, bool), RefRefusal> {
        match op {
            RefOp::Set(set) => self.set_ref(now_ms, set),
            RefOp::Delete { name, if_rev } => {
                self.expect_rev(name, if_rev.as_deref())?;
                self.refs.remove(name).ok_or_else(|| RefRefusal::NotFound(name.clone()))?;
                Ok((name.clone(), false))
            }
            RefOp::Touch { name } => {
                let mut body = self.refs.get(name).ok_or_else(|| RefRefusal::NotFound(name.clone()))?.body.clone();
                // Uses are coarse: one that would put the end off by less than a tenth, or an hour, changes nothing.
                let is_later = |ttl: u64| {
                    let put_off_ms = (now_ms + ttl).saturating_sub(body.expires_ms.unwrap_or(0));
                    put_off_ms > 0 && put_off_ms >= (ttl / 10).min(60 * 60 * 1_000)
                };
                if !body.ttl_access_ms.is_some_and(is_later) {
                    return Ok((name.clone(), true));
                }
                if !body.unbacked {
                    let roots = body.links.iter().map(|link| link.sha1).collect::<Vec<_>>();
                    self.expect_closure(name, &roots)?;
                }
                body.expires_ms = body.ttl_access_ms.map(|ttl| now_ms + ttl).or(body.expires_ms);
                self.refs.insert(name.clone(), RefValue { body, rev: None });
                Ok((name.clone(), true))
            }
        }
    }

    fn set_ref(&mut self, now_ms: u64, set: &RefSet) -> Result<(RefName, bool), RefRefusal> {
        self.expect_rev(&set.name, set.if_rev.as_deref())?;
        let closure = self.expect_closure(&set.name, &set.links);
        let unbacked = match closure {
            Err(refused) if !set.allow_missing => return Err(refused),
            closure => closure.is_err(),
        };
        let link = |id: &BlobId| self.held.get(id).map_or(RefLink { sha1: *id, proof: None }, |fact| RefLink::from(*fact));
        let body = RefBody {
            obj: set.obj.clone(),
            meta: set.meta.clone(),
            links: set.links.iter().map(link).collect(),
            expires_ms: set.expires_ms.or(set.ttl_access_ms.map(|ttl| now_ms + ttl)),
            ttl_access_ms: set.ttl_access_ms,
            copies: set.copies,
            lot: set.lot.as_ref().map(ToString::to_string),
            set_at_ms: now_ms,
            unbacked,
        };
        self.refs.insert(set.name.clone(), RefValue { body, rev: None });
        Ok((set.name.clone(), true))
    }

    fn expect_rev(&self, name: &RefName, expected: Option<&str>) -> Result<(), RefRefusal> {
        let Some(expected) = expected else { return Ok(()) };
        let found = match self.refs.get(name) {
            None => String::new(),
            // Written by an earlier op of the same request: nobody can know its id.
            Some(value) => value.rev.map_or_else(|| "new".into(), |rev| rev.to_string()),
        };
        if found == expected {
            return Ok(());
        }
        Err(RefRefusal::RevMismatch { name: name.clone(), expected: expected.into(), found })
    }

    fn expect_closure(&self, name: &RefName, roots: &[BlobId]) -> Result<(), RefRefusal> {
        let (mut closure, mut due) = (BTreeSet::new(), roots.to_vec());
        while let Some(id) = due.pop() {
            if closure.insert(id) {
                due.extend(self.links.get(&id).into_iter().flatten().map(|child| child.sha1));
            }
        }
        let missing: Vec<BlobId> = closure.into_iter().filter(|id| !self.held.contains_key(id)).collect();
        if missing.is_empty() { Ok(()) } else { Err(RefRefusal::Missing { name: name.clone(), missing }) }
    }
}

fn first_difference<K: Ord + std::fmt::Display, V: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
) -> Option<String> {
    let keys: BTreeSet<&K> = expected.keys().chain(found.keys()).collect();
    let key = keys.into_iter().find(|key| expected.get(key) != found.get(key))?;
    Some(format!("{what} {key}: expected {}, found {}", shown(expected.get(key)), shown(found.get(key))))
}

/// A value as text, cut to what a reader needs.
fn shown(value: Option<&impl std::fmt::Debug>) -> String {
    value.map_or("nothing".into(), |value| format!("{value:?}").chars().take(300).collect())
}

fn unlinks_differ(expected: &BTreeSet<BlobId>, found: &BTreeSet<BlobId>) -> String {
    format!("queued unlinks: expected {expected:?}, found {found:?}")
}
