//! A step that fails has not happened: what it left in memory is forgotten with it. One test for each thing that `Engine::restart`
//! forgets, but for those that stand beside the tests of what they are about.

use std::collections::VecDeque;

use ed25519_dalek::SigningKey;
use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::gc::pressure::{Level, Room};
use keepwell_protocol::gc::schedule::Keys;
use keepwell_protocol::id::{BlobId, BootId, NodeId, Seq};
use keepwell_protocol::log::entry::{Draft, node_id};
use keepwell_protocol::log::exchange::Message;
use keepwell_protocol::log::vector::Chain;
use keepwell_protocol::name::OwnerName;
use keepwell_store::fs::sim::SimDisk;
use keepwell_store::home::DiskPlace;
use keepwell_store::store::Store;
use rand_chacha::rand_core::SeedableRng;

use super::collect::tests::{Alone, NOW_MS};
use super::*;
use crate::limits::PUT_GRACE_MS;

const FULL: Room = Room { total_bytes: 100, used_bytes: 100 };

/// Has a full disk fail a step that takes these inputs, and the engine begin anew. Then there is room again.
fn fails(node: &mut Alone, now_ms: u64, inputs: Vec<Input>) {
    node.disk.set_capacity(Some(0));
    // More than the file of the index has room for.
    let large = (0..100).map(|n| set(&format!("lab/{n}"), &format!("\"{}\"", "x".repeat(60_000)), vec![]));
    let inputs = inputs.into_iter().chain(large).collect();
    assert!(node.engine.step(now_ms, &mut node.rng, inputs).is_err());
    node.disk.set_capacity(None);
    node.engine.restart().unwrap();
}

fn set(name: &str, obj: &str, links: Vec<BlobId>) -> Input {
    let set = RefSet { allow_missing: true, ..RefSet::new(name.parse().unwrap(), obj, links) };
    Input::WriteRefs { request: RequestId(1), ops: vec![RefOp::Set(set)] }
}

fn copies(name: &str, copies: u32, links: Vec<BlobId>) -> Input {
    let set = RefSet { copies, ..RefSet::new(name.parse().unwrap(), "{}", links) };
    Input::WriteRefs { request: RequestId(1), ops: vec![RefOp::Set(set)] }
}

fn delete(name: &str) -> Input {
    Input::WriteRefs { request: RequestId(1), ops: vec![RefOp::Delete { name: name.parse().unwrap(), if_rev: None }] }
}

fn collect(grace_ms: Option<u64>) -> Input {
    Input::Collect { request: RequestId(2), how: Collect { grace_ms, limit: 10 } }
}

/// What a collection came to.
fn collected(effects: Vec<Effect>) -> Collected {
    let reply = effects.into_iter().find_map(|effect| match effect {
        Effect::Reply(_, Reply::Collected(collected)) => Some(collected),
        _ => None,
    });
    reply.unwrap()
}

fn blobs(node: &Alone) -> Vec<BlobId> {
    let mut ids = Vec::new();
    let visited = node.engine.store().snapshot().unwrap().visit_blobs(&BlobId([0; 20]), |id, _| {
        ids.push(id);
        Ok::<_, StoreError>(true)
    });
    visited.map(|()| ids).unwrap()
}

fn id(node: &Alone) -> NodeId {
    node.engine.home().node
}

/// Ada, the admin, and ben, a member; both know all of it, and are connected.
fn pair() -> [Alone; 2] {
    let mut ada = Alone::new();
    let disk = SimDisk::new(2);
    let store = Arc::new(Store::open(disk.backend("index.redb"), Arc::new(disk.fs())).unwrap());
    let (key, place, mut rng) =
        (SigningKey::from_bytes(&[2; 32]), DiskPlace { device: 1, inode: 2 }, EngineRng::seed_from_u64(2));
    let engine = Engine::join(store, key, ada.engine.home().network, place, &mut rng).unwrap();
    let ben = Alone { engine, rng, disk };
    let body = NodeBody { name: "ben".into(), role: Role::Member, storage: ben.engine.home().storage };
    ada.step(NOW_MS, Input::Admit { request: RequestId(1), node: id(&ben), body });
    let mut both = [ada, ben];
    meet(&mut both, [true, true]);
    both
}

/// Connects those to whom the other is new, and delivers what they say until they are silent; what else each was to do.
fn meet(both: &mut [Alone; 2], is_new: [bool; 2]) -> [Vec<Effect>; 2] {
    let ids = [id(&both[0]), id(&both[1])];
    let mut due = VecDeque::new();
    for at in [0, 1].into_iter().filter(|at| is_new[*at]) {
        due.push_back((at, Input::Connected { peer: ids[1 - at] }));
    }
    talk(both, due)
}

fn talk(both: &mut [Alone; 2], mut due: VecDeque<(usize, Input)>) -> [Vec<Effect>; 2] {
    let ids = [id(&both[0]), id(&both[1])];
    let mut others = [vec![], vec![]];
    while let Some((at, input)) = due.pop_front() {
        for effect in both[at].step(NOW_MS, input) {
            match effect {
                Effect::Send { bytes, .. } => due.push_back((1 - at, Input::Received { from: ids[at], bytes })),
                other => others[at].push(other),
            }
        }
    }
    others
}

/// What `effects` say to others.
fn said(effects: Vec<Effect>) -> Vec<Vec<u8>> {
    let sent = effects.into_iter().filter_map(|effect| match effect {
        Effect::Send { bytes, .. } => Some(bytes),
        _ => None,
    });
    sent.collect()
}

fn tells(effects: &[Effect], which: impl Fn(&Event) -> bool) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Tell(event) if which(event)))
}

#[test]
fn a_boot_that_a_failed_step_began_is_begun_again() {
    let mut node = Alone::new();
    // It wrote on, and then its disk of before was put back.
    let disk = node.disk.fork(2);
    let store = Arc::new(Store::open(disk.backend("index.redb"), Arc::new(disk.fs())).unwrap());
    let place = DiskPlace { device: 1, inode: 1 };
    let engine = Engine::open(store, SigningKey::from_bytes(&[1; 32]), place, &mut node.rng).unwrap();
    let mut later = Alone { engine, rng: EngineRng::seed_from_u64(2), disk };
    let published = later.step(NOW_MS, set("lab/a", "{}", vec![])).into_iter().find_map(|effect| match effect {
        Effect::Publish(entry) => Some(entry),
        _ => None,
    });
    let own = || Input::Gossiped { entry: published.clone().unwrap() };
    fails(&mut node, NOW_MS, vec![own()]);
    let effects = node.step(NOW_MS, own());
    assert!(tells(&effects, |event| matches!(event, Event::RolledBack { .. })), "{effects:?}");
    let durable = node.engine.store().snapshot().unwrap().home().unwrap();
    assert_eq!(durable.as_ref(), Some(node.engine.home()), "what it writes under is on the disk");
}

#[test]
fn what_a_failed_step_said_of_a_bad_entry_is_said_again() {
    let mut node = Alone::new();
    let key = SigningKey::from_bytes(&[9; 32]);
    let chain = Chain { node: node_id(&key), boot: BootId::of(&node_id(&key), &[7; 16]) };
    let boot = keepwell_protocol::log::op::Boot { nonce: [7; 16], storage: keepwell_protocol::id::StorageId([9; 16]) };
    let ops = vec![keepwell_protocol::log::op::Op::Boot(boot)];
    let network = node.engine.home().network;
    let entry = Draft { network, chain, seq: Seq::FIRST, prev_hash: None, deps: vec![], ops }.seal(&key);
    let stranger = || Input::Gossiped { entry: entry.clone() };
    fails(&mut node, NOW_MS, vec![stranger()]);
    let effects = node.step(NOW_MS, stranger());
    assert!(tells(&effects, |event| matches!(event, Event::EntryRefused { .. })), "{effects:?}");
}

#[test]
fn a_sweep_that_began_in_a_failed_step_purges_nothing_that_others_have_not_heard_of() {
    let mut both = pair();
    both[0].put(2);
    let ids = blobs(&both[0]);
    both[0].step(NOW_MS, set("lab/a", "{}", vec![ids[0]]));
    meet(&mut both, [true, true]);
    // In it the second one gets the first number of what is unneeded.
    fails(&mut both[0], NOW_MS + PUT_GRACE_MS, vec![Input::Tick]);
    meet(&mut both, [true, true]);
    both[0].step(NOW_MS, set("lab/b", "{}", vec![ids[1]]));
    both[0].step(NOW_MS, delete("lab/a"));
    let first = collected(both[0].step(NOW_MS, collect(Some(0))));
    assert!(first.purged.is_empty() && !first.missing.is_empty(), "ben has not heard that it is no more: {first:?}");
    (0..2).for_each(|_| drop(meet(&mut both, [true, true])));
    let second = collected(both[0].step(NOW_MS, collect(Some(0))));
    assert_eq!(second.purged.iter().map(|fact| fact.sha1).collect::<Vec<_>>(), ids[..1]);
}

#[test]
fn whom_a_failed_step_had_heard_is_to_be_heard_again_before_anything_is_dropped() {
    let mut both = pair();
    both[0].put(1);
    let ids = blobs(&both[0]);
    both[0].step(NOW_MS, set("lab/a", "{}", ids.clone()));
    let said = said(both[1].step(NOW_MS, Input::Connected { peer: id(&both[0]) }));
    both[0].engine.restart().unwrap();
    let ben = id(&both[1]);
    let heard = said.into_iter().map(|bytes| Input::Received { from: ben, bytes });
    let inputs = std::iter::once(Input::Connected { peer: ben }).chain(heard).chain([Input::Tick]).collect();
    fails(&mut both[0], NOW_MS, inputs);
    let unheard =
        both[0].step(NOW_MS, Input::Drop { request: RequestId(3), blobs: ids }).into_iter().find_map(|effect| match effect {
            Effect::Reply(_, Reply::Dropped(dropped)) => Some(dropped.unheard),
            _ => None,
        });
    assert_eq!(unheard, Some(vec![ben]));
}

#[test]
fn what_a_failed_step_was_giving_up_can_be_given_up() {
    let mut both = pair();
    both[0].put(1);
    let ids = blobs(&both[0]);
    both[1].put(1);
    both[0].step(NOW_MS, set("lab/a", "{}", ids.clone()));
    (0..2).for_each(|_| drop(meet(&mut both, [true, true])));
    let give_up = || Input::Drop { request: RequestId(3), blobs: ids.clone() };
    fails(&mut both[0], NOW_MS, vec![give_up()]);
    (0..2).for_each(|_| drop(meet(&mut both, [true, true])));
    let effects = both[0].step(NOW_MS, give_up());
    let asks = said(effects).iter().any(|bytes| matches!(Message::decode(bytes), Ok(Message::Question(_))));
    assert!(asks, "nothing is being given up already");
}

#[test]
fn a_disk_that_a_failed_step_found_full_is_relieved_down_to_the_low_mark() {
    let Alone { engine, rng, disk } = Alone::new();
    let settings = Settings { schedule: Some(Keys::DEFAULT), ..Settings::default() };
    let mut node = Alone { engine: engine.with(settings), rng, disk };
    fails(&mut node, NOW_MS, vec![Input::Room(FULL)]);
    node.step(NOW_MS, Input::Room(Room { total_bytes: 100, used_bytes: 88 }));
    assert_eq!(node.engine.pressure().pressure.level, Level::High);
}

#[test]
fn what_was_to_be_fetched_and_is_not_is_fetched() {
    let mut both = pair();
    both[1].put(1);
    let ids = blobs(&both[1]);
    both[1].step(NOW_MS, copies("lab/a", 2, ids.clone()));
    let brings = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Bring(blobs) if *blobs == ids));
    let [mut effects, _] = meet(&mut both, [true, true]);
    effects.extend(both[0].step(NOW_MS, Input::Tick));
    assert!(brings(&effects), "{effects:?}");
    // As when the disk was full at its commit: nobody begins it.
    both[0].engine.restart().unwrap();
    let [mut effects, _] = meet(&mut both, [true, true]);
    effects.extend((0..60).flat_map(|second| both[0].step(NOW_MS + second * 1_000, Input::Tick)));
    assert!(brings(&effects), "{effects:?}");
}

#[test]
fn a_lease_that_a_failed_step_had_ended_ends_when_there_is_room() {
    let mut node = Alone::new();
    node.put(1);
    let blobs = blobs(&node);
    let op = LeaseOp::Add { owner: OwnerName::of_user("user", "host"), ttl_ms: 1_000, is_flat: false, blobs };
    node.step(NOW_MS, Input::Lease { request: RequestId(2), op });
    // The first collection ends it, and the second finds that there is none to wait for.
    let late_ms = NOW_MS + 2_000;
    fails(&mut node, late_ms, vec![collect(None), collect(None)]);
    let leases = |node: &Alone| node.engine.store().snapshot().unwrap().lease_count().unwrap();
    assert_eq!(leases(&node), 1);
    node.step(late_ms, collect(None));
    assert_eq!(leases(&node), 0);
}

#[test]
fn a_use_that_a_failed_step_asked_others_for_is_nobodys_any_more() {
    let mut both = pair();
    both[0].step(NOW_MS, set("lab/a", "{}", vec![]));
    let used = Input::UseElsewhere { request: RequestId(7), name: "lab/a".parse().unwrap() };
    fails(&mut both[0], NOW_MS, vec![used]);
    let effects = both[0].step(NOW_MS + 1_000, Input::Tick);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Reply(RequestId(7), _))), "who asked was told: {effects:?}");
}
