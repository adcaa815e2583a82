//! One node alone: what it purges, in which portions, and when the trash is emptied.

use std::ops::Range;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use keepwell_protocol::id::{BlobId, BootId, Seq, ValueId};
use keepwell_protocol::log::op::LinkFact;
use keepwell_store::fs::SharedFs;
use keepwell_store::fs::sim::SimDisk;
use keepwell_store::home::DiskPlace;
use keepwell_store::ingest::{IngestId, ingest};
use keepwell_store::store::Store;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::engine::{EngineRng, Input, NewHome, PutBlob, Stored};
use crate::limits::{PURGE_BATCH_BLOBS, TRASH_PORTION};

pub(in crate::engine) const NOW_MS: u64 = 1_800_000_000_000;

pub(in crate::engine) struct Alone {
    pub(in crate::engine) engine: Engine,
    pub(in crate::engine) rng: EngineRng,
    pub(in crate::engine) disk: SimDisk,
}

impl Alone {
    pub(in crate::engine) fn new() -> Alone {
        let disk = SimDisk::new(1);
        let fs: SharedFs = Arc::new(disk.fs());
        let store = Arc::new(Store::open(disk.backend("index.redb"), fs).unwrap());
        let mut rng = EngineRng::seed_from_u64(1);
        let place = DiskPlace { device: 1, inode: 1 };
        let new = NewHome { network: "lab".parse().unwrap(), node: "ada".parse().unwrap(), place };
        let engine = Engine::init(store, SigningKey::from_bytes(&[1; 32]), &new, &mut rng).unwrap();
        Alone { engine, rng, disk }
    }

    pub(in crate::engine) fn step(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        self.engine.step(now_ms, &mut self.rng, vec![input]).unwrap()
    }

    pub(in crate::engine) fn put(&mut self, count: usize) {
        self.put_at(NOW_MS, 0..count);
    }

    /// Puts a small blob for each of these numbers.
    pub(in crate::engine) fn put_at(&mut self, now_ms: u64, numbers: Range<usize>) {
        let store = Arc::clone(self.engine.store());
        let blob = |number: usize| {
            let bytes = number.to_be_bytes();
            let ingested = ingest(store.fs(), IngestId([0; 16]), &mut &bytes[..], &mut |_| {}).unwrap();
            let placed = store.place(vec![ingested]).unwrap().placed.pop().unwrap();
            PutBlob { blob: Stored::New(placed), children: vec![] }
        };
        let blobs = numbers.map(blob).collect();
        self.step(now_ms, Input::Put { request: RequestId(1), blobs, lease: None });
    }

    pub(in crate::engine) fn collect(&mut self, grace_ms: Option<u64>, limit: usize) -> Collected {
        let how = Collect { grace_ms, limit };
        let effects = self.step(NOW_MS, Input::Collect { request: RequestId(2), how });
        let reply = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply(_, Reply::Collected(collected)) => Some(collected),
            _ => None,
        });
        reply.unwrap()
    }

    /// Until when the trash is to be emptied after a tick at `now_ms`, if it is.
    fn empties(&mut self, now_ms: u64) -> Option<u64> {
        self.step(now_ms, Input::Tick).into_iter().find_map(|effect| match effect {
            Effect::EmptyTrash { until_ms, .. } => Some(until_ms),
            _ => None,
        })
    }
}

/// What a collection comes to that finds nothing: the trash of a day ago goes.
fn nothing() -> Collected {
    Collected { trash_until_ms: Some(NOW_MS - MAX_TRASH_AGE_MS), ..Collected::default() }
}

#[test]
fn one_step_ends_graces_per_step_and_purges_a_batch_and_says_that_there_is_more() {
    let mut node = Alone::new();
    let unneeded = |node: &Alone| node.engine.store().snapshot().unwrap().unneeded_count().unwrap();
    node.put(PURGE_BATCH_BLOBS + 2);
    assert_eq!(node.collect(None, PURGE_BATCH_BLOBS), nothing(), "all have their grace");
    let collected = node.collect(Some(0), 1);
    assert_eq!((collected.purged.len(), collected.more), (1, true));
    assert_eq!(unneeded(&node), GRACES_PER_STEP as u64 - 1);
    let collected = node.collect(Some(0), PURGE_BATCH_BLOBS);
    assert_eq!((collected.purged.len(), collected.more, unneeded(&node)), (PURGE_BATCH_BLOBS, true, 1));
    let collected = node.collect(Some(0), PURGE_BATCH_BLOBS);
    assert_eq!((collected.purged.len(), collected.more), (1, false));
}

#[test]
fn a_look_changes_nothing() {
    let mut node = Alone::new();
    node.put(3);
    assert_eq!(node.collect(Some(0), 0), nothing());
    assert_eq!(node.engine.store().snapshot().unwrap().unneeded_count().unwrap(), 0);
    assert_eq!(node.collect(Some(0), 9).purged.len(), 3);
}

#[test]
fn a_parent_spreads_past_settle_mentions_in_one_go_and_the_next_waits() {
    let mut node = Alone::new();
    node.put(SETTLE_MENTIONS + 2);
    let snapshot = node.engine.store().snapshot().unwrap();
    let mut ids = Vec::new();
    let noted = snapshot.visit_blobs(&BlobId([0; 20]), |id, _| {
        ids.push(id);
        Ok::<_, StoreError>(true)
    });
    noted.unwrap();
    let (first, second, children) = (ids[0], ids[1], &ids[2..]);
    for (parent, children) in [(first, children), (second, &[first][..])] {
        let fact = snapshot.blob(&parent).unwrap().unwrap().fact(parent);
        let blobs = vec![PutBlob { blob: Stored::Known(fact), children: children.to_vec() }];
        node.step(NOW_MS, Input::Put { request: RequestId(3), blobs, lease: None });
    }
    let store = Arc::clone(node.engine.store());
    // The two parents are unsettled; each is a portion of its own, since the larger one fills it.
    store.write(|txn| [first, second].iter().try_for_each(|id| txn.add_ref_link(id, "lab/a"))).unwrap();
    assert!(!store.snapshot().unwrap().is_settled().unwrap());
    let mut steps = 0;
    while !store.snapshot().unwrap().is_settled().unwrap() {
        node.step(NOW_MS, Input::Tick);
        steps += 1;
    }
    assert!((1..=2).contains(&steps), "{steps}");
    assert!(store.snapshot().unwrap().is_live(&children[0]).unwrap());
}

#[test]
fn a_step_ends_cycles_per_step_and_the_next_one_the_rest() {
    for past in [0, 1] {
        let mut node = Alone::new();
        node.put(CYCLES_PER_STEP + past);
        let store = Arc::clone(node.engine.store());
        let mut ids = Vec::new();
        let noted = store.snapshot().unwrap().visit_blobs(&BlobId([0; 20]), |id, record| {
            ids.push((id, record.fact(id)));
            Ok::<_, StoreError>(true)
        });
        noted.unwrap();
        let name_and_forget = |txn: &mut Transaction<'_>| {
            for ((id, fact), seq) in ids.iter().zip(1..) {
                let value = ValueId { boot: BootId([1; 16]), seq: Seq(seq), index: 0 };
                txn.put_link_fact(&value, &LinkFact { parent: *id, children: vec![*fact] })?;
                txn.add_ref_link(id, "lab/a")?;
            }
            txn.settle(usize::MAX)?;
            ids.iter().try_for_each(|(id, _)| txn.remove_ref_link(id, "lab/a"))
        };
        store.write(name_and_forget).unwrap();
        let live = |store: &Store| ids.iter().filter(|(id, _)| store.snapshot().unwrap().is_live(id).unwrap()).count();
        assert_eq!(live(&store), CYCLES_PER_STEP + past, "each keeps itself");
        node.step(NOW_MS, Input::Tick);
        assert_eq!(live(&store), past);
        node.step(NOW_MS, Input::Tick);
        assert_eq!(live(&store), 0);
    }
}

#[test]
fn the_trash_is_emptied_past_max_trash_age_a_portion_every_while() {
    let mut node = Alone::new();
    node.put(TRASH_PORTION + 1);
    node.collect(Some(0), TRASH_PORTION + 1);
    assert_eq!(node.empties(NOW_MS + MAX_TRASH_AGE_MS - 1), None);
    let due_ms = NOW_MS + MAX_TRASH_AGE_MS;
    assert_eq!(node.empties(due_ms), Some(NOW_MS));
    let store = Arc::clone(node.engine.store());
    assert_eq!(store.empty_trash(NOW_MS, TRASH_PORTION).unwrap().blobs, TRASH_PORTION as u64);
    assert_eq!(node.empties(due_ms + TRASH_EVERY_MS - 1), None);
    assert_eq!(node.empties(due_ms + TRASH_EVERY_MS), Some(NOW_MS + TRASH_EVERY_MS));
    assert_eq!(store.empty_trash(NOW_MS, TRASH_PORTION).unwrap().blobs, 1);
    assert_eq!(node.empties(due_ms + 2 * TRASH_EVERY_MS), None);
}
