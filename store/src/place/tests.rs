//! What was placed survives; a careless order would not.

use std::sync::Arc;

use super::*;
use crate::fs::sim::SimDisk;
use crate::fs::{FileReader, HomePath, RealFs};
use crate::hash::hash_bytes;
use crate::ingest::{IngestError, IngestId, ingest, leftovers};
use crate::verify::{FileCheck, open_blob, verify_file};

const LARGE: usize = 40_000;

fn none(_: &BlobId) -> Result<Option<BlobFact>, StoreError> {
    Ok(None)
}

fn bytes_of(tag: u8, size: usize) -> Vec<u8> {
    vec![tag; size]
}

fn simulated(seed: u64) -> (SimDisk, SharedFs) {
    let disk = SimDisk::new(seed);
    let fs = disk.fs();
    (disk, Arc::new(fs))
}

fn take_in(fs: &SharedFs, number: u8, bytes: &[u8]) -> Result<Ingested, IngestError> {
    ingest(fs, IngestId([number; 16]), &mut &bytes[..], &mut |_| {})
}

/// Three large blobs and a small one, put in one call.
fn put_four(fs: &SharedFs, locks: &BlobLocks) -> Result<Vec<BlobFact>, Box<dyn std::error::Error>> {
    let mut blobs = Vec::new();
    for tag in 1..=3 {
        blobs.push(take_in(fs, tag, &bytes_of(tag, LARGE))?);
    }
    blobs.push(take_in(fs, 4, b"small")?);
    let placement = place(fs, locks, blobs, &none)?;
    Ok(placement.placed.iter().filter(|placed| placed.inline().is_none()).map(Placed::fact).collect())
}

#[test]
fn placed_blobs_are_whole_in_their_place_and_locked() {
    let home = tempfile::tempdir().unwrap();
    let fs: SharedFs = Arc::new(RealFs::new(home.path()));
    let locks = BlobLocks::default();
    let blobs = vec![take_in(&fs, 1, &bytes_of(1, LARGE)).unwrap(), take_in(&fs, 2, b"small").unwrap()];
    let Placement { placed, collided, .. } = place(&fs, &locks, blobs, &none).unwrap();
    assert!(collided.is_empty() && leftovers(&fs).unwrap().is_empty());
    for placed in placed {
        let fact = placed.fact();
        assert_eq!(placed.inline().is_some(), fact.size_bytes == 5);
        if placed.inline().is_none() {
            assert_eq!(verify_file(&fs, &fact).unwrap(), FileCheck::Whole(placed.outboard().clone()));
            assert!(locks.try_lock(fact.sha1).is_none(), "held until the record is committed");
        }
        let (_, body, _) = placed.into_parts();
        drop(body);
        assert!(locks.try_lock(fact.sha1).is_some());
    }
}

#[test]
fn equal_blobs_of_one_call_are_merged_without_waiting_for_each_other() {
    let (_disk, fs) = simulated(1);
    let blobs = (1..=3).map(|number| take_in(&fs, number, &bytes_of(9, LARGE)).unwrap()).collect();
    let placement = place(&fs, &BlobLocks::default(), blobs, &none).unwrap();
    assert_eq!((placement.placed.len(), placement.collided.len()), (1, 0));
    assert!(leftovers(&fs).unwrap().is_empty());
}

#[test]
fn a_collision_within_one_call_keeps_the_first_and_gives_the_second_back() {
    let (_disk, fs) = simulated(1);
    let first = take_in(&fs, 1, &bytes_of(1, LARGE)).unwrap();
    let mut second = take_in(&fs, 2, &bytes_of(2, LARGE)).unwrap();
    second.fact.sha1 = first.fact.sha1;
    let fact = first.fact;
    let placement = place(&fs, &BlobLocks::default(), vec![first, second], &none).unwrap();
    assert_eq!(placement.placed[0].fact(), fact);
    assert_eq!(placement.collided.len(), 1);
    assert!(matches!(verify_file(&fs, &fact).unwrap(), FileCheck::Whole(_)));
    drop(placement);
    assert!(leftovers(&fs).unwrap().is_empty());
}

#[test]
fn a_blob_whose_lock_is_held_is_not_placed_until_it_is_free() {
    let (_disk, fs) = simulated(1);
    let locks = BlobLocks::default();
    let blob = take_in(&fs, 1, &bytes_of(1, LARGE)).unwrap();
    let id = blob.fact().sha1;
    let unlinking = locks.lock(id);
    std::thread::scope(|scope| {
        let (fs, locks) = (&fs, &locks);
        let placing = scope.spawn(move || place(fs, locks, vec![blob], &none).unwrap());
        std::thread::yield_now();
        assert!(open_blob(fs, &id).is_err(), "the file cannot appear under the unlink worker");
        drop(unlinking);
        assert_eq!(placing.join().unwrap().placed.len(), 1);
    });
}

#[test]
fn what_was_placed_survives_a_crash_at_any_call() {
    let (calm, fs) = simulated(0);
    put_four(&fs, &BlobLocks::default()).unwrap();
    let last = calm.calls();
    for seed in 0..8 {
        for call in 1..=last + 1 {
            let (disk, fs) = simulated(seed * 1_000 + call);
            disk.crash_at(call);
            let acknowledged = put_four(&fs, &BlobLocks::default()).unwrap_or_default();
            assert_eq!(acknowledged.is_empty(), call <= last, "call {call}");
            disk.restart();
            let fs: SharedFs = Arc::new(disk.fs());
            for fact in acknowledged {
                assert!(matches!(verify_file(&fs, &fact).unwrap(), FileCheck::Whole(_)), "seed {seed}, call {call}");
            }
            nothing_in_its_place_is_partial(&fs, seed, call);
        }
    }
}

/// Whatever has a blob's name holds that blob whole, recorded or not: bytes are synced before they are named.
fn nothing_in_its_place_is_partial(fs: &SharedFs, seed: u64, call: u64) {
    for tag in 1..=3 {
        let fact = hash_bytes(&bytes_of(tag, LARGE)).fact;
        let found = verify_file(fs, &fact).unwrap();
        assert!(matches!(found, FileCheck::Whole(_) | FileCheck::Missing), "seed {seed}, call {call}: {found:?}");
    }
}

#[test]
fn the_crash_check_catches_a_place_that_forgets_a_sync() {
    let lost = |careless: &dyn Fn(&SharedFs, Ingested) -> io::Result<()>| {
        (0..40).any(|seed| {
            let (disk, fs) = simulated(seed);
            let blob = take_in(&fs, 1, &bytes_of(1, LARGE)).unwrap();
            let fact = blob.fact();
            careless(&fs, blob).unwrap();
            disk.crash();
            disk.restart();
            let fs: SharedFs = Arc::new(disk.fs());
            verify_file(&fs, &fact).unwrap() == FileCheck::Missing
        })
    };
    let moved = |blob: Ingested| Placement::default().place_one(&BlobLocks::default(), blob, &none).map_err(io::Error::other);
    let folder = |blob: &Ingested| layout::blob_folder(&blob.fact.sha1);
    assert!(lost(&|fs, blob| {
        fs.create_folders(&[folder(&blob)])?;
        moved(blob)
    }));
    assert!(lost(&|fs, blob| {
        let folder = folder(&blob);
        let names: Vec<_> = folder.names().collect();
        (1..=names.len()).try_for_each(|depth| fs.create_folder(&HomePath::parse(&names[..depth].join("/")).unwrap()))?;
        moved(blob)?;
        fs.sync_folder(&folder)
    }));
}

#[test]
fn a_full_or_failing_disk_is_told_and_nothing_is_left_behind_in_ingest() {
    let (calm, fs) = simulated(0);
    let blob = take_in(&fs, 1, &bytes_of(1, LARGE)).unwrap();
    let before = calm.calls();
    place(&fs, &BlobLocks::default(), vec![blob], &none).unwrap();
    for call in before + 1..=calm.calls() {
        let (disk, fs) = simulated(0);
        let blob = take_in(&fs, 1, &bytes_of(1, LARGE)).unwrap();
        disk.fail_at(call);
        assert!(matches!(place(&fs, &BlobLocks::default(), vec![blob], &none), Err(PlaceError::Io(_))), "call {call}");
        assert!(leftovers(&fs).unwrap().is_empty(), "call {call}");
    }
    assert!(matches!(PlaceError::from_io(io::ErrorKind::QuotaExceeded.into()), PlaceError::DiskFull(_)));
}

#[test]
fn fsck_tells_a_whole_file_from_a_flipped_bit_and_a_missing_one() {
    let (disk, fs) = simulated(1);
    let blob = take_in(&fs, 1, &bytes_of(1, LARGE)).unwrap();
    let fact = blob.fact();
    assert_eq!(verify_file(&fs, &fact).unwrap(), FileCheck::Missing);
    drop(place(&fs, &BlobLocks::default(), vec![blob], &none).unwrap());
    disk.flip_bit(&layout::blob_file(&fact.sha1), 12_345).unwrap();
    let mut wrong = bytes_of(1, LARGE);
    wrong[12_345] ^= 1;
    assert_eq!(verify_file(&fs, &fact).unwrap(), FileCheck::Differs(hash_bytes(&wrong).fact));
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut FileReader::new(&*open_blob(&fs, &fact.sha1).unwrap()), &mut bytes).unwrap();
    assert_eq!(bytes, wrong);
    disk.fail_at(disk.calls() + 2);
    assert!(verify_file(&fs, &fact).is_err(), "an unreadable file is no verdict");
}
