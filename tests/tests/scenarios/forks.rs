//! Cloned, restored and lying nodes.

use keepwell_node::engine::{Effect, Event, Input, RefOp, RequestId};
use keepwell_protocol::id::BlobFact;
use keepwell_protocol::log::exchange::Message;
use keepwell_protocol::log::vector::Chain;
use keepwell_protocol::name::RefName;
use keepwell_store::home::DiskPlace;

use super::lab::Lab;

#[test]
fn a_copied_home_goes_on_under_a_new_boot_and_nothing_is_lost() {
    let mut lab = Lab::new(2);
    lab.set(1, "lab/a", "1", &[]);
    let before = lab.own_chain(1);
    lab.machines[1].place = DiskPlace { device: 1, inode: 99 };
    lab.machines[1].start();
    lab.connect_all();
    assert_ne!(lab.own_chain(1), before);
    lab.set(1, "lab/b", "2", &[]);
    assert_eq!((lab.values(0, "lab/a"), lab.values(0, "lab/b")), (vec!["1".to_owned()], vec!["2".to_owned()]));
    assert!(lab.events.is_empty(), "{:?}", lab.events);
}

#[test]
fn the_same_home_in_the_same_place_keeps_its_boot() {
    let mut lab = Lab::new(1);
    let before = lab.own_chain(0);
    lab.machines[0].start();
    assert_eq!(lab.own_chain(0), before);
}

#[test]
fn a_restored_old_disk_learns_of_it_from_its_peers_before_it_can_repeat_a_position() {
    let mut lab = Lab::new(2);
    lab.set(1, "lab/a", "1", &[]);
    let backup = lab.machines[1].disk.fork(5);
    lab.set(1, "lab/a", "2", &[]);
    let before = lab.own_chain(1);
    lab.machines[1].disk = backup;
    lab.machines[1].start();
    assert_eq!(lab.values(1, "lab/a"), ["1"]);
    lab.connect_all();
    assert_ne!(lab.own_chain(1), before);
    assert!(lab.events.contains(&(1, Event::RolledBack { old: before.boot })), "{:?}", lab.events);
    assert_eq!(lab.values(1, "lab/a"), ["2"]);
    lab.set(1, "lab/a", "3", &[]);
    assert_eq!(lab.values(0, "lab/a"), ["3"]);
    assert!(lab.refusals.is_empty(), "{:?}", lab.refusals);
}

#[test]
fn copies_that_went_with_a_restored_disk_are_no_longer_announced() {
    let mut lab = Lab::new(2);
    let backup = lab.machines[1].disk.fork(5);
    let fact = lab.put(1, b"only on the disk that is lost", &[]);
    let holders = |lab: &Lab| lab.machines[0].engine().store().snapshot().unwrap().holders(&fact.sha1).unwrap().len();
    assert_eq!(holders(&lab), 1);
    lab.machines[1].disk = backup;
    lab.machines[1].start();
    lab.connect_all();
    assert_eq!(holders(&lab), 0);
}

/// Machine 2 is restored and writes before anybody can tell it: position by position it repeats itself.
fn repeat_itself(lab: &mut Lab, writes: usize) -> Chain {
    lab.set(2, "lab/a", "1", &[]);
    let backup = lab.machines[2].disk.fork(5);
    lab.set(2, "lab/a", "left", &[]);
    let forked = lab.own_chain(2);
    lab.parted = vec![(0, 2), (1, 2)];
    lab.machines[2].disk = backup;
    lab.machines[2].start();
    for write in 0..writes {
        lab.set(2, &format!("lab/right{write}"), "right", &[]);
    }
    lab.set(2, "lab/a", "right", &[]);
    lab.parted.clear();
    forked
}

#[test]
fn a_restored_node_that_wrote_meanwhile_loses_neither_what_it_wrote_nor_what_it_had() {
    for writes in [0, 1, 40] {
        let mut lab = Lab::new(3);
        let forked = repeat_itself(&mut lab, writes);
        lab.connect_all();
        assert_ne!(lab.own_chain(2), forked);
        assert!(lab.events.contains(&(2, Event::RolledBack { old: forked.boot })), "{:?}", lab.events);
        lab.set(2, "lab/b", "after", &[]);
        assert_agreed(&lab);
        for machine in 0..3 {
            assert_eq!(sorted_values(&lab, machine, "lab/a"), ["left", "right"], "machine {machine} after {writes} writes");
            for write in 0..writes {
                assert_eq!(lab.values(machine, &format!("lab/right{write}")), ["right"]);
            }
            assert_eq!(lab.values(machine, "lab/b"), ["after"]);
        }
    }
}

fn sorted_values(lab: &Lab, machine: usize, name: &str) -> Vec<String> {
    let mut values = lab.values(machine, name);
    values.sort();
    values
}

/// All machines have applied the same entries, call them by the same names, and have the rebuild of their tables in hand.
fn assert_agreed(lab: &Lab) {
    let vector = |machine: usize| lab.machines[machine].engine().store().snapshot().unwrap().vector().unwrap();
    for machine in 0..lab.machines.len() {
        assert_eq!(vector(machine), vector(0), "machine {machine}");
        assert_eq!(lab.machines[machine].engine().compare_rebuild().unwrap(), Vec::<&str>::new());
    }
    assert!(lab.refusals.is_empty(), "{:?}", lab.refusals);
    let refused = |event: &Event| matches!(event, Event::EntryRefused { .. });
    assert!(!lab.events.iter().any(|(_, event)| refused(event)), "{:?}", lab.events);
}

/// Machine 2 says "left" to machine 0 alone, is restored, and says "right", at the same position, to machine 1 alone. Each of the two
/// goes on from what it heard: it puts a blob, and replaces the value by one that names it. Machine 3, if there is one, is away.
fn lead_others_astray(lab: &mut Lab) -> Chain {
    lab.set(2, "lab/a", "1", &[]);
    let backup = lab.machines[2].disk.fork(5);
    let forked = lab.own_chain(2);
    for (machine, other, side) in [(0, 1, "left"), (1, 0, "right")] {
        lab.parted = vec![(0, 1), (2, other), (3, 0), (3, 1), (3, 2)];
        lab.machines[2].disk = backup.fork(6);
        lab.machines[2].start();
        lab.connect_all();
        lab.set(2, "lab/a", side, &[]);
        lab.set(2, &format!("lab/{side}"), side, &[]);
        assert_eq!(lab.values(machine, "lab/a"), [side]);
        let fact = lab.put(machine, side.as_bytes(), &[]);
        lab.set(machine, "lab/a", &format!("on {side}"), &[fact.sha1]);
        assert_eq!(lab.values(machine, "lab/a"), [format!("on {side}")]);
    }
    lab.parted.clear();
    forked
}

#[test]
fn members_that_followed_different_branches_of_a_fork_agree_in_the_end() {
    let mut lab = Lab::new(4);
    let forked = lead_others_astray(&mut lab);
    lab.connect_all();
    lab.settle();
    assert_agreed(&lab);
    for machine in 0..4 {
        assert_eq!(sorted_values(&lab, machine, "lab/a"), ["on left", "on right"], "machine {machine}");
        assert_eq!([lab.values(machine, "lab/left"), lab.values(machine, "lab/right")], [["left"], ["right"]]);
        let snapshot = lab.machines[machine].engine().store().snapshot().unwrap();
        assert_eq!(snapshot.forked().unwrap(), [forked]);
        assert_eq!(snapshot.vector().unwrap().0.keys().filter(|chain| chain.node == forked.node).count(), 3);
    }
}

#[test]
fn who_comes_back_after_a_fork_hears_of_all_branches() {
    let mut lab = Lab::new(4);
    lead_others_astray(&mut lab);
    lab.parted = vec![(3, 0), (3, 1), (3, 2)];
    lab.connect_all();
    lab.parted = vec![(3, 1), (3, 2)];
    lab.connect_all();
    lab.settle();
    assert_agreed(&lab);
}

#[test]
fn who_hears_of_a_branch_before_it_hears_of_the_fork_waits_for_the_proof() {
    let mut lab = Lab::new(4);
    lab.set(2, "lab/a", "1", &[]);
    let (backup, forked) = (lab.machines[2].disk.fork(5), lab.own_chain(2));
    lab.set(2, "lab/a", "left", &[]);
    lab.set(0, "lab/b", "seen left", &[]);
    lab.parted = vec![(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)];
    lab.machines[2].disk = backup;
    lab.machines[2].start();
    lab.set(2, "lab/c", "right", &[]);
    lab.connect_all();
    // Machine 0 hears the proof alone, and replaces what it has told of under the boot's name. Machine 1 hears just that.
    let proof = lab.machines[3].engine().store().snapshot().unwrap().forks_of(&forked).unwrap().remove(0);
    let from = lab.machines[3].id();
    lab.give(0, Input::Received { from, bytes: Message::Fork(proof).encode() });
    lab.parted.remove(0);
    lab.set(0, "lab/a", "new", &[]);
    assert_eq!(lab.values(1, "lab/a"), ["left"]);
    lab.settle();
    assert_eq!(lab.values(1, "lab/a"), ["new"]);
    lab.parted.clear();
    lab.connect_all();
    assert_agreed(&lab);
    assert_eq!((lab.values(1, "lab/a"), lab.values(1, "lab/c")), (vec!["new".to_owned()], vec!["right".to_owned()]));
}

#[test]
fn a_value_of_either_branch_can_be_replaced_and_deleted_by_everybody() {
    let mut lab = Lab::new(3);
    lead_others_astray(&mut lab);
    lab.connect_all();
    lab.settle();
    lab.set(1, "lab/a", "one again", &[]);
    for side in ["left", "right"] {
        let op = RefOp::Delete { name: RefName::parse(&format!("lab/{side}")).unwrap(), if_rev: None };
        lab.give(0, Input::WriteRefs { request: RequestId(3), ops: vec![op] });
    }
    lab.settle();
    assert_agreed(&lab);
    for machine in 0..3 {
        assert_eq!(lab.values(machine, "lab/a"), ["one again"]);
        assert!(lab.values(machine, "lab/left").is_empty() && lab.values(machine, "lab/right").is_empty());
    }
}

#[test]
fn the_proof_of_a_fork_reaches_everybody_and_is_told_once() {
    let mut lab = Lab::new(3);
    let forked = repeat_itself(&mut lab, 1);
    lab.connect_all();
    for machine in 0..3 {
        let told = lab.events.iter().filter(|(at, event)| *at == machine && *event == Event::Forked { chain: forked }).count();
        assert_eq!(told, 1, "machine {machine} of {:?}", lab.events);
        let snapshot = lab.machines[machine].engine().store().snapshot().unwrap();
        assert_eq!(snapshot.forks_of(&forked).unwrap().len(), 1);
    }
}

/// All entries that a machine knows, in a causal order.
fn known_to(lab: &Lab, machine: usize) -> Vec<Vec<u8>> {
    let snapshot = lab.machines[machine].engine().store().snapshot().unwrap();
    let (mut entries, mut from) = (Vec::new(), 0);
    while let Some((arrival, bytes)) = snapshot.entry_from(from).unwrap() {
        entries.push(bytes);
        from = arrival + 1;
    }
    entries
}

#[test]
fn two_machines_that_run_copies_of_one_home_do_not_correct_each_other_for_ever() {
    let mut lab = Lab::new(3);
    // Machine 2 becomes the twin of machine 1: the same key, and a copy of its disk in another place.
    let (disk, key) = (lab.machines[1].disk.fork(5), lab.machines[1].key.clone());
    let twin = &mut lab.machines[2];
    (twin.disk, twin.key, twin.place) = (disk, key, DiskPlace { device: 1, inode: 99 });
    twin.start();
    lab.put(1, b"measured by one of them", &[]);
    lab.put(2, b"measured by the other", &[]);
    // Whatever one knows, the other hears, round after round.
    let (mut grew, mut told) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        for (from, to) in [(1, 2), (2, 1)] {
            for entry in known_to(&lab, from) {
                let effects = lab.effects_of(to, Input::Gossiped { entry });
                told.extend(effects.iter().any(|effect| matches!(effect, Effect::Tell(Event::Twin))).then_some(to));
            }
        }
        grew.push(known_to(&lab, 1).len());
    }
    assert_eq!(grew[6], grew[7], "they correct each other for ever: {grew:?} entries");
    assert_eq!(known_to(&lab, 2).len(), grew[7], "and each knows all that the other wrote");
    told.sort_unstable();
    assert_eq!(told, [1, 2], "each is told, once");
}

#[test]
fn of_two_machines_that_ran_copies_of_one_home_the_one_that_goes_on_is_taken_at_its_word() {
    let mut lab = Lab::new(3);
    let both = lab.put(1, b"from before", &[]);
    let (disk, key) = (lab.machines[1].disk.fork(5), lab.machines[1].key.clone());
    let twin = &mut lab.machines[2];
    (twin.disk, twin.key, twin.place) = (disk, key, DiskPlace { device: 1, inode: 99 });
    twin.start();
    let hear = |lab: &mut Lab, from, to| {
        for entry in known_to(lab, from) {
            lab.effects_of(to, Input::Gossiped { entry });
        }
    };
    // What each says knows what the other has said: it is not for the other to correct.
    lab.put(2, b"the first that is heard of it", &[]);
    hear(&mut lab, 2, 1);
    let ones = lab.put(1, b"measured by one of them", &[]);
    hear(&mut lab, 1, 2);
    let others = lab.put(2, b"measured by the other", &[]);
    let forget = lab.forgetting(2, both.sha1);
    lab.effects_of(2, forget);
    hear(&mut lab, 2, 1);
    let said = |lab: &Lab, blob: &BlobFact| {
        let engine = lab.machines[1].engine();
        engine.store().snapshot().unwrap().is_held_by(&blob.sha1, &engine.home().node).unwrap()
    };
    assert_eq!([both, ones, others].map(|blob| said(&lab, &blob)), [false, false, true], "as the other says");
    lab.machines[2].stop();
    lab.machines[1].start();
    lab.effects_of(1, Input::Tick);
    assert_eq!([both, ones, others].map(|blob| said(&lab, &blob)), [true, true, false]);
    let before = known_to(&lab, 1).len();
    lab.machines[1].start();
    lab.effects_of(1, Input::Tick);
    assert_eq!(known_to(&lab, 1).len(), before, "and says it once");
}
