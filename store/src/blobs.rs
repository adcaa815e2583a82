//! The records of blobs. Existence is answered from them alone; a record implies bytes.

use std::io;

use bincode::{Decode, Encode};
use keepwell_protocol::gc::permit::Permit;
use keepwell_protocol::id::{B3, BlobFact, BlobId};
use keepwell_protocol::wire;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::fs::{BlobFile, SharedFs};
use crate::hash::Outboard;
use crate::layout;
use crate::place::{Placed, PlacedBody};
use crate::row;
use crate::store::{Snapshot, Transaction};
use crate::tables::{Access, Tables, Writing};
use crate::unlink::UnlinkRow;

/// Where a blob's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Place {
    /// In the index, under this arrival number.
    Inline(u64),
    /// In its file.
    File,
}

/// What is recorded of a blob that this node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct BlobRecord {
    /// Its size.
    pub size_bytes: u64,
    /// Its BLAKE3.
    pub b3: B3,
    /// Where its bytes are.
    pub place: Place,
    /// When it came to be held, in Unix milliseconds.
    pub added_ms: u64,
    /// When its bytes were last read and found whole, in Unix milliseconds.
    pub verified_ms: Option<u64>,
    /// Until when it stays without being live, in Unix milliseconds: see `unneeded`.
    pub grace_until_ms: u64,
}

impl BlobRecord {
    /// The identity of the blob `sha1` that this records.
    pub fn fact(&self, sha1: BlobId) -> BlobFact {
        BlobFact { sha1, b3: self.b3, size_bytes: self.size_bytes }
    }
}

/// What became of a blob that was to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// It is held now.
    New,
    /// It was held before.
    Existed,
    /// Another blob with this SHA-1 is held: the first is kept.
    Collision(BlobFact),
}

impl<A: Access> Tables<A> {
    /// The record of `id`, if this node holds it.
    pub fn blob(&self, id: &BlobId) -> Result<Option<BlobRecord>, StoreError> {
        row::decode("blobs", self.blobs.get(id.as_bytes()))
    }

    /// Visits all records, in order of id, from `from` on, until `visit` returns false.
    pub fn visit_blobs<E: From<StoreError>>(
        &self,
        from: &BlobId,
        mut visit: impl FnMut(BlobId, BlobRecord) -> Result<bool, E>,
    ) -> Result<(), E> {
        for row in self.blobs.range::<&[u8; 20]>(from.as_bytes()..).map_err(StoreError::from)? {
            let (id, record) = row.map_err(StoreError::from)?;
            if !visit((*id.value()).into(), row::decode_bytes("blobs", record.value())?)? {
                break;
            }
        }
        Ok(())
    }

    /// The BLAKE3 values of the groups of one span of a blob; none for a blob of one group.
    pub fn span(&self, id: &BlobId, span: u32) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.spans.get((id.as_bytes(), span))?.map(|row| row.value().to_vec()))
    }

    fn inline_bytes(&self, arrival: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.bytes.get(arrival)?.map(|row| row.value().to_vec()))
    }
}

impl Transaction<'_> {
    /// Records a blob whose bytes are in place, and takes back a queued removal of those bytes. A blob that was held before is given
    /// the grace all the same, and its copy is whole again whatever had become of it.
    ///
    /// The blob's lock is kept until the commit, so that no worker removes the bytes meanwhile.
    pub fn record(&mut self, placed: Placed, now_ms: u64, grace_until_ms: u64) -> Result<Recorded, StoreError> {
        let (fact, body, outboard) = placed.into_parts();
        let place = match body {
            PlacedBody::Inline(bytes) => Err(bytes),
            PlacedBody::File(guard) => {
                self.hold(guard);
                Ok(Place::File)
            }
        };
        if let Some(known) = self.blob(&fact.sha1)? {
            if known.fact(fact.sha1) != fact {
                return Ok(Recorded::Collision(known.fact(fact.sha1)));
            }
            let mended = self.mend(&fact.sha1, &known, &place, &outboard, now_ms)?;
            if !self.renew_grace_of(&fact.sha1, &mended, grace_until_ms)? && mended != known {
                self.put_record(&fact.sha1, &mended)?;
            }
            return Ok(Recorded::Existed);
        }
        let place = place.or_else(|bytes| self.put_inline(&bytes))?;
        let BlobFact { size_bytes, b3, .. } = fact;
        let record = BlobRecord { size_bytes, b3, place, added_ms: now_ms, verified_ms: Some(now_ms), grace_until_ms };
        self.put_record(&fact.sha1, &record)?;
        self.begin_grace(&fact.sha1, grace_until_ms)?;
        self.put_spans(&fact.sha1, &outboard)?;
        self.unlinks.remove(fact.sha1.as_bytes())?;
        self.remove_partial(&fact.sha1)?;
        Ok(Recorded::New)
    }

    /// Deletes a blob: its record goes now, and its bytes to the trash once this is durable. What it was, or none if it was not held.
    pub fn delete(&mut self, permit: Permit, now_ms: u64) -> Result<Option<BlobRecord>, StoreError> {
        let (id, ground) = (permit.blob(), permit.ground());
        let Some(record) = self.take_record(&id)? else { return Ok(None) };
        if record.place == Place::File {
            let row = UnlinkRow { queued_ms: now_ms, attempts: 0, last_error: None };
            self.unlinks.insert(id.as_bytes(), wire::encode(&row).as_slice())?;
        }
        self.put_in_trash(&id, &record, now_ms, ground)?;
        Ok(Some(record))
    }
}

impl Tables<Writing<'_>> {
    /// Replaces what is recorded of a blob that is held.
    pub fn put_record(&mut self, id: &BlobId, record: &BlobRecord) -> Result<(), StoreError> {
        self.blobs.insert(id.as_bytes(), wire::encode(record).as_slice())?;
        Ok(())
    }

    /// Notes that the bytes of a blob were found whole, if it is still held: its record may have changed while they were read.
    pub fn note_verified(&mut self, fact: &BlobFact, now_ms: u64) -> Result<(), StoreError> {
        match self.blob(&fact.sha1)? {
            Some(record) if record.fact(fact.sha1) == *fact => {
                self.put_record(&fact.sha1, &BlobRecord { verified_ms: Some(now_ms), ..record })
            }
            _ => Ok(()),
        }
    }

    /// Replaces the values that verify ranges of a blob, which have been made anew from its bytes.
    pub fn mend_group_values(&mut self, id: &BlobId, outboard: &Outboard) -> Result<(), StoreError> {
        self.spans.retain_in((id.as_bytes(), 0)..=(id.as_bytes(), u32::MAX), |_, _| false)?;
        self.put_spans(id, outboard)
    }

    /// Forgets a record whose bytes `fsck` has found missing or rotten: a false record, not a deletion of data.
    pub fn remove_record(&mut self, id: &BlobId) -> Result<Option<BlobRecord>, StoreError> {
        let record: Option<BlobRecord> = row::decode("blobs", self.blobs.remove(id.as_bytes()))?;
        if let Some(BlobRecord { place: Place::Inline(arrival), .. }) = record {
            self.remove_inline(arrival)?;
        }
        self.remove_spans_unless_used(id)?;
        self.drop_unneeded(id)?;
        Ok(record)
    }

    /// Makes whole what there is of a blob that is held, from bytes of it that were just read; what is to be recorded of it from now on. A
    /// file of it lies in its place already.
    fn mend(
        &mut self,
        id: &BlobId,
        known: &BlobRecord,
        fresh: &Result<Place, Vec<u8>>,
        outboard: &Outboard,
        now_ms: u64,
    ) -> Result<BlobRecord, StoreError> {
        let place = match (known.place, fresh) {
            (Place::File, Ok(Place::File)) => Place::File,
            (Place::Inline(arrival), Err(bytes)) if self.has_inline(arrival, bytes)? => known.place,
            // What stands under the number may be another blob's by now, so it stays.
            (Place::Inline(_), Err(bytes)) => self.put_inline(bytes)?,
            // A limit of another build's: the bytes went elsewhere than they are.
            _ => return Ok(*known),
        };
        if !self.has_spans(id, outboard)? {
            self.mend_group_values(id, outboard)?;
        }
        Ok(BlobRecord { place, verified_ms: Some(now_ms), ..*known })
    }

    fn has_inline(&self, arrival: u64, bytes: &[u8]) -> Result<bool, StoreError> {
        Ok(self.bytes.get(arrival)?.is_some_and(|row| row.value() == bytes))
    }

    fn has_spans(&self, id: &BlobId, outboard: &Outboard) -> Result<bool, StoreError> {
        for (span, number) in outboard.spans.iter().zip(0u32..) {
            if self.span(id, number)? != Some(span.groups.concat()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes away the record alone: what else there is of the blob goes with it to the trash.
    fn take_record(&mut self, id: &BlobId) -> Result<Option<BlobRecord>, StoreError> {
        let record = row::decode("blobs", self.blobs.remove(id.as_bytes()))?;
        self.drop_unneeded(id)?;
        Ok(record)
    }

    pub(crate) fn remove_inline(&mut self, arrival: u64) -> Result<(), StoreError> {
        self.bytes.remove(arrival)?;
        Ok(())
    }

    /// The group values of a blob serve its record and its row in the trash alike.
    pub(crate) fn remove_spans_unless_used(&mut self, id: &BlobId) -> Result<(), StoreError> {
        if self.blob(id)?.is_none() && self.trashed(id)?.is_none() { self.remove_spans(id) } else { Ok(()) }
    }

    /// Keeps the BLAKE3 values of the groups of one span.
    pub(crate) fn put_span(&mut self, id: &BlobId, span: u32, groups: &[[u8; 32]]) -> Result<(), StoreError> {
        self.spans.insert((id.as_bytes(), span), groups.concat().as_slice())?;
        Ok(())
    }

    pub(crate) fn remove_spans(&mut self, id: &BlobId) -> Result<(), StoreError> {
        self.spans.retain_in((id.as_bytes(), 0)..=(id.as_bytes(), u32::MAX), |_, _| false)?;
        Ok(())
    }

    fn put_inline(&mut self, bytes: &[u8]) -> Result<Place, StoreError> {
        let arrival = self.bytes.last()?.map_or(0, |(number, _)| number.value() + 1);
        self.bytes.insert(arrival, bytes)?;
        Ok(Place::Inline(arrival))
    }

    fn put_spans(&mut self, id: &BlobId, outboard: &Outboard) -> Result<(), StoreError> {
        for (span, number) in outboard.spans.iter().zip(0u32..) {
            self.put_span(id, number, &span.groups)?;
        }
        Ok(())
    }
}

/// The bytes of a held blob, open for reading at any offset, also while the blob is deleted.
pub enum Bytes {
    /// In memory.
    Inline(Vec<u8>),
    /// In a file, with the size it must have.
    File(Box<dyn BlobFile>, u64),
}

impl Bytes {
    pub(crate) fn open(fs: &SharedFs, snapshot: &Snapshot, id: &BlobId, record: &BlobRecord) -> Result<Bytes, StoreError> {
        match record.place {
            Place::Inline(arrival) => {
                let missing = || StoreError::Inconsistent(format!("blob {id} has a record but no bytes; run `keepwell fsck`"));
                snapshot.inline_bytes(arrival)?.map(Bytes::Inline).ok_or_else(missing)
            }
            Place::File => {
                let path = layout::blob_file(id);
                let file = fs.open(&path).map_err(|source| StoreError::file("cannot open", path.as_str(), source))?;
                Ok(Bytes::File(file, record.size_bytes))
            }
        }
    }

    /// The size.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Bytes::Inline(bytes) => bytes.len() as u64,
            Bytes::File(_, size_bytes) => *size_bytes,
        }
    }

    /// Reads at an offset; fewer bytes than asked only at the end.
    pub fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        match self {
            Bytes::File(file, _) => file.read_at(buffer, offset_bytes),
            Bytes::Inline(bytes) => {
                let start = usize::try_from(offset_bytes).unwrap_or(usize::MAX).min(bytes.len());
                let taken = buffer.len().min(bytes.len() - start);
                buffer[..taken].copy_from_slice(&bytes[start..start + taken]);
                Ok(taken)
            }
        }
    }
}

#[cfg(test)]
mod tests;
