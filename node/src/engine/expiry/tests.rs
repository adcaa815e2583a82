//! One node: when its refs end, and what keeps them from ending.

use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::gc::schedule::Keys;
use keepwell_protocol::id::StorageId;
use keepwell_protocol::limits::MAX_CLOCK_JUMP_MS;
use keepwell_protocol::log::exchange::Message;
use keepwell_protocol::name::RefName;
use keepwell_store::counts::Count;

use super::*;
use crate::engine::collect::tests::{Alone, NOW_MS};
use crate::engine::settings::Settings;
use crate::engine::{Collect, Input, RefOp, RefSet, RequestId};

const BOOT_MS: u64 = 1_000_000;
const LASTS_MS: u64 = 60_000;
const DUE_MS: u64 = NOW_MS + LASTS_MS;
const BEN: NodeId = NodeId([2; 32]);

/// A step as the driver makes it, so long after the beginning.
fn after(node: &mut Alone, passed_ms: u64, input: Input) {
    let boot_ms = BOOT_MS + passed_ms;
    drop(node.engine.step(NOW_MS + passed_ms, &mut node.rng, vec![Input::Elapsed { boot_ms }, input]).unwrap());
}

fn tick(node: &mut Alone, passed_ms: u64) {
    after(node, passed_ms, Input::Tick);
}

fn name(number: usize) -> RefName {
    format!("lab/ref{number}").parse().unwrap()
}

/// Sets refs that lapse at DUE_MS.
fn set(node: &mut Alone, count: usize) {
    let set = |number| {
        let links = Vec::new();
        RefOp::Set(RefSet { expires_ms: Some(DUE_MS), ..RefSet::new(name(number), "{}", links) })
    };
    after(node, 0, Input::WriteRefs { request: RequestId(1), ops: (0..count).map(set).collect() });
}

fn refs(node: &Alone) -> u64 {
    node.engine.store().snapshot().unwrap().count(Count::Refs).unwrap()
}

fn befriend(node: &mut Alone) {
    let body = NodeBody { name: "ben".into(), role: Role::Member, storage: StorageId([2; 16]) };
    after(node, 0, Input::Admit { request: RequestId(2), node: BEN, body });
    after(node, 0, Input::Connected { peer: BEN });
}

#[test]
fn a_ref_lives_until_its_deadline_and_not_beyond() {
    let mut node = Alone::new();
    set(&mut node, 2);
    tick(&mut node, LASTS_MS - 1);
    assert_eq!(refs(&node), 2);
    tick(&mut node, LASTS_MS);
    assert_eq!(refs(&node), 0);
    assert_eq!(node.engine.store().snapshot().unwrap().next_expiry_ms().unwrap(), None);
}

#[test]
fn a_step_ends_expiries_per_step_and_the_next_one_goes_on() {
    let mut node = Alone::new();
    set(&mut node, EXPIRIES_PER_STEP + 1);
    tick(&mut node, LASTS_MS);
    assert_eq!(refs(&node), 1);
    tick(&mut node, LASTS_MS);
    assert_eq!(refs(&node), 0);
}

#[test]
fn a_collection_that_is_asked_for_ends_refs_first_and_a_look_does_not() {
    let mut node = Alone::new();
    set(&mut node, 1);
    let collect = |limit| Input::Collect { request: RequestId(3), how: Collect { grace_ms: None, limit } };
    after(&mut node, LASTS_MS, collect(0));
    assert_eq!(refs(&node), 1);
    after(&mut node, LASTS_MS, collect(1));
    assert_eq!(refs(&node), 0);
}

#[test]
fn a_clock_that_was_set_forward_ends_nothing_until_it_is_right_again() {
    let mut node = Alone::new();
    set(&mut node, 1);
    let year_ms = 365 * 24 * 60 * 60 * 1_000;
    for now_ms in [DUE_MS + MAX_CLOCK_JUMP_MS, NOW_MS + year_ms] {
        node.engine.step(now_ms, &mut node.rng, vec![Input::Elapsed { boot_ms: BOOT_MS }, Input::Tick]).unwrap();
        assert_eq!(refs(&node), 1);
    }
    tick(&mut node, LASTS_MS);
    assert_eq!(refs(&node), 0);
}

#[test]
fn who_hears_nobody_of_the_others_ends_nothing() {
    let mut node = Alone::new();
    set(&mut node, 1);
    befriend(&mut node);
    tick(&mut node, LASTS_MS);
    assert_eq!(refs(&node), 1);
}

#[test]
fn who_is_not_told_how_long_the_machine_has_run_ends_nothing() {
    let mut node = Alone::new();
    let set = RefSet { expires_ms: Some(DUE_MS), ..RefSet::new(name(0), "{}", vec![]) };
    node.step(NOW_MS, Input::WriteRefs { request: RequestId(1), ops: vec![RefOp::Set(set)] });
    node.step(DUE_MS, Input::Tick);
    assert_eq!(refs(&node), 1);
}

#[test]
fn who_hears_others_that_agree_ends_what_is_its_own_at_once() {
    let mut node = Alone::new();
    befriend(&mut node);
    set(&mut node, 1);
    // Ben's clock agrees; the value is this node's own, so that it is its turn at once.
    after(&mut node, LASTS_MS, Input::Received { from: BEN, bytes: Message::Clock { now_ms: DUE_MS }.encode() });
    tick(&mut node, LASTS_MS);
    assert_eq!(refs(&node), 0);
}

#[test]
fn a_deadline_wakes_a_node_once() {
    let Alone { engine, rng, disk } = Alone::new();
    let settings = Settings { schedule: Some(Keys::DEFAULT), ..Settings::default() };
    let mut node = Alone { engine: engine.with(settings), rng, disk };
    befriend(&mut node);
    set(&mut node, 1);
    tick(&mut node, 1_000);
    assert_eq!(node.engine.wakes_ms(), Some(DUE_MS));
    tick(&mut node, LASTS_MS);
    assert_eq!((refs(&node), node.engine.wakes_ms()), (1, None), "it is in doubt, and the next tick looks again");
}
