//! A put over a copy that is no longer what was stored: afterwards it is.

use super::*;
use crate::fs::HomePath;
use crate::fs::sim::SimDisk;
use crate::fsck::{Depth, Fault};
use crate::hash::Span;
use crate::testing::made_disk;

const LATER_MS: u64 = NOW_MS + 5;

/// Puts what may be held already; what the record is afterwards.
fn put_later(home: &TestHome, bytes: &[u8]) -> (Recorded, BlobRecord) {
    let placed = home.place(bytes).unwrap();
    let recorded = home.write(|txn| txn.record(placed, LATER_MS, GRACE_MS));
    (recorded, record_of(home, &id_of(bytes)).unwrap())
}

fn fault(home: &TestHome, bytes: &[u8]) -> Option<Fault> {
    let (snapshot, id) = (home.snapshot(), id_of(bytes));
    home.store.check_blob(&snapshot, &id, &snapshot.blob(&id).unwrap().unwrap(), Depth::Full).unwrap()
}

fn replace(home: &TestHome, path: &HomePath, bytes: &[u8]) {
    home.store.fs().unlink(path).unwrap();
    home.store.fs().create_new(path).unwrap().write_all_at(bytes, 0).unwrap();
}

#[test]
fn a_put_over_a_file_that_has_rotten_or_gone_makes_it_whole() {
    let (bytes, path) = (bytes_of(1, LARGE), layout::blob_file(&id_of(&bytes_of(1, LARGE))));
    let harms: [&dyn Fn(&TestHome); 3] =
        [&|home| home.disk.flip_bit(&path, 777).unwrap(), &|home| home.store.fs().unlink(&path).unwrap(), &|home| {
            replace(home, &path, &bytes[..100])
        }];
    for harm in harms {
        let home = TestHome::new();
        home.put(&bytes).unwrap();
        let before = record_of(&home, &id_of(&bytes)).unwrap();
        harm(&home);
        let (recorded, after) = put_later(&home, &bytes);
        assert_eq!((recorded, after), (Recorded::Existed, BlobRecord { verified_ms: Some(LATER_MS), ..before }));
        assert_eq!(fault(&home, &bytes), None);
        assert!(home.store.locks().try_lock(id_of(&bytes)).is_some());
        assert!(crate::ingest::leftovers(home.store.fs()).unwrap().is_empty());
    }
}

#[test]
fn a_put_mends_group_values_that_are_not_those_of_the_bytes() {
    let home = TestHome::new();
    let bytes = bytes_of(1, 3 * GROUP_BYTES);
    home.put(&bytes).unwrap();
    home.write(|txn| txn.mend_group_values(&id_of(&bytes), &Outboard { spans: vec![Span { groups: vec![[9; 32]; 3] }] }));
    assert_eq!(fault(&home, &bytes), Some(Fault::BadGroupValues));
    put_later(&home, &bytes);
    assert_eq!(fault(&home, &bytes), None);
}

#[test]
fn a_put_of_small_bytes_that_are_lost_here_harms_nobody_who_has_their_number_now() {
    let home = TestHome::new();
    let (lost, other) = (bytes_of(1, 100), bytes_of(2, 100));
    home.put(&lost).unwrap();
    home.write(|txn| txn.bytes.retain(|_, _| false).map_err(StoreError::from));
    home.put(&other).unwrap();
    assert_eq!(record_of(&home, &id_of(&lost)).unwrap().place, record_of(&home, &id_of(&other)).unwrap().place);
    assert_eq!(fault(&home, &lost), Some(Fault::Rotten));
    let (recorded, record) = put_later(&home, &lost);
    assert_eq!((recorded, record.verified_ms), (Recorded::Existed, Some(LATER_MS)));
    for bytes in [&lost, &other] {
        assert_eq!(fault(&home, bytes), None);
        assert_eq!(home.read(&id_of(bytes)).unwrap().as_ref(), Some(bytes));
    }
}

#[test]
fn small_bytes_that_are_there_are_not_written_again() {
    let home = TestHome::new();
    let bytes = bytes_of(1, 100);
    home.put(&bytes).unwrap();
    let before = record_of(&home, &id_of(&bytes)).unwrap();
    assert_eq!(put_later(&home, &bytes).1, BlobRecord { verified_ms: Some(LATER_MS), ..before });
    assert_eq!(redb::ReadableTableMetadata::len(&home.snapshot().bytes).unwrap(), 1);
}

#[test]
fn a_blob_that_is_deleted_while_it_is_put_over_is_recorded_anew() {
    let home = TestHome::new();
    let bytes = bytes_of(1, LARGE);
    home.put(&bytes).unwrap();
    let placed = home.place(&bytes).unwrap();
    home.delete(&id_of(&bytes)).unwrap();
    assert_eq!(home.store.try_unlink(&[id_of(&bytes)], NOW_MS).unwrap(), [id_of(&bytes)], "its putter has it in hand");
    assert_eq!(home.write(|txn| txn.record(placed, LATER_MS, GRACE_MS)), Recorded::New);
    assert_eq!(home.store.try_unlink(&[id_of(&bytes)], NOW_MS).unwrap(), []);
    assert_eq!(fault(&home, &bytes), None);
}

#[test]
fn whoever_reads_the_old_file_reads_on_while_another_takes_its_place() {
    let home = TestHome::new();
    let bytes = bytes_of(1, LARGE);
    home.put(&bytes).unwrap();
    let snapshot = home.snapshot();
    let open = home.store.open_blob(&snapshot, &id_of(&bytes), &snapshot.blob(&id_of(&bytes)).unwrap().unwrap()).unwrap();
    put_later(&home, &bytes);
    let mut read = vec![0; LARGE];
    assert_eq!(open.read_at(&mut read, 0).unwrap(), LARGE);
    assert_eq!(read, bytes);
}

/// Puts over a copy that is whole and over one that has rotten; true if both were acknowledged.
fn put_over(disk: &SimDisk) -> bool {
    let Ok(home) = TestHome::open(disk) else { return false };
    [1, 2].iter().all(|tag| home.put(&bytes_of(*tag, LARGE)).is_ok())
}

/// A home that holds two blobs, one of which has rotten.
fn two_held(seed: u64) -> SimDisk {
    let disk = made_disk(seed);
    let home = TestHome::open(&disk).unwrap();
    for tag in [1, 2] {
        home.put(&bytes_of(tag, LARGE)).unwrap();
    }
    disk.flip_bit(&layout::blob_file(&id_of(&bytes_of(2, LARGE))), 777).unwrap();
    drop(home);
    disk.restart();
    disk
}

#[test]
fn a_crash_at_any_call_of_a_put_over_a_copy_leaves_the_old_one_or_the_new_one() {
    for seed in 0..4 {
        let calm = two_held(seed);
        let before = calm.calls();
        assert!(put_over(&calm));
        for call in before + 1..=calm.calls() {
            let disk = two_held(seed);
            disk.crash_at(call);
            let is_acknowledged = put_over(&disk);
            disk.restart();
            let home = TestHome::open(&disk).unwrap();
            assert_eq!(fault(&home, &bytes_of(1, LARGE)), None, "seed {seed}, call {call}");
            let rotten = fault(&home, &bytes_of(2, LARGE));
            assert!(
                rotten.is_none() || rotten == Some(Fault::Rotten) && !is_acknowledged,
                "seed {seed}, call {call}: {rotten:?}"
            );
        }
    }
}
