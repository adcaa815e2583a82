//! The unlink queue: bytes of deleted blobs that are still to be moved out of the way.
//!
//! The record goes first, durably, together with a row here. The worker then takes the blob's lock and looks at the row again: if
//! the blob has been put anew, the row is gone and the bytes stay. The bytes go to `trash/`; a failure leaves the row, with the
//! reason, to be tried again and to be seen.

use bincode::{Decode, Encode};
use keepwell_protocol::id::BlobId;
use keepwell_protocol::wire;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::fs::HomePath;
use crate::layout;
use crate::locks::BlobGuard;
use crate::row;
use crate::store::Store;
use crate::tables::{Access, Tables};

/// One removal that is due.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UnlinkRow {
    /// When the blob was deleted, in Unix milliseconds.
    pub queued_ms: u64,
    /// How often it has been tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// What became of one removal.
#[derive(Debug, PartialEq, Eq)]
pub enum Unlinked {
    /// The bytes are out of the way, durably.
    Done,
    /// The blob is wanted again, or was dealt with before.
    NotQueued,
    /// They are still there; the row says why.
    Failed(String),
}

impl<A: Access> Tables<A> {
    /// The removals that are due, oldest name first.
    pub fn queued_unlinks(&self) -> Result<Vec<(BlobId, UnlinkRow)>, StoreError> {
        let rows = self.unlinks.iter()?;
        rows.map(|row| {
            let (id, value) = row?;
            Ok(((*id.value()).into(), row::decode_bytes("unlinks", value.value())?))
        })
        .collect()
    }

    fn queued_unlink(&self, id: &BlobId) -> Result<Option<UnlinkRow>, StoreError> {
        row::decode("unlinks", self.unlinks.get(id.as_bytes()))
    }
}

impl Store {
    /// Moves the bytes of a deleted blob to `trash/`, unless the blob has been put again.
    pub fn unlink(&self, id: &BlobId) -> Result<Unlinked, StoreError> {
        self.unlink_under(id, &self.locks().lock(*id))
    }

    /// As [`Store::unlink`], for whoever may not wait; none while somebody else has the blob in hand. Who puts a blob holds its lock
    /// until the engine has answered: an engine that waited for the lock would wait for ever.
    pub fn try_unlink(&self, id: &BlobId) -> Result<Option<Unlinked>, StoreError> {
        self.locks().try_lock(*id).map(|guard| self.unlink_under(id, &guard)).transpose()
    }

    fn unlink_under(&self, id: &BlobId, _guard: &BlobGuard) -> Result<Unlinked, StoreError> {
        let Some(row) = self.snapshot()?.queued_unlink(id)? else { return Ok(Unlinked::NotQueued) };
        match self.move_to_trash(id) {
            Ok(()) => {
                self.write(|txn| txn.unlinks.remove(id.as_bytes()).map(drop).map_err(StoreError::from))?;
                Ok(Unlinked::Done)
            }
            Err(error) => {
                let reason = error.to_string();
                let row = UnlinkRow { attempts: row.attempts.saturating_add(1), last_error: Some(reason.clone()), ..row };
                self.write(|txn| {
                    txn.unlinks.insert(id.as_bytes(), wire::encode(&row).as_slice()).map(drop).map_err(StoreError::from)
                })?;
                Ok(Unlinked::Failed(reason))
            }
        }
    }

    fn move_to_trash(&self, id: &BlobId) -> std::io::Result<()> {
        let (from, to) = (layout::blob_file(id), layout::trash_file(id));
        self.fs().create_folders(&[layout::trash_folder()])?;
        match self.fs().rename(&from, &to) {
            // A crash kept the move from being noted, and of its two halves perhaps only the one that takes the name away: what is not
            // there is out of the way.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.is_absent(&from)? => {}
            other => other?,
        }
        self.fs().sync_folder(&layout::trash_folder())?;
        self.fs().sync_folder(&layout::blob_folder(id))
    }

    fn is_absent(&self, path: &HomePath) -> std::io::Result<bool> {
        match self.fs().metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
            found => found.map(|_| false),
        }
    }
}

#[cfg(test)]
mod tests;
