//! The trash: deleted blobs that can still be brought back for a while. It is this node's own affair, and never counts as a copy.
//!
//! Life of a blob in the trash: the deleting transaction takes its record away and puts a row here; a file then goes through the unlink
//! queue to `trash/`, small bytes stay where they are and belong to the row. [`Store::retrieve`] and [`Transaction::restore`] bring it
//! back, bytes first and record second, as with any other blob; [`Store::empty_trash`] ends it, bytes first and row second, so that what
//! could not be removed stays to be seen and tried again.
//!
//! A blob that is put again while it lies here has both a record and a row, with bytes of their own each.

use std::io;

use bincode::{Decode, Encode};
use keepwell_protocol::gc::permit::Ground;
use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_protocol::wire;
use redb::ReadableTable;

use crate::blobs::{BlobRecord, Place};
use crate::counts::Count;
use crate::error::StoreError;
use crate::layout;
use crate::locks::BlobGuard;
use crate::row;
use crate::store::{Store, Transaction};
use crate::tables::{Access, Tables, Writing};

/// A blob in the trash.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Trashed {
    /// What was recorded of it.
    pub record: BlobRecord,
    /// When it was deleted, in Unix milliseconds.
    pub deleted_ms: u64,
    /// Whether it went because nothing needed it: then it comes back by itself when something does. A copy that was given up while
    /// others kept theirs does not.
    pub was_purged: bool,
    /// How often it was tried in vain to remove its bytes.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// What emptying the trash came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Emptied {
    /// Blobs that are gone for good.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs whose bytes could not be removed; their rows say why.
    pub failed: u64,
}

/// The proof that the bytes of a blob in the trash are back in place, durably: what its record is made from again.
#[derive(Debug)]
#[must_use = "a blob that was retrieved and is not restored lies among the blobs without a record"]
pub struct Retrieved {
    trashed: Trashed,
    guard: BlobGuard,
}

impl Retrieved {
    /// What it is.
    pub fn fact(&self) -> BlobFact {
        self.trashed.record.fact(self.guard.id())
    }
}

impl<A: Access> Tables<A> {
    /// The row of `id` if it lies in the trash.
    pub fn trashed(&self, id: &BlobId) -> Result<Option<Trashed>, StoreError> {
        row::decode("trash", self.trash.get(id.as_bytes()))
    }

    /// At most `limit` blobs that were deleted at or before `until_ms`, the oldest first.
    pub fn trash_until(&self, until_ms: u64, limit: usize) -> Result<Vec<BlobId>, StoreError> {
        let rows = self.trash_ages.range((0, &[0; 20])..=(until_ms, &[0xff; 20]))?.take(limit);
        rows.map(|row| Ok((*row?.0.value().1).into())).collect()
    }

    /// Whether `id` lies in the trash, is not held, and went there because nothing needed it.
    pub fn was_purged(&self, id: &BlobId) -> Result<bool, StoreError> {
        Ok(self.trashed(id)?.is_some_and(|trashed| trashed.was_purged) && self.blob(id)?.is_none())
    }

    /// At most `limit` blobs in the trash, ascending by SHA-1 from `from` on.
    pub fn trash_from(&self, from: &BlobId, limit: usize) -> Result<Vec<BlobId>, StoreError> {
        let rows = self.trash.range::<&[u8; 20]>(from.as_bytes()..)?.take(limit);
        rows.map(|row| Ok((*row?.0.value()).into())).collect()
    }

    /// When the oldest blob in the trash was deleted, in Unix milliseconds.
    pub fn oldest_trash_ms(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.trash_ages.first()?.map(|(key, _)| key.value().0))
    }

    /// Blobs in the trash, and their bytes, by a walk over all of it. The bytes alone are counted: [`Count::TrashBytes`].
    pub fn trash_size(&self) -> Result<(u64, u64), StoreError> {
        let (mut blobs, mut bytes) = (0, 0);
        for row in self.trash.iter()? {
            let trashed: Trashed = row::decode_bytes("trash", row?.1.value())?;
            blobs += 1;
            bytes += trashed.record.size_bytes;
        }
        Ok((blobs, bytes))
    }
}

impl Tables<Writing<'_>> {
    /// Puts a blob whose record has just gone into the trash. One of the same name that lies there already goes for good: they are equal.
    pub(crate) fn put_in_trash(
        &mut self,
        id: &BlobId,
        record: &BlobRecord,
        now_ms: u64,
        ground: Ground,
    ) -> Result<(), StoreError> {
        let was_purged = ground == Ground::Purge;
        let trashed = Trashed { record: *record, deleted_ms: now_ms, was_purged, attempts: 0, last_error: None };
        let before = row::decode("trash", self.trash.insert(id.as_bytes(), wire::encode(&trashed).as_slice()))?;
        before.map_or(Ok(()), |before| self.forget_trashed(id, &before))?;
        self.trash_ages.insert((now_ms, id.as_bytes()), ())?;
        self.put_count(Count::TrashBytes, self.count(Count::TrashBytes)?.saturating_add(record.size_bytes))
    }

    /// Counts the bytes in the trash anew: no log says what they are.
    pub(crate) fn recount_trash(&mut self) -> Result<(), StoreError> {
        let (_, bytes) = self.trash_size()?;
        self.put_count(Count::TrashBytes, bytes)
    }

    /// Takes a row out of the trash with the small bytes that belong to it. Group values stay for whoever uses them.
    fn remove_trashed(&mut self, id: &BlobId) -> Result<Option<Trashed>, StoreError> {
        let trashed = row::decode("trash", self.trash.remove(id.as_bytes()))?;
        if let Some(trashed) = &trashed {
            self.forget_trashed(id, trashed)?;
        }
        Ok(trashed)
    }

    /// Forgets what belongs to a row that has gone, its small bytes too.
    fn forget_trashed(&mut self, id: &BlobId, trashed: &Trashed) -> Result<(), StoreError> {
        self.uncount_trashed(id, trashed)?;
        if let Place::Inline(arrival) = trashed.record.place { self.remove_inline(arrival) } else { Ok(()) }
    }

    fn take_trashed(&mut self, id: &BlobId) -> Result<Option<Trashed>, StoreError> {
        let trashed: Option<Trashed> = row::decode("trash", self.trash.remove(id.as_bytes()))?;
        if let Some(trashed) = &trashed {
            self.uncount_trashed(id, trashed)?;
        }
        Ok(trashed)
    }

    fn uncount_trashed(&mut self, id: &BlobId, trashed: &Trashed) -> Result<(), StoreError> {
        self.trash_ages.remove((trashed.deleted_ms, id.as_bytes()))?;
        // What an older build put there was not counted; `fsck` does.
        let left = self.count(Count::TrashBytes)?.saturating_sub(trashed.record.size_bytes);
        self.put_count(Count::TrashBytes, left)
    }
}

impl Transaction<'_> {
    /// Records a blob again that was retrieved, with grace until `grace_until_ms`. False if it is recorded already, or its row is
    /// not the one that was retrieved: then nothing has happened.
    pub fn restore(&mut self, retrieved: Retrieved, grace_until_ms: u64) -> Result<bool, StoreError> {
        let Retrieved { trashed, guard } = retrieved;
        let id = guard.id();
        self.hold(guard);
        if self.blob(&id)?.is_some() || self.trashed(&id)?.as_ref() != Some(&trashed) {
            return Ok(false);
        }
        self.take_trashed(&id)?;
        self.unlinks.remove(id.as_bytes())?;
        self.put_record(&id, &BlobRecord { grace_until_ms, ..trashed.record })?;
        self.begin_grace(&id, grace_until_ms)?;
        Ok(true)
    }
}

impl Store {
    /// Brings the bytes of a blob in the trash back to where blobs live, so that it can be recorded again. None if it is not there.
    pub fn retrieve(&self, id: &BlobId) -> Result<Option<Retrieved>, StoreError> {
        self.retrieve_under(id, self.locks().lock(*id))
    }

    /// As [`Store::retrieve`], for whoever may not wait: none also while somebody else has the blob in hand.
    pub fn try_retrieve(&self, id: &BlobId) -> Result<Option<Retrieved>, StoreError> {
        self.locks().try_lock(*id).map_or(Ok(None), |guard| self.retrieve_under(id, guard))
    }

    fn retrieve_under(&self, id: &BlobId, guard: BlobGuard) -> Result<Option<Retrieved>, StoreError> {
        let snapshot = self.snapshot()?;
        if snapshot.blob(id)?.is_some() {
            return Ok(None);
        }
        let Some(trashed) = snapshot.trashed(id)? else { return Ok(None) };
        if trashed.record.place == Place::File {
            let failed = |source| StoreError::file("cannot bring back", layout::trash_file(id).as_str(), source);
            if !self.move_back(id, trashed.record.size_bytes).map_err(failed)? {
                return Ok(None);
            }
        }
        Ok(Some(Retrieved { trashed, guard }))
    }

    /// Removes for good what was deleted at or before `until_ms`, at most `limit` blobs, the oldest first. What fails, or is in somebody's
    /// hands, is left to the next call: whoever has it may be waiting for the caller.
    pub fn empty_trash(&self, until_ms: u64, limit: usize) -> Result<Emptied, StoreError> {
        self.empty_some_trash(until_ms, limit, u64::MAX)
    }

    /// As [`Store::empty_trash`], and no more once so many bytes have gone: the rest can still be brought back.
    pub fn empty_some_trash(&self, until_ms: u64, limit: usize, enough_bytes: u64) -> Result<Emptied, StoreError> {
        let ids = self.snapshot()?.trash_until(until_ms, limit)?;
        self.empty(&ids, until_ms, enough_bytes)
    }

    /// Removes these blobs for good, if they lie in the trash.
    pub fn empty_trash_of(&self, ids: &[BlobId]) -> Result<Emptied, StoreError> {
        self.empty(ids, u64::MAX, u64::MAX)
    }

    /// All bytes first, then all rows in one transaction.
    fn empty(&self, ids: &[BlobId], until_ms: u64, enough_bytes: u64) -> Result<Emptied, StoreError> {
        let guards: Vec<BlobGuard> = ids.iter().filter_map(|id| self.locks().try_lock(*id)).collect();
        let snapshot = self.snapshot()?;
        let (mut gone, mut failed, mut freed_bytes, mut is_unsynced) = (Vec::new(), Vec::new(), 0, false);
        for id in guards.iter().map(BlobGuard::id) {
            if freed_bytes >= enough_bytes {
                break;
            }
            let Some(trashed) = snapshot.trashed(&id)?.filter(|trashed| trashed.deleted_ms <= until_ms) else { continue };
            let is_recorded = snapshot.blob(&id)?.is_some();
            let removed = match trashed.record.place {
                Place::File => self.remove_file(&id, is_recorded),
                Place::Inline(_) => Ok(false),
            };
            match removed {
                Ok(was_in_trash) => {
                    is_unsynced |= was_in_trash;
                    freed_bytes += trashed.record.size_bytes;
                    gone.push((id, trashed, is_recorded));
                }
                Err(error) => failed.push((id, trashed, error.to_string())),
            }
        }
        drop(snapshot);
        if is_unsynced && let Err(error) = self.fs().sync_folder(&layout::trash_folder()) {
            failed.extend(gone.drain(..).map(|(id, trashed, _)| (id, trashed, error.to_string())));
        }
        self.note_emptied(gone, failed)
    }

    fn note_emptied(
        &self,
        gone: Vec<(BlobId, Trashed, bool)>,
        failed: Vec<(BlobId, Trashed, String)>,
    ) -> Result<Emptied, StoreError> {
        let bytes = gone.iter().map(|(_, trashed, _)| trashed.record.size_bytes).sum();
        let emptied = Emptied { blobs: gone.len() as u64, bytes, failed: failed.len() as u64 };
        if gone.is_empty() && failed.is_empty() {
            return Ok(emptied);
        }
        self.write(|txn| {
            for (id, trashed, is_recorded) in gone {
                // A blob that was put again and deleted again meanwhile has a row of its own, for other bytes.
                if txn.trashed(&id)?.as_ref() != Some(&trashed) {
                    continue;
                }
                txn.remove_trashed(&id)?;
                if !is_recorded {
                    txn.unlinks.remove(id.as_bytes())?;
                }
                txn.remove_spans_unless_used(&id)?;
            }
            for (id, trashed, error) in failed {
                if txn.trashed(&id)?.as_ref() != Some(&trashed) {
                    continue;
                }
                let row = Trashed { attempts: trashed.attempts.saturating_add(1), last_error: Some(error), ..trashed };
                txn.trash.insert(id.as_bytes(), wire::encode(&row).as_slice())?;
            }
            Ok(emptied)
        })
    }

    /// Removes a deleted blob's file wherever a crash may have left it: in the trash, and, if the blob has no record, among the
    /// blobs. Whether it was in the trash, whose folder the caller syncs.
    fn remove_file(&self, id: &BlobId, is_recorded: bool) -> io::Result<bool> {
        let was_in_trash = match self.fs().unlink(&layout::trash_file(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            outcome => outcome.map(|()| true)?,
        };
        if !is_recorded {
            self.unlink_if_there(&layout::blob_file(id), &layout::blob_folder(id))?;
        }
        Ok(was_in_trash)
    }

    fn unlink_if_there(&self, path: &crate::fs::HomePath, folder: &crate::fs::HomePath) -> io::Result<()> {
        match self.fs().unlink(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.and_then(|()| self.fs().sync_folder(folder)),
        }
    }

    /// Whether the file lies among the blobs afterwards, durably and in its full length.
    fn move_back(&self, id: &BlobId, size_bytes: u64) -> io::Result<bool> {
        let (from, to) = (layout::trash_file(id), layout::blob_file(id));
        self.fs().create_folders(&[layout::blob_folder(id), layout::trash_folder()])?;
        match self.fs().rename(&from, &to) {
            // Its removal is still queued, or an earlier attempt to bring it back has come so far.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved?,
        }
        let is_whole = match self.fs().metadata(&to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            found => found?.size_bytes == size_bytes,
        };
        self.fs().sync_folder(&layout::blob_folder(id))?;
        // In this order: a crash in between leaves two names and not none. The one in the trash must go before the row that knows of it.
        self.fs().sync_folder(&layout::trash_folder())?;
        Ok(is_whole)
    }
}

#[cfg(test)]
mod tests;
