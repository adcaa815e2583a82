//! One node, whose clock somebody sets: what ends by it, and what does not.

use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::id::{BlobId, StorageId};
use keepwell_protocol::limits::{CLOCK_HEARD_FOR_MS, MAX_CLOCK_JUMP_MS, MAX_CLOCK_SKEW_MS};
use keepwell_protocol::log::exchange::Message;

use super::*;
use crate::engine::collect::tests::{Alone, NOW_MS};
use crate::engine::{Collect, Effect, Input, LeaseOp, Reply, RequestId};
use crate::limits::{LEASE_TTL_MS, MAX_TRASH_AGE_MS, PUT_GRACE_MS, STATUS_EVERY_MS};

/// How long the machine had run when the clock showed NOW_MS.
const BOOT_MS: u64 = 1_000_000;
const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1_000;
const BEN: NodeId = NodeId([2; 32]);

/// A step as the driver makes it; what it answers, or has done.
fn step(node: &mut Alone, now_ms: u64, boot_ms: u64, input: Input) -> Vec<Effect> {
    node.engine.step(now_ms, &mut node.rng, vec![Input::Elapsed { boot_ms }, input]).unwrap()
}

fn tick(node: &mut Alone, now_ms: u64, boot_ms: u64) -> Vec<Effect> {
    step(node, now_ms, boot_ms, Input::Tick)
}

fn held(node: &Alone) -> Vec<BlobId> {
    let mut held = Vec::new();
    let visited = node.engine.store().snapshot().unwrap().visit_blobs(&BlobId([0; 20]), |id, _| {
        held.push(id);
        Ok::<_, StoreError>(true)
    });
    visited.unwrap();
    held
}

/// Takes another member in, and connects it.
fn befriend(node: &mut Alone) {
    let body = NodeBody { name: "ben".into(), role: Role::Member, storage: StorageId([2; 16]) };
    step(node, NOW_MS, BOOT_MS, Input::Admit { request: RequestId(1), node: BEN, body });
    step(node, NOW_MS, BOOT_MS, Input::Connected { peer: BEN });
    tick(node, NOW_MS, BOOT_MS);
}

fn hear(node: &mut Alone, at_ms: u64, boot_ms: u64, now_ms: u64) {
    step(node, at_ms, boot_ms, Input::Received { from: BEN, bytes: Message::Clock { now_ms }.encode() });
}

#[test]
fn while_the_clock_is_contradicted_no_lease_and_no_grace_ends_and_the_trash_is_not_emptied() {
    let mut node = Alone::new();
    node.put(1);
    assert_eq!((node.collect(Some(0), 1).purged.len(), held(&node)), (1, vec![]), "one lies in the trash");
    node.put_at(NOW_MS, 1..2);
    tick(&mut node, NOW_MS, BOOT_MS);
    let add = LeaseOp::Add { owner: "ann".parse().unwrap(), ttl_ms: LEASE_TTL_MS, is_flat: false, blobs: vec![] };
    step(&mut node, NOW_MS, BOOT_MS, Input::Lease { request: RequestId(2), op: add });
    let ahead_ms = NOW_MS + PUT_GRACE_MS + LEASE_TTL_MS + MAX_TRASH_AGE_MS;
    for by_ms in [0, 60_000] {
        assert!(!tick(&mut node, ahead_ms + by_ms, BOOT_MS + by_ms).iter().any(|done| matches!(done, Effect::EmptyTrash { .. })));
        let how = Collect { grace_ms: None, limit: 9 };
        let asked = step(&mut node, ahead_ms + by_ms, BOOT_MS + by_ms, Input::Collect { request: RequestId(3), how });
        let collected = asked.into_iter().find_map(|done| match done {
            Effect::Reply(_, Reply::Collected(collected)) => Some(collected),
            _ => None,
        });
        let collected = collected.unwrap();
        // By this time nothing was deleted: the trash is left as it is.
        assert_eq!((collected.purged.len(), collected.trash_until_ms), (0, Some(0)));
        let snapshot = node.engine.store().snapshot().unwrap();
        assert_eq!((snapshot.lease_count().unwrap(), snapshot.next_grace_ms().unwrap().is_some()), (1, true));
    }
    assert!(node.engine.clock_doubt().is_some_and(Doubt::is_contradicted));
    // The machine really ran for so long.
    let passed_ms = ahead_ms - NOW_MS;
    assert!(tick(&mut node, ahead_ms, BOOT_MS + passed_ms).iter().any(|done| matches!(done, Effect::EmptyTrash { .. })));
    let snapshot = node.engine.store().snapshot().unwrap();
    assert_eq!((snapshot.lease_count().unwrap(), snapshot.next_grace_ms().unwrap()), (0, None));
    assert_eq!(node.engine.clock_doubt(), None);
}

#[test]
fn after_a_start_nothing_ends_before_another_member_has_told_the_time() {
    let mut node = Alone::new();
    node.put(1);
    assert_eq!(node.collect(Some(0), 1).purged.len(), 1, "one lies in the trash");
    node.put_at(NOW_MS, 1..2);
    befriend(&mut node);
    let add = LeaseOp::Add { owner: "ann".parse().unwrap(), ttl_ms: LEASE_TTL_MS, is_flat: false, blobs: vec![] };
    step(&mut node, NOW_MS, BOOT_MS, Input::Lease { request: RequestId(2), op: add });
    let later_ms = PUT_GRACE_MS + LEASE_TTL_MS + MAX_TRASH_AGE_MS;
    let (ahead_ms, since_ms) = (NOW_MS + later_ms, BOOT_MS + later_ms);
    let left = |node: &Alone| {
        let snapshot = node.engine.store().snapshot().unwrap();
        (snapshot.lease_count().unwrap(), snapshot.next_grace_ms().unwrap().is_some())
    };
    let empties = |effects: Vec<Effect>| effects.iter().any(|done| matches!(done, Effect::EmptyTrash { .. }));
    assert!(!empties(tick(&mut node, ahead_ms, since_ms)));
    let how = Collect { grace_ms: Some(0), limit: 9 };
    let collected = step(&mut node, ahead_ms, since_ms, Input::Collect { request: RequestId(3), how });
    let is_kept = |done: &Effect| matches!(done, Effect::Reply(_, Reply::Collected(all)) if all.trash_until_ms.is_none());
    assert!(collected.iter().any(is_kept), "nor does a command empty the trash");
    assert_eq!(left(&node), (1, true));
    hear(&mut node, ahead_ms, since_ms, NOW_MS);
    assert!(!empties(tick(&mut node, ahead_ms, since_ms)));
    assert_eq!(left(&node), (1, true), "it is contradicted");
    hear(&mut node, ahead_ms, since_ms, ahead_ms);
    assert!(empties(tick(&mut node, ahead_ms, since_ms)));
    assert_eq!(left(&node), (0, false));
}

#[test]
fn a_lease_that_is_over_by_a_clock_that_nobody_has_compared_protects_all_the_same() {
    let mut node = Alone::new();
    node.put(1);
    befriend(&mut node);
    let blobs = held(&node);
    let add = LeaseOp::Add { owner: "ann".parse().unwrap(), ttl_ms: LEASE_TTL_MS, is_flat: false, blobs: blobs.clone() };
    step(&mut node, NOW_MS, BOOT_MS, Input::Lease { request: RequestId(2), op: add });
    let later_ms = PUT_GRACE_MS + LEASE_TTL_MS;
    let (ahead_ms, since_ms) = (NOW_MS + later_ms, BOOT_MS + later_ms);
    let give_up = |node: &mut Alone| {
        let input = Input::GiveUp { request: RequestId(3), blobs: blobs.clone(), by: "bob".into() };
        let done = step(node, ahead_ms, since_ms, input);
        done.into_iter().any(|done| matches!(done, Effect::Reply(_, Reply::Dropped(all)) if all.outcomes[0].gone.is_some()))
    };
    // Also before the first tick has told whether there are others.
    node.engine.clock.has_others = None;
    assert!(!give_up(&mut node));
    tick(&mut node, ahead_ms, since_ms);
    assert!(!give_up(&mut node));
    hear(&mut node, ahead_ms, since_ms, ahead_ms);
    assert!(give_up(&mut node));
}

#[test]
fn a_node_without_others_goes_by_its_clock_and_one_with_others_must_hear_them() {
    let mut node = Alone::new();
    assert_eq!(node.engine.clock_doubt(), Some(Doubt::Unread));
    tick(&mut node, NOW_MS, BOOT_MS);
    assert_eq!(node.engine.clock_doubt(), None);
    tick(&mut node, NOW_MS + MAX_CLOCK_JUMP_MS, BOOT_MS);
    assert_eq!(node.engine.clock_doubt(), None);
    tick(&mut node, NOW_MS, BOOT_MS);
    befriend(&mut node);
    assert_eq!(node.engine.clock_doubt(), Some(Doubt::Unheard));
    hear(&mut node, NOW_MS, BOOT_MS, NOW_MS + MAX_CLOCK_SKEW_MS);
    assert_eq!(node.engine.clock_doubt(), None);
    hear(&mut node, NOW_MS, BOOT_MS, NOW_MS + MAX_CLOCK_SKEW_MS + 1);
    assert_eq!(node.engine.clock_doubt(), Some(Doubt::Off(-i128::from(MAX_CLOCK_SKEW_MS + 1))));
    let later_ms = CLOCK_HEARD_FOR_MS + 1;
    tick(&mut node, NOW_MS + later_ms, BOOT_MS + later_ms);
    assert_eq!(node.engine.clock_doubt(), Some(Doubt::Unheard));
    step(&mut node, NOW_MS, BOOT_MS, Input::Declare { request: RequestId(4), node: BEN, is_dead: true });
    tick(&mut node, NOW_MS + later_ms, BOOT_MS + later_ms);
    assert_eq!(node.engine.clock_doubt(), None, "nobody waits for the dead");
}

#[test]
fn a_doubt_outlives_a_failed_step() {
    let mut node = Alone::new();
    tick(&mut node, NOW_MS, BOOT_MS);
    tick(&mut node, NOW_MS + YEAR_MS, BOOT_MS);
    node.engine.restart().unwrap();
    tick(&mut node, NOW_MS + YEAR_MS, BOOT_MS);
    assert!(node.engine.clock_doubt().is_some_and(Doubt::is_contradicted));
}

#[test]
fn a_clock_that_is_set_back_by_years_does_not_silence_a_node() {
    let mut node = Alone::new();
    befriend(&mut node);
    let told = |effects: Vec<Effect>| {
        let messages = effects.into_iter().filter_map(|effect| match effect {
            Effect::Send { bytes, .. } => Some(Message::decode(&bytes).unwrap()),
            _ => None,
        });
        messages.collect::<Vec<_>>()
    };
    tick(&mut node, NOW_MS, BOOT_MS + STATUS_EVERY_MS);
    let (now_ms, boot_ms) = (NOW_MS - YEAR_MS, BOOT_MS + 2 * STATUS_EVERY_MS);
    let messages = told(tick(&mut node, now_ms, boot_ms));
    assert!(matches!(messages[..], [Message::Status(_), Message::Clock { now_ms: told }] if told == now_ms), "{messages:?}");
    assert_eq!(told(tick(&mut node, now_ms, boot_ms + STATUS_EVERY_MS - 1)), []);
}
