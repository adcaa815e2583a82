//! Each fault is told from the others, and what cannot be looked at is not taken for lost.

use super::*;
use crate::limits::GROUP_BYTES;
use crate::testing::{LARGE, NOW_MS, TestHome, bytes_of, id_of};

fn check(home: &TestHome, id: &BlobId, depth: Depth) -> Option<Fault> {
    let snapshot = home.snapshot();
    let record = snapshot.blob(id).unwrap().unwrap();
    home.store.check_blob(&snapshot, id, &record, depth).unwrap()
}

fn held(size: usize) -> (TestHome, BlobId) {
    let home = TestHome::new();
    let bytes = bytes_of(1, size);
    home.put(&bytes).unwrap();
    (home, id_of(&bytes))
}

/// Puts other bytes where the blob's file is.
fn replace_file(home: &TestHome, id: &BlobId, bytes: &[u8]) {
    let (fs, path) = (home.store.fs(), layout::blob_file(id));
    fs.unlink(&path).unwrap();
    fs.create_new(&path).unwrap().write_all_at(bytes, 0).unwrap();
}

#[test]
fn whole_blobs_have_no_fault() {
    for size in [0, 5, LARGE, GROUP_BYTES + 1] {
        let (home, id) = held(size);
        assert_eq!([check(&home, &id, Depth::Quick), check(&home, &id, Depth::Full)], [None, None], "{size}");
    }
}

#[test]
fn a_file_that_is_gone_or_a_folder_is_missing() {
    let (home, id) = held(LARGE);
    home.store.fs().unlink(&layout::blob_file(&id)).unwrap();
    assert!(matches!(check(&home, &id, Depth::Quick), Some(Fault::Missing(_))));
    home.store.fs().create_folder(&layout::blob_file(&id)).unwrap();
    assert!(matches!(check(&home, &id, Depth::Full), Some(Fault::Missing(_))));
}

#[test]
fn small_bytes_that_are_gone_are_missing() {
    let (home, id) = held(5);
    home.write(|txn| txn.bytes.retain(|_, _| false).map_err(StoreError::from));
    assert!(matches!(check(&home, &id, Depth::Quick), Some(Fault::Missing(_))));
}

#[test]
fn a_file_that_cannot_be_looked_at_now_is_not_taken_for_lost() {
    let (home, id) = held(LARGE);
    let before = home.disk.calls();
    assert_eq!(check(&home, &id, Depth::Full), None);
    let mut unreadable = 0;
    for call in 1..=home.disk.calls() - before {
        let (snapshot, record) = (home.snapshot(), home.snapshot().blob(&id).unwrap().unwrap());
        home.disk.fail_at(home.disk.calls() + call);
        match home.store.check_blob(&snapshot, &id, &record, Depth::Full) {
            Ok(Some(Fault::Unreadable { is_disk: true, .. })) => unreadable += 1,
            Ok(None) | Err(_) => {}
            other => panic!("call {call}: {other:?}"),
        }
        assert_eq!(check(&home, &id, Depth::Full), None, "it was only for now");
    }
    assert!(unreadable >= 3, "looked at, opened and read: {unreadable}");
}

#[test]
fn another_length_is_told_without_reading() {
    let (home, id) = held(LARGE);
    replace_file(&home, &id, &bytes_of(1, LARGE - 1));
    assert_eq!(check(&home, &id, Depth::Quick), Some(Fault::WrongSize { found: LARGE as u64 - 1 }));
}

#[test]
fn a_flipped_bit_is_rot_that_only_reading_finds() {
    let (home, id) = held(LARGE);
    home.disk.flip_bit(&layout::blob_file(&id), 12_345).unwrap();
    assert_eq!([check(&home, &id, Depth::Quick), check(&home, &id, Depth::Full)], [None, Some(Fault::Rotten)]);
}

#[test]
fn small_bytes_that_are_not_the_blobs_are_rot() {
    let (home, id) = held(5);
    home.write(|txn| txn.bytes.insert(0, &b"other"[..]).map(drop).map_err(StoreError::from));
    assert_eq!([check(&home, &id, Depth::Quick), check(&home, &id, Depth::Full)], [None, Some(Fault::Rotten)]);
}

#[test]
fn wrong_or_absent_group_values_are_told_from_rot() {
    let (home, id) = held(GROUP_BYTES + 1);
    let put = |values: &[u8]| home.write(|txn| txn.spans.insert((id.as_bytes(), 0), values).map(drop).map_err(StoreError::from));
    put(&[7; 64]);
    assert_eq!([check(&home, &id, Depth::Quick), check(&home, &id, Depth::Full)], [None, Some(Fault::BadGroupValues)]);
    home.write(|txn| txn.spans.remove((id.as_bytes(), 0)).map(drop).map_err(StoreError::from));
    assert_eq!(check(&home, &id, Depth::Full), Some(Fault::BadGroupValues));
    home.disk.flip_bit(&layout::blob_file(&id), 0).unwrap();
    assert_eq!(check(&home, &id, Depth::Full), Some(Fault::Rotten), "the worse fault is told");
}

#[test]
fn a_home_without_strays_has_none() {
    let home = TestHome::new();
    assert_eq!(home.store.strays(&home.snapshot()).unwrap(), [], "nor one without blobs");
    home.put(&bytes_of(1, LARGE)).unwrap();
    home.put(&bytes_of(2, 5)).unwrap();
    assert_eq!(home.store.strays(&home.snapshot()).unwrap(), []);
}

#[test]
fn a_blob_file_without_a_record_is_a_stray_with_a_name() {
    let home = TestHome::new();
    let bytes = bytes_of(1, LARGE);
    drop(home.place(&bytes).unwrap());
    let stray = Stray { path: layout::blob_file(&id_of(&bytes)), named: Some(id_of(&bytes)) };
    assert_eq!(home.store.strays(&home.snapshot()).unwrap(), [stray]);
    home.put(&bytes).unwrap();
    assert_eq!(home.store.strays(&home.snapshot()).unwrap(), [], "the next put adopts it");
}

#[test]
fn a_file_that_somebody_has_in_hand_or_has_recorded_or_moved_since_is_no_stray_any_more() {
    let home = TestHome::new();
    let bytes = bytes_of(1, LARGE);
    let placed = home.place(&bytes).unwrap();
    let stray = home.store.strays(&home.snapshot()).unwrap().pop().unwrap();
    assert!(!home.store.is_still_stray(&stray).unwrap(), "it is being put");
    drop(placed);
    assert!(home.store.is_still_stray(&stray).unwrap());
    home.put(&bytes).unwrap();
    assert!(!home.store.is_still_stray(&stray).unwrap(), "it is recorded");
    home.delete(&id_of(&bytes)).unwrap();
    assert!(!home.store.is_still_stray(&stray).unwrap(), "it is to be moved");
    home.store.unlink(&id_of(&bytes), NOW_MS).unwrap();
    assert!(!home.store.is_still_stray(&stray).unwrap(), "it has gone");
    let in_trash = Stray { path: layout::trash_file(&id_of(&bytes)), named: None };
    assert!(!home.store.is_still_stray(&in_trash).unwrap());
    let notes = layout::trash_folder().join("notes.txt").unwrap();
    home.store.fs().create_new(&notes).unwrap();
    assert!(home.store.is_still_stray(&Stray { path: notes, named: None }).unwrap());
}

#[test]
fn a_file_that_waits_for_the_unlink_worker_is_no_stray() {
    let home = TestHome::new();
    let bytes = bytes_of(1, LARGE);
    home.put(&bytes).unwrap();
    home.delete(&id_of(&bytes)).unwrap();
    assert_eq!(home.store.strays(&home.snapshot()).unwrap(), []);
}

#[test]
fn the_file_of_a_trashed_blob_is_no_stray_in_the_trash_nor_on_its_way_back() {
    let home = TestHome::new();
    let bytes = bytes_of(1, LARGE);
    home.put(&bytes).unwrap();
    home.delete(&id_of(&bytes)).unwrap();
    home.store.unlink(&id_of(&bytes), NOW_MS).unwrap();
    assert_eq!(home.store.strays(&home.snapshot()).unwrap(), []);
    drop(home.store.retrieve(&id_of(&bytes)).unwrap());
    assert!(home.store.fs().metadata(&layout::blob_file(&id_of(&bytes))).is_ok(), "as after a crash before the record");
    assert_eq!(home.store.strays(&home.snapshot()).unwrap(), []);
}

#[test]
fn a_file_in_the_trash_that_was_not_deleted_is_a_stray_and_no_blob() {
    let home = TestHome::new();
    home.put(b"small").unwrap();
    home.delete(&id_of(b"small")).unwrap();
    home.store.fs().create_folders(&[layout::trash_folder()]).unwrap();
    let paths = [layout::trash_file(&id_of(b"small")), layout::trash_file(&id_of(b"other"))];
    for path in &paths {
        drop(home.store.fs().create_new(path).unwrap());
    }
    let mut expected = paths.map(|path| Stray { path, named: None });
    expected.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(home.store.strays(&home.snapshot()).unwrap(), expected);
}

#[test]
fn a_file_of_another_name_or_in_another_place_is_a_stray_without_one() {
    let home = TestHome::new();
    let bytes = bytes_of(1, LARGE);
    home.put(&bytes).unwrap();
    let folder = layout::blob_folder(&id_of(&bytes));
    let misplaced = layout::blobs_folder().join(&id_of(&bytes).to_string()).unwrap();
    let paths = [folder.join("notes.txt").unwrap(), misplaced];
    for path in &paths {
        drop(home.store.fs().create_new(path).unwrap());
    }
    let found = home.store.strays(&home.snapshot()).unwrap();
    let mut expected = paths.map(|path| Stray { path, named: None });
    expected.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(found, expected);
}

#[test]
fn the_file_of_a_blob_that_lives_in_the_index_is_a_stray() {
    let home = TestHome::new();
    home.put(b"small").unwrap();
    let id = id_of(b"small");
    home.store.fs().create_folders(&[layout::blob_folder(&id)]).unwrap();
    drop(home.store.fs().create_new(&layout::blob_file(&id)).unwrap());
    assert_eq!(home.store.strays(&home.snapshot()).unwrap().len(), 1);
}

#[test]
fn a_blob_whose_fault_was_forgotten_can_be_put_again() {
    let (home, id) = held(LARGE);
    home.disk.flip_bit(&layout::blob_file(&id), 0).unwrap();
    home.write(|txn| txn.remove_record(&id));
    home.put(&bytes_of(1, LARGE)).unwrap();
    assert_eq!(check(&home, &id, Depth::Full), None);
    assert_eq!(home.snapshot().blob(&id).unwrap().map(|record| record.added_ms), Some(NOW_MS));
}

fn probe(home: &TestHome, id: &BlobId, pick: u64, since_ms: u64) -> Probe {
    let snapshot = home.snapshot();
    let fact = snapshot.blob(id).unwrap().unwrap().fact(*id);
    home.store.probe(&snapshot, &fact, pick, since_ms).unwrap()
}

#[test]
fn a_copy_is_vouched_for_by_any_group_of_it() {
    for size in [0, 5, LARGE, GROUP_BYTES + 1] {
        let (home, id) = held(size);
        let probes = [0, 1, u64::MAX].map(|pick| probe(&home, &id, pick, NOW_MS));
        assert_eq!(probes, [Probe::Passed; 3], "{size}");
        assert_eq!(probe(&home, &id, 0, NOW_MS + 1), Probe::ReadWhole, "{size}, read too long ago");
    }
}

#[test]
fn a_probe_finds_what_has_rotten_where_it_looks_and_a_whole_read_finds_it_anywhere() {
    let mut bytes = bytes_of(1, 2 * GROUP_BYTES);
    let home = TestHome::new();
    home.put(&bytes).unwrap();
    let id = id_of(&bytes);
    bytes[GROUP_BYTES] ^= 1;
    replace_file(&home, &id, &bytes);
    assert_eq!([0, 1].map(|pick| probe(&home, &id, pick, 0)), [Probe::Passed, Probe::Failed]);
    assert_eq!(probe(&home, &id, 0, NOW_MS + 1), Probe::Failed);
    replace_file(&home, &id, &bytes[..GROUP_BYTES]);
    assert_eq!(probe(&home, &id, 0, 0), Probe::Failed, "its length is wrong");
    home.store.fs().unlink(&layout::blob_file(&id)).unwrap();
    assert_eq!(probe(&home, &id, 0, 0), Probe::Failed, "it is gone");
}

#[test]
fn what_is_not_held_as_asked_is_not_vouched_for() {
    let (home, id) = held(5);
    let fact = home.snapshot().blob(&id).unwrap().unwrap().fact(id);
    let other = BlobFact { size_bytes: 6, ..fact };
    assert_eq!(home.store.probe(&home.snapshot(), &other, 0, 0).unwrap(), Probe::Failed);
    home.delete(&id).unwrap();
    assert_eq!(home.store.probe(&home.snapshot(), &fact, 0, 0).unwrap(), Probe::Failed);
}

#[test]
fn a_file_is_compared_with_the_blob_that_it_is_named_for_where_it_lies() {
    let home = TestHome::new();
    let bytes = bytes_of(1, LARGE);
    home.put(&bytes).unwrap();
    let path = layout::blob_file(&id_of(&bytes));
    home.disk.set_capacity(Some(0));
    assert!(home.store.is_file_of(&id_of(&bytes), &path), "that takes no space");
    assert!(!home.store.is_file_of(&id_of(b"other"), &path));
    home.disk.flip_bit(&path, 12_345).unwrap();
    assert!(!home.store.is_file_of(&id_of(&bytes), &path));
    assert!(!home.store.is_file_of(&id_of(&bytes), &layout::blob_file(&id_of(b"other"))), "there is none");
}
