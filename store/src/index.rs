//! The index's file, and the database on it: opened again when the disk was full.
//!
//! A database that met an I/O error refuses all further work; that is right, since nobody knows what reached the disk. A full disk is
//! no broken one, and it has room again some day: then the database is opened anew on the same file, as after a crash. What was
//! being written is not there or is there whole; whoever wrote it was told that it failed.

mod before;
pub mod check;

use std::fmt;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::{BackendError, Builder, Database, StorageBackend};

use self::before::Before;
use crate::error::{StoreError, is_no_space};
use crate::limits::INDEX_CACHE_BYTES;

/// The database of a home.
pub(crate) struct Index {
    file: Arc<dyn StorageBackend>,
    present: Mutex<Present>,
    /// Held by whoever checks it.
    checking: Mutex<()>,
}

struct Present {
    /// None while it cannot be opened again.
    database: Option<Arc<Database>>,
    life: Arc<Life>,
}

impl Index {
    pub(crate) fn open(file: impl StorageBackend) -> Result<Index, StoreError> {
        let file: Arc<dyn StorageBackend> = Arc::new(file);
        let (database, life) = open(&file)?;
        Ok(Index { file, present: Mutex::new(Present { database: Some(database), life }), checking: Mutex::new(()) })
    }

    /// The database, opened again if it met a full disk.
    pub(crate) fn database(&self) -> Result<Arc<Database>, StoreError> {
        Ok(self.database_and_life()?.0)
    }

    fn database_and_life(&self) -> Result<(Arc<Database>, Arc<Life>), StoreError> {
        let mut present = self.present();
        if present.life.has_met_full() {
            // Whoever still has the old one gets errors from it; it must write nothing more to the file that the new one has.
            present.life.end();
            present.database = None;
        }
        if let Some(database) = &present.database {
            return Ok((Arc::clone(database), Arc::clone(&present.life)));
        }
        let (database, life) = open(&self.file)?;
        *present = Present { database: Some(Arc::clone(&database)), life: Arc::clone(&life) };
        Ok((database, life))
    }

    /// Whether the database met a full disk and has not been opened again.
    pub(crate) fn has_met_full(&self) -> bool {
        self.present().life.has_met_full()
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(file: &Arc<dyn StorageBackend>) -> Result<(Arc<Database>, Arc<Life>), StoreError> {
    let life = Arc::new(Life {
        file: Arc::clone(file),
        is_over: RwLock::new(false),
        met_full: AtomicBool::new(false),
        saves_for: Mutex::new(None),
    });
    let open = || Builder::new().set_cache_size(INDEX_CACHE_BYTES).create_with_backend(LifeBackend(Arc::clone(&life)));
    // It takes some of what it reads for granted.
    let opened = catch_unwind(AssertUnwindSafe(open));
    let database = opened.map_err(|_| StoreError::Damaged("parts of it cannot be read".to_owned()))??;
    Ok((Arc::new(database), life))
}

/// One life of the database: its way to the file, until that ends.
struct Life {
    file: Arc<dyn StorageBackend>,
    is_over: RwLock<bool>,
    met_full: AtomicBool,
    /// Who reads the file as it was, if anybody does.
    saves_for: Mutex<Option<Arc<Before>>>,
}

impl Life {
    fn has_met_full(&self) -> bool {
        self.met_full.load(Ordering::SeqCst)
    }

    /// Whether nothing goes through any more. Until then, nobody but this life has written to the file.
    fn is_over(&self) -> bool {
        *self.is_over.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves from now on what is overwritten, for `before`, or for nobody.
    fn save_for(&self, before: Option<Arc<Before>>) {
        *self.saves_for.lock().unwrap_or_else(PoisonError::into_inner) = before;
    }

    /// `from..end` of the file is about to be overwritten, or cut off.
    fn save(&self, from: u64, end: u64) {
        let before = self.saves_for.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(before) = before {
            before.save(&*self.file, from, end);
        }
    }

    /// Waits for what is under way, and lets nothing more through.
    fn end(&self) {
        *self.is_over.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn call<T>(&self, act: impl FnOnce(&dyn StorageBackend) -> io::Result<T>) -> io::Result<T> {
        let is_over = self.is_over.read().unwrap_or_else(PoisonError::into_inner);
        if *is_over {
            return Err(io::Error::other("the index was opened again since"));
        }
        let outcome = act(&*self.file);
        if outcome.as_ref().is_err_and(is_no_space) {
            self.met_full.store(true, Ordering::SeqCst);
        }
        outcome
    }
}

struct LifeBackend(Arc<Life>);

impl fmt::Debug for LifeBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LifeBackend")
    }
}

/// The locks are the file's and outlast a life: nobody else gets in between. So closing does nothing.
impl StorageBackend for LifeBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.call(|file| file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.call(|file| file.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.call(|file| {
            self.0.save(len, u64::MAX);
            file.set_len(len)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.call(|file| file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.call(|file| {
            self.0.save(offset, offset.saturating_add(data.len() as u64));
            file.write(offset, data)
        })
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.query_lock_range(start, end)
    }
}
