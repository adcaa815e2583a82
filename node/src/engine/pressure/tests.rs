//! One node alone whose disk is said to be full: what it does at once, what it leaves alone, and what it says of it.

use keepwell_protocol::gc::pressure::{Mark, Marks};
use keepwell_protocol::gc::schedule::Keys;
use keepwell_protocol::limits::MIN_TRASH_AGE_MS;

use super::*;
use crate::engine::Input;
use crate::engine::collect::tests::{Alone, NOW_MS};

/// High at 90, low at 50, reserve of 10, of a hundred.
const MARKS: Marks = Marks { high: Mark::Part(900_000), low: Mark::Part(500_000), reserve: Mark::Part(100_000) };

fn pressed(max_size_bytes: Option<u64>) -> Alone {
    let Alone { engine, rng, disk } = Alone::new();
    let settings = Settings { schedule: Some(Keys::DEFAULT), marks: MARKS, max_size_bytes, ..Settings::default() };
    Alone { engine: engine.with(settings), rng, disk }
}

fn full(percent: u64) -> Room {
    Room { total_bytes: 1_000, used_bytes: percent * 10 }
}

/// Which part of the trash is to go when the disk is found so full.
fn empties(node: &mut Alone, now_ms: u64, room: Room) -> Option<(u64, u64)> {
    node.step(now_ms, Input::Room(room)).into_iter().find_map(|effect| match effect {
        Effect::EmptyTrash { until_ms, enough_bytes } => Some((until_ms, enough_bytes)),
        _ => None,
    })
}

fn level(node: &Alone) -> Level {
    node.engine.pressure().pressure.level
}

#[test]
fn a_full_disk_has_a_collection_begin_at_once_and_only_when_it_begins_to_be_full() {
    let mut node = pressed(None);
    node.step(NOW_MS, Input::Tick);
    node.step(NOW_MS + 200, Input::Tick);
    assert_eq!(node.engine.wakes_ms(), None, "there is nothing to do");
    node.step(NOW_MS + 300, Input::Room(full(89)));
    assert_eq!(node.engine.wakes_ms(), None);
    node.step(NOW_MS + 400, Input::Room(full(90)));
    assert_eq!(node.engine.wakes_ms(), Some(NOW_MS + 400));
    node.step(NOW_MS + 400, Input::Tick);
    node.step(NOW_MS + 500, Input::Room(full(90)));
    assert_eq!((node.engine.wakes_ms(), level(&node)), (None, Level::High));
    assert_eq!(node.engine.pressure().waits, [Wait::Needed]);
}

#[test]
fn the_trash_goes_sooner_and_no_more_of_it_than_is_needed() {
    let mut node = pressed(None);
    node.put(3);
    node.collect(Some(0), 3);
    let old_ms = NOW_MS + MIN_TRASH_AGE_MS;
    assert_eq!(empties(&mut node, old_ms, full(89)), None, "without pressure it stays");
    assert_eq!(empties(&mut node, old_ms - 1, full(90)), None);
    assert_eq!(node.engine.pressure().waits, [Wait::YoungTrash { bytes: 24 }, Wait::Needed]);
    assert_eq!(empties(&mut node, old_ms, full(90)), Some((NOW_MS, 400)));
    assert_eq!(empties(&mut node, old_ms, full(51)), Some((NOW_MS, 10)));
    assert_eq!(empties(&mut node, old_ms, full(50)), None, "the low mark is reached");
    assert_eq!((level(&node), node.engine.pressure().waits.len()), (Level::None, 0));
}

#[test]
fn in_an_emergency_nothing_in_the_trash_is_too_young() {
    let mut node = pressed(None);
    node.put(1);
    node.collect(Some(0), 1);
    assert_eq!(empties(&mut node, NOW_MS + 1, full(90)), None);
    assert_eq!(empties(&mut node, NOW_MS + 1, full(93)), Some((NOW_MS + 1, 30)));
    assert_eq!(level(&node), Level::Emergency);
}

#[test]
fn what_the_home_may_hold_presses_like_a_disk_and_the_trash_is_part_of_it() {
    let mut node = pressed(Some(100));
    node.put(11);
    node.step(NOW_MS, Input::Room(full(1)));
    assert_eq!((level(&node), node.engine.pressure().pressure.to_free_bytes), (Level::None, 0));
    node.put(12);
    node.step(NOW_MS, Input::Room(full(1)));
    assert_eq!((level(&node), node.engine.pressure().pressure.to_free_bytes), (Level::Emergency, 46));
    node.collect(Some(0), 12);
    node.step(NOW_MS, Input::Room(full(1)));
    assert_eq!(node.engine.pressure().pressure.to_free_bytes, 46, "what is in the trash is not free yet");
    node.engine.store().empty_trash(NOW_MS, 6).unwrap();
    node.step(NOW_MS, Input::Room(full(1)));
    assert_eq!(level(&node), Level::None);
}

#[test]
fn what_was_put_lately_keeps_its_grace() {
    let mut node = pressed(None);
    node.put(2);
    node.step(NOW_MS + 1, Input::Room(full(100)));
    for second in 1..100 {
        let effects = node.step(NOW_MS + second * 1_000, Input::Tick);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Collected(_))));
    }
    assert_eq!(node.engine.store().snapshot().unwrap().count(Count::Blobs).unwrap(), 2);
}

#[test]
fn a_node_that_does_nothing_by_itself_says_so() {
    let Alone { engine, rng, disk } = pressed(None);
    let settings = Settings { schedule: None, ..engine.settings() };
    let mut node = Alone { engine: engine.with(settings), rng, disk };
    node.put(1);
    node.collect(Some(0), 1);
    assert_eq!(empties(&mut node, NOW_MS + MIN_TRASH_AGE_MS, full(100)), None);
    assert_eq!(node.engine.pressure().waits, [Wait::NotSetTo]);
}
