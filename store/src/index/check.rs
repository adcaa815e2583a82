//! Reading all of the index and holding it against its checksums: the database does neither in daily work.
//!
//! What the database calls a check of its integrity mends what it finds, by going back to an earlier state: that would be a home put back in
//! time, which nobody has asked for. So it works on a copy: what it writes stays in memory, and is forgotten.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Builder, DatabaseError, StorageBackend};

use super::Index;
use crate::error::StoreError;
use crate::limits::INDEX_CACHE_BYTES;

/// The unit in which what was written over the file is kept, in bytes.
const BLOCK_BYTES: u64 = 4_096;

impl Index {
    /// What is wrong with the index; none if all of it is what was written. Nobody writes meanwhile.
    pub(crate) fn check(&self) -> Result<Option<String>, StoreError> {
        let database = self.database()?;
        // The database takes some of what it reads for granted.
        let found = catch_unwind(AssertUnwindSafe(|| {
            let writing = database.begin_write()?;
            let over = Over { len: self.file.len()?, blocks: BTreeMap::new() };
            let found = integrity(Copy { file: Arc::clone(&self.file), over: Mutex::new(over) });
            writing.abort()?;
            Ok::<_, StoreError>(found)
        }));
        match found {
            Ok(Ok(Ok(true))) => Ok(None),
            Ok(Ok(Ok(false) | Err(DatabaseError::RepairAborted))) => Ok(Some("parts of it are not what was written".to_owned())),
            Ok(Ok(Err(DatabaseError::Storage(redb::StorageError::Io(error))))) => Err(redb::StorageError::Io(error).into()),
            Ok(Ok(Err(error))) => Ok(Some(error.to_string())),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(Some("it cannot be read".to_owned())),
        }
    }
}

/// Whether all pages are what their checksums say. An index that would first have to be mended is not.
fn integrity(copy: Copy) -> Result<bool, DatabaseError> {
    let mut builder = Builder::new();
    builder.set_cache_size(INDEX_CACHE_BYTES).set_repair_callback(redb::RepairSession::abort);
    builder.create_with_backend(copy)?.check_integrity()
}

/// The file of the index, and in memory what was written over it.
#[derive(Debug)]
struct Copy {
    file: Arc<dyn StorageBackend>,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Copy {
    fn over(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block as it is in the file; beyond its end, zeros.
    fn block_of_file(&self, number: u64) -> io::Result<Vec<u8>> {
        let (from, len) = (number * BLOCK_BYTES, self.file.len()?);
        let there = usize::try_from(len.saturating_sub(from).min(BLOCK_BYTES)).map_err(io::Error::other)?;
        let mut block = vec![0; there];
        self.file.read(from, &mut block)?;
        block.resize(usize::try_from(BLOCK_BYTES).map_err(io::Error::other)?, 0);
        Ok(block)
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
                None => out[part].copy_from_slice(&self.block_of_file(number)?[within..within + count]),
            }
            Ok(())
        })
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
                None => self.block_of_file(number)?,
            };
            let block = over.blocks.entry(number).or_insert(block);
            block[within..within + part.len()].copy_from_slice(&data[part]);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
