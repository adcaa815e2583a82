//! The bytes of a deleted blob go, wherever a crash meets their removal.

use std::sync::Arc;

use keepwell_protocol::gc::permit::{Ground, Permit};
use keepwell_protocol::id::BlobId;
use keepwell_store::fs::sim::SimDisk;
use keepwell_store::ingest::{IngestId, ingest};
use keepwell_store::layout::blob_file;
use keepwell_store::store::Store;
use keepwell_store::unlink::Unlinked;

const LARGE_BYTES: usize = 20_000;
/// More than one removal takes.
const CALLS: u64 = 30;

fn open(disk: &SimDisk) -> Store {
    Store::open(disk.backend("index"), Arc::new(disk.fs())).unwrap()
}

/// A store with one large blob that has been deleted and not yet moved away.
fn with_a_deleted_blob(disk: &SimDisk) -> (Store, BlobId) {
    let store = open(disk);
    let ingested = ingest(store.fs(), IngestId([1; 16]), &mut vec![7; LARGE_BYTES].as_slice(), &mut |_| {}).unwrap();
    let id = ingested.fact().sha1;
    for placed in store.place(vec![ingested]).unwrap().placed {
        store.write(|txn| txn.record(placed, 1).map(drop)).unwrap();
    }
    let permit = Permit::mint_for_test(id, Ground::Purge);
    store.write(|txn| txn.delete(permit, 2).map(drop)).unwrap();
    (store, id)
}

#[test]
fn a_removal_comes_to_its_end_after_a_crash_at_any_call() {
    for seed in 0..12 {
        for call in 1..=CALLS {
            let disk = SimDisk::new(seed * CALLS + call);
            let (store, id) = with_a_deleted_blob(&disk);
            disk.crash_at(disk.calls() + call);
            store.unlink(&id).ok();
            drop(store);
            disk.restart();
            let store = open(&disk);
            let outcome = store.unlink(&id).unwrap();
            assert!(!matches!(outcome, Unlinked::Failed(_)), "seed {seed}, call {call}: {outcome:?}");
            assert!(store.snapshot().unwrap().queued_unlinks().unwrap().is_empty());
            assert!(store.fs().metadata(&blob_file(&id)).is_err(), "seed {seed}, call {call}: the bytes are still there");
        }
    }
}
