//! Members that are removed: what of theirs still counts, on every machine and in whatever order it is heard.

use std::sync::Arc;

use keepwell_node::engine::{Collect, Effect, Event, Input, Reply, RequestId, members};
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::gc::Missing;
use keepwell_protocol::gc::question::Why;
use keepwell_protocol::id::{BlobId, NodeId, StorageId};
use keepwell_protocol::log::exchange::Message;
use keepwell_store::home::DiskPlace;
use keepwell_store::store::Snapshot;

use super::lab::{Lab, a_set};

const REQUEST: RequestId = RequestId(9);

fn snapshot(lab: &Lab, machine: usize) -> Arc<Snapshot> {
    lab.machines[machine].engine().store().snapshot().unwrap()
}

fn remove(lab: &mut Lab, by: usize, machine: usize) -> Reply {
    let node = lab.machines[machine].id();
    lab.give(by, Input::Remove { request: REQUEST, node }).pop().unwrap()
}

fn removes(lab: &mut Lab, by: usize, machine: usize) {
    assert!(matches!(remove(lab, by, machine), Reply::Declared));
}

/// Has machine 0 write the record of a node.
fn admit(lab: &mut Lab, by: usize, node: NodeId, role: Role) -> Reply {
    let body = NodeBody { name: format!("n{role:?}"), role, storage: StorageId([9; 16]) };
    lab.give(by, Input::Admit { request: REQUEST, node, body }).pop().unwrap()
}

/// A record of the machine as it is, with another role.
fn admit_again(lab: &mut Lab, by: usize, machine: usize, role: Role) -> Reply {
    let home = lab.machines[machine].engine().home();
    let (node, body) = (home.node, NodeBody { name: format!("n{machine}"), role, storage: home.storage });
    lab.give(by, Input::Admit { request: REQUEST, node, body }).pop().unwrap()
}

fn delete(lab: &mut Lab, machine: usize, name: &str) {
    let ops = vec![keepwell_node::engine::RefOp::Delete { name: name.parse().unwrap(), if_rev: None }];
    assert!(matches!(lab.give(machine, Input::WriteRefs { request: REQUEST, ops }).pop(), Some(Reply::Refs(Ok(_)))));
}

fn role(lab: &Lab, on: usize, machine: usize) -> Option<Role> {
    members::role(&snapshot(lab, on), &lab.machines[machine].id()).unwrap()
}

fn holders(lab: &Lab, on: usize, blob: &BlobId) -> Vec<NodeId> {
    snapshot(lab, on).holders(blob).unwrap().into_iter().map(|holding| holding.node).collect()
}

fn sorted(lab: &Lab, machine: usize, name: &str) -> Vec<String> {
    let mut values = lab.values(machine, name);
    values.sort();
    values
}

/// Lets two groups of machines hear nothing of each other.
fn part(lab: &mut Lab, one: &[usize], other: &[usize]) {
    lab.parted = one.iter().flat_map(|a| other.iter().map(|b| (*a, *b))).collect();
    lab.connect_all();
}

/// Everybody hears everybody again, but for `gone`.
fn heal(lab: &mut Lab, gone: &[usize]) {
    let others: Vec<usize> = (0..lab.machines.len()).filter(|machine| !gone.contains(machine)).collect();
    part(lab, gone, &others);
    lab.settle();
}

/// These machines have the same log, the same view of it, and what a rebuild gives.
fn assert_agreed(lab: &Lab, machines: &[usize], refs: &[&str]) {
    for machine in machines {
        let vector = |machine: usize| snapshot(lab, machine).vector().unwrap();
        assert_eq!(vector(*machine), vector(machines[0]), "machine {machine}");
        assert_eq!(lab.machines[*machine].engine().compare_rebuild().unwrap(), Vec::<&str>::new(), "machine {machine}");
        assert_eq!(snapshot(lab, *machine).removed().unwrap(), snapshot(lab, machines[0]).removed().unwrap());
        for name in refs {
            assert_eq!(lab.values(*machine, name), lab.values(machines[0], name), "{name} on machine {machine}");
        }
    }
    assert!(lab.refusals.is_empty(), "{:?}", lab.refusals);
    let refused = |event: &Event| matches!(event, Event::EntryRefused { .. });
    assert!(!lab.events.iter().any(|(_, event)| refused(event)), "{:?}", lab.events);
}

#[test]
fn entries_past_the_cut_are_void_everywhere_in_whatever_order_they_are_heard() {
    let mut lab = Lab::new(4);
    lab.set(0, "lab/a", "first", &[]);
    lab.set(3, "lab/kept", "before the cut", &[]);
    // Machine 3 goes on where only machine 1 hears it, and machine 1 builds on that.
    part(&mut lab, &[0, 2], &[1, 3]);
    delete(&mut lab, 3, "lab/a");
    lab.set(3, "lab/b", "past the cut", &[]);
    let child = lab.put(3, b"child", &[]);
    let parent = lab.put(3, b"parent", &[child.sha1]);
    for bytes in [&b"child"[..], b"parent"] {
        lab.put(1, bytes, &[]);
    }
    lab.set(1, "lab/b", "on what is past the cut", &[]);
    lab.set(1, "lab/c", "{}", &[parent.sha1]);
    assert!(lab.values(1, "lab/a").is_empty());
    removes(&mut lab, 0, 3);
    heal(&mut lab, &[3]);
    for machine in [0, 1, 2] {
        assert_eq!(lab.values(machine, "lab/a"), ["first"], "the delete is void on machine {machine}");
        assert_eq!(lab.values(machine, "lab/b"), ["on what is past the cut"], "machine {machine}");
        assert_eq!(lab.values(machine, "lab/kept"), ["before the cut"]);
        assert_eq!(holders(&lab, machine, &parent.sha1), [lab.machines[1].id()]);
        let tables = snapshot(&lab, machine);
        assert!(tables.is_live(&child.sha1).unwrap(), "the ref of machine 1 rests on links that machine 3 told of");
        let value = tables.item(&Item::reference("lab/a")).unwrap().values()[0].id;
        assert!(tables.came_back(&value).unwrap());
        assert_eq!(role(&lab, machine, 3), None);
    }
    assert_agreed(&lab, &[0, 1, 2], &["lab/a", "lab/b", "lab/c"]);
    // What machine 3 hears of it makes it agree too, and it writes no more.
    heal(&mut lab, &[]);
    assert_agreed(&lab, &[0, 1, 2, 3], &["lab/a", "lab/b", "lab/c"]);
    assert!(matches!(lab.set(3, "lab/d", "no", &[]), Reply::NotAMember));
}

#[test]
fn whom_a_removed_member_took_in_past_the_cut_is_no_member_and_what_rests_on_their_words_holds_together() {
    let mut lab = Lab::new(5);
    part(&mut lab, &[0, 2], &[1, 3, 4]);
    // Machine 4 is forgotten, and taken in anew by machine 3 as an admin of its making cannot be: as a member like itself.
    let stranger = NodeId([77; 32]);
    assert!(matches!(admit(&mut lab, 3, stranger, Role::Member), Reply::Admitted));
    assert_eq!(members::role(&snapshot(&lab, 1), &stranger).unwrap(), Some(Role::Member));
    removes(&mut lab, 0, 3);
    heal(&mut lab, &[3]);
    for machine in [0, 1, 2, 4] {
        assert_eq!(members::role(&snapshot(&lab, machine), &stranger).unwrap(), None, "machine {machine}");
    }
    assert_agreed(&lab, &[0, 1, 2, 4], &[]);
    assert!(matches!(admit(&mut lab, 0, stranger, Role::Member), Reply::Admitted));
    assert_eq!(members::role(&snapshot(&lab, 2), &stranger).unwrap(), Some(Role::Member));
    assert_agreed(&lab, &[0, 1, 2, 4], &[]);
}

#[test]
fn a_boot_that_the_removal_does_not_name_is_void_from_its_first_entry() {
    let mut lab = Lab::new(3);
    lab.set(2, "lab/a", "1", &[]);
    part(&mut lab, &[0], &[1, 2]);
    lab.machines[2].place = DiskPlace { device: 1, inode: 99 };
    lab.machines[2].start();
    part(&mut lab, &[0], &[1, 2]);
    lab.set(2, "lab/a", "2", &[]);
    assert_eq!(lab.values(1, "lab/a"), ["2"]);
    removes(&mut lab, 0, 2);
    heal(&mut lab, &[2]);
    assert_eq!((lab.values(0, "lab/a"), lab.values(1, "lab/a")), (vec!["1".to_owned()], vec!["1".to_owned()]));
    assert_agreed(&lab, &[0, 1], &["lab/a"]);
}

#[test]
fn of_two_removals_at_once_the_greater_cut_counts() {
    for first in [0, 1] {
        let mut lab = Lab::new(4);
        admit_again(&mut lab, 0, 1, Role::Admin);
        part(&mut lab, &[0, 2], &[1, 3]);
        lab.set(3, "lab/a", "known to machine 1", &[]);
        let cut = snapshot(&lab, 1).chain(&lab.own_chain(3)).unwrap().unwrap().head;
        lab.parted = vec![(0, 1), (0, 3), (2, 3), (2, 1), (1, 3)];
        lab.set(3, "lab/b", "known to nobody", &[]);
        removes(&mut lab, first, 3);
        removes(&mut lab, 1 - first, 3);
        // Both know of the two removals before they hear what lies past the cuts.
        heal(&mut lab, &[3]);
        heal(&mut lab, &[]);
        for machine in 0..4 {
            assert_eq!(lab.values(machine, "lab/a"), ["known to machine 1"], "machine {machine}");
            assert!(lab.values(machine, "lab/b").is_empty(), "machine {machine}");
            assert!(snapshot(&lab, machine).chain(&lab.own_chain(3)).unwrap().unwrap().head.seq > cut.seq);
        }
        assert_agreed(&lab, &[0, 1, 2, 3], &["lab/a", "lab/b"]);
    }
}

#[test]
fn of_two_admins_who_remove_each_other_the_older_member_stays_whoever_was_heard_first() {
    for order in [[1, 2], [2, 1]] {
        let mut lab = Lab::new(4);
        for admin in [1, 2] {
            admit_again(&mut lab, 0, admin, Role::Admin);
        }
        lab.parted = vec![(1, 2), (0, 1), (0, 2), (3, 1), (3, 2)];
        removes(&mut lab, 1, 2);
        removes(&mut lab, 2, 1);
        lab.set(2, "lab/a", "of machine 2", &[]);
        // Machines 0 and 3 hear one of them first.
        heal(&mut lab, &[order[1]]);
        assert_eq!((role(&lab, 0, order[0]), role(&lab, 0, order[1])), (Some(Role::Admin), None));
        heal(&mut lab, &[]);
        for machine in 0..4 {
            assert_eq!((role(&lab, machine, 1), role(&lab, machine, 2)), (Some(Role::Admin), None), "machine {machine}");
            assert!(lab.values(machine, "lab/a").is_empty());
        }
        assert_agreed(&lab, &[0, 1, 2, 3], &["lab/a"]);
        // The creator's word goes before both.
        removes(&mut lab, 0, 1);
        assert_eq!((role(&lab, 3, 1), role(&lab, 3, 2)), (None, None));
        assert_agreed(&lab, &[0, 1, 2, 3], &["lab/a"]);
    }
}

#[test]
fn the_creators_removal_goes_before_one_of_whom_it_removes() {
    let mut lab = Lab::new(4);
    admit_again(&mut lab, 0, 1, Role::Admin);
    part(&mut lab, &[0, 2], &[1, 3]);
    removes(&mut lab, 1, 2);
    removes(&mut lab, 0, 1);
    assert_eq!(role(&lab, 3, 2), None, "so far as machine 3 knows");
    heal(&mut lab, &[1]);
    for machine in [0, 2, 3] {
        assert_eq!((role(&lab, machine, 1), role(&lab, machine, 2)), (None, Some(Role::Member)), "machine {machine}");
    }
    lab.set(2, "lab/a", "a member after all", &[]);
    assert_eq!(lab.values(3, "lab/a"), ["a member after all"]);
    assert_agreed(&lab, &[0, 2, 3], &["lab/a"]);
}

#[test]
fn only_admins_remove_and_nobody_the_creator_or_themself() {
    let mut lab = Lab::new(3);
    assert!(matches!(remove(&mut lab, 1, 2), Reply::MayNotAdmit(_)));
    admit_again(&mut lab, 0, 1, Role::Admin);
    for (by, machine) in [(1, 0), (1, 1), (0, 0)] {
        assert!(matches!(remove(&mut lab, by, machine), Reply::MayNotAdmit(_)), "{by} removes {machine}");
    }
    removes(&mut lab, 1, 2);
    removes(&mut lab, 1, 2);
    assert_eq!(snapshot(&lab, 0).all_removals().unwrap().len(), 1, "said twice it is no news");
    assert_agreed(&lab, &[0, 1, 2], &[]);
}

#[test]
fn who_is_taken_in_again_writes_again_and_what_was_cut_stays_void() {
    let mut lab = Lab::new(3);
    let blob = lab.put(2, b"held all the time", &[]);
    part(&mut lab, &[0], &[1, 2]);
    lab.set(2, "lab/a", "past the cut", &[]);
    let late = lab.put(2, b"put past the cut", &[]);
    removes(&mut lab, 0, 2);
    heal(&mut lab, &[]);
    assert!(matches!(admit_again(&mut lab, 1, 2, Role::Member), Reply::MayNotAdmit(_)), "machine 1 is no admin's");
    assert!(matches!(admit_again(&mut lab, 0, 2, Role::Member), Reply::Admitted));
    lab.settle();
    lab.set(2, "lab/b", "a member again", &[]);
    for machine in 0..3 {
        assert_eq!(role(&lab, machine, 2), Some(Role::Member));
        assert_eq!(lab.values(machine, "lab/b"), ["a member again"], "machine {machine}");
        assert!(lab.values(machine, "lab/a").is_empty());
        for fact in [blob, late] {
            assert_eq!(holders(&lab, machine, &fact.sha1), [lab.machines[2].id()], "its copies are told of anew");
        }
    }
    // A second removal gives nothing back.
    removes(&mut lab, 0, 2);
    for machine in 0..3 {
        assert_eq!(lab.values(machine, "lab/b"), ["a member again"]);
        assert!(lab.values(machine, "lab/a").is_empty());
    }
    assert_agreed(&lab, &[0, 1, 2], &["lab/a", "lab/b"]);
}

#[test]
fn a_branch_of_a_fork_that_the_remover_had_not_heard_of_is_void() {
    let mut lab = Lab::new(3);
    lab.set(2, "lab/a", "1", &[]);
    let backup = lab.machines[2].disk.fork(5);
    for (side, other) in [("left", 1), ("right", 0)] {
        lab.parted = vec![(0, 1), (2, other)];
        lab.machines[2].disk = backup.fork(6);
        lab.machines[2].start();
        lab.connect_all();
        lab.set(2, "lab/a", side, &[]);
        lab.set(2, &format!("lab/{side}"), side, &[]);
    }
    assert_eq!((lab.values(0, "lab/a"), lab.values(1, "lab/a")), (vec!["left".to_owned()], vec!["right".to_owned()]));
    removes(&mut lab, 0, 2);
    heal(&mut lab, &[2]);
    for machine in [0, 1] {
        assert_eq!(sorted(&lab, machine, "lab/a"), ["left"], "machine {machine}");
        assert_eq!((lab.values(machine, "lab/left").len(), lab.values(machine, "lab/right").len()), (1, 0));
    }
    assert_agreed(&lab, &[0, 1], &["lab/a", "lab/left", "lab/right"]);
}

/// What stands in the way of a collection on a machine, and how much it purged.
fn collect(lab: &mut Lab, machine: usize) -> Option<(Vec<Missing>, usize)> {
    let how = Collect { grace_ms: Some(0), limit: 9 };
    let replies = lab.give(machine, Input::Collect { request: REQUEST, how });
    replies.into_iter().find_map(|reply| match reply {
        Reply::Collected(collected) => Some((collected.missing, collected.purged.len())),
        _ => None,
    })
}

#[test]
fn nobody_waits_for_who_was_removed() {
    let mut lab = Lab::new(3);
    lab.put(0, b"garbage", &[]);
    lab.settle();
    part(&mut lab, &[2], &[0, 1]);
    for machine in [0, 1] {
        lab.machines[machine].start();
    }
    part(&mut lab, &[2], &[0, 1]);
    assert_eq!(collect(&mut lab, 0), Some((vec![Missing::Acknowledgement(lab.machines[2].id())], 0)));
    removes(&mut lab, 0, 2);
    lab.settle();
    assert_eq!(collect(&mut lab, 0), Some((vec![], 1)));
}

/// Machine 1 proves its copy of a blob to machine 0, which wants to give up its own; the answer has not arrived.
fn answer_on_its_way(lab: &mut Lab) -> (BlobId, Input) {
    let blob = lab.put(0, &[7; 40_000], &[]).sha1;
    lab.put(1, &[7; 40_000], &[]);
    lab.set(0, "lab/a", "{}", &[blob]);
    lab.settle();
    let (one, two) = (lab.machines[0].id(), lab.machines[1].id());
    let sent_to = |effects: Vec<Effect>, node: NodeId| {
        effects.into_iter().find_map(|effect| match effect {
            Effect::Send { to, bytes } if to == node => Some(bytes),
            _ => None,
        })
    };
    let asked = sent_to(lab.effects_of(0, Input::Drop { request: REQUEST, blobs: vec![blob] }), two).unwrap();
    let looks = lab.effects_of(1, Input::Received { from: one, bytes: asked });
    let Some(Effect::Probe { from, question, seed }) = looks.into_iter().next() else { panic!("it does not look") };
    let probes = lab.machines[1].engine().store().probe_all(&question.blobs, seed, 0);
    let probed = Input::Probed(keepwell_node::engine::Probed { from, question, probes });
    let bytes = sent_to(lab.effects_of(1, probed), one).unwrap();
    assert!(matches!(Message::decode(&bytes), Ok(Message::Answer(_))));
    (blob, Input::Received { from: two, bytes })
}

#[test]
fn the_answer_of_who_was_removed_proves_nothing() {
    let mut lab = Lab::new(2);
    let (blob, answer) = answer_on_its_way(&mut lab);
    lab.give(0, answer);
    assert!(!lab.holds(0, &blob), "the answer of a member is a proof");
    let mut lab = Lab::new(2);
    let (blob, answer) = answer_on_its_way(&mut lab);
    removes(&mut lab, 0, 1);
    lab.give(0, answer);
    assert!(lab.holds(0, &blob));
}

#[test]
fn a_copy_of_who_was_removed_is_made_anew_elsewhere() {
    let mut lab = Lab::new(3);
    let blob = lab.put(0, &[7; 40_000], &[]).sha1;
    lab.put(2, &[7; 40_000], &[]);
    let mut set = a_set("lab/a", "{}", &[blob]);
    set.copies = 2;
    lab.give(0, Input::WriteRefs { request: REQUEST, ops: vec![keepwell_node::engine::RefOp::Set(set)] });
    lab.settle();
    assert!(lab.brings.is_empty(), "{:?}", lab.brings);
    removes(&mut lab, 0, 2);
    for _ in 0..20 {
        lab.settle();
    }
    assert!(lab.brings.contains(&(1, vec![blob])), "{:?}", lab.brings);
}

#[test]
fn who_was_removed_or_declared_dead_deletes_nothing_any_more() {
    let mut lab = Lab::new(3);
    lab.put(2, b"garbage", &[]);
    let held = lab.put(1, b"garbage", &[]).sha1;
    lab.settle();
    removes(&mut lab, 0, 1);
    let node = lab.machines[2].id();
    lab.give(0, Input::Declare { request: REQUEST, node, is_dead: true });
    lab.settle();
    assert_eq!(collect(&mut lab, 1), None);
    assert_eq!(collect(&mut lab, 2), Some((vec![Missing::Leave(Why::DeclaredDead)], 0)));
    let blobs = vec![BlobId([1; 20])];
    assert!(matches!(lab.give(1, Input::Drop { request: REQUEST, blobs }).pop(), Some(Reply::NotAMember)));
    lab.give(0, Input::Declare { request: REQUEST, node, is_dead: false });
    lab.settle();
    assert_eq!(collect(&mut lab, 2).map(|(_, purged)| purged), Some(1));
    // A blob whose bytes turn out to be lost is forgotten by who was removed, too, without a word to anybody.
    let gone = lab.forget(1, held);
    assert!(matches!(gone, Some(Reply::Gone(Some(_)))), "{gone:?}");
}
