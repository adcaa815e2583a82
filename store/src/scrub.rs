//! Scrubbing: reading what is held whole, slowly, to find what has rotten before somebody needs it.
//!
//! A pass goes through the records in order of SHA-1. Where it is and what it found is kept, so that it goes on after a restart. No snapshot
//! and no lock is held while bytes are read: a blob may be deleted, and put again, meanwhile.

use std::io;

use bincode::{Decode, Encode};
use keepwell_protocol::id::BlobId;
use keepwell_protocol::wire;
use redb::ReadableTable;

use crate::blobs::BlobRecord;
use crate::error::StoreError;
use crate::fsck::Fault;
use crate::row;
use crate::store::Store;
use crate::tables::{Access, Tables, Writing};

/// The row of `meta` that says how scrubbing does.
const SCRUB: &str = "scrub";

/// What scrubbing has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct ScrubState {
    /// The pass that is under way, and the blob that it goes on at.
    pub under_way: Option<(ScrubPass, BlobId)>,
    /// The last pass that has come to its end.
    pub last: Option<ScrubPass>,
    /// Blobs that all passes together have found lost or rotten.
    pub rotten: u64,
}

/// One pass over all that is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct ScrubPass {
    /// When it began, in Unix milliseconds.
    pub began_ms: u64,
    /// When it ended; until then, when it last did something.
    pub ended_ms: u64,
    /// Blobs that it has read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs whose bytes were lost or rotten.
    pub rotten: u64,
    /// Blobs that could not be read at that time, which says nothing of their bytes.
    pub unreadable: u64,
}

/// What a paced read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// The bytes are what was stored.
    Whole,
    /// They are not, or cannot be read.
    Faulty(Fault),
    /// The record has changed meanwhile: nothing is said of the bytes.
    Changed,
    /// Whoever sets the pace wants no more of it.
    Stopped,
}

/// Is told how many bytes were read just now, and may take its time. An error stops the reading.
pub type Pace<'a> = dyn FnMut(usize) -> io::Result<()> + 'a;

impl<A: Access> Tables<A> {
    /// What scrubbing has come to.
    pub fn scrub_state(&self) -> Result<ScrubState, StoreError> {
        Ok(row::decode("meta", self.meta.get(SCRUB))?.unwrap_or_default())
    }
}

impl Tables<Writing<'_>> {
    /// Notes it.
    pub fn put_scrub_state(&mut self, state: &ScrubState) -> Result<(), StoreError> {
        self.meta.insert(SCRUB, wire::encode(state).as_slice())?;
        Ok(())
    }
}

impl Store {
    /// Reads all bytes of a blob that is recorded so, at a pace, and compares them with what was stored.
    pub fn check_paced(&self, id: &BlobId, record: &BlobRecord, pace: &mut Pace<'_>) -> Result<Checked, StoreError> {
        if !self.is_recorded_as(id, record)? {
            return Ok(Checked::Changed);
        }
        let mut is_stopped = false;
        let opened = self.open_to_check(&*self.snapshot()?, id, record)?;
        let fault = match opened {
            Err(fault) => Some(fault),
            Ok(bytes) => {
                let mut sink = |piece: &[u8]| pace(piece.len()).inspect_err(|_| is_stopped = true);
                self.check_bytes(&record.fact(*id), &bytes, &mut sink)?
            }
        };
        if is_stopped {
            return Ok(Checked::Stopped);
        }
        if !self.is_recorded_as(id, record)? {
            return Ok(Checked::Changed);
        }
        Ok(fault.map_or(Checked::Whole, Checked::Faulty))
    }

    /// Whether the record of `id` is still this one, but for when it was verified and how long it stays: a blob that was deleted and put again
    /// has other times or another place.
    pub fn is_recorded_as(&self, id: &BlobId, record: &BlobRecord) -> Result<bool, StoreError> {
        let BlobRecord { verified_ms, grace_until_ms, .. } = *record;
        let found = self.snapshot()?.blob(id)?;
        Ok(found.is_some_and(|found| BlobRecord { verified_ms, grace_until_ms, ..found } == *record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::hash_bytes;
    use crate::layout;
    use crate::testing::{GRACE_MS, LARGE, NOW_MS, TestHome, bytes_of, golden, id_of};

    fn held(home: &TestHome, bytes: &[u8]) -> (BlobId, BlobRecord) {
        home.put(bytes).unwrap();
        let id = id_of(bytes);
        (id, home.snapshot().blob(&id).unwrap().unwrap())
    }

    #[test]
    fn how_far_a_pass_has_come_outlives_a_restart() {
        let home = TestHome::new();
        assert_eq!(home.snapshot().scrub_state().unwrap(), ScrubState::default());
        let pass = ScrubPass { began_ms: 1, ended_ms: 2, blobs: 3, bytes: 4, rotten: 5, unreadable: 6 };
        let state = ScrubState { under_way: Some((pass, BlobId([7; 20]))), last: Some(pass), rotten: 8 };
        home.write(|txn| txn.put_scrub_state(&state));
        assert_eq!(home.reopened().snapshot().scrub_state().unwrap(), state);
        assert_eq!(golden(&ScrubState { under_way: None, last: Some(pass), rotten: 7 }), "01000101020304050607");
    }

    #[test]
    fn every_byte_is_read_at_the_pace_and_a_flipped_bit_is_found() {
        let home = TestHome::new();
        let bytes = bytes_of(1, LARGE);
        let (id, record) = held(&home, &bytes);
        let mut read = 0;
        let mut pace = |bytes| {
            read += bytes;
            Ok(())
        };
        assert_eq!(home.store.check_paced(&id, &record, &mut pace).unwrap(), Checked::Whole);
        assert_eq!(read, LARGE);
        home.disk.flip_bit(&layout::blob_file(&id), 77).unwrap();
        let checked = home.store.check_paced(&id, &record, &mut |_| Ok(())).unwrap();
        assert_eq!(checked, Checked::Faulty(Fault::Rotten));
        let mut refuse = |_| Err(io::ErrorKind::Other.into());
        assert_eq!(home.store.check_paced(&id, &record, &mut refuse).unwrap(), Checked::Stopped);
    }

    #[test]
    fn a_blob_that_is_deleted_while_it_is_read_is_not_accused_also_when_it_is_put_again() {
        let home = TestHome::new();
        let bytes = bytes_of(1, LARGE);
        let (id, record) = held(&home, &bytes);
        home.disk.flip_bit(&layout::blob_file(&id), 77).unwrap();
        let mut deletes = |_| {
            home.delete(&id).unwrap();
            home.store.unlink(&id, NOW_MS).unwrap();
            Ok(())
        };
        assert_eq!(home.store.check_paced(&id, &record, &mut deletes).unwrap(), Checked::Changed);
        let placed = home.place(&bytes).unwrap();
        home.write(|txn| txn.record(placed, NOW_MS + 1, GRACE_MS));
        assert_eq!(home.store.check_paced(&id, &record, &mut |_| Ok(())).unwrap(), Checked::Changed);
        assert_eq!(hash_bytes(&home.read(&id).unwrap().unwrap()).fact.sha1, id);
        assert!(!home.store.is_recorded_as(&id, &record).unwrap());
    }
}
