//! One node alone in whose index damage was found: it goes on, and deletes nothing.

use keepwell_protocol::gc::Missing;
use keepwell_protocol::gc::pressure::Room;
use keepwell_protocol::gc::schedule::Keys;
use keepwell_store::counts::Count;
use keepwell_store::index::check::IndexCheck;
use keepwell_store::store::Store;

use super::*;
use crate::engine::collect::tests::{Alone, NOW_MS};
use crate::engine::pressure::Wait;
use crate::engine::{Input, RefOp, RefSet, Settings};
use crate::limits::{MAX_TRASH_AGE_MS, TRASH_EVERY_MS};

const REQUEST: RequestId = RequestId(5);

/// Bytes between two flips that are tried.
const STRIDE: usize = 4_096;

fn damaged() -> Input {
    Input::IndexDamaged { request: REQUEST, why: "a page".into() }
}

fn check(store: &Store) -> IndexCheck {
    store.check_index(Box::new(|_| Ok(()))).unwrap()
}

fn notes(node: &Alone) -> Vec<Note> {
    let notes = node.engine.store().snapshot().unwrap().notes_after(None, usize::MAX).unwrap();
    notes.into_iter().map(|(_, noted)| noted.note).collect()
}

/// The same node with the usual settings of a daemon.
fn daemon() -> Alone {
    let Alone { engine, rng, disk } = Alone::new();
    Alone { engine: engine.with(Settings { schedule: Some(Keys::DEFAULT), ..Settings::default() }), rng, disk }
}

/// What is in the way of a collection, which purges nothing.
fn in_its_way(node: &mut Alone, limit: usize) -> Vec<Missing> {
    let collected = node.collect(Some(0), limit);
    assert!(collected.purged.is_empty());
    collected.missing
}

#[test]
fn a_bit_that_flips_under_a_node_at_work_is_found_and_nothing_is_purged_then_also_after_a_failed_step() {
    let mut node = Alone::new();
    node.put(30);
    assert_eq!(check(node.engine.store()), IndexCheck::Whole);
    assert_eq!(node.collect(Some(0), 1).purged.len(), 1);
    let len = node.disk.index_bytes("index.redb");
    // The last flip alone stays: each is undone by another of the same bit.
    let found = (0..len).step_by(STRIDE).map(|at| at + 40).find_map(|at| {
        node.disk.flip_index_bit("index.redb", at);
        match check(node.engine.store()) {
            IndexCheck::Damaged(why) => Some(why),
            _ => {
                node.disk.flip_index_bit("index.redb", at);
                None
            }
        }
    });
    node.step(NOW_MS, Input::IndexDamaged { request: REQUEST, why: found.unwrap() });
    let refused = [Missing::Leave(Why::IndexDamaged)];
    assert_eq!(in_its_way(&mut node, 9), refused);
    node.engine.restart().unwrap();
    assert_eq!(in_its_way(&mut node, 9), refused);
    assert_eq!(in_its_way(&mut node, 0), refused, "and a look says so");
    assert_eq!(notes(&node).iter().filter(|note| matches!(note, Note::IndexDamaged { .. })).count(), 1);
}

#[test]
fn who_is_told_of_damage_of_before_deletes_nothing_and_does_not_note_it_again() {
    let mut node = Alone::new();
    node.put(3);
    let Alone { engine, rng, disk } = node;
    node = Alone { engine: engine.on_index(true), rng, disk };
    assert!(node.collect(Some(0), 9).purged.is_empty());
    node.step(NOW_MS, damaged());
    assert!(!notes(&node).iter().any(|note| matches!(note, Note::IndexDamaged { .. })));
}

#[test]
fn the_trash_is_not_emptied_by_age_nor_when_the_disk_is_full() {
    for is_damaged in [false, true] {
        let mut node = daemon();
        node.put(3);
        assert_eq!(node.collect(Some(0), 9).purged.len(), 3);
        if is_damaged {
            node.step(NOW_MS, damaged());
        }
        let empties = |effects: Vec<Effect>| effects.iter().any(|effect| matches!(effect, Effect::EmptyTrash { .. }));
        let full = Input::Room(Room { total_bytes: 1 << 40, used_bytes: (1 << 40) - 1 });
        assert_eq!(empties(node.step(NOW_MS + 1_000, full)), !is_damaged);
        let waits = &node.engine.pressure().waits;
        assert_eq!(waits.contains(&Wait::IndexDamaged), is_damaged, "{waits:?}");
        assert_eq!(empties(node.step(NOW_MS + MAX_TRASH_AGE_MS + 1_000, Input::Tick)), !is_damaged);
    }
}

#[test]
fn what_was_deleted_is_removed_for_good_when_a_check_that_began_later_has_found_nothing() {
    let Alone { engine, rng, disk } = daemon();
    let settings = Settings { checks_index: true, ..engine.settings() };
    let mut node = Alone { engine: engine.with(settings), rng, disk };
    node.put(3);
    assert_eq!(node.collect(Some(0), 9).purged.len(), 3);
    let mut now_ms = NOW_MS + MAX_TRASH_AGE_MS;
    let mut empties = |node: &mut Alone| {
        now_ms += TRASH_EVERY_MS;
        let effects = node.step(now_ms, Input::Tick);
        effects.iter().any(|effect| matches!(effect, Effect::EmptyTrash { .. }))
    };
    assert!(!empties(&mut node), "no check has passed");
    // It may have read what the deletion changed before that happened.
    node.step(NOW_MS, Input::IndexWhole { began_ms: NOW_MS });
    assert!(!empties(&mut node));
    node.step(NOW_MS, Input::IndexWhole { began_ms: NOW_MS + 1 });
    node.engine.restart().unwrap();
    assert!(empties(&mut node));
}

#[test]
fn no_ref_is_ended_by_a_deadline_that_may_be_wrong() {
    for is_damaged in [false, true] {
        let mut node = Alone::new();
        let mut after = |passed_ms: u64, input| {
            let elapsed = Input::Elapsed { boot_ms: 1_000_000 + passed_ms };
            drop(node.engine.step(NOW_MS + passed_ms, &mut node.rng, vec![elapsed, input]).unwrap());
        };
        let set = RefSet { expires_ms: Some(NOW_MS + 1_000), ..RefSet::new("lab/x".parse().unwrap(), "{}", vec![]) };
        after(0, Input::WriteRefs { request: REQUEST, ops: vec![RefOp::Set(set)] });
        if is_damaged {
            after(0, damaged());
        }
        after(1_000, Input::Tick);
        let refs = node.engine.store().snapshot().unwrap().count(Count::Refs).unwrap();
        assert_eq!(refs, u64::from(is_damaged));
    }
}
