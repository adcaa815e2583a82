//! The bytes of deleted blobs go, those of a blob that was put again stay, whenever the machine stops.

use super::*;
use crate::blobs::{Place, Recorded};
use crate::fs::sim::SimDisk;
use crate::testing::{GRACE_MS, LARGE, NOW_MS, Outcome, TestHome, bytes_of, id_of, made_disk};

fn a() -> Vec<u8> {
    bytes_of(1, LARGE)
}

fn is_in_trash(home: &TestHome, id: &BlobId) -> bool {
    home.store.fs().metadata(&layout::trash_file(id)).is_ok()
}

fn is_in_place(home: &TestHome, id: &BlobId) -> bool {
    home.store.fs().metadata(&layout::blob_file(id)).is_ok()
}

fn queue(home: &TestHome) -> Vec<(BlobId, UnlinkRow)> {
    home.snapshot().queued_unlinks().unwrap()
}

/// A home that has just deleted `a`.
fn deleted() -> TestHome {
    let home = TestHome::new();
    home.put(&a()).unwrap();
    home.delete(&id_of(&a())).unwrap();
    home
}

#[test]
fn the_bytes_of_a_deleted_blob_move_to_the_trash_and_leave_the_queue() {
    let home = deleted();
    assert!(is_in_place(&home, &id_of(&a())), "the bytes stay until the worker comes");
    assert_eq!(home.store.unlink(&id_of(&a()), NOW_MS).unwrap(), Unlinked::Done);
    assert!(is_in_trash(&home, &id_of(&a())) && !is_in_place(&home, &id_of(&a())));
    assert_eq!(queue(&home), []);
    assert_eq!(home.store.unlink(&id_of(&a()), NOW_MS).unwrap(), Unlinked::NotQueued);
    let home = home.reopened();
    assert!(is_in_trash(&home, &id_of(&a())) && !is_in_place(&home, &id_of(&a())), "durably");
}

#[test]
fn what_was_never_deleted_is_not_unlinked() {
    let home = TestHome::new();
    home.put(&a()).unwrap();
    assert_eq!(home.store.unlink(&id_of(&a()), NOW_MS).unwrap(), Unlinked::NotQueued);
    assert_eq!(home.false_records(), []);
}

#[test]
fn a_blob_put_again_before_the_worker_comes_keeps_its_bytes() {
    let home = deleted();
    let due = queue(&home);
    assert_eq!(home.put(&a()).unwrap(), Recorded::New);
    assert_eq!(queue(&home), []);
    for (id, _) in due {
        assert_eq!(home.store.unlink(&id, NOW_MS).unwrap(), Unlinked::NotQueued);
    }
    assert_eq!(home.read(&id_of(&a())).unwrap(), Some(a()));
}

#[test]
fn a_worker_that_comes_while_a_blob_is_being_put_again_waits_and_leaves_it() {
    let home = deleted();
    let placed = home.place(&a()).unwrap();
    let store = &home.store;
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || store.unlink(&id_of(&a()), NOW_MS).unwrap());
        std::thread::yield_now();
        home.write(|txn| txn.record(placed, NOW_MS, GRACE_MS));
        assert_eq!(worker.join().unwrap(), Unlinked::NotQueued);
    });
    assert_eq!(home.false_records(), []);
}

/// A worker that trusts the queue it read earlier.
fn careless_unlink(home: &TestHome, id: &BlobId) {
    let _guard = home.store.locks().lock(*id);
    home.store.rename_to_trash(id).unwrap();
}

#[test]
fn the_check_catches_a_worker_that_does_not_look_at_its_row_again() {
    let home = deleted();
    let due = queue(&home);
    home.put(&a()).unwrap();
    assert_eq!(home.false_records(), []);
    careless_unlink(&home, &due[0].0);
    assert_eq!(home.false_records(), [id_of(&a())]);
}

#[test]
fn a_failed_move_stays_queued_with_its_reason_and_its_attempts_until_it_succeeds() {
    let home = deleted();
    let id = id_of(&a());
    // Something that is not ours stands where the trash should be.
    drop(home.store.fs().create_new(&layout::trash_folder()).unwrap());
    for attempts in 1..=2 {
        let Unlinked::Failed(reason) = home.store.unlink(&id, NOW_MS).unwrap() else { panic!("it cannot succeed") };
        let row = UnlinkRow { queued_ms: NOW_MS, attempts, last_error: Some(reason) };
        assert_eq!(queue(&home), [(id, row)]);
        assert!(is_in_place(&home, &id));
    }
    home.store.fs().unlink(&layout::trash_folder()).unwrap();
    let home = home.reopened();
    assert_eq!(home.store.unlink(&id, NOW_MS).unwrap(), Unlinked::Done);
    assert_eq!(queue(&home), []);
}

#[test]
fn a_disk_error_at_any_call_of_the_worker_loses_no_row_and_the_next_attempt_ends_it() {
    let mut failed = 0;
    for call in 1.. {
        let home = deleted();
        let id = id_of(&a());
        home.disk.fail_at(home.disk.calls() + call);
        let home = match home.store.unlink(&id, NOW_MS) {
            Ok(Unlinked::Done) => break,
            Ok(Unlinked::Failed(_)) => {
                failed += 1;
                assert_eq!((queue(&home)[0].0, queue(&home)[0].1.attempts), (id, 1), "call {call}");
                home
            }
            Ok(Unlinked::NotQueued) => panic!("call {call}: the row is lost"),
            Err(_) => home.reopened(),
        };
        assert_ne!(home.store.unlink(&id, NOW_MS).unwrap(), Unlinked::Failed(String::new()), "call {call}");
        assert_eq!(queue(&home), [], "call {call}");
        assert!(!is_in_place(&home, &id), "call {call}");
    }
    assert!(failed >= 4, "the trash is made, the file moved, and both folders are synced: {failed}");
}

#[test]
fn a_file_that_is_gone_already_is_out_of_the_way() {
    // As after a crash that kept the half of the move that takes the name away.
    let home = deleted();
    home.store.fs().unlink(&layout::blob_file(&id_of(&a()))).unwrap();
    assert_eq!(home.store.unlink(&id_of(&a()), NOW_MS).unwrap(), Unlinked::Done);
    assert_eq!(queue(&home), []);
}

#[test]
fn a_file_that_is_in_the_trash_from_an_earlier_deletion_is_replaced() {
    let home = deleted();
    let id = id_of(&a());
    for _ in 0..2 {
        assert_eq!(home.store.unlink(&id, NOW_MS).unwrap(), Unlinked::Done);
        assert_eq!(home.put(&a()).unwrap(), Recorded::New);
        assert!(is_in_trash(&home, &id) && is_in_place(&home, &id));
        home.delete(&id).unwrap();
    }
}

/// A home that has just deleted three blobs in files, of which two share a folder in no case.
fn three_deleted() -> (TestHome, Vec<BlobId>) {
    let home = TestHome::new();
    let blobs: Vec<Vec<u8>> = (1..=3).map(|tag| bytes_of(tag, LARGE)).collect();
    for bytes in &blobs {
        home.put(bytes).unwrap();
        home.delete(&id_of(bytes)).unwrap();
    }
    (home, blobs.iter().map(|bytes| id_of(bytes)).collect())
}

#[test]
fn many_go_together_and_one_that_fails_or_is_in_use_holds_up_none() {
    let (home, ids) = three_deleted();
    home.store.fs().create_folder(&layout::trash_folder()).ok();
    home.store.fs().create_folder(&layout::trash_file(&ids[1])).unwrap();
    let guard = home.store.locks().lock(ids[2]);
    assert_eq!(home.store.try_unlink(&ids, NOW_MS).unwrap(), [ids[2]]);
    assert!(is_in_trash(&home, &ids[0]) && is_in_place(&home, &ids[1]) && is_in_place(&home, &ids[2]));
    let mut left: Vec<(BlobId, u32)> = queue(&home).into_iter().map(|(id, row)| (id, row.attempts)).collect();
    left.sort_by_key(|(_, attempts)| *attempts);
    assert_eq!(left, [(ids[2], 0), (ids[1], 1)]);
    drop(guard);
    assert_eq!(home.store.try_unlink(&ids, NOW_MS).unwrap(), []);
    assert_eq!(queue(&home).len(), 1);
}

#[test]
fn many_share_the_syncs_of_the_trash_and_the_note() {
    let (home, ids) = three_deleted();
    let before = home.disk.calls();
    for id in &ids {
        home.store.unlink(id, NOW_MS).unwrap();
    }
    let one_by_one = home.disk.calls() - before;
    let (home, ids) = three_deleted();
    let before = home.disk.calls();
    home.store.try_unlink(&ids, NOW_MS).unwrap();
    let together = home.disk.calls() - before;
    assert!(together * 2 < one_by_one, "{together} of {one_by_one} calls");
}

#[test]
fn a_crash_at_any_call_while_many_go_leaves_each_in_one_place_and_due() {
    let (calm, ids) = three_deleted();
    let before = calm.disk.calls();
    calm.store.try_unlink(&ids, NOW_MS).unwrap();
    let calls = calm.disk.calls() - before;
    for call in 1..=calls {
        let (home, ids) = three_deleted();
        home.disk.crash_at(home.disk.calls() + call);
        assert!(home.store.try_unlink(&ids, NOW_MS).is_err() || call == calls, "call {call}");
        let disk = home.disk.clone();
        drop(home);
        disk.restart();
        let home = TestHome::open(&disk).unwrap();
        assert_eq!(home.store.try_unlink(&ids, NOW_MS).unwrap(), [], "call {call}");
        assert_eq!(queue(&home), [], "call {call}");
        assert!(ids.iter().all(|id| !is_in_place(&home, id)), "call {call}");
        assert_eq!(home.store.strays(&home.snapshot()).unwrap(), [], "call {call}");
    }
}

/// One step of a story. Each may be taken again after a crash that kept it from being acknowledged.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Put(u8),
    Delete(u8),
    Unlink(u8),
}

use Step::{Delete, Put, Unlink};

const STORY: [Step; 10] = [Put(1), Put(2), Delete(1), Unlink(1), Put(1), Delete(1), Put(1), Unlink(1), Delete(2), Unlink(2)];

fn take(home: &TestHome, step: Step) -> Outcome<()> {
    let id = |tag| id_of(&bytes_of(tag, LARGE));
    match step {
        Put(tag) => home.put(&bytes_of(tag, LARGE)).map(|_| ()),
        Delete(tag) => home.delete(&id(tag)).map(|_| ()),
        Unlink(tag) => match home.store.unlink(&id(tag), NOW_MS)? {
            Unlinked::Failed(reason) => Err(reason.into()),
            Unlinked::Done | Unlinked::NotQueued => Ok(()),
        },
    }
}

/// The blobs that are held after these steps.
fn held(steps: &[Step]) -> Vec<u8> {
    let last = |tag: u8| steps.iter().rev().find(|step| matches!(step, Put(t) | Delete(t) if *t == tag));
    [1, 2].into_iter().filter(|tag| last(*tag) == Some(&Put(*tag))).collect()
}

/// Opens the home, checks what it finds, and takes the steps from `from` on; how many have been acknowledged.
fn play(disk: &SimDisk, from: usize, told: &str) -> usize {
    let home = match TestHome::open(disk) {
        Ok(home) => home,
        Err(_) if disk.is_crashed() => return from,
        Err(error) => panic!("{told}: {error}"),
    };
    if check(&home, from, told).is_err() {
        assert!(disk.is_crashed(), "{told}");
        return from;
    }
    let taken = STORY[from..].iter().take_while(|step| take(&home, **step).is_ok()).count();
    from + taken
}

/// What is recorded has its bytes, and what was acknowledged is recorded.
fn check(home: &TestHome, acknowledged: usize, told: &str) -> Outcome<()> {
    let mut recorded = Vec::new();
    for tag in [1, 2] {
        let bytes = bytes_of(tag, LARGE);
        match home.read(&id_of(&bytes)) {
            Ok(None) => {}
            Ok(Some(found)) if found == bytes => recorded.push(tag),
            Err(_) if home.disk.is_crashed() => return Err("the machine is down".into()),
            other => panic!("{told}: {:?}", other.map(|bytes| bytes.map(|bytes| bytes.len()))),
        }
    }
    let possible = [held(&STORY[..acknowledged]), held(&STORY[..(acknowledged + 1).min(STORY.len())])];
    assert!(possible.contains(&recorded), "{told}: {recorded:?} after {acknowledged} steps");
    Ok(())
}

/// After the story nothing is due, and every file among the blobs is accounted for.
fn check_the_end(disk: &SimDisk, told: &str) {
    let home = TestHome::open(disk).unwrap();
    check(&home, STORY.len(), told).unwrap();
    assert_eq!((home.false_records(), queue(&home)), (vec![], vec![]), "{told}");
    let snapshot = home.snapshot();
    assert_eq!(home.store.strays(&snapshot).unwrap(), [], "{told}");
    assert_eq!(snapshot.blob(&id_of(&a())).unwrap().map(|record| record.place), Some(Place::File));
}

#[test]
fn a_recorded_blob_has_its_bytes_after_a_crash_at_any_call_of_its_deletions_and_returns() {
    let made = made_disk(0);
    let calm = made.fork(0);
    assert_eq!(play(&calm, 0, "calm"), STORY.len());
    assert!(calm.calls() > made.calls() + 100, "the story has many calls");
    for call in made.calls() + 1..=calm.calls() {
        let told = format!("call {call}");
        let disk = made.fork(call);
        disk.crash_at(call);
        let acknowledged = play(&disk, 0, &told);
        disk.restart();
        // A second crash, while the story goes on.
        disk.crash_at(disk.calls() + 1 + call * 7 % 90);
        let acknowledged = play(&disk, acknowledged, &told);
        disk.restart();
        assert_eq!(play(&disk, acknowledged, &told), STORY.len(), "{told}");
        disk.restart();
        check_the_end(&disk, &told);
    }
}
