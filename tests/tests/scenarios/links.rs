//! Links of what is gone: forgotten when nothing can bring it back, and there for whoever has or names it meanwhile.

use keepwell_node::engine::{Collect, Input, RefOp, RefSet, RequestId};
use keepwell_node::limits::{FACT_TURNS, FACTS_AFTER_MS};
use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_protocol::log::op::{Op, Unlink};

use super::forger::Forger;
use super::lab::{Lab, Machine, a_set};

const REQUEST: RequestId = RequestId(9);

/// Three machines that saw a blob with a child come and go; it lies in the trash of machine 0.
struct Gone {
    lab: Lab,
    child: BlobFact,
    parent: BlobFact,
}

impl Gone {
    fn new() -> Gone {
        let mut lab = Lab::new(3);
        let child = lab.put(0, b"child", &[]);
        let parent = lab.put(0, b"parent", &[child.sha1]);
        lab.set(0, "lab/x", "1", &[parent.sha1]);
        lab.settle();
        lab.set(0, "lab/x", "2", &[]);
        lab.settle();
        let mut gone = Gone { lab, child, parent };
        gone.collect(0);
        gone.lab.settle();
        assert!(!gone.lab.holds(0, &parent.sha1) && gone.links() == [1; 3]);
        gone
    }

    /// The same when no trash has it any more.
    fn for_good() -> Gone {
        let gone = Gone::new();
        gone.empty_trash(0);
        gone
    }

    fn collect(&mut self, machine: usize) {
        let how = Collect { grace_ms: Some(0), limit: 9 };
        self.lab.give(machine, Input::Collect { request: REQUEST, how });
    }

    fn empty_trash(&self, machine: usize) {
        self.lab.machines[machine].engine().store().empty_trash(u64::MAX, 99).unwrap();
    }

    /// Time passes, and everybody is told.
    fn pass(&mut self, ms: u64) {
        self.lab.now_ms += ms;
        self.lab.settle();
    }

    /// Those who were parted meet, and tell each other everything.
    fn meet(&mut self) {
        self.lab.parted.clear();
        self.lab.connect_all();
        self.lab.settle();
    }

    /// How many children the parent has, as each machine knows.
    fn links(&self) -> Vec<usize> {
        (0..3).map(|machine| self.links_at(machine)).collect()
    }

    fn links_at(&self, machine: usize) -> usize {
        let snapshot = self.lab.machines[machine].engine().store().snapshot().unwrap();
        snapshot.children(&self.parent.sha1).unwrap().len()
    }

    fn entries(&self) -> Vec<u64> {
        let snapshots = self.lab.machines.iter().map(|machine| machine.engine().store().snapshot().unwrap());
        snapshots.map(|snapshot| snapshot.next_arrival().unwrap()).collect()
    }

    /// The machines on which a ref reaches the child.
    fn child_lives(&self) -> Vec<bool> {
        let snapshots = self.lab.machines.iter().map(|machine| machine.engine().store().snapshot().unwrap());
        snapshots.map(|snapshot| snapshot.is_live(&self.child.sha1).unwrap()).collect()
    }

    fn put_again(&mut self, machine: usize) {
        let child = self.lab.put(machine, b"child", &[]);
        assert_eq!(child, self.child);
        self.lab.put(machine, b"parent", &[child.sha1]);
    }

    fn check(&self) {
        for machine in &self.lab.machines {
            assert_eq!(machine.engine().compare_rebuild().unwrap(), Vec::<&str>::new());
        }
    }
}

#[test]
fn links_are_forgotten_facts_after_ms_after_the_last_copy_and_not_before() {
    let mut gone = Gone::for_good();
    gone.pass(FACTS_AFTER_MS - 120_000);
    assert_eq!(gone.links(), [1; 3]);
    let before = gone.entries();
    gone.pass(120_000);
    assert_eq!(gone.links(), [0; 3]);
    let after = gone.entries();
    assert_eq!(after[0] - before[0], 1, "one machine says so, once");
    gone.pass(2 * FACTS_AFTER_MS);
    assert_eq!(gone.entries(), after);
    gone.check();
}

#[test]
fn machines_that_are_restarted_every_few_hours_forget_links_all_the_same() {
    let mut gone = Gone::for_good();
    gone.lab.settle();
    let an_hour_passes = |gone: &mut Gone| {
        gone.lab.now_ms += 60 * 60 * 1_000;
        gone.lab.machines.iter_mut().for_each(Machine::start);
        gone.lab.connect_all();
    };
    for hour in 1..FACTS_AFTER_MS / (60 * 60 * 1_000) {
        an_hour_passes(&mut gone);
        assert_eq!(gone.links(), [1; 3], "hour {hour}");
    }
    an_hour_passes(&mut gone);
    gone.lab.settle();
    assert_eq!(gone.links(), [0; 3]);
    gone.check();
    // The others find nothing left to do when their turn comes.
    gone.pass(FACTS_AFTER_MS);
    for machine in &gone.lab.machines {
        assert_eq!(machine.engine().store().snapshot().unwrap().facts_due().unwrap(), []);
    }
}

#[test]
fn when_the_machine_that_linked_it_is_away_another_one_has_its_turn_after_a_part_of_fact_turns() {
    let mut gone = Gone::for_good();
    let first = gone.lab.machines[0].id();
    gone.lab.machines[0].stop();
    for machine in [1, 2] {
        gone.lab.give(machine, Input::Disconnected { peer: first });
    }
    gone.pass(FACTS_AFTER_MS);
    let links = |gone: &Gone| [1, 2].map(|machine| gone.links_at(machine));
    assert_eq!(links(&gone), [1; 2]);
    gone.pass(FACTS_AFTER_MS / FACT_TURNS);
    assert_eq!(links(&gone), [0; 2]);
}

#[test]
fn while_a_member_has_not_said_that_it_knows_no_links_are_forgotten() {
    let mut gone = Gone::for_good();
    gone.lab.machines[2].stop();
    gone.lab.set(0, "lab/y", "1", &[]);
    gone.pass(2 * FACTS_AFTER_MS);
    assert_eq!([0, 1].map(|machine| gone.links_at(machine)), [1; 2]);
    gone.lab.machines[2].start();
    gone.lab.connect_all();
    gone.lab.settle();
    assert_eq!(gone.links(), [0; 3]);
}

/// The trace of the model: a value that was written beside the removal, by a member that had acknowledged what the removal waits for.
#[test]
fn a_ref_that_is_set_while_others_forget_the_links_keeps_the_child() {
    let mut gone = Gone::for_good();
    gone.lab.parted = vec![(0, 2), (1, 2)];
    gone.put_again(2);
    gone.lab.set(2, "lab/x", "3", &[gone.parent.sha1]);
    gone.pass(FACTS_AFTER_MS);
    assert_eq!(gone.links(), [0, 0, 1]);
    gone.meet();
    assert_eq!((gone.links(), gone.child_lives()), (vec![1; 3], vec![true; 3]));
    for machine in 0..3 {
        gone.collect(machine);
    }
    assert!(gone.lab.holds(2, &gone.child.sha1));
    gone.check();
}

#[test]
fn what_is_put_again_is_announced_with_links_of_its_own_in_place_of_those_before() {
    let mut gone = Gone::new();
    let facts = |gone: &Gone| gone.lab.machines[1].engine().store().snapshot().unwrap().fact_ids(&gone.parent.sha1).unwrap();
    let before = facts(&gone);
    gone.put_again(2);
    gone.lab.settle();
    let after = facts(&gone);
    assert_eq!((before.len(), after.len(), after[0].boot), (1, 1, gone.lab.own_chain(2).boot));
    gone.put_again(2);
    gone.lab.settle();
    assert_eq!(facts(&gone), after, "it was here already");
    gone.pass(2 * FACTS_AFTER_MS);
    assert_eq!(gone.links(), [1; 3]);
}

#[test]
fn links_that_were_forgotten_come_back_with_a_put() {
    let mut gone = Gone::for_good();
    gone.pass(FACTS_AFTER_MS);
    assert_eq!(gone.links(), [0; 3]);
    gone.put_again(1);
    gone.lab.set(1, "lab/x", "3", &[gone.parent.sha1]);
    gone.lab.settle();
    assert_eq!((gone.links(), gone.child_lives()), (vec![1; 3], vec![true; 3]));
}

#[test]
fn what_lies_in_a_trash_keeps_its_links_and_comes_back_with_them() {
    let mut gone = Gone::for_good();
    // It comes and goes once more, where the trash stays full.
    gone.put_again(2);
    gone.lab.settle();
    gone.collect(2);
    gone.lab.settle();
    assert!(!gone.lab.holds(2, &gone.parent.sha1));
    gone.pass(FACTS_AFTER_MS + 2 * FACTS_AFTER_MS / FACT_TURNS);
    assert_eq!(gone.links(), [1; 3]);
    for id in [gone.child.sha1, gone.parent.sha1] {
        let retrieved = gone.lab.machines[2].engine().store().try_retrieve(&id).unwrap().unwrap();
        gone.lab.give(2, Input::Restore { request: REQUEST, retrieved });
    }
    gone.lab.set(2, "lab/x", "3", &[gone.parent.sha1]);
    gone.lab.settle();
    assert_eq!((gone.links(), gone.child_lives()), (vec![1; 3], vec![true; 3]));
}

/// Has machine 2's key sign that the links of the parent end.
fn forge_unlink(lab: &mut Lab, parent: BlobId, to: &[usize]) {
    let facts = lab.machines[0].engine().store().snapshot().unwrap().fact_ids(&parent).unwrap();
    let entry = Forger::member(lab, 2).entry(lab, vec![Op::Unlink(Unlink { parent, facts })]);
    for machine in to {
        lab.give(*machine, Input::Gossiped { entry: entry.clone() });
    }
}

#[test]
fn whoever_holds_the_parent_says_links_again_that_ended_although_it_is_there() {
    for is_named in [false, true] {
        let mut lab = Lab::new(3);
        let child = lab.put(0, b"child", &[]);
        let parent = lab.put(0, b"parent", &[child.sha1]);
        if is_named {
            lab.set(0, "lab/x", "1", &[parent.sha1]);
        }
        lab.settle();
        forge_unlink(&mut lab, parent.sha1, &[0, 1, 2]);
        lab.settle();
        let gone = Gone { lab, child, parent };
        assert_eq!((gone.links(), gone.child_lives()), (vec![1; 3], vec![is_named; 3]));
        gone.check();
    }
}

#[test]
fn an_end_of_facts_that_its_author_did_not_know_ends_nothing() {
    let mut lab = Lab::new(3);
    let mut forger = Forger::member(&lab, 2);
    let child = lab.put(0, b"child", &[]);
    let parent = lab.put(0, b"parent", &[child.sha1]);
    lab.settle();
    let facts = lab.machines[0].engine().store().snapshot().unwrap().fact_ids(&parent.sha1).unwrap();
    let before = facts.clone();
    let entry = forger.entry(&lab, vec![Op::Unlink(Unlink { parent: parent.sha1, facts })]);
    for machine in 0..3 {
        lab.give(machine, Input::Gossiped { entry: entry.clone() });
        let snapshot = lab.machines[machine].engine().store().snapshot().unwrap();
        assert_eq!(snapshot.fact_ids(&parent.sha1).unwrap(), before);
    }
}

#[test]
fn what_a_value_without_copies_names_keeps_the_links_that_were_known() {
    let mut gone = Gone::for_good();
    gone.lab.parted = vec![(0, 2), (1, 2)];
    let set = RefSet { allow_missing: true, ..a_set("lab/x", "3", &[gone.parent.sha1]) };
    gone.lab.give(2, Input::WriteRefs { request: REQUEST, ops: vec![RefOp::Set(set)] });
    gone.pass(FACTS_AFTER_MS);
    assert_eq!(gone.links(), [0, 0, 1]);
    gone.meet();
    assert_eq!((gone.links(), gone.child_lives()), (vec![1; 3], vec![true; 3]));
}

#[test]
fn a_blob_that_is_fetched_without_a_name_is_announced_with_its_links() {
    let mut lab = Lab::new(3);
    let child = lab.put(0, b"child", &[]);
    let parent = lab.put(0, b"parent", &[child.sha1]);
    lab.settle();
    lab.bring(1, vec![parent.sha1]);
    let snapshot = lab.machines[2].engine().store().snapshot().unwrap();
    assert_eq!(snapshot.fact_ids(&parent.sha1).unwrap()[0].boot, lab.own_chain(1).boot);
    let before = snapshot.next_arrival().unwrap();
    lab.set(0, "lab/x", "1", &[parent.sha1]);
    lab.settle();
    let snapshot = lab.machines[2].engine().store().snapshot().unwrap();
    let facts = snapshot.fact_ids(&parent.sha1).unwrap();
    assert_eq!((facts.len(), facts[0].boot), (1, lab.own_chain(0).boot), "a value that makes it live brings links, too");
    assert_eq!(snapshot.next_arrival().unwrap() - before, 1);
    lab.bring(2, vec![parent.sha1]);
    let snapshot = lab.machines[0].engine().store().snapshot().unwrap();
    assert_eq!(snapshot.fact_ids(&parent.sha1).unwrap(), facts, "of what a ref reaches they are not said again");
}
