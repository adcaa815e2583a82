//! A home's disk, opened: the index, the files, and the locks between those who move files.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use keepwell_protocol::id::{BlobFact, BlobId};
use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::blobs::{BlobRecord, Bytes};
use crate::error::StoreError;
use crate::fs::{HomePath, SharedFs};
use crate::index::Index;
use crate::index::check::{CheckPace, IndexCheck};
use crate::ingest::{self, Ingested};
use crate::latest::Latest;
use crate::locks::{BlobGuard, BlobLocks};
use crate::place::{PlaceError, Placement, place};
use crate::reach::ReachNotes;
use crate::tables::{Reading, Tables, Writing};

/// Mode of a new index: its refs and small blobs are its user's alone.
const MODE_INDEX: u32 = 0o600;

/// A consistent view of the index. Writers do not disturb it; keep it short all the same, since it pins pages.
pub type Snapshot = Tables<Reading>;

/// The store of one home. Whoever opens it owns it: the index is locked against every other process.
pub struct Store {
    /// Before the index: what reads it ends first.
    latest: Latest,
    index: Index,
    fs: SharedFs,
    locks: BlobLocks,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// A write transaction: all that is written through it becomes durable together, or none of it.
///
/// It keeps the locks of the blobs that it records until it has been committed.
pub struct Transaction<'t> {
    tables: Tables<Writing<'t>>,
    /// Whether somebody could have written to them.
    is_touched: bool,
    held: &'t mut Vec<BlobGuard>,
    pub(crate) reach: ReachNotes,
}

impl<'t> std::ops::Deref for Transaction<'t> {
    type Target = Tables<Writing<'t>>;

    fn deref(&self) -> &Self::Target {
        &self.tables
    }
}

impl std::ops::DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.is_touched = true;
        &mut self.tables
    }
}

impl Transaction<'_> {
    /// Keeps the lock of a blob until the commit.
    pub(crate) fn hold(&mut self, guard: BlobGuard) {
        self.held.push(guard);
    }
}

impl Store {
    /// Opens the index in `backend` beside the files in `fs`, making its tables if they are not there.
    ///
    /// Files that an interrupted ingest left are removed: nobody was ever told of them. What a fetch or an upload has gathered stays, to be resumed.
    pub fn open(backend: impl StorageBackend, fs: SharedFs) -> Result<Store, StoreError> {
        let store = Store { latest: Latest::default(), index: Index::open(backend)?, fs, locks: BlobLocks::default() };
        store.make_tables()?;
        store.remove_leftovers()?;
        Ok(store)
    }

    /// Opens the index in the file at `path`, as [`Store::open`] does. The file is made, private to its user, if it is not there.
    pub fn open_at(path: &Path, fs: SharedFs) -> Result<Store, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(MODE_INDEX);
        let file = options.open(path).map_err(|source| StoreError::file("cannot open", path, source))?;
        Store::open(FileBackend::new(file)?, fs)
    }

    /// The present state of the index: all that has been committed when this is called. Those who ask between two commits share one.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        self.latest.of(&self.index.database()?)
    }

    /// Runs `work` in a write transaction and commits it. If `work` fails, nothing has happened.
    ///
    /// Work that has only read is not committed: what it saw is durable already, and a commit is two syncs of the disk.
    pub fn write<T, E: From<StoreError>>(&self, work: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>) -> Result<T, E> {
        self.transact(|txn| Ok((work(txn)?, txn.is_touched)))
    }

    /// As [`Store::write`], for work that says itself whether there is something to commit.
    fn transact<T, E: From<StoreError>>(&self, work: impl FnOnce(&mut Transaction<'_>) -> Result<(T, bool), E>) -> Result<T, E> {
        let (mut held, index) = (Vec::new(), self.index.database()?);
        let mut transaction = index.begin_write().map_err(StoreError::from)?;
        transaction.set_quick_repair(true);
        let (outcome, commits) = {
            let tables = Tables::<Writing<'_>>::open(&transaction).map_err(StoreError::from)?;
            work(&mut Transaction { tables, is_touched: false, held: &mut held, reach: ReachNotes::default() })?
        };
        if commits {
            let committed = transaction.commit();
            // Also after one that failed: who knows.
            self.latest.forget();
            committed.map_err(StoreError::from)?;
        } else {
            transaction.abort().map_err(StoreError::from)?;
        }
        Ok(outcome)
    }

    /// Reads all of the index, at a pace, and holds it against its checksums. Others go on reading and writing meanwhile.
    pub fn check_index(&self, pace: CheckPace) -> Result<IndexCheck, StoreError> {
        self.index.check(pace)
    }

    /// Whether the index met a full disk since it was last used. The next use opens it again; what was not committed is lost.
    pub fn has_met_full(&self) -> bool {
        self.index.has_met_full()
    }

    /// Moves ingested blobs to where blobs live, durably, so that they can be recorded.
    ///
    /// The file of a blob that is recorded already is replaced; a blob that collides with a record is refused, under the blob's lock.
    pub fn place(&self, blobs: Vec<Ingested>) -> Result<Placement, PlaceError> {
        let known = |id: &BlobId| -> Result<Option<BlobFact>, StoreError> {
            Ok(self.snapshot()?.blob(id)?.map(|record| record.fact(*id)))
        };
        place(&self.fs, &self.locks, blobs, &known)
    }

    /// The bytes of the blob `id` as `record` says, ready to be read. The record must be of this very snapshot: arrival numbers of small
    /// blobs are used again.
    pub fn open_blob(&self, snapshot: &Snapshot, id: &BlobId, record: &BlobRecord) -> Result<Bytes, StoreError> {
        Bytes::open(&self.fs, snapshot, id, record)
    }

    /// The files of this home.
    pub fn fs(&self) -> &SharedFs {
        &self.fs
    }

    /// The locks between those who move blob files.
    pub fn locks(&self) -> &BlobLocks {
        &self.locks
    }

    /// Only where some are missing: a home on a full disk can be read, and whoever reads pays no commit.
    fn make_tables(&self) -> Result<(), StoreError> {
        match self.snapshot() {
            Err(StoreError::Index(redb::Error::TableDoesNotExist(_))) => self.transact(|_| Ok::<_, StoreError>(((), true))),
            other => other.map(drop),
        }
    }

    fn remove_leftovers(&self) -> Result<(), StoreError> {
        let home = || HomePath::home().as_str().to_owned();
        let snapshot = self.snapshot()?;
        let mut resumed = snapshot.partial_ingests()?;
        resumed.extend(snapshot.all_uploads()?.iter().map(|(_, upload)| upload.ingest()));
        for id in ingest::leftovers(&self.fs).map_err(|source| StoreError::file("cannot list", home(), source))? {
            if resumed.contains(&id) {
                continue;
            }
            ingest::remove_leftover(&self.fs, id).map_err(|source| StoreError::file("cannot remove", id.to_string(), source))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
