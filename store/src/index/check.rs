//! Reading all of the index and holding it against its checksums: the database does neither in daily work.
//!
//! What the database calls a check of its integrity mends what it finds, by going back to an earlier state: that would be a home put back in
//! time, which nobody has asked for. So it works on a copy: what it writes stays in memory, and is forgotten. The copy is of a moment
//! at which nobody wrote. Writers wait for that moment alone, and go on: what they overwrite is saved for the copy first.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Builder, DatabaseError, StorageBackend, StorageError};

use super::before::{BLOCK_BYTES, Before};
use super::{Index, Life};
use crate::error::StoreError;

/// Memory for pages that the check reads: each is wanted once or twice (bytes).
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// What a check of the index came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexCheck {
    /// All of it is what was written.
    Whole,
    /// Some of it is not, or cannot be read.
    Damaged(String),
    /// Nothing can be said of it: it is to be checked again.
    Unfinished(Unfinished),
}

/// Why a check of the index came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfinished {
    /// Whoever sets the pace wanted no more of it.
    #[error("it was broken off")]
    Stopped,
    /// Others have overwritten more than is kept for it.
    #[error("too much was written meanwhile")]
    Overwritten,
    /// What somebody was about to overwrite could not be read.
    #[error("a part of it could not be kept before it was overwritten")]
    Unsaved,
    /// The disk was full, and the index is opened again.
    #[error("the disk was full meanwhile")]
    Reopened,
}

/// Is told how many bytes were read just now, and may take its time. An error ends the check.
pub type CheckPace = Box<dyn FnMut(usize) -> io::Result<()> + Send>;

impl Index {
    /// Reads all of it as it is now, at a pace, and says what is wrong with it. Others read and write meanwhile.
    pub(crate) fn check(&self, pace: CheckPace) -> Result<IndexCheck, StoreError> {
        // One at a time: each costs memory.
        let _alone = self.checking.lock().unwrap_or_else(PoisonError::into_inner);
        // The database takes some of what it reads for granted.
        let Ok(watched) = catch_unwind(AssertUnwindSafe(|| self.watch())) else { return Ok(unreadable()) };
        let watched = match watched {
            Err(_) if self.has_met_full() => return Ok(IndexCheck::Unfinished(Unfinished::Reopened)),
            watched => watched?,
        };
        let copy = Copy::new(Arc::clone(&self.file), Arc::clone(&watched.before), pace);
        let found = catch_unwind(AssertUnwindSafe(|| integrity(copy)));
        // First of all: whatever was read of another moment says nothing.
        let is_over = if watched.life.is_over() { Some(Unfinished::Reopened) } else { watched.before.is_over() };
        if let Some(why) = is_over {
            return Ok(IndexCheck::Unfinished(why));
        }
        Ok(match found {
            Ok(Ok(true)) => IndexCheck::Whole,
            Ok(Ok(false) | Err(DatabaseError::RepairAborted)) => {
                IndexCheck::Damaged("parts of it are not what was written".to_owned())
            }
            Ok(Err(DatabaseError::Storage(StorageError::Io(error)))) => {
                IndexCheck::Damaged(format!("parts of it cannot be read: {error}"))
            }
            Ok(Err(error)) => IndexCheck::Damaged(error.to_string()),
            Err(_) => unreadable(),
        })
    }

    /// From now on, what is overwritten is saved first. Nothing is being written at that moment: the file is what the last commit made it.
    fn watch(&self) -> Result<Watched, StoreError> {
        let (database, life) = self.database_and_life()?;
        let writing = database.begin_write()?;
        let before = Arc::new(Before::new(self.file.len()?));
        life.save_for(Some(Arc::clone(&before)));
        let watched = Watched { life, before };
        writing.abort()?;
        Ok(watched)
    }
}

fn unreadable() -> IndexCheck {
    IndexCheck::Damaged("it cannot be read".to_owned())
}

/// What is saved as long as this lives.
struct Watched {
    life: Arc<Life>,
    before: Arc<Before>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.life.save_for(None);
    }
}

/// Whether all pages are what their checksums say. An index that would first have to be mended is not.
fn integrity(copy: Copy) -> Result<bool, DatabaseError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_repair_callback(redb::RepairSession::abort);
    builder.create_with_backend(copy)?.check_integrity()
}

/// The file of the index as it was, and in memory what was written over that.
struct Copy {
    file: Arc<dyn StorageBackend>,
    before: Arc<Before>,
    pace: Mutex<CheckPace>,
    over: Mutex<Over>,
}

struct Over {
    len: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Copy")
    }
}

impl Copy {
    fn new(file: Arc<dyn StorageBackend>, before: Arc<Before>, pace: CheckPace) -> Copy {
        let over = Mutex::new(Over { len: before.len(), blocks: BTreeMap::new() });
        Copy { file, before, pace: Mutex::new(pace), over }
    }

    fn over(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block as it was. The file comes first: see [`Before::saved_block`].
    fn block(&self, number: u64) -> io::Result<Vec<u8>> {
        let read = self.before.block_of(&*self.file, number);
        match self.before.saved_block(number)? {
            Some(block) => Ok(block),
            None => read,
        }
    }

    /// Takes the time that reading so much shall take, but none when that could be too long.
    fn rest(&self, bytes: usize) -> io::Result<()> {
        let bytes = if self.before.is_half_full() { 0 } else { bytes };
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace(bytes).inspect_err(|_| self.before.give_up(Unfinished::Stopped))
    }

    /// Gives each part of `len` bytes from `offset` that lies in one block: the block, where it begins there, and in the whole.
    fn parts(
        offset: u64,
        len: usize,
        mut each: impl FnMut(u64, usize, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = usize::try_from(at % BLOCK_BYTES).map_err(io::Error::other)?;
            let room = usize::try_from(BLOCK_BYTES).map_err(io::Error::other)? - within;
            let end = len.min(done + room);
            each(at / BLOCK_BYTES, within, done..end)?;
            done = end;
        }
        Ok(())
    }
}

impl StorageBackend for Copy {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.over();
        Copy::parts(offset, out.len(), |number, within, part| {
            let count = part.len();
            match over.blocks.get(&number) {
                Some(block) => out[part].copy_from_slice(&block[within..within + count]),
                None => out[part].copy_from_slice(&self.block(number)?[within..within + count]),
            }
            Ok(())
        })?;
        drop(over);
        self.rest(out.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.over().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.over();
        Copy::parts(offset, data.len(), |number, within, part| {
            let block = match over.blocks.remove(&number) {
                Some(block) => block,
                None => self.block(number)?,
            };
            let block = over.blocks.entry(number).or_insert(block);
            block[within..within + part.len()].copy_from_slice(&data[part]);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
