//! One node alone: what it purges by itself, and that an idle one does nothing.

use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::gc::schedule::Keys;
use keepwell_protocol::id::{BlobId, NodeId, StorageId};
use keepwell_protocol::limits::{RETRY_MORE_MS, RETRY_MOST_MS};

use super::*;
use crate::engine::collect::tests::{Alone, NOW_MS};
use crate::engine::settings::Settings;
use crate::engine::{Input, LeaseOp, RequestId};
use crate::limits::{PUT_GRACE_MS, TICK_MS};

/// When the graces of what was put at the beginning are over.
const OVER_MS: u64 = NOW_MS + PUT_GRACE_MS;

fn unasked() -> Alone {
    let Alone { engine, rng, disk } = Alone::new();
    Alone { engine: engine.with(Settings { schedule: Some(Keys::DEFAULT), ..Settings::default() }), rng, disk }
}

/// What a tick purges.
fn tick(node: &mut Alone, now_ms: u64) -> Option<Collected> {
    node.step(now_ms, Input::Tick).into_iter().find_map(|effect| match effect {
        Effect::Collected(collected) => Some(collected),
        _ => None,
    })
}

fn took(node: &mut Alone, now_ms: u64, cost_us: u64) {
    node.step(now_ms, Input::Took { cost_us });
}

#[test]
fn what_nothing_needs_goes_when_its_grace_is_over_without_being_asked() {
    let mut node = unasked();
    node.put(3);
    assert_eq!(tick(&mut node, NOW_MS + 200), None, "all have their grace");
    assert_eq!(node.engine.wakes_ms(), Some(OVER_MS), "and nothing happens before that");
    assert_eq!(tick(&mut node, OVER_MS - 1), None);
    let collected = tick(&mut node, OVER_MS).unwrap();
    assert_eq!((collected.purged.len(), collected.missing, collected.more), (3, vec![], false));
    took(&mut node, OVER_MS + 1, 1_000);
    assert_eq!(node.engine.wakes_ms(), None);
    let last = node.engine.store().snapshot().unwrap().last_collection().unwrap().unwrap();
    assert_eq!((last.at_ms, last.blobs, last.bytes, last.by_itself), (OVER_MS, 3, 24, true));
}

#[test]
fn what_was_put_later_keeps_its_grace_when_its_neighbours_go() {
    let mut node = unasked();
    node.put(2);
    node.put_at(OVER_MS - 1, 2..5);
    assert_eq!(tick(&mut node, OVER_MS).unwrap().purged.len(), 2);
    took(&mut node, OVER_MS, 0);
    assert_eq!(node.engine.wakes_ms(), Some(OVER_MS - 1 + PUT_GRACE_MS));
}

#[test]
fn while_a_member_has_not_said_that_it_knows_nothing_goes_and_trying_commits_nothing() {
    let mut node = unasked();
    node.put(2);
    let body = NodeBody { name: "ben".into(), role: Role::Member, storage: StorageId([2; StorageId::LEN]) };
    node.step(NOW_MS, Input::Admit { request: RequestId(9), node: NodeId([2; NodeId::LEN]), body });
    assert_eq!(tick(&mut node, OVER_MS), None);
    let (held, calls) = (node.engine.store().snapshot().unwrap().unneeded_count().unwrap(), node.disk.calls());
    assert_eq!((held, node.engine.wakes_ms()), (2, Some(OVER_MS + RETRY_MORE_MS)));
    for second in 1..100 {
        assert_eq!(tick(&mut node, OVER_MS + second * TICK_MS), None);
    }
    assert_eq!(node.disk.calls(), calls);
    assert!(node.engine.wakes_ms().is_some_and(|wakes_ms| wakes_ms <= OVER_MS + 99 * TICK_MS + RETRY_MOST_MS));
}

#[test]
fn more_than_an_unasked_portion_goes_in_portions_with_pauses_that_follow_from_their_cost() {
    let mut node = unasked();
    node.put(UNASKED_PORTION + 1);
    let first = tick(&mut node, OVER_MS).unwrap();
    assert_eq!((first.purged.len(), first.more), (UNASKED_PORTION, true));
    assert_eq!(tick(&mut node, OVER_MS + 1), None, "what it cost is not known yet");
    took(&mut node, OVER_MS + 2, 100_000);
    let after_ms = OVER_MS + 2 + 4_900;
    assert_eq!(node.engine.wakes_ms(), Some(after_ms));
    assert_eq!(tick(&mut node, after_ms - 1), None);
    assert_eq!(tick(&mut node, after_ms).unwrap().purged.len(), 1);
    let last = node.engine.store().snapshot().unwrap().last_collection().unwrap().unwrap();
    assert_eq!(last.blobs, UNASKED_PORTION as u64 + 1, "both are one collection");
}

#[test]
fn the_end_of_a_lease_is_when_what_it_covers_goes() {
    let mut node = unasked();
    node.put(1);
    let mut blobs = Vec::new();
    let visit = |id, _| {
        blobs.push(id);
        Ok::<_, StoreError>(true)
    };
    node.engine.store().snapshot().unwrap().visit_blobs(&BlobId([0; 20]), visit).unwrap();
    let ttl_ms = PUT_GRACE_MS + 12_345;
    let op = LeaseOp::Add { owner: "ann".parse().unwrap(), ttl_ms, is_flat: false, blobs };
    node.step(NOW_MS, Input::Lease { request: RequestId(3), op });
    assert_eq!(tick(&mut node, OVER_MS).unwrap().purged, [], "it is under the lease");
    took(&mut node, OVER_MS, 0);
    let ends_ms = NOW_MS + ttl_ms;
    assert_eq!(node.engine.wakes_ms(), Some(ends_ms));
    let gone = (0..3).find_map(|_| {
        let wakes_ms = node.engine.wakes_ms().unwrap_or(ends_ms);
        tick(&mut node, wakes_ms.max(ends_ms))
    });
    assert_eq!(gone.map(|collected| collected.purged.len()), Some(1));
}

#[test]
fn a_node_that_is_not_set_to_collects_nothing_unasked() {
    let mut node = Alone::new();
    node.put(1);
    assert_eq!(tick(&mut node, OVER_MS + 10_000), None);
    assert_eq!(node.engine.wakes_ms(), None);
}

#[test]
fn an_idle_node_is_not_woken_and_commits_nothing() {
    let mut node = unasked();
    tick(&mut node, NOW_MS);
    tick(&mut node, NOW_MS + 200);
    let calls = node.disk.calls();
    for second in 1..100 {
        assert_eq!((tick(&mut node, NOW_MS + second * TICK_MS), node.engine.wakes_ms()), (None, None));
    }
    assert_eq!(node.disk.calls(), calls, "the disk is not touched");
}

#[test]
fn what_was_left_when_the_process_ended_goes_after_the_start() {
    let mut node = unasked();
    node.put(UNASKED_PORTION + 1);
    assert!(tick(&mut node, OVER_MS).unwrap().more);
    node.engine.restart().unwrap();
    assert_eq!(tick(&mut node, OVER_MS + 1_000), None);
    let first_ms = OVER_MS + 1_000 + Keys::DEFAULT.startup_delay_ms;
    assert_eq!(node.engine.wakes_ms(), Some(first_ms));
    assert_eq!(tick(&mut node, first_ms).unwrap().purged.len(), 1);
}

#[test]
fn a_grace_that_is_set_shorter_holds_for_what_is_put_then() {
    let Alone { engine, rng, disk } = Alone::new();
    let settings = Settings { grace_ms: 5_000, schedule: Some(Keys::DEFAULT), ..Settings::default() };
    let mut node = Alone { engine: engine.with(settings), rng, disk };
    node.put(1);
    assert_eq!(tick(&mut node, NOW_MS + 4_999), None);
    assert_eq!(tick(&mut node, NOW_MS + 5_300).unwrap().purged.len(), 1);
}
