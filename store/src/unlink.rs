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

use crate::audit::Note;
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
        self.queued_unlinks_from(&BlobId([0; BlobId::LEN]), usize::MAX)
    }

    /// At most `limit` removals that are due, ascending by SHA-1 from `from` on.
    pub fn queued_unlinks_from(&self, from: &BlobId, limit: usize) -> Result<Vec<(BlobId, UnlinkRow)>, StoreError> {
        let rows = self.unlinks.range::<&[u8; 20]>(from.as_bytes()..)?.take(limit);
        rows.map(|row| {
            let (id, value) = row?;
            Ok(((*id.value()).into(), row::decode_bytes("unlinks", value.value())?))
        })
        .collect()
    }

    /// The queued removal of `id`, if there is one.
    pub fn queued_unlink(&self, id: &BlobId) -> Result<Option<UnlinkRow>, StoreError> {
        row::decode("unlinks", self.unlinks.get(id.as_bytes()))
    }

    /// The removals that have been tried in vain.
    pub fn failed_unlinks(&self) -> Result<Vec<(BlobId, UnlinkRow)>, StoreError> {
        Ok(self.queued_unlinks()?.into_iter().filter(|(_, row)| row.attempts > 0).collect())
    }
}

/// A removal that was tried under the blob's lock, and is still to be synced and noted: see [`Store::note_moved`].
#[derive(Debug)]
#[must_use = "the blob stays locked, and its removal queued"]
pub struct Moved {
    guard: BlobGuard,
    row: UnlinkRow,
    /// Why the file could not be moved, if so.
    failed: Option<String>,
}

impl Moved {
    /// Whose file it was.
    pub fn blob(&self) -> BlobId {
        self.guard.id()
    }
}

/// What came of trying to move one file.
#[derive(Debug)]
pub enum Move {
    /// Somebody else has the blob in hand.
    Busy,
    /// The blob is wanted again, or was dealt with before.
    NotQueued,
    /// It was tried.
    Tried(Moved),
}

impl Store {
    /// Moves the bytes of a deleted blob to `trash/`, unless the blob has been put again.
    pub fn unlink(&self, id: &BlobId, now_ms: u64) -> Result<Unlinked, StoreError> {
        let Move::Tried(moved) = self.move_under(self.locks().lock(*id))? else { return Ok(Unlinked::NotQueued) };
        let done = self.note_moved(vec![moved], now_ms)?;
        Ok(done.into_iter().next().unwrap_or(Unlinked::NotQueued))
    }

    /// As [`Store::unlink`], for many, which are synced and noted together, and for whoever may not wait: those that somebody else has in
    /// hand are returned. Who puts a blob holds its lock until the engine has answered: an engine that waited for it would wait for ever.
    pub fn try_unlink(&self, ids: &[BlobId], now_ms: u64) -> Result<Vec<BlobId>, StoreError> {
        let (mut moved, mut busy) = (Vec::new(), Vec::new());
        for id in ids {
            match self.try_move(id)? {
                Move::Busy => busy.push(*id),
                Move::NotQueued => {}
                Move::Tried(one) => moved.push(one),
            }
        }
        self.note_moved(moved, now_ms)?;
        Ok(busy)
    }

    /// The first half of an unlink, which may take as long as the file system does: tries to move one file. It is not durable yet.
    pub fn try_move(&self, id: &BlobId) -> Result<Move, StoreError> {
        self.locks().try_lock(*id).map_or(Ok(Move::Busy), |guard| self.move_under(guard))
    }

    fn move_under(&self, guard: BlobGuard) -> Result<Move, StoreError> {
        let Some(row) = self.snapshot()?.queued_unlink(&guard.id())? else { return Ok(Move::NotQueued) };
        let failed = self.rename_to_trash(&guard.id()).err().map(|error| error.to_string());
        Ok(Move::Tried(Moved { guard, row, failed }))
    }

    /// The second half, for many together: what was moved is synced and leaves the queue; why the rest was not is noted.
    pub fn note_moved(&self, moved: Vec<Moved>, now_ms: u64) -> Result<Vec<Unlinked>, StoreError> {
        if moved.is_empty() {
            return Ok(Vec::new());
        }
        let mut moved = moved;
        self.sync_moved(&mut moved);
        self.write(|txn| moved.iter().try_for_each(|one| txn.note_unlinked(one, now_ms)))?;
        Ok(moved.into_iter().map(|one| one.failed.map_or(Unlinked::Done, Unlinked::Failed)).collect())
    }

    /// Makes durable what was moved; what cannot be has failed.
    fn sync_moved(&self, moved: &mut [Moved]) {
        let mut folders: BTreeMap<HomePath, Result<(), String>> = BTreeMap::new();
        for one in moved.iter().filter(|one| one.failed.is_none()) {
            folders.insert(layout::blob_folder(&one.guard.id()), Ok(()));
        }
        if folders.is_empty() {
            return;
        }
        let trash = self.fs().sync_folder(&layout::trash_folder()).map_err(|error| error.to_string());
        for (folder, synced) in &mut folders {
            *synced = trash.clone().and_then(|()| self.fs().sync_folder(folder).map_err(|error| error.to_string()));
        }
        for one in moved.iter_mut().filter(|one| one.failed.is_none()) {
            one.failed = folders.get(&layout::blob_folder(&one.guard.id())).and_then(|synced| synced.clone().err());
        }
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
    /// Takes what is out of the way off the queue, or notes why it is not. People are told of the first failure, and of its end.
    fn note_unlinked(&mut self, moved: &Moved, now_ms: u64) -> Result<(), StoreError> {
        let (blob, attempts) = (moved.guard.id(), moved.row.attempts);
        let Some(why) = &moved.failed else {
            self.unlinks.remove(blob.as_bytes())?;
            return if attempts > 0 { self.note(now_ms, Note::Unlinked { blob, attempts }) } else { Ok(()) };
        };
        if attempts == 0 {
            self.note(now_ms, Note::UnlinkFailed { blob, why: why.clone() })?;
        }
        let (attempts, last_error) = (attempts.saturating_add(1), Some(why.clone()));
        let row = UnlinkRow { attempts, last_error, ..moved.row };
        self.unlinks.insert(blob.as_bytes(), wire::encode(&row).as_slice())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
