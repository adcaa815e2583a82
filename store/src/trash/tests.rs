//! What is deleted can be brought back until the trash is emptied, and is gone then, whenever the machine stops.

use keepwell_protocol::gc::permit::Permit;

use super::*;
use crate::fs::sim::SimDisk;
use crate::testing::{GRACE_MS, LARGE, NOW_MS, Outcome, TestHome, bytes_of, id_of, made_disk};
use crate::unlink::Unlinked;

fn small() -> Vec<u8> {
    bytes_of(1, 100)
}

fn large() -> Vec<u8> {
    bytes_of(2, LARGE)
}

fn delete(home: &TestHome, bytes: &[u8]) {
    home.put(bytes).unwrap();
    home.delete(&id_of(bytes)).unwrap();
}

fn purge(home: &TestHome, bytes: &[u8]) {
    home.put(bytes).unwrap();
    let permit = Permit::mint_for_test(id_of(bytes), Ground::Purge);
    home.write(|txn| txn.delete(permit, NOW_MS)).unwrap();
}

fn restore(home: &TestHome, id: &BlobId) -> Result<bool, StoreError> {
    let Some(retrieved) = home.store.retrieve(id)? else { return Ok(false) };
    home.store.write(|txn| txn.restore(retrieved, GRACE_MS))
}

/// Whatever of a blob there still is.
fn remains(home: &TestHome, bytes: &[u8]) -> Vec<&'static str> {
    let (id, snapshot) = (id_of(bytes), home.snapshot());
    let exists = |path| home.store.fs().metadata(&path).is_ok();
    let all = [
        ("a row", snapshot.trashed(&id).unwrap().is_some()),
        ("an age", snapshot.trash_until(u64::MAX, 99).unwrap().contains(&id)),
        ("small bytes", snapshot.bytes.iter().unwrap().any(|row| row.unwrap().1.value() == bytes)),
        ("group values", snapshot.span(&id, 0).unwrap().is_some()),
        ("a file", exists(layout::blob_file(&id))),
        ("a file in the trash", exists(layout::trash_file(&id))),
        ("a queued removal", snapshot.queued_unlinks().unwrap().iter().any(|(queued, _)| *queued == id)),
    ];
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(what, _)| what).collect()
}

#[test]
fn a_deleted_blob_is_not_held_and_can_be_brought_back() {
    for bytes in [small(), large()] {
        for is_moved in [false, true] {
            let home = TestHome::new();
            delete(&home, &bytes);
            let id = id_of(&bytes);
            assert_eq!(home.read(&id).unwrap(), None);
            assert_eq!(home.snapshot().trashed(&id).unwrap().unwrap().deleted_ms, NOW_MS);
            assert_eq!(home.snapshot().trash_size().unwrap(), (1, bytes.len() as u64));
            if is_moved {
                home.store.unlink(&id, NOW_MS).unwrap();
            }
            assert!(restore(&home, &id).unwrap());
            assert_eq!(home.read(&id).unwrap(), Some(bytes.clone()));
            assert_eq!(home.snapshot().trash_size().unwrap(), (0, 0));
            assert_eq!(home.store.unlink(&id, NOW_MS).unwrap(), Unlinked::NotQueued, "it is not removed after all");
            assert!(!restore(&home, &id).unwrap(), "there is nothing more to bring back");
        }
    }
}

#[test]
fn an_emptied_trash_leaves_nothing() {
    for bytes in [small(), large()] {
        for is_moved in [false, true] {
            let home = TestHome::new();
            delete(&home, &bytes);
            if is_moved {
                home.store.unlink(&id_of(&bytes), NOW_MS).unwrap();
            }
            assert_eq!(home.store.empty_trash(NOW_MS - 1, 10).unwrap(), Emptied::default(), "it is too young");
            let emptied = Emptied { blobs: 1, bytes: bytes.len() as u64, failed: 0 };
            assert_eq!(home.store.empty_trash(NOW_MS, 10).unwrap(), emptied);
            assert_eq!(remains(&home, &bytes), Vec::<&str>::new());
            assert!(!restore(&home, &id_of(&bytes)).unwrap());
        }
    }
}

#[test]
fn a_blob_that_is_put_again_outlives_what_lies_of_it_in_the_trash() {
    for bytes in [small(), large()] {
        let home = TestHome::new();
        delete(&home, &bytes);
        home.store.unlink(&id_of(&bytes), NOW_MS).unwrap();
        home.put(&bytes).unwrap();
        assert!(!restore(&home, &id_of(&bytes)).unwrap(), "it is held");
        home.store.empty_trash(NOW_MS, 10).unwrap();
        assert_eq!(home.read(&id_of(&bytes)).unwrap(), Some(bytes.clone()));
        assert_eq!(home.false_records(), []);
        home.delete(&id_of(&bytes)).unwrap();
        home.store.empty_trash(NOW_MS, 10).unwrap();
        assert_eq!(remains(&home, &bytes), Vec::<&str>::new());
    }
}

#[test]
fn a_blob_that_is_deleted_twice_lies_in_the_trash_once() {
    for bytes in [small(), large()] {
        let home = TestHome::new();
        delete(&home, &bytes);
        delete(&home, &bytes);
        assert_eq!(home.snapshot().trash_size().unwrap().0, 1);
        home.store.empty_trash(NOW_MS, 10).unwrap();
        assert_eq!(remains(&home, &bytes), Vec::<&str>::new());
    }
}

#[test]
fn what_cannot_be_removed_stays_with_the_reason_and_is_removed_later() {
    let home = TestHome::new();
    delete(&home, &large());
    home.store.unlink(&id_of(&large()), NOW_MS).unwrap();
    home.disk.fail_at(home.disk.calls() + 1);
    assert_eq!(home.store.empty_trash(NOW_MS, 10).unwrap().failed, 1);
    let trashed = home.snapshot().trashed(&id_of(&large())).unwrap().unwrap();
    assert_eq!((trashed.attempts, trashed.last_error.is_some()), (1, true));
    assert_eq!(home.store.empty_trash(NOW_MS, 10).unwrap().blobs, 1);
    assert_eq!(remains(&home, &large()), Vec::<&str>::new());
}

#[test]
fn at_most_as_many_as_asked_for_are_removed_at_once() {
    let home = TestHome::new();
    for tag in 0..5 {
        delete(&home, &bytes_of(tag, 50));
    }
    let emptied: Vec<u64> = (0..3).map(|_| home.store.empty_trash(NOW_MS, 2).unwrap().blobs).collect();
    assert_eq!(emptied, [2, 2, 1]);
}

#[test]
fn no_more_is_removed_than_frees_enough() {
    let home = TestHome::new();
    for tag in 0..5 {
        delete(&home, &bytes_of(tag, 50));
    }
    let emptied: Vec<u64> = [0, 1, 51, 500].map(|enough| home.store.empty_some_trash(NOW_MS, 9, enough).unwrap().blobs).into();
    assert_eq!(emptied, [0, 1, 2, 2]);
}

/// The count and what a walk finds.
fn assert_counted(home: &TestHome, told: &str) {
    let snapshot = home.snapshot();
    assert_eq!(snapshot.count(Count::TrashBytes).unwrap(), snapshot.trash_size().unwrap().1, "{told}");
}

#[test]
fn its_bytes_are_counted_and_a_rebuild_counts_what_was_not() {
    let home = TestHome::new();
    delete(&home, &small());
    delete(&home, &large());
    delete(&home, &large());
    assert_counted(&home, "deleted, one of them twice");
    let kept = home.snapshot().derived_digests().unwrap();
    home.write(|txn| txn.put_count(Count::TrashBytes, 7));
    assert_ne!(home.snapshot().derived_digests().unwrap(), kept);
    home.write(|txn| txn.recount_trash());
    assert_eq!(home.snapshot().derived_digests().unwrap(), kept);
    assert!(restore(&home, &id_of(&small())).unwrap());
    assert_counted(&home, "brought back");
    home.write(|txn| txn.put_count(Count::TrashBytes, 1));
    home.store.empty_trash(NOW_MS, 9).unwrap();
    assert_counted(&home, "more goes than an older build has counted");
}

#[test]
fn what_was_brought_back_leaves_no_second_name_in_the_trash_after_a_crash() {
    for seed in 0..40 {
        let home = TestHome::open(&made_disk(seed)).unwrap();
        delete(&home, &large());
        home.store.unlink(&id_of(&large()), NOW_MS).unwrap();
        assert!(restore(&home, &id_of(&large())).unwrap());
        let home = home.reopened();
        assert_eq!(home.read(&id_of(&large())).unwrap(), Some(large()), "seed {seed}");
        assert_eq!(home.store.strays(&home.snapshot()).unwrap(), [], "seed {seed}");
    }
}

/// One step of a story. Each may be taken again after a crash that kept it from being acknowledged.
#[derive(Debug, Clone, Copy)]
enum Step {
    Put,
    Delete,
    Unlink,
    Restore,
    Empty,
}

use Step::{Delete, Empty, Put, Restore, Unlink};

const STORY: [Step; 11] = [Put, Delete, Restore, Delete, Unlink, Restore, Delete, Unlink, Put, Delete, Empty];
/// Whether the blob is held after so many steps.
const HELD: [bool; 12] = [false, true, false, true, false, false, true, false, false, true, false, false];

fn take(home: &TestHome, step: Step, bytes: &[u8]) -> Outcome<()> {
    let id = id_of(bytes);
    match step {
        Put => home.put(bytes).map(|_| ()),
        Delete => home.delete(&id).map(|_| ()),
        Restore => restore(home, &id).map(|_| ()).map_err(Into::into),
        Unlink => match home.store.unlink(&id, NOW_MS)? {
            Unlinked::Failed(reason) => Err(reason.into()),
            Unlinked::Done | Unlinked::NotQueued => Ok(()),
        },
        Empty => match home.store.empty_trash(NOW_MS, 10)? {
            Emptied { failed: 0, .. } => Ok(()),
            _ => Err("something could not be removed".into()),
        },
    }
}

/// Opens the home, checks what it finds, and takes the steps from `from` on; how many have been acknowledged.
fn play(disk: &SimDisk, from: usize, bytes: &[u8], told: &str) -> usize {
    let home = match TestHome::open(disk) {
        Ok(home) => home,
        Err(_) if disk.is_crashed() => return from,
        Err(error) => panic!("{told}: {error}"),
    };
    match home.read(&id_of(bytes)) {
        Ok(found) => {
            assert_counted(&home, told);
            let is_held = found.is_some();
            assert!(found.is_none_or(|found| found == bytes), "{told}: other bytes");
            let possible = [HELD[from], HELD[(from + 1).min(STORY.len())]];
            assert!(possible.contains(&is_held), "{told}: held is {is_held} after {from} steps");
        }
        Err(_) if disk.is_crashed() => return from,
        Err(error) => panic!("{told}: {error}"),
    }
    from + STORY[from..].iter().take_while(|step| take(&home, **step, bytes).is_ok()).count()
}

#[test]
fn a_crash_at_any_call_of_deleting_restoring_and_emptying_loses_nothing_and_leaves_nothing() {
    for bytes in [small(), large()] {
        let made = made_disk(0);
        let calm = made.fork(0);
        assert_eq!(play(&calm, 0, &bytes, "calm"), STORY.len());
        for call in made.calls() + 1..=calm.calls() {
            let told = format!("{} bytes, call {call}", bytes.len());
            let disk = made.fork(call);
            disk.crash_at(call);
            let acknowledged = play(&disk, 0, &bytes, &told);
            disk.restart();
            disk.crash_at(disk.calls() + 1 + call * 7 % 60);
            let acknowledged = play(&disk, acknowledged, &bytes, &told);
            disk.restart();
            assert_eq!(play(&disk, acknowledged, &bytes, &told), STORY.len(), "{told}");
            let home = TestHome::open(&disk).unwrap();
            assert_counted(&home, &told);
            assert_eq!(remains(&home, &bytes), Vec::<&str>::new(), "{told}");
            assert_eq!(home.store.strays(&home.snapshot()).unwrap(), [], "{told}");
        }
    }
}

#[test]
fn what_was_purged_is_told_from_what_was_given_up_and_from_what_is_held_again() {
    let home = TestHome::new();
    purge(&home, &small());
    delete(&home, &large());
    let was_purged = |bytes: &[u8]| home.snapshot().was_purged(&id_of(bytes)).unwrap();
    assert_eq!((was_purged(&small()), was_purged(&large()), was_purged(b"other")), (true, false, false));
    home.put(&small()).unwrap();
    assert!(!was_purged(&small()), "it is held, whatever lies in the trash");
}

#[test]
fn the_trash_is_walked_in_portions() {
    let home = TestHome::new();
    let mut all: Vec<BlobId> =
        (0..5).map(|tag| bytes_of(tag, 100)).map(|bytes| (delete(&home, &bytes), id_of(&bytes)).1).collect();
    all.sort_unstable();
    let walk = |from: &BlobId, limit| home.snapshot().trash_from(from, limit).unwrap();
    assert_eq!(walk(&BlobId([0; 20]), 3), all[..3]);
    assert_eq!(walk(&all[2], 9), all[2..]);
    assert_eq!(walk(&BlobId([0xff; 20]), 9), []);
}

#[test]
fn whoever_may_not_wait_passes_over_what_somebody_has_in_hand() {
    let home = TestHome::new();
    delete(&home, &large());
    let id = id_of(&large());
    let in_hand = home.store.locks().lock(id);
    assert_eq!(home.store.try_unlink(&[id], NOW_MS).unwrap(), [id]);
    assert!(home.store.try_retrieve(&id).unwrap().is_none());
    assert_eq!(home.store.empty_trash(u64::MAX, 9).unwrap(), Emptied::default());
    drop(in_hand);
    assert_eq!(home.store.try_unlink(&[id], NOW_MS).unwrap(), []);
    assert_eq!(home.store.unlink(&id, NOW_MS).unwrap(), Unlinked::NotQueued);
    let retrieved = home.store.try_retrieve(&id).unwrap().unwrap();
    assert!(home.store.write(|txn| txn.restore(retrieved, GRACE_MS)).unwrap());
    assert_eq!(home.read(&id).unwrap(), Some(large()));
}

#[test]
fn some_of_the_trash_goes_for_good_and_the_rest_stays() {
    let home = TestHome::new();
    delete(&home, &small());
    delete(&home, &large());
    let emptied = home.store.empty_trash_of(&[id_of(&large()), id_of(b"other")]).unwrap();
    assert_eq!(emptied, Emptied { blobs: 1, bytes: LARGE as u64, failed: 0 });
    assert_eq!(remains(&home, &large()), [] as [&str; 0]);
    assert!(restore(&home, &id_of(&small())).unwrap());
}

#[test]
fn what_was_deleted_again_while_the_trash_was_emptied_stays_there() {
    for bytes in [small(), large()] {
        let (home, id) = (TestHome::new(), id_of(&bytes));
        delete(&home, &bytes);
        let old = home.snapshot().trashed(&id).unwrap().unwrap();
        // Its bytes are being removed when it is put and deleted again.
        home.put(&bytes).unwrap();
        home.write(|txn| txn.delete(Permit::mint_for_test(id, Ground::Purge), NOW_MS + 5)).unwrap();
        let new = home.snapshot().trashed(&id).unwrap();
        assert_ne!(new.as_ref(), Some(&old));
        home.store.note_emptied(vec![(id, old.clone(), false)], Vec::new()).unwrap();
        assert_eq!(home.snapshot().trashed(&id).unwrap(), new);
        home.store.note_emptied(Vec::new(), vec![(id, old, "EIO".into())]).unwrap();
        assert_eq!(home.snapshot().trashed(&id).unwrap(), new);
        home.store.unlink(&id, NOW_MS).unwrap();
        assert!(restore(&home, &id).unwrap());
        home.store.note_emptied(vec![(id, new.unwrap(), true)], Vec::new()).unwrap();
        assert_eq!(home.read(&id).unwrap(), Some(bytes));
    }
}
