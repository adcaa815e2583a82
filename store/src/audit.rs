//! The audit log: what was deleted here and on what it rested, and whatever else a person may ask about later. It is this node's own
//! affair; no verdict reads it.
//!
//! A note is written in the transaction that does what it tells of, so there is no deletion without one. Notes have ascending numbers that
//! are never used again; only so many are kept, and the oldest go.

use bincode::{Decode, Encode};
use keepwell_protocol::id::{BlobFact, BlobId, BootId, NodeId, StorageId};
use keepwell_protocol::wire;
use redb::{ReadableTable, ReadableTableMetadata};

use crate::error::StoreError;
use crate::limits::AUDIT_ROWS;
use crate::row;
use crate::tables::{Access, Tables, Writing};

/// Something worth remembering. Kinds are only ever added, at the end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Note {
    /// Blobs were deleted because nothing needs them.
    Purged {
        /// Which, each with its size.
        blobs: Vec<(BlobId, u64)>,
        /// A digest of what was applied here when they had become unneeded.
        seen: [u8; 32],
        /// The members that acknowledged as much, each with how far its own log had come.
        acknowledged: Vec<(NodeId, u64)>,
        /// Whether nobody had asked for it.
        by_itself: bool,
    },
    /// A surplus copy was given up.
    Dropped {
        /// Of which blob.
        blob: BlobFact,
        /// Who had proven a copy, and on which disk.
        proof: Vec<(NodeId, StorageId)>,
    },
    /// An operator deleted a blob by name.
    Deleted {
        /// Which.
        blob: BlobFact,
    },
    /// A record was taken back, because its bytes are not there or not what was stored.
    Forgotten {
        /// Of which blob.
        blob: BlobFact,
        /// What was found.
        why: String,
    },
    /// A blob was brought back from the trash.
    Restored {
        /// Which.
        blob: BlobFact,
        /// Whether nobody had asked for it: something names it again.
        by_itself: bool,
    },
    /// A blob was refused: it has the SHA-1 of another one, which is kept.
    Collided {
        /// The one that is kept.
        kept: BlobFact,
        /// The one that was refused.
        refused: BlobFact,
    },
    /// A node signed two entries of one position.
    Forked {
        /// Who.
        node: NodeId,
    },
    /// This disk was rolled back.
    RolledBack {
        /// The boot that was lost.
        boot: BootId,
    },
    /// An entry breaks a rule, and does not count.
    Refused {
        /// Whose.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// A member was declared dead, or alive after all.
    Declared {
        /// Who.
        node: NodeId,
        /// Whether it is dead.
        is_dead: bool,
        /// Who says so.
        by: NodeId,
    },
    /// The bytes of a deleted blob could not be moved out of the way.
    UnlinkFailed {
        /// Which.
        blob: BlobId,
        /// Why not.
        why: String,
    },
    /// They could, after they could not.
    Unlinked {
        /// Which.
        blob: BlobId,
        /// How often it had been tried in vain.
        attempts: u32,
    },
    /// A blob was held whose bytes could not be read.
    Unreadable {
        /// Which.
        blob: BlobFact,
        /// Why not.
        why: String,
    },
    /// A blob whose bytes had been lost or had rotten here was fetched again.
    Repaired {
        /// Which.
        blob: BlobId,
        /// From whom.
        from: Vec<NodeId>,
    },
    /// A copy was given up by command, without the proof of others.
    GivenUp {
        /// Of which blob.
        blob: BlobFact,
        /// Who asked for it.
        by: String,
    },
    /// A member was removed, or taken in again.
    Removed {
        /// Who.
        node: NodeId,
        /// Whether it is no member any more.
        is_removed: bool,
        /// Who says so.
        by: NodeId,
    },
    /// Another process runs on a copy of this home, under the same key.
    Twin,
    /// Damage was found in the index.
    IndexDamaged {
        /// What.
        why: String,
    },
    /// The index was found whole, and in agreement with the log, after damage had been found in it.
    IndexWhole,
}

/// A note and when it was written.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Noted {
    /// In Unix milliseconds, by this node's clock.
    pub at_ms: u64,
    /// What happened.
    pub note: Note,
}

impl<A: Access> Tables<A> {
    /// At most `limit` notes with numbers above `number`, the oldest first; all from the beginning for none.
    pub fn notes_after(&self, number: Option<u64>, limit: usize) -> Result<Vec<(u64, Noted)>, StoreError> {
        let from = number.map_or(0, |number| number.saturating_add(1));
        let rows = self.audit.range(from..)?.take(limit);
        rows.map(|row| {
            let (number, noted) = row?;
            Ok((number.value(), row::decode_bytes("audit", noted.value())?))
        })
        .collect()
    }

    /// The number of the newest note.
    pub fn last_note(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.audit.last()?.map(|(number, _)| number.value()))
    }
}

impl Tables<Writing<'_>> {
    /// Remembers something, and forgets the oldest beyond [`AUDIT_ROWS`].
    pub fn note(&mut self, now_ms: u64, note: Note) -> Result<(), StoreError> {
        let number = self.last_note()?.map_or(1, |last| last + 1);
        let noted = Noted { at_ms: now_ms, note };
        self.audit.insert(number, wire::encode(&noted).as_slice())?;
        while self.audit.len()? > AUDIT_ROWS {
            self.audit.pop_first()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW_MS, TestHome, fact, golden};

    fn deleted(n: u8) -> Note {
        Note::Deleted { blob: fact(n) }
    }

    #[test]
    fn notes_are_read_in_the_order_in_which_they_were_written_from_any_of_them_on() {
        let home = TestHome::new();
        assert_eq!((home.snapshot().notes_after(None, 9).unwrap(), home.snapshot().last_note().unwrap()), (vec![], None));
        home.write(|txn| (1..=3).try_for_each(|n| txn.note(NOW_MS, deleted(n))));
        let home = home.reopened();
        let read = |after, limit| -> Vec<(u64, Note)> {
            let notes = home.snapshot().notes_after(after, limit).unwrap();
            notes.into_iter().map(|(number, noted)| (number, noted.note)).collect()
        };
        assert_eq!(read(None, 2), [(1, deleted(1)), (2, deleted(2))]);
        assert_eq!(read(Some(2), 9), [(3, deleted(3))]);
        assert_eq!((read(Some(3), 9), read(Some(u64::MAX), 9)), (vec![], vec![]));
        assert_eq!(home.snapshot().last_note().unwrap(), Some(3));
    }

    #[test]
    fn audit_rows_are_kept_and_beyond_them_the_oldest_go() {
        let home = TestHome::new();
        home.write(|txn| (0..AUDIT_ROWS).try_for_each(|_| txn.note(NOW_MS, deleted(1))));
        let ends = || {
            let snapshot = home.snapshot();
            (snapshot.notes_after(None, 1).unwrap()[0].0, snapshot.last_note().unwrap().unwrap())
        };
        assert_eq!(ends(), (1, AUDIT_ROWS));
        home.write(|txn| txn.note(NOW_MS, deleted(2)));
        assert_eq!(ends(), (2, AUDIT_ROWS + 1), "no number is used twice");
    }

    #[test]
    fn the_bytes_of_a_note_are_what_they_were() {
        let note = Note::Purged { blobs: vec![(BlobId([1; 20]), 5)], seen: [2; 32], acknowledged: vec![], by_itself: true };
        let (sha1, seen) = ("01".repeat(20), "02".repeat(32));
        assert_eq!(golden(&Noted { at_ms: 3, note }), format!("01030001{sha1}05{seen}0001"));
    }
}
