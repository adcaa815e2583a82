//! The unlink queue: bytes of deleted blobs that are still to be moved out of the way.
//!
//! The record goes first, durably, together with a row here. The worker then takes the blob's lock and looks at the row again: if
//! the blob has been put anew, the row is gone and the bytes stay. The bytes go to `trash/`; a failure leaves the row, with the
//! reason, to be tried again and to be seen.

use std::collections::BTreeMap;

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
use crate::tables::{Access, Tables, Writing};

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
        let done = self.unlink_under(&[self.locks().lock(*id)])?;
        Ok(done.into_iter().next().unwrap_or(Unlinked::NotQueued))
    }

    /// As [`Store::unlink`], for many, which are synced and noted together, and for whoever may not wait: those that somebody else has in
    /// hand are returned. Who puts a blob holds its lock until the engine has answered: an engine that waited for it would wait for ever.
    pub fn try_unlink(&self, ids: &[BlobId]) -> Result<Vec<BlobId>, StoreError> {
        let (mut guards, mut busy) = (Vec::new(), Vec::new());
        if ids.is_empty() {
            return Ok(busy);
        }
        for id in ids {
            match self.locks().try_lock(*id) {
                Some(guard) => guards.push(guard),
                None => busy.push(*id),
            }
        }
        self.unlink_under(&guards)?;
        Ok(busy)
    }

    /// What became of each blob whose lock is held.
    fn unlink_under(&self, guards: &[BlobGuard]) -> Result<Vec<Unlinked>, StoreError> {
        let (snapshot, mut due) = (self.snapshot()?, BTreeMap::new());
        for guard in guards {
            if let Some(row) = snapshot.queued_unlink(&guard.id())? {
                due.insert(guard.id(), row);
            }
        }
        drop(snapshot);
        let failed = self.move_to_trash(due.keys());
        if !due.is_empty() {
            self.write(|txn| txn.note_unlinked(&due, &failed))?;
        }
        let outcome = |guard: &BlobGuard| match (due.contains_key(&guard.id()), failed.get(&guard.id())) {
            (false, _) => Unlinked::NotQueued,
            (true, None) => Unlinked::Done,
            (true, Some(reason)) => Unlinked::Failed(reason.clone()),
        };
        Ok(guards.iter().map(outcome).collect())
    }

    /// Moves the files of these blobs, durably; why, of those where that failed.
    fn move_to_trash<'a>(&self, ids: impl Iterator<Item = &'a BlobId>) -> BTreeMap<BlobId, String> {
        let (mut moved, mut failed) = (BTreeMap::<HomePath, Vec<BlobId>>::new(), BTreeMap::new());
        for id in ids {
            match self.rename_to_trash(id) {
                Ok(()) => moved.entry(layout::blob_folder(id)).or_default().push(*id),
                Err(error) => drop(failed.insert(*id, error.to_string())),
            }
        }
        if moved.is_empty() {
            return failed;
        }
        let trash = self.fs().sync_folder(&layout::trash_folder()).map_err(|error| error.to_string());
        for (folder, ids) in moved {
            let synced = trash.clone().and_then(|()| self.fs().sync_folder(&folder).map_err(|error| error.to_string()));
            if let Err(reason) = synced {
                failed.extend(ids.into_iter().map(|id| (id, reason.clone())));
            }
        }
        failed
    }

    fn rename_to_trash(&self, id: &BlobId) -> std::io::Result<()> {
        let (from, to) = (layout::blob_file(id), layout::trash_file(id));
        self.fs().create_folders(&[layout::trash_folder()])?;
        match self.fs().rename(&from, &to) {
            // A crash kept the move from being noted, and of its two halves perhaps only the one that takes the name away: what is not
            // there is out of the way.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.is_absent(&from)? => Ok(()),
            other => other,
        }
    }

    fn is_absent(&self, path: &HomePath) -> std::io::Result<bool> {
        match self.fs().metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
            found => found.map(|_| false),
        }
    }
}

impl Tables<Writing<'_>> {
    /// Takes what is out of the way off the queue, and notes why the rest is not.
    fn note_unlinked(&mut self, due: &BTreeMap<BlobId, UnlinkRow>, failed: &BTreeMap<BlobId, String>) -> Result<(), StoreError> {
        for (id, row) in due {
            match failed.get(id) {
                None => drop(self.unlinks.remove(id.as_bytes())?),
                Some(reason) => {
                    let (attempts, last_error) = (row.attempts.saturating_add(1), Some(reason.clone()));
                    let row = UnlinkRow { attempts, last_error, ..*row };
                    self.unlinks.insert(id.as_bytes(), wire::encode(&row).as_slice())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
