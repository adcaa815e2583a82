//! Transactions are whole or nothing, snapshots stand still, and a start removes what an interrupted ingest left.

use super::*;
use crate::ingest::{Body, leftovers};
use crate::limits::{INDEX_CACHE_BYTES, INLINE_MAX_BYTES};
use crate::testing::{LARGE, TestHome, bytes_of, id_of};

#[test]
fn a_snapshot_does_not_see_what_is_written_after_it() {
    let home = TestHome::new();
    let bytes = bytes_of(1, 10);
    let before = home.snapshot();
    home.put(&bytes).unwrap();
    assert_eq!(before.blob(&id_of(&bytes)).unwrap(), None);
    assert!(home.snapshot().blob(&id_of(&bytes)).unwrap().is_some());
}

#[test]
fn a_start_removes_what_an_interrupted_ingest_left() {
    let home = TestHome::new();
    let bytes = bytes_of(1, LARGE);
    home.put(&bytes).unwrap();
    let interrupted = home.take_in(&bytes_of(2, LARGE)).unwrap();
    let Body::File(file) = interrupted.body() else { panic!("it is large") };
    let folder = file.path().parent().unwrap();
    home.store.fs().sync_folder(&folder).unwrap();
    let home = home.reopened();
    drop(interrupted);
    assert_eq!(leftovers(home.store.fs()).unwrap(), []);
    assert_eq!(home.store.fs().list(&folder).unwrap(), []);
    assert_eq!(home.read(&id_of(&bytes)).unwrap(), Some(bytes));
}

#[test]
fn what_was_acknowledged_survives_and_what_was_not_is_absent() {
    let home = TestHome::new();
    let (kept, lost) = (bytes_of(1, LARGE), bytes_of(2, LARGE));
    home.put(&kept).unwrap();
    drop(home.place(&lost).unwrap());
    let home = home.reopened();
    assert_eq!([home.read(&id_of(&kept)).unwrap(), home.read(&id_of(&lost)).unwrap()], [Some(kept), None]);
}

#[test]
fn a_failed_disk_is_told_and_the_index_works_again_after_a_restart() {
    let home = TestHome::new();
    let bytes = bytes_of(1, 10);
    home.disk.fail_at(home.disk.calls() + 1);
    assert!(home.put(&bytes).is_err());
    let home = home.reopened();
    home.put(&bytes).unwrap();
    assert_eq!(home.false_records(), []);
}

#[test]
fn an_index_that_met_a_full_disk_can_be_read_and_is_written_again_when_there_is_room() {
    let home = TestHome::new();
    let kept = bytes_of(1, INLINE_MAX_BYTES);
    home.put(&kept).unwrap();
    let before = home.snapshot();
    home.disk.set_capacity(Some(0));
    let refused = (2..=u8::MAX).find(|tag| home.put(&bytes_of(*tag, INLINE_MAX_BYTES)).is_err()).unwrap();
    assert!(home.store.has_met_full());
    assert_eq!(home.read(&id_of(&kept)).unwrap(), Some(kept.clone()), "while it is full");
    assert!(!home.store.has_met_full());
    assert!(home.put(&bytes_of(refused, INLINE_MAX_BYTES)).is_err());
    home.disk.set_capacity(None);
    for tag in refused..=u8::MAX {
        home.put(&bytes_of(tag, INLINE_MAX_BYTES)).unwrap();
    }
    drop(before);
    home.put(&bytes_of(1, LARGE)).unwrap();
    assert_eq!(home.false_records(), []);
    let home = home.reopened();
    for tag in 1..=u8::MAX {
        let bytes = bytes_of(tag, INLINE_MAX_BYTES);
        assert_eq!(home.read(&id_of(&bytes)).unwrap(), Some(bytes));
    }
}

#[test]
fn work_that_only_reads_asks_nothing_of_the_disk() {
    let home = TestHome::new();
    let bytes = bytes_of(1, 10);
    home.put(&bytes).unwrap();
    let before = home.disk.calls();
    let seen = home.store.write(|txn| txn.blob(&id_of(&bytes))).unwrap();
    assert!(seen.is_some());
    assert_eq!(home.disk.calls(), before, "no write, and no sync");
    let fact = seen.unwrap();
    home.write(|txn| txn.put_record(&id_of(&bytes), &fact));
    assert!(home.disk.calls() > before, "the same row again is a write all the same");
}

/// Fills the index with small blobs of `total_bytes`, and tells how often the disk is asked when all are read a second time.
fn calls_of_a_second_read(total_bytes: usize) -> u64 {
    let home = TestHome::new();
    let count = (total_bytes / INLINE_MAX_BYTES) as u64;
    home.write(|txn| {
        (0..count).try_for_each(|n| {
            let bytes = [u8::try_from(n % 256).unwrap(); INLINE_MAX_BYTES];
            txn.bytes.insert(n, bytes.as_slice()).map(drop).map_err(StoreError::from)
        })
    });
    let home = home.reopened();
    let read_all = || {
        let snapshot = home.snapshot();
        let is_right =
            |n: u64| snapshot.bytes.get(n).unwrap().is_some_and(|row| row.value().iter().all(|b| u64::from(*b) == n % 256));
        assert!((0..count).all(is_right));
    };
    read_all();
    let before = home.disk.calls();
    read_all();
    home.disk.calls() - before
}

#[test]
fn an_index_is_kept_in_memory_within_index_cache_bytes_and_read_again_past_it() {
    assert_eq!(calls_of_a_second_read(INDEX_CACHE_BYTES / 4), 0);
    assert!(calls_of_a_second_read(INDEX_CACHE_BYTES + INDEX_CACHE_BYTES / 4) > 0);
}
