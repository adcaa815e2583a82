//! Records come, stay and go together with their bytes.

use keepwell_protocol::gc::permit::Ground;

use super::*;
use crate::limits::{GROUP_BYTES, INLINE_MAX_BYTES};
use crate::testing::{GRACE_MS, LARGE, NOW_MS, TestHome, bytes_of, golden, id_of};

fn record_of(home: &TestHome, id: &BlobId) -> Option<BlobRecord> {
    home.snapshot().blob(id).unwrap()
}

#[test]
fn a_blob_is_new_once_and_existed_from_then_on() {
    for size in [0, 1, INLINE_MAX_BYTES, LARGE] {
        let home = TestHome::new();
        let bytes = bytes_of(1, size);
        assert_eq!(home.put(&bytes).unwrap(), Recorded::New, "{size}");
        let record = record_of(&home, &id_of(&bytes)).unwrap();
        assert_eq!((record.size_bytes, record.added_ms, record.verified_ms), (size as u64, NOW_MS, Some(NOW_MS)));
        assert_eq!(home.put(&bytes).unwrap(), Recorded::Existed, "{size}");
        assert_eq!(record_of(&home, &id_of(&bytes)), Some(record), "the first record stays");
        assert_eq!(home.read(&id_of(&bytes)).unwrap(), Some(bytes));
    }
}

#[test]
fn a_blob_lives_in_the_index_up_to_inline_max_bytes_and_in_a_file_past_it() {
    let home = TestHome::new();
    for (size, is_inline) in [(INLINE_MAX_BYTES, true), (INLINE_MAX_BYTES + 1, false)] {
        let bytes = bytes_of(1, size);
        home.put(&bytes).unwrap();
        let id = id_of(&bytes);
        assert_eq!(matches!(record_of(&home, &id).unwrap().place, Place::Inline(_)), is_inline);
        assert_eq!(home.store.fs().metadata(&layout::blob_file(&id)).is_err(), is_inline);
    }
}

#[test]
fn other_bytes_of_a_recorded_sha1_are_refused_and_the_first_stay() {
    for size in [5, LARGE] {
        let home = TestHome::new();
        let first = bytes_of(1, 7);
        home.put(&first).unwrap();
        let known = record_of(&home, &id_of(&first)).unwrap().fact(id_of(&first));
        let mut second = home.take_in(&bytes_of(2, size)).unwrap();
        second.fact.sha1 = known.sha1;
        let mut placement = home.store.place(vec![second]).unwrap();
        match placement.placed.pop() {
            Some(placed) => assert_eq!(home.write(|txn| txn.record(placed, NOW_MS, GRACE_MS)), Recorded::Collision(known)),
            None => assert_eq!(placement.collided.len(), 1, "a file is refused before it moves"),
        }
        drop(placement);
        assert_eq!(home.read(&known.sha1).unwrap(), Some(first));
    }
}

#[test]
fn a_record_is_not_visible_before_its_commit_nor_after_its_abort() {
    let home = TestHome::new();
    let bytes = bytes_of(1, LARGE);
    let placed = home.place(&bytes).unwrap();
    let failed = home.store.write(|txn| {
        assert_eq!(txn.record(placed, NOW_MS, GRACE_MS)?, Recorded::New);
        assert_eq!(record_of(&home, &id_of(&bytes)), None);
        Err::<(), _>(StoreError::NoSpace)
    });
    assert!(failed.is_err());
    assert_eq!(record_of(&home, &id_of(&bytes)), None);
    assert!(home.store.locks().try_lock(id_of(&bytes)).is_some(), "an abort frees the lock");
    assert_eq!(home.put(&bytes).unwrap(), Recorded::New);
}

#[test]
fn the_lock_of_a_recorded_blob_is_kept_until_the_commit() {
    let home = TestHome::new();
    let bytes = bytes_of(1, LARGE);
    let placed = home.place(&bytes).unwrap();
    home.write(|txn| {
        txn.record(placed, NOW_MS, GRACE_MS)?;
        assert!(home.store.locks().try_lock(id_of(&bytes)).is_none());
        Ok(())
    });
    assert!(home.store.locks().try_lock(id_of(&bytes)).is_some());
}

#[test]
fn a_delete_spends_its_permit_for_its_blob_and_queues_the_bytes_of_a_file() {
    for (size, queued) in [(5, 0), (LARGE, 1)] {
        let home = TestHome::new();
        let (bytes, other) = (bytes_of(1, size), bytes_of(2, size));
        home.put(&bytes).unwrap();
        home.put(&other).unwrap();
        let record = record_of(&home, &id_of(&bytes));
        assert_eq!(home.delete(&id_of(&bytes)).unwrap(), record);
        assert_eq!(home.read(&id_of(&bytes)).unwrap(), None);
        assert_eq!(home.read(&id_of(&other)).unwrap(), Some(other));
        let queue = home.snapshot().queued_unlinks().unwrap();
        assert_eq!(queue.len(), queued);
        assert!(queue.iter().all(|(id, row)| *id == id_of(&bytes) && row.queued_ms == NOW_MS && row.attempts == 0));
    }
}

#[test]
fn a_delete_of_what_is_not_held_does_nothing() {
    let home = TestHome::new();
    assert_eq!(home.delete(&BlobId([1; 20])).unwrap(), None);
    assert_eq!(home.snapshot().queued_unlinks().unwrap(), []);
    let permit = Permit::mint_for_test(BlobId([1; 20]), Ground::Purge);
    assert_eq!(home.write(|txn| txn.delete(permit, NOW_MS)), None);
}

#[test]
fn a_deleted_small_blob_leaves_no_bytes_in_the_index_once_the_trash_is_empty_and_can_come_back() {
    let home = TestHome::new();
    let (bytes, other) = (bytes_of(1, 100), bytes_of(2, 100));
    home.put(&bytes).unwrap();
    home.put(&other).unwrap();
    home.delete(&id_of(&bytes)).unwrap();
    home.store.empty_trash(NOW_MS, 10).unwrap();
    assert_eq!(redb::ReadableTableMetadata::len(&home.snapshot().bytes).unwrap(), 1);
    assert_eq!(home.put(&bytes).unwrap(), Recorded::New);
    assert_eq!(home.read(&id_of(&bytes)).unwrap(), Some(bytes));
    assert_eq!(home.read(&id_of(&other)).unwrap(), Some(other));
}

#[test]
fn a_reader_reads_on_while_its_blob_is_deleted_and_its_bytes_are_moved() {
    for size in [5, LARGE] {
        let home = TestHome::new();
        let bytes = bytes_of(1, size);
        let id = id_of(&bytes);
        home.put(&bytes).unwrap();
        let snapshot = home.snapshot();
        let open = home.store.open_blob(&snapshot, &id, &snapshot.blob(&id).unwrap().unwrap()).unwrap();
        home.delete(&id).unwrap();
        home.store.unlink(&id, NOW_MS).unwrap();
        let mut read = vec![0; size];
        assert_eq!(open.read_at(&mut read, 0).unwrap(), size);
        assert_eq!(read, bytes);
    }
}

#[test]
fn a_read_gives_fewer_bytes_at_the_end_and_none_beyond_it() {
    for size in [100, LARGE] {
        let home = TestHome::new();
        let bytes = bytes_of(1, size);
        home.put(&bytes).unwrap();
        let snapshot = home.snapshot();
        let record = snapshot.blob(&id_of(&bytes)).unwrap().unwrap();
        let open = home.store.open_blob(&snapshot, &id_of(&bytes), &record).unwrap();
        let end = size as u64;
        assert_eq!(open.size_bytes(), end);
        let read = |offset_bytes| {
            let mut buffer = [0; 10];
            let count = open.read_at(&mut buffer, offset_bytes).unwrap();
            buffer[..count].to_vec()
        };
        assert_eq!(read(end - 10), bytes[size - 10..]);
        assert_eq!(read(end - 3), bytes[size - 3..]);
        for beyond in [end, end + 1, u64::from(u32::MAX)] {
            assert_eq!(read(beyond), b"");
        }
    }
}

#[test]
fn a_record_whose_small_bytes_are_gone_is_an_error_that_names_the_blob() {
    let home = TestHome::new();
    let bytes = bytes_of(1, 100);
    home.put(&bytes).unwrap();
    home.write(|txn| txn.bytes.retain(|_, _| false).map_err(StoreError::from));
    let error = home.read(&id_of(&bytes)).unwrap_err();
    assert!(error.to_string().contains(&id_of(&bytes).to_string()), "{error}");
}

#[test]
fn group_values_are_kept_past_one_group_and_go_with_the_blob() {
    let home = TestHome::new();
    let (one, two) = (bytes_of(1, GROUP_BYTES), bytes_of(2, GROUP_BYTES + 1));
    home.put(&one).unwrap();
    home.put(&two).unwrap();
    assert_eq!(home.snapshot().span(&id_of(&one), 0).unwrap().unwrap_or_default(), b"");
    assert_eq!(home.snapshot().span(&id_of(&two), 0).unwrap().map(|values| values.len()), Some(2 * 32));
    home.delete(&id_of(&two)).unwrap();
    assert!(home.snapshot().span(&id_of(&two), 0).unwrap().is_some(), "it can still be brought back");
    home.store.empty_trash(NOW_MS, 10).unwrap();
    assert_eq!(home.snapshot().span(&id_of(&two), 0).unwrap(), None);
}

#[test]
fn records_are_visited_in_order_from_a_point_until_the_visitor_stops() {
    let home = TestHome::new();
    let mut ids: Vec<BlobId> =
        (0..5).map(|tag| bytes_of(tag, 10)).map(|bytes| home.put(&bytes).map(|_| id_of(&bytes)).unwrap()).collect();
    ids.sort_unstable();
    let visit = |from: &BlobId, many: usize| {
        let mut seen = Vec::new();
        let visitor = |id, _| {
            seen.push(id);
            Ok::<_, StoreError>(seen.len() < many)
        };
        home.snapshot().visit_blobs(from, visitor).unwrap();
        seen
    };
    assert_eq!(visit(&BlobId([0; 20]), 9), ids);
    assert_eq!(visit(&ids[2], 9), ids[2..]);
    assert_eq!(visit(&ids[1], 2), ids[1..3]);
}

#[test]
fn the_bytes_of_a_record_never_change() {
    // Golden bytes: a change of any of them breaks homes in the field.
    let file = BlobRecord {
        size_bytes: 70_000,
        b3: B3([2; 32]),
        place: Place::File,
        added_ms: NOW_MS,
        verified_ms: None,
        grace_until_ms: 300,
    };
    assert_eq!(
        golden(&file),
        "01fc70110100020202020202020202020202020202020202020202020202020202020202020201fd0068e5cf8b01000000fb2c01"
    );
    let inline = BlobRecord { place: Place::Inline(300), verified_ms: Some(NOW_MS), ..file };
    assert_eq!(
        golden(&inline),
        "01fc70110100020202020202020202020202020202020202020202020202020202020202020200fb2c01fd0068e5cf8b01000001fd0068e5cf8b010000fb2c01"
    );
    assert_eq!(
        golden(&UnlinkRow { queued_ms: NOW_MS, attempts: 2, last_error: Some("no".into()) }),
        "01fd0068e5cf8b0100000201026e6f"
    );
}

mod mending;
