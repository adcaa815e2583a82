//! Removals beside members that sign what no engine would write.

use ed25519_dalek::SigningKey;
use keepwell_node::engine::{Engine, Event, Input, Reply, RequestId, members};
use keepwell_protocol::catalog::change::{Change, Write};
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::catalog::removal::RemovalBody;
use keepwell_protocol::id::{BootId, NodeId, Seq, StorageId};
use keepwell_protocol::log::entry::node_id;
use keepwell_protocol::log::op::Op;
use keepwell_protocol::wire;

use super::forger::Forger;
use super::lab::Lab;

const REQUEST: RequestId = RequestId(9);

fn engine(lab: &Lab, machine: usize) -> &Engine {
    lab.machines[machine].engine()
}

fn removes(lab: &mut Lab, by: usize, machine: usize) {
    let node = lab.machines[machine].id();
    assert!(matches!(lab.give(by, Input::Remove { request: REQUEST, node }).pop(), Some(Reply::Declared)));
}

/// What a member that knows all that machine `knows` does signs as the next change of the document of `item`.
fn change(lab: &Lab, knows: usize, boot: &BootId, item: Item, body: Vec<u8>) -> Op {
    let (snapshot, shard) = (engine(lab, knows).store().snapshot().unwrap(), item.shard());
    let (state, replaces) = (snapshot.doc(shard, 0).unwrap(), snapshot.item(&item).unwrap().ids());
    Op::Change(Change::next(shard, 0, boot, &state, None, vec![Write { item, replaces, body: Some(body) }]))
}

fn a_ref(lab: &Lab, knows: usize, boot: &BootId, name: &str, obj: &str) -> Op {
    let body = RefBody {
        obj: obj.into(),
        meta: "{}".into(),
        links: vec![],
        expires_ms: None,
        ttl_access_ms: None,
        copies: 1,
        lot: None,
        set_at_ms: 0,
        unbacked: false,
    };
    change(lab, knows, boot, Item::reference(name), body.encode())
}

fn knower(lab: &Lab, knows: usize, key: SigningKey) -> Forger {
    let known = engine(lab, knows).store().snapshot().unwrap().vector().unwrap();
    Forger::new(key, known.0.into_iter().collect())
}

fn assert_agreed(lab: &Lab, machines: &[usize]) {
    let vector = |machine: usize| engine(lab, machine).store().snapshot().unwrap().vector().unwrap();
    for machine in machines {
        assert_eq!(vector(*machine), vector(machines[0]), "machine {machine}");
        assert_eq!(engine(lab, *machine).compare_rebuild().unwrap(), Vec::<&str>::new(), "machine {machine}");
    }
}

#[test]
fn what_honest_members_built_on_the_word_of_whom_a_removed_one_took_in_holds_together() {
    let mut lab = Lab::new(4);
    lab.parted = vec![(0, 1), (0, 3), (2, 1), (2, 3)];
    let key = SigningKey::from_bytes(&[77; 32]);
    let body = NodeBody { name: "x".into(), role: Role::Member, storage: StorageId([7; 16]) };
    lab.give(3, Input::Admit { request: REQUEST, node: node_id(&key), body });
    let mut guest = knower(&lab, 1, key);
    let op = a_ref(&lab, 1, &guest.chain.boot.clone(), "lab/a", "of the guest");
    let entry = guest.entry(&lab, vec![op]);
    lab.give(1, Input::Gossiped { entry });
    assert_eq!(lab.values(1, "lab/a"), ["of the guest"]);
    lab.set(1, "lab/a", "on the guest's word", &[]);
    lab.set(1, "lab/b", "beside it", &[]);
    removes(&mut lab, 0, 3);
    // Machines 0 and 2 hear of all that when they know of the removal; machine 1 hears of the removal after all that.
    lab.parted = vec![(3, 0), (3, 1), (3, 2)];
    lab.connect_all();
    lab.settle();
    for machine in [0, 1, 2] {
        assert_eq!(lab.values(machine, "lab/a"), ["on the guest's word"], "machine {machine}");
        assert_eq!(lab.values(machine, "lab/b"), ["beside it"]);
        let role = members::role(&engine(&lab, machine).store().snapshot().unwrap(), &guest.chain.node).unwrap();
        assert_eq!(role, None);
    }
    // What the guest goes on to write is void as well.
    let op = a_ref(&lab, 1, &guest.chain.boot.clone(), "lab/c", "void");
    let entry = guest.entry(&lab, vec![op]);
    lab.give(0, Input::Gossiped { entry });
    lab.settle();
    assert!([0, 1, 2].iter().all(|machine| lab.values(*machine, "lab/c").is_empty()));
    assert_agreed(&lab, &[0, 1, 2]);
}

#[test]
fn who_was_removed_and_goes_on_signing_is_heard_and_counts_for_nothing() {
    let mut lab = Lab::new(3);
    let mut forger = knower(&lab, 0, lab.machines[2].key.clone());
    removes(&mut lab, 0, 2);
    // First as if it knew nothing of it, then knowing it.
    for (name, knows_it) in [("lab/a", false), ("lab/b", true)] {
        if knows_it {
            let known = engine(&lab, 0).store().snapshot().unwrap().vector().unwrap().0;
            forger.deps = known.into_iter().filter(|(chain, _)| *chain != forger.chain).collect();
        }
        let op = a_ref(&lab, 0, &forger.chain.boot.clone(), name, "void");
        let entry = forger.entry(&lab, vec![op]);
        lab.give(1, Input::Gossiped { entry });
        lab.settle();
        for machine in [0, 1] {
            assert!(lab.values(machine, name).is_empty(), "{name} on machine {machine}");
            let head = engine(&lab, machine).store().snapshot().unwrap().chain(&forger.chain).unwrap().unwrap().head;
            assert_eq!(Some(head), forger.last, "it is in the log of machine {machine}");
        }
    }
    assert_agreed(&lab, &[0, 1]);
}

#[test]
fn a_removal_of_the_creator_or_of_what_its_author_has_not_seen_is_void() {
    let creator = |lab: &Lab| lab.machines[0].id();
    let member = |lab: &Lab| lab.machines[2].id();
    type Case = (fn(&Lab) -> NodeId, u64, &'static str);
    let cases: [Case; 2] = [(creator, 1, "creator"), (member, 99, "had not seen")];
    for (whom, seq, reason) in cases {
        let mut lab = Lab::new(3);
        let home = engine(&lab, 1).home();
        let (node, body) = (home.node, NodeBody { name: "n1".into(), role: Role::Admin, storage: home.storage });
        lab.give(0, Input::Admit { request: REQUEST, node, body });
        let mut forger = knower(&lab, 0, lab.machines[1].key.clone());
        let node = whom(&lab);
        let boot = engine(&lab, usize::from(node == lab.machines[2].id()) * 2).home().boot.as_ref().unwrap().id;
        let body = RemovalBody { removed_ms: 1, cuts: vec![(boot, Seq(seq))] };
        let op = change(&lab, 0, &forger.chain.boot.clone(), Item::removal(&node), wire::encode(&body));
        let entry = forger.entry(&lab, vec![op]);
        lab.give(0, Input::Gossiped { entry });
        lab.settle();
        let told = |event: &Event| matches!(event, Event::EntryRefused { reason: told, .. } if told.contains(reason));
        assert!(lab.events.iter().any(|(_, event)| told(event)), "{reason}: {:?}", lab.events);
        assert!(!engine(&lab, 0).store().snapshot().unwrap().has_removals().unwrap());
        assert!(matches!(lab.set(0, "lab/a", "works", &[]), Reply::Refs(Ok(_))));
    }
}
