//! Removals in random stories: machines that are parted remove each other, take each other in again, and write meanwhile. Whoever has
//! heard all of it, in whatever order, has the same view.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use keepwell_node::engine::{Engine, EngineRng, Input, RefOp, RequestId};
use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::id::{NodeId, StorageId};
use keepwell_store::fs::sim::SimDisk;
use keepwell_store::home::DiskPlace;
use keepwell_store::store::Store;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::lab::Lab;

const REQUEST: RequestId = RequestId(9);
const MACHINES: u64 = 5;
/// What does not depend on the order in which entries arrived, of all that follows from the log.
const VIEW: [&str; 12] = [
    "chains",
    "docs",
    "changes",
    "items",
    "authority",
    "removals",
    "cut_writes",
    "admissions",
    "returned",
    "ref_links",
    "links",
    "expiries",
];

fn draw(rng: &mut EngineRng, below: u64) -> usize {
    usize::try_from(rng.next_u64() % below).unwrap()
}

fn view(engine: &Engine) -> Vec<(&'static str, [u8; 32])> {
    let digests = engine.store().snapshot().unwrap().derived_digests().unwrap();
    digests.into_iter().filter(|(name, _)| VIEW.contains(name)).collect()
}

/// Takes in the machine as it is, or whoever this number stands for.
fn admit(lab: &mut Lab, by: usize, who: usize, role: Role) {
    let (node, storage) = match lab.machines.get(who) {
        Some(machine) => (machine.id(), machine.engine().home().storage),
        None => (NodeId([u8::try_from(who).unwrap(); 32]), StorageId([9; 16])),
    };
    let body = NodeBody { name: format!("n{who}"), role, storage };
    lab.give(by, Input::Admit { request: REQUEST, node, body });
}

/// Something that somebody does. Who may not do it is refused, which is a part of the story.
fn act(lab: &mut Lab, rng: &mut EngineRng) {
    let (mut who, whom) = (draw(rng, MACHINES), draw(rng, MACHINES));
    let name = format!("lab/{}", draw(rng, 4));
    match draw(rng, 14) {
        0..4 => drop(lab.set(who, &name, &format!("\"{}\"", rng.next_u64()), &[])),
        4 | 5 => {
            let ops = vec![RefOp::Delete { name: name.parse().unwrap(), if_rev: None }];
            lab.give(who, Input::WriteRefs { request: REQUEST, ops });
        }
        6 => {
            let blob = lab.put(who, name.as_bytes(), &[]);
            lab.set(who, &name, "{}", &[blob.sha1]);
        }
        7 => admit(lab, who, usize::try_from(MACHINES).unwrap() + draw(rng, 3), Role::Member),
        8 => admit(lab, 0, whom, Role::Admin),
        9 => {
            let count = usize::try_from(MACHINES).unwrap();
            lab.parted = (0..count).flat_map(|a| (0..a).map(move |b| (a, b))).collect();
            lab.parted.retain(|_| rng.next_u64().is_multiple_of(2));
            lab.connect_all();
        }
        _ => {
            // An admin, unless somebody has put an end to that.
            who %= 3;
            let node = lab.machines[whom].id();
            lab.give(who, Input::Remove { request: REQUEST, node });
        }
    }
}

fn story(rng: &mut EngineRng) -> Lab {
    let mut lab = Lab::new(u8::try_from(MACHINES).unwrap());
    for (admin, role) in [(1, Role::Admin), (2, Role::Admin), (3, Role::Member)] {
        admit(&mut lab, 0, admin, role);
    }
    // Each of them begins alone.
    let count = usize::try_from(MACHINES).unwrap();
    lab.parted = (0..count).flat_map(|a| (0..a).map(move |b| (a, b))).collect();
    for _ in 0..30 {
        act(&mut lab, rng);
    }
    lab.parted.clear();
    for _ in 0..3 {
        lab.connect_all();
        lab.settle();
    }
    lab
}

/// A node that is nobody's member and has heard these entries, in this order as far as they build on each other.
fn listener(lab: &Lab, entries: Vec<Vec<u8>>, rng: &mut EngineRng) -> Engine {
    let disk = SimDisk::new(99);
    let store = Arc::new(Store::open(disk.backend("index.redb"), Arc::new(disk.fs())).unwrap());
    let network = lab.machines[0].engine().home().network;
    let place = DiskPlace { device: 9, inode: 9 };
    let mut engine = Engine::join(store, SigningKey::from_bytes(&[99; 32]), network, place, rng).unwrap();
    for entry in entries {
        engine.step(lab.now_ms, rng, vec![Input::Gossiped { entry }]).unwrap();
    }
    assert_eq!(engine.waiting_entries(), 0);
    engine
}

#[test]
fn whatever_is_heard_first_all_come_to_the_same() {
    let (mut removals, mut void) = (0, 0);
    for seed in 0..6 {
        let mut rng = EngineRng::seed_from_u64(seed);
        let lab = story(&mut rng);
        let expected = view(lab.machines[0].engine());
        for (number, machine) in lab.machines.iter().enumerate() {
            assert_eq!(view(machine.engine()), expected, "seed {seed}: machine {number}");
            assert_eq!(machine.engine().compare_rebuild().unwrap(), Vec::<&str>::new(), "seed {seed}: machine {number}");
        }
        let snapshot = lab.machines[0].engine().store().snapshot().unwrap();
        let known = snapshot.all_removals().unwrap();
        removals += known.len();
        void += known.iter().filter(|known| !known.in_force).count();
        let (mut entries, mut from) = (Vec::new(), 0);
        while let Some((arrival, bytes)) = snapshot.entry_from(from).unwrap() {
            entries.push(bytes);
            from = arrival + 1;
        }
        for _ in 0..2 {
            for at in (1..entries.len()).rev() {
                entries.swap(at, draw(&mut rng, at as u64 + 1));
            }
            let engine = listener(&lab, entries.clone(), &mut rng);
            assert_eq!(view(&engine), expected, "seed {seed}");
            assert_eq!(engine.compare_rebuild().unwrap(), Vec::<&str>::new(), "seed {seed}");
        }
    }
    assert!(removals > 6 && void > 0, "{removals} removals, {void} of them void: too dull a story");
}
