//! One node alone: how many links it looks at and forgets at a time.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use keepwell_protocol::id::{B3, BlobFact, BlobId, Seq, ValueId};
use keepwell_protocol::log::op::LinkFact;
use keepwell_store::error::StoreError;
use keepwell_store::home::DiskPlace;
use keepwell_store::store::Store;

use super::unlinking::all_above;
use crate::engine::collect::tests::{Alone, NOW_MS};
use crate::engine::{Engine, Input, RefOp, RefSet, RequestId, Settings};
use crate::limits::{
    FACT_BLOBS_ABOVE, FACT_LOOKS_PER_TICK, FACT_WALK_EVERY_MS, FACTS_PER_SWEEP, FULL_DISK_RETRY_MOST_MS, MAX_FACTS_DUE,
};

fn blob(n: usize) -> BlobId {
    let mut id = [9; 20];
    id[..8].copy_from_slice(&n.to_be_bytes());
    BlobId(id)
}

fn fact(n: usize) -> BlobFact {
    BlobFact { sha1: blob(n), b3: B3([1; 32]), size_bytes: 1 }
}

/// A node whose log says of nothing that it is held, and that these link to those: (parent, child).
fn linked(links: impl IntoIterator<Item = (usize, usize)>) -> Alone {
    let alone = Alone::new();
    link(&alone, 0, links);
    alone
}

fn link(alone: &Alone, from: u32, links: impl IntoIterator<Item = (usize, usize)>) {
    let boot = alone.engine.own_chain().unwrap().boot;
    let put = alone.engine.store().write(|txn| {
        for (index, (parent, child)) in (from..).zip(links) {
            let id = ValueId { boot, seq: Seq(1), index };
            txn.put_link_fact(&id, &LinkFact { parent: blob(parent), children: vec![fact(child)] })?;
        }
        Ok::<_, keepwell_store::error::StoreError>(())
    });
    put.unwrap();
}

fn set(alone: Alone, facts_after_ms: u64) -> Alone {
    Alone { engine: alone.engine.with(Settings { facts_after_ms, ..Settings::default() }), ..alone }
}

/// Ticks once, and tells how many are waiting, and how many are being forgotten.
fn tick(alone: &mut Alone, now_ms: u64) -> (usize, usize) {
    alone.step(now_ms, Input::Tick);
    alone.engine.unlinking.sizes()
}

#[test]
fn a_walk_looks_at_fact_looks_per_tick_and_begins_again_after_fact_walk_every_ms() {
    let parents = FACT_LOOKS_PER_TICK + 1;
    let mut alone = set(linked((0..parents).map(|n| (n, 1_000_000))), u64::MAX);
    assert_eq!([1, 2, 3].map(|ms| tick(&mut alone, NOW_MS + ms).0), [FACT_LOOKS_PER_TICK, parents, parents]);
    link(&alone, 90_000, [(parents, 1_000_000)]);
    let last_ms = NOW_MS + 2;
    assert_eq!(tick(&mut alone, last_ms + FACT_WALK_EVERY_MS - 1).0, parents);
    assert_eq!([0, 1].map(|ms| tick(&mut alone, last_ms + FACT_WALK_EVERY_MS + ms).0), [parents, parents + 1]);
}

#[test]
fn at_most_facts_per_sweep_go_at_once_and_the_rest_after_them() {
    let after_ms = 60_000;
    let mut alone = set(linked((0..=FACTS_PER_SWEEP).map(|n| (n, 1_000_000))), after_ms);
    let ticks = FACTS_PER_SWEEP / FACT_LOOKS_PER_TICK + 1;
    for _ in 0..ticks {
        tick(&mut alone, NOW_MS);
    }
    assert_eq!(tick(&mut alone, NOW_MS + after_ms - 1), (FACTS_PER_SWEEP + 1, 0));
    assert_eq!(tick(&mut alone, NOW_MS + after_ms), (1, FACTS_PER_SWEEP));
    let left = |alone: &Alone| alone.engine.store().snapshot().unwrap().linking_after(None, 9_999).unwrap().len();
    assert_eq!((tick(&mut alone, NOW_MS + after_ms), left(&alone)), ((1, 0), 1));
    assert_eq!((tick(&mut alone, NOW_MS + after_ms), left(&alone)), ((0, 1), 1));
    assert_eq!((tick(&mut alone, NOW_MS + after_ms), left(&alone)), ((0, 0), 0));
}

#[test]
fn what_has_more_than_fact_blobs_above_it_keeps_its_links() {
    for (above, goes) in [(FACT_BLOBS_ABOVE, true), (FACT_BLOBS_ABOVE + 1, false)] {
        let alone = linked((1..=above).map(|n| (n, 0)));
        let found = alone.engine.store().write(|txn| all_above(txn, &blob(0))).unwrap();
        assert_eq!(found.map(|found| found.len()), goes.then_some(above));
    }
}

#[test]
fn a_circle_of_links_is_forgotten_as_a_whole() {
    let mut alone = set(linked([(1, 2), (2, 3), (3, 1), (3, 4)]), 0);
    for _ in 0..3 {
        tick(&mut alone, NOW_MS);
    }
    assert!(alone.engine.store().snapshot().unwrap().linking_after(None, 9).unwrap().is_empty());
}

#[test]
fn no_more_than_max_facts_due_are_remembered() {
    let mut alone = Alone::new();
    for n in 0..=MAX_FACTS_DUE {
        alone.engine.unlinking.wait(blob(n), 1);
        assert_eq!(alone.engine.unlinking.sizes().0, (n + 1).min(MAX_FACTS_DUE));
    }
    alone.engine.unlinking.wait(blob(0), 2);
    assert_eq!(alone.engine.unlinking.sizes(), (MAX_FACTS_DUE, 0), "one that is remembered waits anew");
}

#[test]
fn what_is_named_held_or_linked_to_meanwhile_is_looked_at_anew() {
    let after_ms = 60_000;
    let begun = || {
        let mut alone = set(linked([(1, 2), (2, 3)]), after_ms);
        tick(&mut alone, NOW_MS);
        assert_eq!(tick(&mut alone, NOW_MS + after_ms), (0, 2));
        alone
    };
    let touch = |alone: &mut Alone, id: usize| alone.engine.unlinking.touched([blob(id)].iter());
    for (id, left) in [(1, 2), (2, 2), (3, 0)] {
        let mut alone = begun();
        touch(&mut alone, id);
        assert_eq!(tick(&mut alone, NOW_MS + after_ms), (left, 0), "{id}");
    }
    let mut alone = begun();
    let named = |txn: &mut keepwell_store::store::Transaction<'_>| txn.add_ref_link(&blob(1), "lab/x");
    alone.engine.store().write(named).unwrap();
    assert_eq!([1, 2].map(|ms| tick(&mut alone, NOW_MS + after_ms + ms).1)[1], 0);
    let left = alone.engine.store().snapshot().unwrap().linking_after(None, 9).unwrap();
    assert_eq!(left, [blob(1), blob(2)], "a ref reaches them, however that came about");
}

const HOUR_MS: u64 = 60 * 60 * 1_000;

/// The machine is switched off and on: a new process, and a clock since the start of the machine that begins again.
fn switched_on(alone: Alone) -> Alone {
    let Alone { engine, mut rng, disk } = alone;
    let settings = engine.settings;
    drop(engine);
    disk.restart();
    let store = Arc::new(Store::open(disk.backend("index.redb"), Arc::new(disk.fs())).unwrap());
    let place = DiskPlace { device: 1, inode: 1 };
    let engine = Engine::open(store, SigningKey::from_bytes(&[1; 32]), place, &mut rng).unwrap().with(settings);
    Alone { engine, rng, disk }
}

/// Ticks when the machine has been on for so long.
fn tick_at(alone: &mut Alone, now_ms: u64, boot_ms: u64) -> (usize, usize) {
    alone.step(now_ms, Input::Elapsed { boot_ms });
    tick(alone, now_ms)
}

fn left(alone: &Alone) -> usize {
    alone.engine.store().snapshot().unwrap().linking_after(None, 9).unwrap().len()
}

#[test]
fn links_are_forgotten_although_the_machine_is_switched_off_again_and_again() {
    let mut alone = set(linked([(1, 2)]), 24 * HOUR_MS);
    tick_at(&mut alone, NOW_MS, 5_000_000_000);
    for hour in (1..24).step_by(2) {
        alone = switched_on(alone);
        let now_ms = NOW_MS + hour * HOUR_MS;
        assert_eq!((tick_at(&mut alone, now_ms, 0), tick_at(&mut alone, now_ms + 1, 1)), ((1, 0), (1, 0)), "hour {hour}");
    }
    alone = switched_on(alone);
    let ticked = [1, 2, 3].map(|ms| tick_at(&mut alone, NOW_MS + 24 * HOUR_MS + ms, ms));
    assert_eq!((ticked, left(&alone)), ([(0, 1), (0, 0), (0, 0)], 0));
    assert_eq!(alone.engine.store().snapshot().unwrap().facts_due().unwrap(), [], "nothing is left of it");
}

#[test]
fn a_step_that_fails_and_a_start_without_anything_new_write_nothing_down() {
    let mut alone = set(linked([(1, 2), (2, 3)]), 24 * HOUR_MS);
    tick(&mut alone, NOW_MS);
    let due = |alone: &Alone| alone.engine.store().snapshot().unwrap().facts_due().unwrap();
    let before = (due(&alone), alone.disk.calls());
    assert_eq!(before.0.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [blob(1), blob(2)]);
    alone.engine.restart().unwrap();
    for ms in 1..10 {
        assert_eq!(tick(&mut alone, NOW_MS + ms * HOUR_MS), (2, 0));
    }
    assert_eq!((due(&alone), alone.disk.calls()), before);
}

#[test]
fn links_whose_end_has_failed_are_forgotten_when_there_is_room() {
    let mut alone = set(linked([(1, 2)]), 0);
    let begun = (0..3).find(|_| tick(&mut alone, NOW_MS).1 == 1);
    assert!(begun.is_some());
    alone.disk.set_capacity(Some(0));
    // With more beside it than the file of the index has room for.
    let obj = format!("\"{}\"", "x".repeat(60_000));
    let large = (0..100).map(|n| RefOp::Set(RefSet::new(format!("lab/{n}").parse().unwrap(), obj.clone(), vec![])));
    let large = large.map(|op| Input::WriteRefs { request: RequestId(1), ops: vec![op] });
    let inputs = std::iter::once(Input::Tick).chain(large).collect();
    assert!(alone.engine.step(NOW_MS, &mut alone.rng, inputs).is_err());
    alone.disk.set_capacity(None);
    alone.engine.restart().unwrap();
    assert_eq!(left(&alone), 1);
    for n in 1..4 {
        tick(&mut alone, NOW_MS + n * FULL_DISK_RETRY_MOST_MS * 2);
    }
    assert_eq!(left(&alone), 0);
}

#[test]
fn a_clock_that_was_set_back_makes_no_start_wait_for_longer_than_twice_as_long() {
    let after_ms = 24 * HOUR_MS;
    let mut alone = set(linked([(1, 2)]), after_ms);
    tick(&mut alone, NOW_MS + 1_000 * after_ms);
    alone = switched_on(alone);
    assert_eq!([0, 2 * after_ms - 1].map(|ms| tick(&mut alone, NOW_MS + ms)), [(1, 0); 2]);
    assert_eq!(tick(&mut alone, NOW_MS + 2 * after_ms), (0, 1));
}

#[test]
fn what_is_held_again_meanwhile_waits_anew_once_it_has_gone() {
    let mut alone = set(Alone::new(), 24 * HOUR_MS);
    alone.put(1);
    let held = alone.engine.store().snapshot().unwrap();
    let mut id = BlobId([0; 20]);
    held.visit_blobs::<StoreError>(&id.clone(), |found, _| {
        id = found;
        Ok(true)
    })
    .unwrap();
    let boot = alone.engine.own_chain().unwrap().boot;
    let fact_id = ValueId { boot, seq: Seq(1), index: 0 };
    let links = LinkFact { parent: id, children: vec![fact(3)] };
    let put = alone.engine.store().write(|txn| {
        txn.put_facts_due(&id, NOW_MS)?;
        txn.put_link_fact(&fact_id, &links)
    });
    put.map_err(|error: StoreError| error.to_string()).unwrap();
    alone = switched_on(alone);
    assert_eq!([1, 2].map(|ms| tick(&mut alone, NOW_MS + ms)), [(1, 0); 2], "it is held");
    alone.collect(Some(0), 9);
    let due = |alone: &Alone| alone.engine.store().snapshot().unwrap().facts_due().unwrap();
    assert_eq!(due(&alone), [(id, NOW_MS + 24 * HOUR_MS)]);
    alone.put(1);
    assert_eq!(due(&alone), []);
}
