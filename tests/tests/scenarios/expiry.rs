//! Refs that lapse, on several machines: one of them says so, all of them see it, and what is used meanwhile lives on.

use keepwell_node::engine::{Input, RefOp, RefSet, Reply, RequestId};
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::limits::MARK_TURN_MS;

use super::lab::{Lab, a_set};

const LASTS_MS: u64 = 30_000;

/// Machines that know how long they have run, and what time it is elsewhere.
fn lab(count: u8) -> Lab {
    let mut lab = Lab::new(count);
    pass(&mut lab, 5_000);
    lab
}

/// Time passes, and everybody is told.
fn pass(lab: &mut Lab, ms: u64) {
    lab.now_ms += ms;
    for machine in 0..lab.machines.len() {
        // These machines were started when their clocks began.
        lab.give(machine, Input::Elapsed { boot_ms: lab.now_ms });
    }
    for machine in 0..lab.machines.len() {
        lab.give(machine, Input::Tick);
    }
}

fn write(lab: &mut Lab, machine: usize, op: RefOp) -> Reply {
    lab.give(machine, Input::WriteRefs { request: RequestId(2), ops: vec![op] }).pop().unwrap()
}

/// Sets a ref that lapses LASTS_MS from now, or so long after its last use.
fn set(lab: &mut Lab, machine: usize, obj: &str) {
    let expires_ms = Some(lab.now_ms + LASTS_MS);
    write(lab, machine, RefOp::Set(RefSet { expires_ms, ttl_access_ms: Some(LASTS_MS), ..a_set("lab/x", obj, &[]) }));
}

fn touch(lab: &mut Lab, machine: usize) {
    write(lab, machine, RefOp::Touch { name: "lab/x".parse().unwrap() });
}

fn values(lab: &Lab) -> Vec<usize> {
    (0..lab.machines.len()).map(|machine| lab.values(machine, "lab/x").len()).collect()
}

/// How many entries these machines have written.
fn written(lab: &Lab, machines: &[usize]) -> Vec<u64> {
    let seq = |machine: &usize| {
        let vector = lab.machines[*machine].engine().store().snapshot().unwrap().vector().unwrap();
        vector.seq(&lab.own_chain(*machine))
    };
    machines.iter().map(seq).collect()
}

#[test]
fn its_author_ends_a_ref_and_nobody_else_needs_to_write() {
    let mut lab = lab(3);
    set(&mut lab, 1, "{}");
    pass(&mut lab, LASTS_MS - 1);
    assert_eq!(values(&lab), [1, 1, 1]);
    let before = written(&lab, &[0, 1, 2]);
    pass(&mut lab, 1);
    assert_eq!(values(&lab), [0, 0, 0]);
    for _ in 0..5 {
        pass(&mut lab, MARK_TURN_MS);
    }
    assert_eq!(written(&lab, &[0, 1, 2]), [before[0], before[1] + 1, before[2]]);
}

#[test]
fn when_the_author_is_away_one_of_the_others_ends_its_refs() {
    let mut lab = lab(3);
    set(&mut lab, 0, "{}");
    lab.parted = vec![(0, 1), (0, 2)];
    lab.machines[0].stop();
    let before = written(&lab, &[1, 2]);
    pass(&mut lab, LASTS_MS);
    assert_eq!(lab.values(1, "lab/x").len(), 1);
    pass(&mut lab, MARK_TURN_MS);
    assert_eq!((lab.values(1, "lab/x").len(), lab.values(2, "lab/x").len()), (0, 0));
    pass(&mut lab, MARK_TURN_MS);
    let after = written(&lab, &[1, 2]);
    assert_eq!(after.iter().sum::<u64>(), before.iter().sum::<u64>() + 1);

    lab.parted.clear();
    lab.machines[0].start();
    lab.connect_all();
    assert_eq!(lab.values(0, "lab/x").len(), 0);
}

#[test]
fn marks_that_two_write_at_once_are_as_good_as_one() {
    let mut lab = lab(2);
    set(&mut lab, 0, "{}");
    lab.parted = vec![(0, 1)];
    pass(&mut lab, LASTS_MS);
    pass(&mut lab, MARK_TURN_MS);
    assert_eq!(values(&lab), [0, 0]);
    lab.parted.clear();
    lab.connect_all();
    set(&mut lab, 1, "{\"again\":1}");
    assert_eq!(values(&lab), [1, 1]);
}

#[test]
fn a_use_that_the_one_who_ends_it_has_not_heard_of_outlives_the_mark() {
    let mut lab = lab(2);
    set(&mut lab, 0, "{}");
    pass(&mut lab, LASTS_MS - 2_000);
    lab.parted = vec![(0, 1)];
    touch(&mut lab, 1);
    pass(&mut lab, 2_000);
    assert_eq!(values(&lab), [0, 1]);
    lab.parted.clear();
    lab.connect_all();
    assert_eq!(values(&lab), [1, 1]);
    pass(&mut lab, LASTS_MS);
    assert_eq!(values(&lab), [0, 0], "and ends in its own time");
}

#[test]
fn of_a_conflict_only_the_value_ends_whose_time_has_come() {
    let mut lab = lab(2);
    lab.parted = vec![(0, 1)];
    set(&mut lab, 0, "{\"lapses\":1}");
    lab.set(1, "lab/x", "{\"stays\":1}", &[]);
    lab.parted.clear();
    lab.connect_all();
    assert_eq!(values(&lab), [2, 2]);
    pass(&mut lab, LASTS_MS);
    for machine in 0..2 {
        assert_eq!(lab.values(machine, "lab/x"), ["{\"stays\":1}"]);
    }
}

#[test]
fn a_ref_that_is_used_lives_on_and_its_uses_are_coarse() {
    let mut lab = lab(2);
    set(&mut lab, 0, "{}");
    let before = written(&lab, &[0]);
    for _ in 0..100 {
        pass(&mut lab, 600);
        touch(&mut lab, 0);
    }
    assert_eq!(values(&lab), [1, 1]);
    let writes = written(&lab, &[0])[0] - before[0];
    assert!((15..=21).contains(&writes), "{writes} writes for 100 uses in two times its life");
    pass(&mut lab, LASTS_MS);
    assert_eq!(values(&lab), [0, 0]);
    assert_eq!(lab.machines[0].engine().store().snapshot().unwrap().item(&Item::reference("lab/x")).unwrap().values(), []);
}
