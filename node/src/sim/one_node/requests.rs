//! The requests of a story: each is put to the node, and its answer is held against the oracle's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_protocol::name::RefName;
use keepwell_store::ingest::{IngestId, ingest};
use keepwell_store::place::PlaceError;
use keepwell_store::store::Store;
use keepwell_store::unlink::Unlinked;

use super::checks::Trouble;
use super::driver::{BEGIN_MS, Driver, INDEX, KEY, OP_MS, running};
use super::oracle::Known;
use super::workload::{BlobNo, Op, PutStep, RefStep, RevCheck};
use crate::engine::{
    Effect, Engine, Input, PutBlob, PutOutcome, RefOp, RefOutcome, RefRefusal, RefSet, Reply, RequestId, Stored,
};

impl Driver<'_> {
    pub(super) fn perform(&mut self, at: usize, op: &Op) -> Result<(), Trouble> {
        self.now_ms = BEGIN_MS + at as u64 * OP_MS;
        match op {
            Op::Put(steps) => self.put(steps),
            Op::Refs(steps) => self.write_refs(at, steps),
            Op::Delete { blob, unlink_now } => self.delete(*blob, *unlink_now),
            Op::Unlink => self.unlink_all(),
            Op::Forget(blob) => self.forget(*blob),
            Op::Restart => self.start(),
            Op::Copy => self.copy(),
        }
    }

    /// One request, known to have been made once its reply is here.
    fn ask(&mut self, input: Input, after: Known) -> Result<Reply, Trouble> {
        self.in_flight = Some(after);
        let engine = self.engine.as_mut().ok_or_else(|| Trouble::Failed("the node is down".into()))?;
        let effects = engine.step(self.now_ms, self.dice.rng(), vec![input])?;
        self.known = self.in_flight.take().unwrap_or_default();
        let mut reply = None;
        for effect in effects {
            match effect {
                Effect::Publish(bytes) => self.positions.publish(&bytes)?,
                Effect::Unlink(id) => drop(self.errands.insert(id)),
                Effect::Reply(_, answer) => reply = Some(answer),
                // Nobody gets around to it here: a walk over the trash, on a tick, would ask for it again.
                Effect::Retrieve(_) => {}
                other => return Err(Trouble::violated("S2", format!("a node alone was told to {other:?}"))),
            }
        }
        reply.ok_or_else(|| Trouble::violated("S2", "a request was not answered"))
    }

    fn put(&mut self, steps: &[PutStep]) -> Result<(), Trouble> {
        let mut after = self.known.clone();
        let (mut expected, mut wanted) = (Vec::new(), BTreeMap::new());
        for step in steps {
            let fact = self.story.blobs[step.blob].fact;
            if wanted.contains_key(&fact.sha1) {
                continue;
            }
            let children: Vec<BlobId> = step.children.iter().map(|child| self.story.blobs[*child].fact.sha1).collect();
            let outcome = after.put(fact, &children);
            expected.push((fact, outcome));
            wanted.insert(fact.sha1, (step.blob, children));
        }
        let mut stored = self.place(steps, &wanted)?;
        let blobs = expected.iter().filter_map(|(fact, _)| {
            let blob = stored.remove(&fact.sha1)?;
            Some(PutBlob { blob, children: wanted.get(&fact.sha1)?.1.clone() })
        });
        let blobs = blobs.collect();
        let reply = self.ask(Input::Put { request: RequestId(1), blobs, lease: None }, after)?;
        let expected: Vec<PutOutcome> = expected.into_iter().map(|(_, outcome)| outcome).collect();
        self.reput.extend(self.deleted.iter().filter(|id| self.known.held.contains_key(id)));
        match reply {
            Reply::Put(found) if found == expected => Ok(()),
            other => Err(Trouble::violated("S3", format!("put: expected {expected:?}, found {other:?}"))),
        }
    }

    /// Takes in and places each wanted blob once for every step that names it.
    fn place(
        &mut self,
        steps: &[PutStep],
        wanted: &BTreeMap<BlobId, (BlobNo, Vec<BlobId>)>,
    ) -> Result<BTreeMap<BlobId, Stored>, Trouble> {
        let store = Arc::clone(running(&self.engine)?.store());
        let mut ingested = Vec::new();
        for step in steps {
            self.ingests += 1;
            let id = IngestId(self.ingests.to_be_bytes());
            let mut source = self.story.blobs[step.blob].bytes.as_slice();
            ingested.push(ingest(store.fs(), id, &mut source, &mut |_| {}).map_err(|error| Trouble::Failed(error.to_string()))?);
        }
        let placement = store.place(ingested).map_err(|error| match error {
            PlaceError::Records(error) => error.into(),
            other => Trouble::Failed(other.to_string()),
        })?;
        let placed = placement.placed.into_iter().map(|placed| (placed.fact().sha1, Stored::New(placed)));
        let stored: BTreeMap<BlobId, Stored> = placed.collect();
        if stored.keys().eq(wanted.keys()) {
            return Ok(stored);
        }
        Err(Trouble::violated("S4", format!("placed {:?} of {:?}", stored.keys(), wanted.keys())))
    }

    fn write_refs(&mut self, at: usize, steps: &[RefStep]) -> Result<(), Trouble> {
        let ops = steps.iter().enumerate().map(|(number, step)| self.ref_op(at, number, step)).collect::<Result<Vec<_>, _>>()?;
        let mut after = self.known.clone();
        let expected = after.write_refs(self.now_ms, &ops);
        let reply = self.ask(Input::WriteRefs { request: RequestId(2), ops }, after)?;
        match (expected, reply) {
            (Ok(expected), Reply::Refs(Ok(found))) if same_refs(&expected, &found) => {
                for RefOutcome { name, rev, .. } in found {
                    self.known.learn_rev(&name, rev);
                }
                Ok(())
            }
            (Err(expected), Reply::Refs(Err(found))) if same_refusal(&expected, &found) => Ok(()),
            (expected, reply) => Err(Trouble::violated("S8", format!("refs: expected {expected:?}, found {reply:?}"))),
        }
    }

    fn ref_op(&self, at: usize, number: usize, step: &RefStep) -> Result<RefOp, Trouble> {
        Ok(match step {
            RefStep::Set { name, links, obj_bytes, rev, ttl_access_ms, allow_missing } => RefOp::Set(RefSet {
                name: named(name)?,
                obj: format!("\"{at}.{number} {}\"", "x".repeat(*obj_bytes)),
                meta: "null".into(),
                links: links.iter().map(|blob| self.story.blobs[*blob].fact.sha1).collect(),
                expires_ms: None,
                ttl_access_ms: *ttl_access_ms,
                copies: 1,
                lot: None,
                if_rev: self.if_rev(name, *rev)?,
                allow_missing: *allow_missing,
            }),
            RefStep::Delete { name, rev } => RefOp::Delete { name: named(name)?, if_rev: self.if_rev(name, *rev)? },
            RefStep::Touch { name } => RefOp::Touch { name: named(name)? },
        })
    }

    fn if_rev(&self, name: &str, check: RevCheck) -> Result<Option<String>, Trouble> {
        let known = self.known.refs.get(&named(name)?).and_then(|value| value.rev);
        Ok(match check {
            RevCheck::Any => None,
            RevCheck::Known => Some(known.map_or_else(String::new, |rev| rev.to_string())),
            RevCheck::Wrong => Some("never".into()),
            RevCheck::Absent => Some(String::new()),
        })
    }

    fn delete(&mut self, blob: BlobNo, unlink_now: bool) -> Result<(), Trouble> {
        let id = self.story.blobs[blob].fact.sha1;
        let mut after = self.known.clone();
        let expected = after.delete(&id);
        self.deleted.insert(id);
        self.reput.remove(&id);
        let reply = self.ask(Input::Delete { request: RequestId(3), permit: (self.hands.permit)(id) }, after)?;
        expect_gone(expected, &reply)?;
        if unlink_now { self.unlink(id) } else { Ok(()) }
    }

    fn forget(&mut self, blob: BlobNo) -> Result<(), Trouble> {
        let id = self.story.blobs[blob].fact.sha1;
        let mut after = self.known.clone();
        let expected = after.forget(&id);
        let Some(record) = running(&self.engine)?.store().snapshot()?.blob(&id)? else { return Ok(()) };
        let reply = self.ask(Input::Forget { request: RequestId(4), blob: id, record, why: "rotten".into() }, after)?;
        expect_gone(expected, &reply)
    }

    pub(super) fn unlink_all(&mut self) -> Result<(), Trouble> {
        let due: Vec<BlobId> = self.errands.iter().copied().collect();
        due.into_iter().try_for_each(|id| self.unlink(id))
    }

    fn unlink(&mut self, id: BlobId) -> Result<(), Trouble> {
        let store = Arc::clone(running(&self.engine)?.store());
        let mut after = self.known.clone();
        after.unlinks.remove(&id);
        self.in_flight = Some(after);
        match (self.hands.unlink)(&store, &id, self.now_ms)? {
            // Still queued; the worker comes again.
            Unlinked::Failed(why) => {
                self.in_flight = None;
                return Err(Trouble::Failed(why));
            }
            Unlinked::Done | Unlinked::NotQueued => {}
        }
        self.known = self.in_flight.take().unwrap_or_default();
        self.errands.remove(&id);
        Ok(())
    }

    /// The home is copied while its node is stopped. The original writes on where it is, and the story goes on with the copy.
    fn copy(&mut self) -> Result<(), Trouble> {
        self.engine = None;
        if self.disk.is_crashed() {
            return Err(Trouble::Failed("crashed while it was stopped".into()));
        }
        self.original_writes()?;
        if !self.hands.copies_unseen {
            self.place.inode += 1;
        }
        self.start()
    }

    fn original_writes(&mut self) -> Result<(), Trouble> {
        let original = self.disk.fork(self.disk.calls());
        original.restart();
        let store = Arc::new(Store::open(original.backend(INDEX), Arc::new(original.fs()))?);
        let opened = Engine::open(store, SigningKey::from_bytes(&KEY), self.place, self.dice.rng());
        let mut engine = opened.map_err(|error| Trouble::violated("S3", format!("the original: {error}")))?;
        let set = self.ref_op(usize::MAX, 0, &original_set())?;
        for effect in
            engine.step(self.now_ms, self.dice.rng(), vec![Input::WriteRefs { request: RequestId(5), ops: vec![set] }])?
        {
            if let Effect::Publish(bytes) = effect {
                self.positions.write(&bytes)?;
            }
        }
        Ok(())
    }
}

fn original_set() -> RefStep {
    let (name, rev) = ("lab/original".into(), RevCheck::Any);
    RefStep::Set { name, links: vec![], obj_bytes: 1, rev, ttl_access_ms: None, allow_missing: false }
}

fn named(name: &str) -> Result<RefName, Trouble> {
    name.parse().map_err(|error| Trouble::Failed(format!("{name}: {error}")))
}

fn expect_gone(expected: Option<BlobFact>, reply: &Reply) -> Result<(), Trouble> {
    match reply {
        Reply::Gone(found) if *found == expected => Ok(()),
        other => Err(Trouble::violated("S3", format!("expected {expected:?} to go, found {other:?}"))),
    }
}

fn same_refs(expected: &[(RefName, bool)], found: &[RefOutcome]) -> bool {
    expected.len() == found.len()
        && expected.iter().zip(found).all(|((name, has_value), found)| *name == found.name && *has_value == found.rev.is_some())
}

/// Refusals are of one kind and about one ref; which rev or blob they name first is theirs to choose.
fn same_refusal(expected: &RefRefusal, found: &RefRefusal) -> bool {
    match (expected, found) {
        (RefRefusal::NotFound(a), RefRefusal::NotFound(b)) => a == b,
        (RefRefusal::RevMismatch { name: a, .. }, RefRefusal::RevMismatch { name: b, .. }) => a == b,
        (RefRefusal::Missing { name: a, missing: x }, RefRefusal::Missing { name: b, missing: y }) => {
            a == b && x.iter().collect::<BTreeSet<_>>() == y.iter().collect()
        }
        _ => false,
    }
}
