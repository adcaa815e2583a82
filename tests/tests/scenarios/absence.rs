//! Who is waited for before something is deleted: everybody but the dead and those who have been silent for very long.

use keepwell_node::engine::{Collect, Input, Reply, RequestId};
use keepwell_node::limits::{ABSENT_AFTER_MS, MAX_TICK_GAP_MS, SILENCE_NOTED_EVERY_MS};
use keepwell_protocol::gc::Missing;

use super::lab::Lab;

const REQUEST: RequestId = RequestId(9);

/// What stands in the way of a collection on machine 0, and how much it purged.
fn collect(lab: &mut Lab) -> (Vec<Missing>, usize) {
    let how = Collect { grace_ms: Some(0), limit: 9 };
    let replies = lab.give(0, Input::Collect { request: REQUEST, how });
    let collected = replies.into_iter().find_map(|reply| match reply {
        Reply::Collected(collected) => Some(collected),
        _ => None,
    });
    collected.map(|collected| (collected.missing, collected.purged.len())).unwrap()
}

/// Machine 0 has garbage, and machine 2 is out of reach since machine 0 started.
fn lab_without_the_third() -> Lab {
    let mut lab = Lab::new(3);
    lab.put(0, b"garbage", &[]);
    lab.settle();
    lab.parted = vec![(0, 2), (1, 2)];
    for machine in [0, 1] {
        lab.machines[machine].start();
    }
    lab.connect_all();
    lab
}

fn declare(lab: &mut Lab, machine: usize, is_dead: bool) -> Reply {
    let node = lab.machines[2].id();
    lab.give(machine, Input::Declare { request: REQUEST, node, is_dead }).pop().unwrap()
}

#[test]
fn nobody_waits_for_the_dead_until_they_are_revived() {
    let mut lab = lab_without_the_third();
    let waits = [Missing::Acknowledgement(lab.machines[2].id())];
    assert_eq!(collect(&mut lab), (waits.to_vec(), 0));
    assert!(matches!(declare(&mut lab, 1, true), Reply::MayNotAdmit(_)), "machine 1 is no admin's");
    assert_eq!(collect(&mut lab), (waits.to_vec(), 0));
    for is_dead in [true, false, true] {
        assert!(matches!(declare(&mut lab, 0, is_dead), Reply::Declared));
        lab.settle();
        let (missing, purged) = collect(&mut lab);
        assert_eq!((missing.is_empty(), purged > 0), (is_dead, is_dead));
        lab.put(0, b"more garbage", &[]);
    }
}

#[test]
fn who_is_silent_for_absent_after_ms_of_running_time_is_not_waited_for_until_heard() {
    let mut lab = lab_without_the_third();
    let third = lab.machines[2].id();
    let note = |lab: &mut Lab, silent_ms: u64| {
        let store = lab.machines[0].engine().store().clone();
        store.write(|txn| txn.put_silences(&[(third, silent_ms)].into())).unwrap();
        drop(store);
        lab.machines[0].start();
        let peer = lab.machines[1].id();
        lab.give(0, Input::Connected { peer });
        lab.give(1, Input::Connected { peer: lab.machines[0].id() });
        lab.give(0, Input::Tick);
    };
    note(&mut lab, ABSENT_AFTER_MS - 1);
    assert_eq!(collect(&mut lab), (vec![Missing::Acknowledgement(third)], 0));
    lab.now_ms += 1;
    lab.give(0, Input::Tick);
    assert_eq!(collect(&mut lab), (vec![], 1));

    // It is heard again: from now on it is waited for.
    lab.put(0, b"more garbage", &[]);
    lab.parted.clear();
    lab.connect_all();
    lab.parted = vec![(0, 2), (1, 2)];
    lab.give(0, Input::Tick);
    assert_eq!(lab.machines[0].engine().store().snapshot().unwrap().silences().unwrap()[&third], 0);
    lab.machines[0].start();
    let peer = lab.machines[1].id();
    lab.give(0, Input::Connected { peer });
    lab.give(1, Input::Connected { peer: lab.machines[0].id() });
    lab.give(0, Input::Tick);
    assert_eq!(collect(&mut lab).1, 0);
}

#[test]
fn a_clock_that_jumps_counts_as_max_tick_gap_ms_and_silence_is_noted_every_silence_noted_every_ms() {
    let mut lab = lab_without_the_third();
    let third = lab.machines[2].id();
    let noted = |lab: &Lab| lab.machines[0].engine().store().snapshot().unwrap().silences().unwrap().get(&third).copied();
    lab.now_ms += 1_000 * ABSENT_AFTER_MS;
    lab.give(0, Input::Tick);
    let before = noted(&lab).unwrap();
    assert!(before < 60_000, "{before}");
    lab.now_ms += MAX_TICK_GAP_MS;
    lab.give(0, Input::Tick);
    assert_eq!(noted(&lab), Some(before), "not yet");
    lab.now_ms += SILENCE_NOTED_EVERY_MS;
    lab.give(0, Input::Tick);
    assert_eq!(noted(&lab), Some(before + 2 * MAX_TICK_GAP_MS));
}
