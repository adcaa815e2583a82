//! One node alone: what its leases keep, for how long, and who may change them.

use std::sync::Arc;

use keepwell_store::ingest::{IngestId, ingest};

use super::*;
use crate::engine::collect::tests::{self as alone, NOW_MS};
use crate::engine::{Collect, Collected, EngineRng, Input, PutBlob, RefOp, RefSet, Stored};
use crate::limits::PUT_GRACE_MS;

const TTL_MS: u64 = 1_000;

struct Alone {
    engine: Engine,
    rng: EngineRng,
    now_ms: u64,
}

impl Alone {
    fn new() -> Alone {
        let alone::Alone { engine, rng, .. } = alone::Alone::new();
        Alone { engine, rng, now_ms: NOW_MS }
    }

    fn step(&mut self, inputs: Vec<Input>) -> Vec<Reply> {
        let effects = self.engine.step(self.now_ms, &mut self.rng, inputs).unwrap();
        let replies = effects.into_iter().filter_map(|effect| match effect {
            Effect::Reply(_, reply) => Some(reply),
            _ => None,
        });
        replies.collect()
    }

    fn ask(&mut self, input: Input) -> Reply {
        self.step(vec![input]).pop().unwrap()
    }

    /// Puts a few bytes that link to `children`.
    fn put(&mut self, text: &str, children: &[BlobId], lease: Option<&LeaseUse>) -> Result<(BlobId, bool), LeaseRefusal> {
        let store = Arc::clone(self.engine.store());
        let ingested = ingest(store.fs(), IngestId([0; 16]), &mut text.as_bytes(), &mut |_| {}).unwrap();
        let mut placement = store.place(vec![ingested]).unwrap();
        let blob = Stored::New(placement.placed.pop().unwrap());
        let blobs = vec![PutBlob { blob, children: children.to_vec() }];
        match self.ask(Input::Put { request: RequestId(1), blobs, lease: lease.cloned() }) {
            Reply::Put(outcomes) => match outcomes[..] {
                [PutOutcome::Held { fact, existed }] => Ok((fact.sha1, existed)),
                _ => panic!("{outcomes:?}"),
            },
            Reply::LeaseRefused(refused) => Err(refused),
            other => panic!("{other:?}"),
        }
    }

    fn stored(&mut self, text: &str, children: &[BlobId]) -> BlobId {
        self.put(text, children, None).unwrap().0
    }

    fn change(&mut self, op: LeaseOp) -> Result<(LeaseUse, Lease), LeaseRefusal> {
        match self.ask(Input::Lease { request: RequestId(2), op }) {
            Reply::Leased(lease, row) => Ok((LeaseUse { lease, owner: row.owner.parse().unwrap() }, row)),
            Reply::LeaseRefused(refused) => Err(refused),
            other => panic!("{other:?}"),
        }
    }

    fn leased(&mut self, blobs: &[BlobId], ttl_ms: u64, is_flat: bool) -> LeaseUse {
        self.change(add(blobs, ttl_ms, is_flat)).unwrap().0
    }

    /// What goes when every grace is cut short, in steps of `limit` blobs.
    fn purged(&mut self, limit: usize) -> Vec<BlobId> {
        let mut purged = Vec::new();
        for _ in 0..100 {
            let how = Collect { grace_ms: Some(0), limit };
            let Reply::Collected(Collected { purged: now, missing, more, .. }) =
                self.ask(Input::Collect { request: RequestId(3), how })
            else {
                panic!("a collection was answered otherwise");
            };
            assert_eq!(missing, []);
            purged.extend(now.into_iter().map(|fact| fact.sha1));
            if !more {
                purged.sort_unstable();
                return purged;
            }
        }
        panic!("a collection does not end");
    }

    fn leases(&self) -> u64 {
        self.engine.store().snapshot().unwrap().lease_count().unwrap()
    }

    fn holds(&self, blob: &BlobId) -> bool {
        self.engine.store().snapshot().unwrap().blob(blob).unwrap().is_some()
    }
}

fn add(blobs: &[BlobId], ttl_ms: u64, is_flat: bool) -> LeaseOp {
    LeaseOp::Add { owner: "ann@gpu".parse().unwrap(), ttl_ms, is_flat, blobs: blobs.to_vec() }
}

fn of_bob(used: &LeaseUse) -> LeaseUse {
    LeaseUse { owner: "bob@gpu".parse().unwrap(), ..used.clone() }
}

fn sorted(ids: &[BlobId]) -> Vec<BlobId> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

#[test]
fn what_a_live_lease_covers_is_not_purged_whatever_grace_is_asked_for_and_goes_when_it_ends() {
    for limit in [1, 2, 9] {
        let mut node = Alone::new();
        let child = node.stored("child", &[]);
        let parent = node.stored("parent", &[child]);
        let garbage = node.stored("garbage", &[]);
        node.leased(&[parent], TTL_MS, false);
        assert_eq!(node.purged(limit), [garbage]);
        node.now_ms += TTL_MS - 1;
        assert_eq!(node.purged(limit), []);
        node.now_ms += 1;
        assert_eq!(node.purged(limit), sorted(&[child, parent]));
    }
}

#[test]
fn a_flat_lease_keeps_its_blob_and_not_what_that_links_to() {
    let mut node = Alone::new();
    let child = node.stored("child", &[]);
    let parent = node.stored("parent", &[child]);
    node.leased(&[parent], TTL_MS, true);
    assert_eq!(node.purged(9), [child]);
    node.now_ms += TTL_MS;
    assert_eq!(node.purged(9), [parent]);
}

#[test]
fn a_lease_that_is_removed_keeps_nothing_any_more_however_long_it_was_to_last() {
    let mut node = Alone::new();
    let blob = node.stored("a", &[]);
    let used = node.leased(&[blob], 100 * PUT_GRACE_MS, false);
    assert_eq!(node.purged(9), []);
    let (_, ended) = node.change(LeaseOp::Remove(used.clone())).unwrap();
    assert_eq!((ended.expires_ms, ended.blobs, node.leases()), (NOW_MS, 1, 0));
    assert_eq!(node.purged(9), [blob]);
    assert_eq!(node.change(LeaseOp::Remove(used.clone())).unwrap_err(), LeaseRefusal::Ended(used.lease));
}

#[test]
fn of_two_leases_the_last_to_end_counts() {
    let mut node = Alone::new();
    let blob = node.stored("a", &[]);
    let long = node.leased(&[blob], 9 * TTL_MS, false);
    node.leased(&[blob], TTL_MS, true);
    assert_eq!(node.purged(9), []);
    node.change(LeaseOp::Remove(long)).unwrap();
    assert_eq!(node.purged(9), []);
    node.now_ms += TTL_MS;
    assert_eq!(node.purged(9), [blob]);
}

#[test]
fn what_a_ref_needs_when_its_lease_ends_stays() {
    let mut node = Alone::new();
    let blob = node.stored("a", &[]);
    node.leased(&[blob], TTL_MS, false);
    assert_eq!(node.purged(9), []);
    let set = RefSet::new("lab/a".parse().unwrap(), "{}", vec![blob]);
    node.ask(Input::WriteRefs { request: RequestId(4), ops: vec![RefOp::Set(set)] });
    node.now_ms += TTL_MS;
    assert_eq!(node.purged(9), []);
    let delete = RefOp::Delete { name: "lab/a".parse().unwrap(), if_rev: None };
    node.ask(Input::WriteRefs { request: RequestId(4), ops: vec![delete] });
    assert_eq!(node.purged(9), [blob]);
}

#[test]
fn a_renewed_lease_lasts_longer_and_never_ends_sooner_for_it() {
    let mut node = Alone::new();
    let blob = node.stored("a", &[]);
    let used = node.leased(&[blob], TTL_MS, false);
    let renew = |ttl_ms| LeaseOp::Renew { used: used.clone(), ttl_ms };
    assert_eq!(node.change(renew(1)).unwrap().1.expires_ms, NOW_MS + TTL_MS);
    node.now_ms += TTL_MS - 1;
    assert_eq!(node.change(renew(TTL_MS)).unwrap().1.expires_ms, node.now_ms + TTL_MS);
    node.now_ms += TTL_MS - 1;
    assert_eq!(node.purged(9), []);
    node.now_ms += 1;
    assert_eq!(node.change(renew(TTL_MS)).unwrap_err(), LeaseRefusal::Ended(used.lease), "what it kept may be gone");
}

#[test]
fn a_put_under_a_lease_is_covered_also_when_it_was_here_already() {
    let mut node = Alone::new();
    let here = node.stored("here", &[]);
    let used = node.leased(&[], TTL_MS, false);
    assert_eq!(node.put("here", &[], Some(&used)).unwrap(), (here, true));
    let (new, existed) = node.put("new", &[here], Some(&used)).unwrap();
    assert!(!existed);
    assert_eq!(node.engine.store().snapshot().unwrap().lease(&used.lease).unwrap().unwrap().blobs, 2);
    assert_eq!(node.purged(9), []);
    node.now_ms += TTL_MS;
    assert_eq!(node.purged(9), sorted(&[here, new]));
}

#[test]
fn a_put_under_a_lease_that_cannot_be_used_records_nothing() {
    let mut node = Alone::new();
    let used = node.leased(&[], TTL_MS, false);
    let refused = |node: &mut Alone, used: &LeaseUse| node.put("a", &[], Some(used)).unwrap_err();
    let foreign = LeaseRefusal::Foreign { lease: used.lease, owner: "ann@gpu".into(), expires_ms: NOW_MS + TTL_MS };
    assert_eq!(refused(&mut node, &of_bob(&used)), foreign);
    node.now_ms += TTL_MS;
    assert_eq!(refused(&mut node, &used), LeaseRefusal::Ended(used.lease));
    let unknown = LeaseUse { lease: LeaseId([9; 16]), ..used };
    assert_eq!(refused(&mut node, &unknown), LeaseRefusal::Ended(unknown.lease));
    let (blob, existed) = node.put("a", &[], None).unwrap();
    assert!(!existed && node.holds(&blob));
}

#[test]
fn blobs_that_are_not_held_are_named_and_none_is_covered() {
    let mut node = Alone::new();
    let here = node.stored("here", &[]);
    let missing = [BlobId([1; 20]), BlobId([2; 20])];
    let mixed = [missing[0], here, missing[1]];
    assert_eq!(node.change(add(&mixed, TTL_MS, false)).unwrap_err(), LeaseRefusal::Missing(missing.to_vec()));
    assert_eq!(node.leases(), 0);
    let used = node.leased(&[], TTL_MS, false);
    let give = |blobs: &[BlobId]| LeaseOp::Give { used: used.clone(), blobs: blobs.to_vec() };
    assert_eq!(node.change(give(&mixed)).unwrap_err(), LeaseRefusal::Missing(missing.to_vec()));
    assert_eq!(node.change(give(&[here, here])).unwrap().1.blobs, 1);
    assert_eq!(node.purged(9), []);
}

#[test]
fn nobody_else_changes_a_live_lease() {
    let mut node = Alone::new();
    let blob = node.stored("a", &[]);
    let used = node.leased(&[blob], TTL_MS, false);
    let bob = of_bob(&used);
    let foreign = LeaseRefusal::Foreign { lease: used.lease, owner: "ann@gpu".into(), expires_ms: NOW_MS + TTL_MS };
    let ops = [
        LeaseOp::Renew { used: bob.clone(), ttl_ms: 9 * TTL_MS },
        LeaseOp::Give { used: bob.clone(), blobs: vec![blob] },
        LeaseOp::Remove(bob.clone()),
    ];
    for op in ops {
        assert_eq!(node.change(op).unwrap_err(), foreign);
    }
    assert_eq!(node.purged(9), []);
    node.now_ms += TTL_MS;
    assert_eq!(node.change(LeaseOp::Remove(bob)).unwrap_err(), LeaseRefusal::Ended(used.lease));
    assert_eq!(node.leases(), 0, "what has expired goes by the way");
}

#[test]
fn expired_leases_go_lease_rows_per_step_on_each_tick() {
    let mut node = Alone::new();
    let blob = node.stored("a", &[]);
    let tick = |node: &mut Alone| drop(node.step(vec![Input::Tick]));
    let used = node.leased(&[blob], TTL_MS, false);
    let store = Arc::clone(node.engine.store());
    let give = |rows: usize| {
        let ids: Vec<BlobId> =
            (0..rows).map(|n| BlobId([&(n as u64).to_be_bytes()[..], &[0; 12]].concat().try_into().unwrap())).collect();
        store.write(|txn| txn.add_to_lease(&used.lease, "ann@gpu", NOW_MS, &ids)).unwrap();
    };
    give(LEASE_ROWS_PER_STEP);
    node.now_ms += TTL_MS - 1;
    tick(&mut node);
    assert_eq!(node.leases(), 1);
    node.now_ms += 1;
    tick(&mut node);
    assert_eq!(node.leases(), 1, "it had a row more than goes in one step");
    tick(&mut node);
    assert_eq!(node.leases(), 0);
    let calls = node.engine.store().snapshot().unwrap().next_lease_expiry_ms().unwrap();
    assert_eq!(calls, None);
    node.leased(&[blob], TTL_MS, false);
    node.now_ms += TTL_MS;
    tick(&mut node);
    assert_eq!(node.leases(), 0, "it is looked for anew when one is taken");
}

#[test]
fn there_are_at_most_max_leases_at_once_each_with_an_id_of_its_own() {
    let mut node = Alone::new();
    let all = |count| (0..count).map(|_| Input::Lease { request: RequestId(2), op: add(&[], TTL_MS, false) }).collect();
    let replies = node.step(all(MAX_LEASES));
    assert!(replies.iter().all(|reply| matches!(reply, Reply::Leased(..))));
    assert_eq!(node.leases(), MAX_LEASES as u64);
    assert_eq!(node.change(add(&[], TTL_MS, false)).unwrap_err(), LeaseRefusal::TooMany);
    node.now_ms += TTL_MS;
    node.change(add(&[], TTL_MS, false)).unwrap();
}

fn upload(name: &str) -> LeaseOp {
    let upload = UploadWish { name: name.parse().unwrap(), ingest: IngestId([1; 16]), sha1: None, size_bytes: None };
    LeaseOp::Upload { owner: "ann@gpu".parse().unwrap(), ttl_ms: TTL_MS, upload }
}

#[test]
fn there_are_at_most_max_uploads_at_once_and_each_ends_with_its_lease() {
    let mut node = Alone::new();
    for n in 0..MAX_UPLOADS {
        node.change(upload(&format!("u{n}"))).unwrap();
    }
    assert_eq!(node.change(upload("one-more")).unwrap_err(), LeaseRefusal::TooManyUploads);
    let uploads = |node: &Alone| node.engine.store().snapshot().unwrap().upload_count().unwrap();
    assert_eq!(uploads(&node), MAX_UPLOADS as u64);
    node.now_ms += TTL_MS;
    node.change(upload("one-more")).unwrap();
    assert_eq!(uploads(&node), 1, "what nobody renewed is gone");
    assert_eq!(node.change(upload("one-more")).unwrap_err(), LeaseRefusal::UploadExists("one-more".parse().unwrap()));
}
