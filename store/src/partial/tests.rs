//! A fetch that was killed goes on with what it had, wherever the kill came.

use super::*;
use crate::fs::sim::SimDisk;
use crate::hash::hash_bytes;
use crate::testing::{LARGE, bytes_of};

fn store(disk: &SimDisk) -> Arc<Store> {
    Arc::new(Store::open(disk.backend("index.redb"), Arc::new(disk.fs())).unwrap())
}

/// A disk on which a fetch of these bytes was killed when it had all of them and had not been placed.
fn killed_at_its_end(bytes: &[u8]) -> (SimDisk, BlobFact) {
    let (disk, fact) = (SimDisk::new(1), hash_bytes(bytes).fact);
    let mut partial = Partial::begin(&store(&disk), fact, IngestId([1; 16])).unwrap();
    partial.take_bytes(0, bytes).unwrap();
    // Dropping it would tidy up, which a kill does not.
    std::mem::forget(partial.finish().unwrap());
    disk.restart_process();
    (disk, fact)
}

#[test]
fn a_fetch_that_was_killed_at_its_very_end_asks_for_nothing_again() {
    let (disk, fact) = killed_at_its_end(&bytes_of(1, LARGE));
    let store = store(&disk);
    let partial = Partial::begin(&store, fact, IngestId([2; 16])).unwrap();
    assert_eq!((partial.needs(), partial.resumed_bytes()), (Need::Nothing, LARGE as u64));
    assert_eq!(store.place(vec![partial.finish().unwrap()]).unwrap().placed.len(), 1);
}

#[test]
fn one_that_has_rotted_since_begins_anew() {
    let (disk, fact) = killed_at_its_end(&bytes_of(1, LARGE));
    disk.flip_bit(&layout::ingest_file(&IngestId([1; 16])), 5).unwrap();
    let mut partial = Partial::begin(&store(&disk), fact, IngestId([2; 16])).unwrap();
    assert_eq!((partial.done_bytes(), partial.resumed_bytes()), (0, 0));
    partial.take_bytes(0, &bytes_of(1, LARGE)).unwrap();
    assert_eq!(partial.finish().unwrap().fact(), fact);
}
