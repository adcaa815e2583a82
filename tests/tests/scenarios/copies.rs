//! Copies that come about by themselves, one story at a time: who fetches what, in which order, and what is looked at for it.

use std::collections::BTreeMap;

use keepwell_node::engine::{Effect, Input, RefOp, RefSet, RequestId};
use keepwell_node::limits::{
    ABSENT_AFTER_MS, ABSENT_AFTER_START_MS, COPY_BATCH_BLOBS, COPY_BATCH_BYTES, COPY_LOOKS_PER_STEP, COPY_LOOKS_PER_TICK,
    COPY_RETRY_MS, COPY_TRIES, COPY_TURN_MS, MAX_COPY_BATCHES, MAX_COPY_RETRY_MS, MAX_SHORT_BLOBS,
};
use keepwell_protocol::gc::pressure::Room;
use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_protocol::place::rank::before;

use super::lab::{Lab, a_set};

/// Sets a ref that asks for so many copies of what it names.
fn set(lab: &mut Lab, machine: usize, name: &str, links: &[BlobId], copies: u32) {
    let set = RefSet { copies, ..a_set(name, "{}", links) };
    lab.give(machine, Input::WriteRefs { request: RequestId(2), ops: vec![RefOp::Set(set)] });
}

/// What machines would fetch, since this was last asked.
fn brings(lab: &mut Lab) -> Vec<(usize, Vec<BlobId>)> {
    std::mem::take(&mut lab.brings)
}

/// Does what machines would do; whoever can hear a holder gets the bytes.
fn bring_all(lab: &mut Lab) {
    loop {
        let due = brings(lab);
        if due.is_empty() {
            break;
        }
        for (machine, blobs) in due {
            lab.bring(machine, blobs);
        }
    }
}

fn tick(lab: &mut Lab, passed_ms: u64) {
    lab.now_ms += passed_ms;
    for machine in 0..lab.machines.len() {
        lab.give(machine, Input::Tick);
    }
}

fn holders(lab: &Lab, blob: &BlobId) -> Vec<usize> {
    (0..lab.machines.len()).filter(|machine| lab.holds(*machine, blob)).collect()
}

/// The machines but the first, in the order in which they take copies of the blob.
fn in_turn(lab: &Lab, blob: &BlobId) -> Vec<usize> {
    let storage = |machine: usize| lab.machines[machine].engine().home().storage;
    let mut order: Vec<usize> = (1..lab.machines.len()).collect();
    order.sort_by(|a, b| before(&storage(*b), &storage(*a), blob).cmp(&before(&storage(*a), &storage(*b), blob)));
    order
}

#[test]
fn as_many_machines_as_are_wanted_fetch_all_that_a_ref_reaches() {
    let mut lab = Lab::new(5);
    let leaf = lab.put(0, b"leaf", &[]);
    let parent = lab.put(0, &[7; 40_000], &[leaf.sha1]);
    let other = lab.put(0, b"other", &[]);
    set(&mut lab, 0, "lab/one", &[other.sha1], 1);
    set(&mut lab, 0, "lab/three", &[parent.sha1], 3);
    bring_all(&mut lab);
    tick(&mut lab, 1_000);
    bring_all(&mut lab);
    for blob in [&parent, &leaf] {
        let first: Vec<usize> = in_turn(&lab, &blob.sha1).into_iter().take(2).collect();
        let mut expected = [vec![0], first].concat();
        expected.sort_unstable();
        assert_eq!(holders(&lab, &blob.sha1), expected);
    }
    assert_eq!(holders(&lab, &other.sha1), [0], "one copy is what it asks for");
    // It has come to rest.
    for _ in 0..5 {
        tick(&mut lab, COPY_TURN_MS);
        assert_eq!(brings(&mut lab), []);
    }
    // More are wanted of what is there already.
    set(&mut lab, 0, "lab/three", &[parent.sha1], 4);
    tick(&mut lab, 1_000);
    bring_all(&mut lab);
    assert_eq!((holders(&lab, &parent.sha1).len(), holders(&lab, &leaf.sha1).len()), (4, 4));
}

#[test]
fn who_is_next_fetches_when_the_first_does_not() {
    let mut lab = Lab::new(4);
    let blob = lab.put(0, b"data", &[]).sha1;
    set(&mut lab, 0, "lab/two", &[blob], 2);
    let order = in_turn(&lab, &blob);
    tick(&mut lab, 1);
    assert_eq!(brings(&mut lab), [(order[0], vec![blob])], "the others wait for it");
    tick(&mut lab, COPY_TURN_MS - 2);
    assert_eq!(brings(&mut lab), []);
    tick(&mut lab, 2);
    assert_eq!(brings(&mut lab), [(order[1], vec![blob])]);
    tick(&mut lab, COPY_TURN_MS);
    assert_eq!(brings(&mut lab), [(order[2], vec![blob])]);
    // One of them has it; those who come late find that it is enough, and bring nothing.
    lab.bring(order[1], vec![blob]);
    tick(&mut lab, 1);
    for machine in [order[0], order[2]] {
        lab.give(machine, Input::Brought { blobs: vec![blob] });
    }
    tick(&mut lab, MAX_COPY_RETRY_MS);
    assert_eq!(brings(&mut lab), []);
}

#[test]
fn who_is_out_of_reach_is_not_waited_for() {
    let mut lab = Lab::new(3);
    let blob = lab.put(0, b"data", &[]).sha1;
    let order = in_turn(&lab, &blob);
    let (gone, here) = (lab.machines[order[0]].id(), order[1]);
    lab.give(here, Input::Disconnected { peer: gone });
    lab.parted = vec![(0, order[0]), (here, order[0])];
    set(&mut lab, 0, "lab/two", &[blob], 2);
    tick(&mut lab, 1);
    let brought: Vec<usize> = brings(&mut lab).into_iter().map(|(machine, _)| machine).collect();
    assert_eq!(brought, [here]);
}

#[test]
fn who_is_short_of_space_takes_no_copies_and_the_next_one_does() {
    let mut lab = Lab::new(3);
    let blob = lab.put(0, b"data", &[]).sha1;
    let order = in_turn(&lab, &blob);
    lab.give(order[0], Input::Room(Room { total_bytes: 100, used_bytes: 99 }));
    set(&mut lab, 0, "lab/two", &[blob], 2);
    tick(&mut lab, 1);
    assert_eq!(brings(&mut lab), []);
    tick(&mut lab, COPY_TURN_MS);
    assert_eq!(brings(&mut lab), [(order[1], vec![blob])]);
    lab.give(order[0], Input::Room(Room { total_bytes: 100, used_bytes: 1 }));
    tick(&mut lab, 1);
    assert_eq!(brings(&mut lab), [(order[0], vec![blob])], "the other one has not come to hold it");
}

#[test]
fn a_copy_that_is_given_up_or_lost_with_its_machine_is_made_anew_elsewhere() {
    let mut lab = Lab::new(4);
    let blob = lab.put(0, b"data", &[]).sha1;
    set(&mut lab, 0, "lab/two", &[blob], 2);
    tick(&mut lab, 1_000);
    bring_all(&mut lab);
    let order = in_turn(&lab, &blob);
    assert!(lab.holds(order[0], &blob));
    // The bytes are found to be rotten, say: the record goes, and the log says so.
    lab.forget(order[0], blob);
    tick(&mut lab, 1_000);
    bring_all(&mut lab);
    assert_eq!(holders(&lab, &blob).len(), 2);
    // Its machine dies.
    let dead = lab.machines[order[0]].id();
    lab.give(0, Input::Declare { request: RequestId(4), node: dead, is_dead: true });
    tick(&mut lab, 1_000);
    tick(&mut lab, 1_000);
    bring_all(&mut lab);
    assert!(lab.holds(order[1], &blob), "another one has taken its place");
}

#[test]
fn who_was_silent_for_absent_after_ms_is_not_counted_on() {
    let mut lab = Lab::new(3);
    let blob = lab.put(0, b"data", &[]).sha1;
    set(&mut lab, 0, "lab/two", &[blob], 2);
    tick(&mut lab, 1_000);
    bring_all(&mut lab);
    let order = in_turn(&lab, &blob);
    lab.parted = vec![(0, order[0]), (order[1], order[0])];
    // So it was noted before machine `order[1]` started last.
    let silent = lab.machines[order[0]].id();
    lab.machines[order[1]].engine().store().write(|txn| txn.put_silences(&BTreeMap::from([(silent, ABSENT_AFTER_MS)]))).unwrap();
    lab.machines[order[1]].start();
    let peer = lab.machines[0].id();
    lab.give(order[1], Input::Connected { peer });
    lab.give(order[1], Input::Tick);
    for (ran_ms, expected) in [(ABSENT_AFTER_START_MS - 1, vec![]), (1, vec![(order[1], vec![blob])])] {
        lab.run(order[1], ran_ms);
        assert_eq!(std::mem::take(&mut lab.brings), expected);
    }
}

#[test]
fn what_nobody_gives_is_tried_copy_tries_times_and_again_when_somebody_comes_into_reach() {
    let mut lab = Lab::new(2);
    let blob = lab.put(0, b"data", &[]).sha1;
    set(&mut lab, 0, "lab/two", &[blob], 2);
    tick(&mut lab, 1);
    for tried in 1..=COPY_TRIES {
        assert_eq!(brings(&mut lab), [(1, vec![blob])], "{tried}");
        lab.give(1, Input::Brought { blobs: vec![blob] });
        assert_eq!(brings(&mut lab), [], "not at once");
        let longest_ms = (COPY_RETRY_MS << (tried - 1)).min(MAX_COPY_RETRY_MS);
        tick(&mut lab, longest_ms);
    }
    for _ in 0..10 {
        tick(&mut lab, MAX_COPY_RETRY_MS);
    }
    assert_eq!(brings(&mut lab), []);
    let peer = lab.machines[0].id();
    lab.give(1, Input::Disconnected { peer });
    lab.give(1, Input::Connected { peer });
    tick(&mut lab, 1);
    assert_eq!(brings(&mut lab), [(1, vec![blob])]);
}

#[test]
fn a_batch_has_copy_batch_blobs_and_max_copy_batches_are_under_way() {
    let mut lab = Lab::new(2);
    let ids = lab.put_many(0, COPY_BATCH_BLOBS * MAX_COPY_BATCHES + 1);
    for (at, part) in ids.chunks(100).enumerate() {
        set(&mut lab, 0, &format!("lab/r{at}"), part, 2);
    }
    for _ in 0..ids.len() / COPY_LOOKS_PER_TICK + 1 {
        tick(&mut lab, 1);
    }
    let under_way = brings(&mut lab);
    assert_eq!(under_way.len(), MAX_COPY_BATCHES);
    let asked: usize = under_way.iter().map(|(_, blobs)| blobs.len()).sum();
    assert!(under_way.iter().all(|(machine, blobs)| *machine == 1 && blobs.len() <= COPY_BATCH_BLOBS) && asked < ids.len());
    for (machine, blobs) in under_way {
        lab.bring(machine, blobs);
    }
    for _ in 0..3 {
        tick(&mut lab, 1);
        bring_all(&mut lab);
    }
    assert!(ids.iter().all(|id| lab.holds(1, id)));
}

#[test]
fn a_batch_ends_with_the_blob_that_brings_it_to_copy_batch_bytes() {
    let mut lab = Lab::new(2);
    let half = usize::try_from(COPY_BATCH_BYTES / 2).unwrap();
    let sizes = [half, half - 1, half];
    let ids: Vec<BlobId> = sizes.iter().zip(1..).map(|(size, byte)| lab.put(0, &vec![byte; *size], &[]).sha1).collect();
    lab.parted = vec![(0, 1)];
    set(&mut lab, 0, "lab/large", &ids, 2);
    lab.parted = vec![];
    lab.connect_all();
    let batches: Vec<usize> = brings(&mut lab).into_iter().map(|(_, blobs)| blobs.len()).collect();
    // Whatever the order of their names: two of half the size make a batch, and so do all when one byte is missing after two.
    assert!([vec![2, 1], vec![3]].contains(&batches), "{batches:?}");
}

#[test]
fn a_tick_looks_at_copy_looks_per_tick_another_step_at_copy_looks_per_step_and_what_is_past_it_waits() {
    for past in [0, 1] {
        let mut lab = Lab::new(2);
        let ids = lab.put_many(0, COPY_LOOKS_PER_STEP + past);
        lab.parted = vec![(0, 1)];
        set(&mut lab, 0, "lab/many", &ids, 2);
        lab.parted = vec![];
        // The entry arrives in one step; what that does not look at waits for the next one.
        lab.connect_all();
        let looked = brings(&mut lab).iter().map(|(_, blobs)| blobs.len()).collect::<Vec<_>>();
        assert_eq!(looked.iter().sum::<usize>(), COPY_LOOKS_PER_STEP + past);
        assert_eq!(looked.len(), 1 + past, "{looked:?}");
    }
    let mut lab = Lab::new(2);
    let ids = lab.put_many(0, COPY_LOOKS_PER_TICK + 1);
    for (at, part) in ids.chunks(300).enumerate() {
        set(&mut lab, 0, &format!("lab/r{at}"), part, 2);
    }
    lab.machines[1].start();
    brings(&mut lab);
    let peer = lab.machines[0].id();
    let effects = lab.effects_of(1, Input::Connected { peer });
    let in_step = brought(&effects);
    let in_tick = brought(&lab.effects_of(1, Input::Tick));
    assert_eq!((in_step, in_tick), (COPY_LOOKS_PER_STEP, COPY_LOOKS_PER_TICK + 1 - COPY_LOOKS_PER_STEP));
}

fn brought(effects: &[Effect]) -> usize {
    let batches = effects.iter().map(|effect| if let Effect::Bring(blobs) = effect { blobs.len() } else { 0 });
    batches.sum()
}

#[test]
fn more_than_max_short_blobs_come_in_portions() {
    let mut lab = Lab::new(2);
    let ids = lab.put_many(0, MAX_SHORT_BLOBS + 300);
    for (at, part) in ids.chunks(500).enumerate() {
        set(&mut lab, 0, &format!("lab/r{at}"), part, 2);
    }
    for _ in 0..60 {
        tick(&mut lab, 1);
        bring_all(&mut lab);
    }
    assert!(ids.iter().all(|id| lab.holds(1, id)));
}

#[test]
fn a_machine_that_starts_finds_what_lacks_copies() {
    let mut lab = Lab::new(2);
    let facts: Vec<BlobFact> = (0..3).map(|number: u8| lab.put(0, &[number; 10], &[])).collect();
    let ids: Vec<BlobId> = facts.iter().map(|fact| fact.sha1).collect();
    set(&mut lab, 0, "lab/two", &ids, 2);
    brings(&mut lab);
    lab.machines[1].start();
    lab.connect_all();
    let mut asked = brings(&mut lab).into_iter().flat_map(|(_, blobs)| blobs).collect::<Vec<_>>();
    asked.sort_unstable();
    let mut expected = ids.clone();
    expected.sort_unstable();
    assert_eq!(asked, expected);
}
