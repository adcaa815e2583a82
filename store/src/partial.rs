//! A blob that is being fetched: its bytes are gathered in `ingest/`, verified group by group as they come, in order.
//!
//! Life of a partial: [`Partial::begin`] starts it, or takes up where an earlier process was killed; [`Partial::needs`] says what to
//! ask for next; what comes is checked against values that lead up to the BLAKE3 that was known before; [`Partial::finish`] checks the
//! SHA-1 of the whole. Only then can the blob be placed and seen. A resumed partial trusts nothing on the disk either: it verifies
//! the bytes that are there again, which costs no network.

use std::io;
use std::sync::Arc;

use bincode::{Decode, Encode};
use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_protocol::limits::MAX_SPAN_VALUES;
use keepwell_protocol::wire;
use redb::ReadableTable;
use sha1::{Digest, Sha1};

use crate::error::StoreError;
use crate::fs::BlobFile;
use crate::hash::groups::{expected_group, expected_span, verify_group, verify_span, verify_span_values};
use crate::hash::{GroupError, Outboard, Shape, Span};
use crate::ingest::{IngestId, Ingested};
use crate::layout;
use crate::limits::{GROUP_BYTES, GROUPS_PER_SPAN, SPAN_BYTES};
use crate::row;
use crate::store::Store;
use crate::tables::{Access, Tables, Writing};

/// Why a partial cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PartialError {
    /// The peer sent something that is not the blob's: ask another.
    #[error("what was sent does not verify: {0}")]
    NotTheBlob(#[from] GroupError),
    /// Every group verified, and the whole has another SHA-1: the catalog's BLAKE3 and SHA-1 are of different blobs.
    #[error("the bytes hash to {found}, not to {wanted}: a SHA-1 collision or a false record")]
    WrongSha1 {
        /// What was asked for.
        wanted: BlobId,
        /// What the verified bytes hash to.
        found: BlobId,
    },
    /// Too large for the protocol.
    #[error("a blob of {size_bytes} bytes is past what can be transferred")]
    TooLarge {
        /// Its size.
        size_bytes: u64,
    },
    /// Bytes came out of turn.
    #[error("bytes at {found} where {wanted} was due")]
    OutOfTurn {
        /// The offset due.
        wanted: u64,
        /// The offset that came.
        found: u64,
    },
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What to ask for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The values of the blob's spans.
    SpanValues,
    /// The values of the groups of a span.
    GroupValues(u32),
    /// Bytes from here to the end of the span.
    Bytes {
        /// From where.
        offset_bytes: u64,
        /// Up to where.
        end_bytes: u64,
    },
    /// Nothing: it is whole.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct PartialRow {
    fact: BlobFact,
    ingest: [u8; 16],
    span_values: Vec<[u8; 32]>,
}

/// A blob on its way in.
pub struct Partial {
    store: Arc<Store>,
    row: PartialRow,
    shape: Shape,
    file: Box<dyn BlobFile>,
    /// The values of the groups of each span that are known, by span.
    spans: Vec<Option<Span>>,
    sha1: Sha1,
    /// Bytes from the start that are here and verified.
    done_bytes: u64,
    /// Those of them that were here before this process asked for any.
    resumed_bytes: u64,
}

impl<A: Access> Tables<A> {
    /// The ingests that belong to blobs which are being fetched.
    pub fn partial_ingests(&self) -> Result<Vec<IngestId>, StoreError> {
        self.partials
            .iter()?
            .map(|row| Ok(IngestId(row::decode_bytes::<PartialRow>("partials", row?.1.value())?.ingest)))
            .collect()
    }

    fn partial(&self, id: &BlobId) -> Result<Option<PartialRow>, StoreError> {
        row::decode("partials", self.partials.get(id.as_bytes()))
    }
}

impl Tables<Writing<'_>> {
    fn put_partial(&mut self, row: &PartialRow) -> Result<(), StoreError> {
        self.partials.insert(row.fact.sha1.as_bytes(), wire::encode(row).as_slice())?;
        Ok(())
    }

    /// Forgets that a blob was being fetched: it is recorded, or given up.
    pub(crate) fn remove_partial(&mut self, id: &BlobId) -> Result<(), StoreError> {
        self.partials.remove(id.as_bytes())?;
        Ok(())
    }
}

impl Partial {
    /// Starts to gather the blob `fact` under the name `fresh`, or goes on where an earlier process stopped.
    ///
    /// One at a time for each blob: the caller sees to that.
    pub fn begin(store: &Arc<Store>, fact: BlobFact, fresh: IngestId) -> Result<Partial, PartialError> {
        let shape = Shape::of(fact.size_bytes);
        if shape.spans() > MAX_SPAN_VALUES as u64 {
            return Err(PartialError::TooLarge { size_bytes: fact.size_bytes });
        }
        let known = store.snapshot()?.partial(&fact.sha1)?.filter(|row| row.fact == fact);
        if let Some(row) = known
            && let Some(resumed) = Partial::resume(store, row, shape)?
        {
            return Ok(resumed);
        }
        let (row, file) = create(store, fact, fresh)?;
        Partial::on(store, row, file, shape)
    }

    /// Goes on with what an earlier process left, if that is of use.
    fn resume(store: &Arc<Store>, row: PartialRow, shape: Shape) -> Result<Option<Partial>, PartialError> {
        let path = layout::ingest_file(&IngestId(row.ingest));
        let writable = store.fs().open_to_write(&path).ok();
        // One that nobody may write to had come to its end: a kill came between that and its record.
        let was_ended = writable.is_none();
        let Some(file) = writable.or_else(|| store.fs().open(&path).ok()) else { return Ok(None) };
        let fact = row.fact;
        let partial = Partial::on(store, row, file, shape)?;
        if was_ended && partial.needs() != Need::Nothing {
            // It has rotted since. What cannot be removed now is a leftover at the next start.
            store.fs().unlink(&path).ok();
            return Ok(None);
        }
        let room = store.fs().leave_room(fact.size_bytes - partial.done_bytes);
        room.map_err(|source| StoreError::file("cannot go on with", fact.sha1.to_string(), source))?;
        Ok(Some(partial))
    }

    fn on(store: &Arc<Store>, row: PartialRow, file: Box<dyn BlobFile>, shape: Shape) -> Result<Partial, PartialError> {
        let spans = (0..shape.spans()).map(|_| None).collect();
        let mut partial =
            Partial { store: Arc::clone(store), row, shape, file, spans, sha1: Sha1::new(), done_bytes: 0, resumed_bytes: 0 };
        partial.take_up()?;
        Ok(partial)
    }

    /// What to ask for next. Ask again after it has been taken.
    pub fn needs(&self) -> Need {
        if self.done_bytes == self.row.fact.size_bytes {
            return Need::Nothing;
        }
        if self.shape.span_values() > 0 && self.row.span_values.is_empty() {
            return Need::SpanValues;
        }
        let span = self.done_bytes / SPAN_BYTES as u64;
        if self.needs_groups(span) {
            return Need::GroupValues(u32::try_from(span).unwrap_or(u32::MAX));
        }
        let end_bytes = ((span + 1) * SPAN_BYTES as u64).min(self.row.fact.size_bytes);
        Need::Bytes { offset_bytes: self.done_bytes, end_bytes }
    }

    /// What is being fetched.
    pub fn fact(&self) -> BlobFact {
        self.row.fact
    }

    /// Bytes that are here and verified.
    pub fn done_bytes(&self) -> u64 {
        self.done_bytes
    }

    /// Bytes that an earlier process had fetched.
    pub fn resumed_bytes(&self) -> u64 {
        self.resumed_bytes
    }

    /// Takes the values of the spans.
    pub fn take_span_values(&mut self, values: Vec<[u8; 32]>) -> Result<(), PartialError> {
        verify_span_values(self.row.fact.b3, self.row.fact.size_bytes, &values)?;
        self.row.span_values = values;
        let row = &self.row;
        Ok(self.store.write(|txn| txn.put_partial(row))?)
    }

    /// Takes the values of the groups of a span, and keeps them for the next process too.
    pub fn take_group_values(&mut self, span: u32, values: Vec<[u8; 32]>) -> Result<(), PartialError> {
        self.check_group_values(span, &values)?;
        let id = self.row.fact.sha1;
        self.store.write(|txn| txn.put_span(&id, span, &values))?;
        self.keep_span(span, values)?;
        Ok(())
    }

    /// Takes whole groups of bytes that begin where the verified ones end.
    pub fn take_bytes(&mut self, offset_bytes: u64, bytes: &[u8]) -> Result<(), PartialError> {
        if offset_bytes != self.done_bytes {
            return Err(PartialError::OutOfTurn { wanted: self.done_bytes, found: offset_bytes });
        }
        for (piece, number) in bytes.chunks(GROUP_BYTES).zip(self.next_group()..) {
            self.verify(number, piece)?;
        }
        let path = || layout::ingest_file(&IngestId(self.row.ingest)).as_str().to_owned();
        let room = self.store.fs().leave_room(bytes.len() as u64);
        room.and_then(|()| self.file.write_all_at(bytes, offset_bytes))
            .map_err(|source| StoreError::file("cannot write", path(), source))?;
        self.sha1.update(bytes);
        self.done_bytes += bytes.len() as u64;
        Ok(())
    }

    /// The whole blob, durable and ready to be placed.
    pub fn finish(self) -> Result<Ingested, PartialError> {
        let found = BlobId(self.sha1.clone().finalize().into());
        let fact = self.row.fact;
        if found != fact.sha1 {
            let store = Arc::clone(&self.store);
            self.abandon()?;
            drop(store);
            return Err(PartialError::WrongSha1 { wanted: fact.sha1, found });
        }
        let spans = if self.shape.groups() == 1 { Vec::new() } else { self.spans.into_iter().flatten().collect() };
        let outboard = Outboard { spans };
        let done = |source: io::Error| StoreError::file("cannot finish", fact.sha1.to_string(), source);
        self.file.set_read_only().map_err(done)?;
        self.file.sync().map_err(done)?;
        Ok(Ingested::gathered(self.store.fs(), IngestId(self.row.ingest), fact, outboard))
    }

    /// Gives up: nothing of it remains.
    pub fn abandon(self) -> Result<(), PartialError> {
        let Partial { store, row, file, .. } = self;
        drop(file);
        store.write(|txn| {
            txn.remove_partial(&row.fact.sha1)?;
            if txn.blob(&row.fact.sha1)?.is_none() { txn.remove_spans(&row.fact.sha1) } else { Ok(()) }
        })?;
        // What cannot be removed now is a leftover at the next start.
        store.fs().unlink(&layout::ingest_file(&IngestId(row.ingest))).ok();
        Ok(())
    }

    /// Goes through what is on the disk, as far as it verifies.
    fn take_up(&mut self) -> Result<(), PartialError> {
        let snapshot = self.store.snapshot()?;
        for span in 0..u32::try_from(self.shape.spans()).unwrap_or(u32::MAX) {
            let Some(bytes) = snapshot.span(&self.row.fact.sha1, span)? else { continue };
            let values: Vec<[u8; 32]> = bytes.chunks_exact(32).filter_map(|value| value.try_into().ok()).collect();
            if self.check_group_values(span, &values).is_ok() {
                self.keep_span(span, values)?;
            }
        }
        let mut group = vec![0; GROUP_BYTES];
        while matches!(self.needs(), Need::Bytes { .. }) {
            let wanted = self.shape.group_bytes(self.next_group())?;
            let piece = &mut group[..usize::try_from(wanted).unwrap_or(GROUP_BYTES)];
            if self.file.read_at(piece, self.done_bytes).ok() != Some(piece.len())
                || self.verify(self.next_group(), piece).is_err()
            {
                break;
            }
            self.sha1.update(&*piece);
            self.done_bytes += wanted;
        }
        self.resumed_bytes = self.done_bytes;
        Ok(())
    }

    fn next_group(&self) -> u64 {
        self.done_bytes / GROUP_BYTES as u64
    }

    fn needs_groups(&self, span: u64) -> bool {
        let known = usize::try_from(span).ok().and_then(|at| self.spans.get(at)).is_some_and(Option::is_some);
        self.shape.groups() > 1 && !known
    }

    /// Whether the values of a span's groups are still to be asked for; for asking ahead.
    pub fn lacks_group_values(&self, span: u32) -> bool {
        u64::from(span) < self.shape.spans() && self.needs_groups(u64::from(span))
    }

    fn check_group_values(&self, span: u32, values: &[[u8; 32]]) -> Result<(), GroupError> {
        let BlobFact { b3, size_bytes, .. } = self.row.fact;
        let expected = expected_span(b3, size_bytes, &self.row.span_values, span.into())?;
        verify_span(size_bytes, span.into(), values, &expected)
    }

    fn keep_span(&mut self, span: u32, groups: Vec<[u8; 32]>) -> Result<(), GroupError> {
        let slot = self.spans.get_mut(span as usize).ok_or(GroupError::OutOfRange { index: span.into() })?;
        *slot = Some(Span { groups });
        Ok(())
    }

    fn verify(&self, group: u64, bytes: &[u8]) -> Result<(), GroupError> {
        let BlobFact { b3, size_bytes, .. } = self.row.fact;
        let span = usize::try_from(group / GROUPS_PER_SPAN as u64).unwrap_or(usize::MAX);
        let values = self.spans.get(span).and_then(Option::as_ref).map(|span| span.groups.as_slice()).unwrap_or_default();
        let expected = expected_group(b3, size_bytes, values, group)?;
        verify_group(size_bytes, group, bytes, &expected)
    }
}

fn create(store: &Arc<Store>, fact: BlobFact, fresh: IngestId) -> Result<(PartialRow, Box<dyn BlobFile>), StoreError> {
    let row = PartialRow { fact, ingest: fresh.0, span_values: Vec::new() };
    let path = layout::ingest_file(&fresh);
    let failed = |source| StoreError::file("cannot create", path.as_str(), source);
    store.fs().leave_room(fact.size_bytes).map_err(failed)?;
    store.fs().create_folders(&[layout::ingest_folder()]).map_err(failed)?;
    let file = store.fs().create_new(&path).map_err(failed)?;
    store.write(|txn| txn.put_partial(&row))?;
    Ok((row, file))
}

#[cfg(test)]
mod tests;
