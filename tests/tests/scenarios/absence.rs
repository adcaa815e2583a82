//! Who is waited for before something is deleted: everybody but the dead and those who have been silent for very long.

use keepwell_node::engine::{Collect, Input, Reply, RequestId};
use keepwell_node::limits::{ABSENT_AFTER_MS, ABSENT_AFTER_START_MS, MAX_TICK_GAP_MS, SILENCE_NOTED_EVERY_MS};
use keepwell_protocol::gc::Missing;
use keepwell_protocol::gc::question::Why;

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
    // The second time it was silent for as long before as it takes, and waits for the rest of the time after the start alone.
    for (noted_ms, left_ms) in
        [(ABSENT_AFTER_MS - ABSENT_AFTER_START_MS - 7, ABSENT_AFTER_START_MS + 7), (ABSENT_AFTER_MS, ABSENT_AFTER_START_MS)]
    {
        note(&mut lab, noted_ms);
        lab.run(0, left_ms - 1);
        assert_eq!(collect(&mut lab), (vec![Missing::Acknowledgement(third)], 0));
        lab.run(0, 1);
        assert_eq!(collect(&mut lab), (vec![], 1));
        lab.put(0, b"garbage again", &[]);
    }

    // It is heard again: from now on it is waited for.
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

#[test]
fn a_disk_of_when_the_others_were_out_of_reach_deletes_nothing_before_they_could_be_heard() {
    let mut lab = Lab::new(2);
    let blob = lab.put(0, b"data", &[]).sha1;
    lab.settle();
    let other = lab.machines[1].id();
    // Machine 0 was alone for a week, a backup was made then, and it has named the blob since.
    lab.machines[0].engine().store().write(|txn| txn.put_silences(&[(other, ABSENT_AFTER_MS)].into())).unwrap();
    let backup = lab.machines[0].disk.fork(5);
    lab.set(0, "lab/data", "{}", &[blob]);
    lab.settle();
    lab.machines[0].disk = backup;
    lab.machines[0].start();
    lab.give(0, Input::Tick);
    let waits = [Missing::Acknowledgement(other), Missing::Leave(Why::JustStarted)];
    let (missing, purged) = collect(&mut lab);
    assert!(purged == 0 && missing.iter().all(|missing| waits.contains(missing)), "{missing:?}");
    lab.connect_all();
    assert_eq!(lab.values(0, "lab/data"), ["{}"]);
    assert!(lab.holds(0, &blob));
}

#[test]
fn who_is_connected_is_waited_for_however_long_it_was_silent() {
    let mut lab = lab_without_the_third();
    let third = lab.machines[2].id();
    lab.machines[0].engine().store().write(|txn| txn.put_silences(&[(third, ABSENT_AFTER_MS)].into())).unwrap();
    lab.machines[0].start();
    let peer = lab.machines[1].id();
    lab.give(0, Input::Connected { peer });
    lab.give(1, Input::Connected { peer: lab.machines[0].id() });
    lab.run(0, 1);
    lab.run(0, ABSENT_AFTER_START_MS);
    // It is connected, and has said nothing yet.
    lab.give(0, Input::Connected { peer: third });
    assert_eq!(collect(&mut lab), (vec![Missing::Acknowledgement(third)], 0));
    lab.give(0, Input::Disconnected { peer: third });
    assert_eq!(collect(&mut lab), (vec![], 1));
}

#[test]
fn a_step_that_fails_begins_no_silence_anew() {
    let mut lab = lab_without_the_third();
    let third = lab.machines[2].id();
    let store = lab.machines[0].engine().store().clone();
    store.write(|txn| txn.put_silences(&[(third, ABSENT_AFTER_MS)].into())).unwrap();
    drop(store);
    lab.machines[0].start();
    lab.connect_all();
    lab.run(0, ABSENT_AFTER_START_MS);
    assert_eq!(collect(&mut lab), (vec![], 1));
    // On a full disk a step fails now and then, and the machine that has gone stays gone.
    lab.put(0, b"garbage again", &[]);
    lab.fail_step(0);
    lab.give(0, Input::Tick);
    lab.settle();
    assert_eq!(collect(&mut lab), (vec![], 1));
}
