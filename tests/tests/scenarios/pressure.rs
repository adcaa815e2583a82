//! Surplus copies on full disks: what others prove goes, what is needed or was wanted lately stays, and nothing is asked for in vain all
//! the time.

use keepwell_node::engine::pressure::Wait;
use keepwell_node::engine::{Input, LeaseOp, RefOp, RequestId, Settings};
use keepwell_node::limits::{SURPLUS_BATCH, SURPLUS_LOOKS, TICK_MS};
use keepwell_protocol::gc::pressure::Room;
use keepwell_protocol::gc::schedule::Keys;
use keepwell_protocol::id::BlobId;
use keepwell_protocol::place::rank::before;
use keepwell_store::layout;

use super::lab::{Lab, a_set};

/// The grace of a put, in milliseconds: it is over when the labs of these plays have been founded.
const GRACE_MS: u64 = 5_000;
/// So full that whatever can go should.
const FULL: Room = Room { total_bytes: 1 << 40, used_bytes: 1 << 40 };

fn lab(machines: u8) -> Lab {
    let mut lab = Lab::new(machines);
    for machine in &mut lab.machines {
        machine.set(Settings { grace_ms: GRACE_MS, schedule: Some(Keys::DEFAULT), ..Settings::default() });
    }
    lab
}

/// Has a ref name all of these, in as many copies.
fn name(lab: &mut Lab, machine: usize, blobs: &[BlobId], copies: u32) {
    for (number, blobs) in blobs.chunks(1_000).enumerate() {
        let mut set = a_set(&format!("lab/all{number}"), "{}", blobs);
        set.copies = copies;
        lab.give(machine, Input::WriteRefs { request: RequestId(2), ops: vec![RefOp::Set(set)] });
    }
    lab.settle();
}

/// So many seconds in which the disks of these machines are full.
fn press(lab: &mut Lab, full: &[usize], seconds: u64) {
    for _ in 0..seconds {
        lab.now_ms += TICK_MS;
        for machine in 0..lab.machines.len() {
            lab.give(machine, Input::Tick);
            if full.contains(&machine) {
                lab.give(machine, Input::Room(FULL));
            }
        }
    }
}

fn held(lab: &Lab, machine: usize, blobs: &[BlobId]) -> usize {
    let snapshot = lab.machines[machine].engine().store().snapshot().unwrap();
    blobs.iter().filter(|blob| snapshot.blob(blob).unwrap().is_some()).count()
}

fn waits(lab: &Lab, machine: usize) -> Vec<Wait> {
    let young = |wait: &Wait| matches!(wait, Wait::YoungTrash { .. });
    lab.machines[machine].engine().pressure().waits.iter().filter(|wait| !young(wait)).copied().collect()
}

#[test]
fn a_full_disk_gives_up_what_another_proves_and_keeps_the_last_copy_of_all() {
    let mut lab = lab(2);
    let blobs = lab.put_many(0, SURPLUS_BATCH + 1);
    lab.put_many(1, SURPLUS_BATCH);
    name(&mut lab, 0, &blobs, 1);
    let mut left = vec![held(&lab, 0, &blobs)];
    for _ in 0..120 {
        press(&mut lab, &[0], 1);
        left.push(held(&lab, 0, &blobs));
    }
    assert_eq!((left.last(), held(&lab, 1, &blobs)), (Some(&1), SURPLUS_BATCH), "one is held here alone");
    assert!(left.windows(2).all(|pair| pair[0] - pair[1] <= SURPLUS_BATCH));
    assert_eq!(waits(&lab, 0), [Wait::Needed]);
    press(&mut lab, &[1], 120);
    assert_eq!((held(&lab, 1, &blobs), waits(&lab, 1)), (SURPLUS_BATCH, vec![Wait::Needed]));
}

#[test]
fn two_full_disks_keep_one_copy_of_each_and_each_begins_with_what_the_other_keeps_rather() {
    let mut lab = lab(2);
    let blobs = lab.put_many(0, 40);
    lab.put_many(1, 40);
    name(&mut lab, 0, &blobs, 1);
    let storages = [0, 1].map(|machine| lab.machines[machine].engine().home().storage);
    press(&mut lab, &[0, 1], 60);
    let kept = [held(&lab, 0, &blobs), held(&lab, 1, &blobs)];
    assert_eq!(kept[0] + kept[1], blobs.len());
    let rather = blobs.iter().filter(|blob| before(&storages[0], &storages[1], blob)).count();
    assert_eq!(kept[0], rather);
}

#[test]
fn what_asks_for_more_copies_a_lease_and_a_grace_keep_their_copies_here() {
    let mut lab = lab(2);
    let (one, other) = (lab.put(0, b"one", &[]), lab.put(0, b"other", &[]));
    lab.put(1, b"one", &[]);
    lab.put(1, b"other", &[]);
    lab.give(0, Input::WriteRefs { request: RequestId(2), ops: vec![RefOp::Set(a_set("lab/b", "{}", &[other.sha1]))] });
    name(&mut lab, 0, &[one.sha1], 2);
    let op = LeaseOp::Add { owner: "ada".parse().unwrap(), ttl_ms: 60_000, is_flat: false, blobs: vec![other.sha1] };
    lab.give(0, Input::Lease { request: RequestId(3), op });
    press(&mut lab, &[0], 50);
    assert_eq!((held(&lab, 0, &[one.sha1, other.sha1]), lab.probes), (2, 0), "nobody is even asked");
    press(&mut lab, &[0], 60);
    assert_eq!(held(&lab, 0, &[other.sha1]), 0, "the lease has ended");
    lab.machines[0].set(Settings { grace_ms: 300_000, schedule: Some(Keys::DEFAULT), ..Settings::default() });
    lab.put(0, b"other", &[]);
    press(&mut lab, &[0], 280);
    assert_eq!(held(&lab, 0, &[other.sha1]), 1, "somebody has just put it");
    press(&mut lab, &[0], 700);
    assert_eq!(held(&lab, 0, &[other.sha1]), 0, "its grace is over");
}

#[test]
fn a_refusal_is_remembered_and_asked_again_ever_more_seldom() {
    let mut lab = lab(2);
    let bytes = vec![7; 40_000];
    let blob = lab.put(0, &bytes, &[]).sha1;
    lab.put(1, &bytes, &[]);
    name(&mut lab, 0, &[blob], 1);
    lab.machines[1].engine().store().fs().unlink(&layout::blob_file(&blob)).unwrap();
    press(&mut lab, &[0], 60);
    assert!(lab.probes > 0 && waits(&lab, 0) == [Wait::Refused { blobs: 1 }], "{:?}", waits(&lab, 0));
    press(&mut lab, &[0], 3_600);
    assert!(lab.probes <= 25, "asked {} times in an hour", lab.probes);
    assert_eq!(held(&lab, 0, &[blob]), 1);
}

#[test]
fn nobody_is_asked_before_all_have_been_heard_and_nothing_goes_when_there_is_space() {
    let mut lab = lab(3);
    let blobs = lab.put_many(0, 3);
    lab.put_many(1, 3);
    name(&mut lab, 0, &blobs, 1);
    for _ in 0..60 {
        lab.now_ms += TICK_MS;
        lab.give(0, Input::Tick);
        lab.give(0, Input::Room(Room { total_bytes: 100, used_bytes: 89 }));
    }
    assert_eq!((held(&lab, 0, &blobs), lab.probes), (3, 0));
    lab.parted = vec![(0, 2)];
    lab.machines[0].start();
    lab.machines[0].set(Settings { grace_ms: GRACE_MS, schedule: Some(Keys::DEFAULT), ..Settings::default() });
    lab.connect_all();
    press(&mut lab, &[0], 60);
    assert_eq!((held(&lab, 0, &blobs), lab.probes, waits(&lab, 0)), (3, 0, vec![Wait::NotHeard]));
    lab.parted.clear();
    lab.connect_all();
    press(&mut lab, &[0], 60);
    assert_eq!((held(&lab, 0, &blobs), held(&lab, 1, &blobs)), (0, 3));
}

#[test]
fn a_look_goes_through_surplus_looks_records_and_the_next_one_goes_on() {
    let mut lab = lab(2);
    let mut blobs = lab.put_many(0, SURPLUS_LOOKS + 1);
    blobs.sort_unstable();
    let last = *blobs.last().unwrap();
    let number = (0..=SURPLUS_LOOKS).find(|number| lab.put(0, &number.to_be_bytes(), &[]).sha1 == last).unwrap();
    lab.put(1, &number.to_be_bytes(), &[]);
    name(&mut lab, 0, &blobs, 1);
    // Before it begins, it waits for a while that is drawn.
    let mut looks = 0;
    while held(&lab, 0, &[last]) == 1 {
        press(&mut lab, &[0], 1);
        looks += u32::from(waits(&lab, 0).is_empty());
        assert!(looks < 10);
    }
    assert!(looks >= 1, "it is beyond the first look");
}
