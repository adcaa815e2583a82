//! For the tests of this crate: a home on a simulated disk, and what an honest caller does with it.

use std::cell::Cell;
use std::error::Error;
use std::sync::Arc;

use keepwell_protocol::gc::permit::{Ground, Permit};
use keepwell_protocol::id::{B3, BlobFact, BlobId};
use keepwell_protocol::wire;

use crate::blobs::{BlobRecord, Recorded};
use crate::error::StoreError;
use crate::fs::SharedFs;
use crate::fs::sim::SimDisk;
use crate::hash::hash_bytes;
use crate::ingest::{IngestId, Ingested, ingest};
use crate::limits::INLINE_MAX_BYTES;
use crate::place::{Placed, Placement};
use crate::store::{Snapshot, Store, Transaction};

/// The clock of these tests (Unix milliseconds).
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

/// When the grace of what these tests put ends (Unix milliseconds).
pub(crate) const GRACE_MS: u64 = NOW_MS + 1_000;

/// Enough to live in a file (bytes).
pub(crate) const LARGE: usize = INLINE_MAX_BYTES + 20_000;

/// What an operation of the caller ends in.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// A home in one life of its machine.
pub(crate) struct TestHome {
    pub(crate) disk: SimDisk,
    pub(crate) store: Store,
    ingests: Cell<u128>,
}

/// The disk of a home that has been made and shut down: redb does not promise that the making of a database outlives a crash.
pub(crate) fn made_disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    drop(TestHome::open(&disk).unwrap());
    disk.restart();
    disk
}

/// Distinct bytes for each tag.
pub(crate) fn bytes_of(tag: u8, size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at % 251).unwrap() ^ tag).collect()
}

/// A made-up blob.
pub(crate) fn fact(n: u8) -> BlobFact {
    BlobFact { sha1: BlobId([n; 20]), b3: B3([n; 32]), size_bytes: n.into() }
}

/// The bytes of a record, for tests that fix them.
pub(crate) fn golden<T: bincode::Encode>(value: &T) -> String {
    wire::encode(value).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl TestHome {
    pub(crate) fn new() -> TestHome {
        TestHome::open(&SimDisk::new(1)).unwrap()
    }

    pub(crate) fn open(disk: &SimDisk) -> Result<TestHome, StoreError> {
        let store = Store::open(disk.backend("index.redb"), Arc::new(disk.fs()))?;
        Ok(TestHome { disk: disk.clone(), store, ingests: Cell::new(0) })
    }

    /// The same home after its machine was switched off and on.
    pub(crate) fn reopened(self) -> TestHome {
        let TestHome { disk, store, .. } = self;
        disk.crash();
        drop(store);
        disk.restart();
        TestHome::open(&disk).unwrap()
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.store.snapshot().unwrap()
    }

    /// Runs `work` in a transaction that must succeed.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError>) -> T {
        self.store.write(work).unwrap()
    }

    pub(crate) fn take_in(&self, bytes: &[u8]) -> Outcome<Ingested> {
        self.ingests.set(self.ingests.get() + 1);
        let fs: &SharedFs = self.store.fs();
        Ok(ingest(fs, IngestId(self.ingests.get().to_be_bytes()), &mut &*bytes, &mut |_| {})?)
    }

    /// A blob in its place, to be recorded.
    pub(crate) fn place(&self, bytes: &[u8]) -> Outcome<Placed> {
        let Placement { mut placed, collided, .. } = self.store.place(vec![self.take_in(bytes)?])?;
        assert!(collided.is_empty());
        Ok(placed.pop().expect("it does not collide"))
    }

    pub(crate) fn put(&self, bytes: &[u8]) -> Outcome<Recorded> {
        let placed = self.place(bytes)?;
        Ok(self.store.write(|txn| txn.record(placed, NOW_MS, GRACE_MS))?)
    }

    pub(crate) fn delete(&self, id: &BlobId) -> Outcome<Option<BlobRecord>> {
        let permit = Permit::mint_for_test(*id, Ground::Operator);
        Ok(self.store.write(|txn| txn.delete(permit, NOW_MS))?)
    }

    /// The bytes of a recorded blob, as a reader gets them.
    pub(crate) fn read(&self, id: &BlobId) -> Outcome<Option<Vec<u8>>> {
        let snapshot = self.store.snapshot()?;
        let Some(record) = snapshot.blob(id)? else { return Ok(None) };
        let bytes = self.store.open_blob(&snapshot, id, &record)?;
        let mut buffer = vec![0; usize::try_from(bytes.size_bytes())? + 1];
        let count = bytes.read_at(&mut buffer, 0)?;
        buffer.truncate(count);
        Ok(Some(buffer))
    }

    /// Recorded blobs whose bytes are not there, or not theirs (docs/SAFETY.md S1). None, or the store is broken.
    pub(crate) fn false_records(&self) -> Vec<BlobId> {
        let mut recorded = Vec::new();
        let visit = |id, _| {
            recorded.push(id);
            Ok::<_, StoreError>(true)
        };
        self.snapshot().visit_blobs(&BlobId([0; 20]), visit).unwrap();
        let is_whole = |id: &BlobId| self.read(id).is_ok_and(|bytes| bytes.is_some_and(|b| hash_bytes(&b).fact.sha1 == *id));
        recorded.retain(|id| !is_whole(id));
        recorded
    }
}

/// The name of some bytes.
pub(crate) fn id_of(bytes: &[u8]) -> BlobId {
    hash_bytes(bytes).fact.sha1
}
