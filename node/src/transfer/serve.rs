//! Answering on a bulk stream: what this node holds, from its records, in the order of the questions.

use std::io;
use std::sync::Arc;

use keepwell_protocol::id::BlobId;
use keepwell_protocol::limits::MAX_SMALL_BYTES;
use keepwell_protocol::transfer::{BulkReply, BulkRequest};
use keepwell_store::blobs::BlobRecord;
use keepwell_store::error::StoreError;
use keepwell_store::hash::{Shape, Span};
use keepwell_store::store::{Snapshot, Store};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{blocking, framed_length, read_frame};
use crate::limits::{ANSWERS_AHEAD, BULK_IDLE, SERVE_BATCH_BYTES};

/// Answers questions until the asker closes the stream, breaks the protocol, or is silent for [`BULK_IDLE`].
///
/// The next answer is read from the disk while one is on its way.
pub async fn serve(store: Arc<Store>, stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let (reader, writer) = split(stream);
    let (answers, due) = mpsc::channel(ANSWERS_AHEAD);
    let (spent, used) = mpsc::channel(ANSWERS_AHEAD);
    tokio::try_join!(prepare(store, reader, answers, used), say(writer, due, spent)).map(drop)
}

async fn prepare(
    store: Arc<Store>,
    mut reader: impl AsyncRead + Unpin,
    answers: mpsc::Sender<Answer>,
    mut used: mpsc::Receiver<Answer>,
) -> io::Result<()> {
    loop {
        let Ok(frame) = timeout(BULK_IDLE, read_frame(&mut reader)).await else { return Ok(()) };
        let Some(frame) = frame? else { return Ok(()) };
        let request = BulkRequest::decode(&frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut next = Some(request);
        while let Some(request) = next.take() {
            let (from, into) = (Arc::clone(&store), used.try_recv().unwrap_or_default());
            let (answer, rest) = blocking(move || answer(&from, request, into)).await?.map_err(io::Error::other)?;
            if answers.send(answer).await.is_err() {
                return Ok(());
            }
            next = rest;
        }
    }
}

async fn say(
    mut writer: impl AsyncWrite + Unpin,
    mut due: mpsc::Receiver<Answer>,
    spent: mpsc::Sender<Answer>,
) -> io::Result<()> {
    while let Some(answer) = due.recv().await {
        writer.write_all(answer.bytes()).await?;
        if due.is_empty() {
            writer.flush().await?;
        }
        // One that nobody needs again is dropped.
        spent.try_send(answer).ok();
    }
    Ok(())
}

/// Answers as they go on the wire. Used again for the next: fresh memory costs more than reading into it.
#[derive(Default)]
struct Answer {
    memory: Vec<u8>,
    len: usize,
}

impl Answer {
    fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }

    /// Room for so many bytes after those that are there; they count once `len` says so.
    fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        if self.memory.len() < end {
            self.memory.resize(end, 0);
        }
        &mut self.memory[self.len..end]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn put_head(&mut self, head: &BulkReply) -> Result<(), StoreError> {
        let frame = head.encode();
        let length = framed_length(&frame).map_err(|error| StoreError::Inconsistent(error.to_string()))?;
        self.put(&length);
        self.put(&frame);
        Ok(())
    }
    fn put_values(&mut self, values: Option<Vec<[u8; 32]>>) -> Result<(), StoreError> {
        self.put_head(&values.map_or(BulkReply::Absent, BulkReply::Values))
    }
}

/// The answer, in the memory of an earlier one, and what of the question is still to be answered.
fn answer(store: &Store, request: BulkRequest, mut into: Answer) -> Result<(Answer, Option<BulkRequest>), StoreError> {
    let snapshot = store.snapshot()?;
    into.len = 0;
    match request {
        BulkRequest::Small(ids) => {
            let rest = small(store, &snapshot, &ids, &mut into)?;
            return Ok((into, rest));
        }
        BulkRequest::SpanValues(id) => into.put_values(span_values(&snapshot, &id)?)?,
        BulkRequest::GroupValues { blob, span } => into.put_values(group_values(&snapshot, &blob, span)?)?,
        BulkRequest::Range { blob, offset_bytes, length_bytes } => {
            let end_bytes = offset_bytes.checked_add(length_bytes.into());
            let record = snapshot.blob(&blob)?.filter(|record| end_bytes.is_some_and(|end| end <= record.size_bytes));
            Read { store, snapshot: &snapshot, id: &blob, record }.put(offset_bytes, length_bytes, &mut into)?;
        }
    }
    Ok((into, None))
}

fn small(store: &Store, snapshot: &Snapshot, ids: &[BlobId], into: &mut Answer) -> Result<Option<BulkRequest>, StoreError> {
    for (at, id) in ids.iter().enumerate() {
        if into.len >= SERVE_BATCH_BYTES {
            return Ok(Some(BulkRequest::Small(ids[at..].to_vec())));
        }
        let record = snapshot.blob(id)?.filter(|record| record.size_bytes <= MAX_SMALL_BYTES);
        let length_bytes = record.map_or(0, |record| u32::try_from(record.size_bytes).unwrap_or(u32::MAX));
        Read { store, snapshot, id, record }.put(0, length_bytes, into)?;
    }
    Ok(None)
}

/// A blob to read from, if it is held.
struct Read<'a> {
    store: &'a Store,
    snapshot: &'a Snapshot,
    id: &'a BlobId,
    record: Option<BlobRecord>,
}

impl Read<'_> {
    /// Answers with some of its bytes, or that it is absent.
    fn put(&self, offset_bytes: u64, length_bytes: u32, into: &mut Answer) -> Result<(), StoreError> {
        let before = into.len;
        into.put_head(&BulkReply::Bytes(length_bytes))?;
        let length = length_bytes as usize;
        if self.read(offset_bytes, into.room(length))? {
            into.len += length;
            return Ok(());
        }
        into.len = before;
        into.put_head(&BulkReply::Absent)
    }

    /// Reads some bytes; `false` when the disk does not give them, which is for `fsck` to find out, not for the asker.
    fn read(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<bool, StoreError> {
        let Some(record) = &self.record else { return Ok(false) };
        let bytes = match self.store.open_blob(self.snapshot, self.id, record) {
            Ok(bytes) => bytes,
            Err(StoreError::File { .. } | StoreError::Inconsistent(_)) => return Ok(false),
            Err(other) => return Err(other),
        };
        Ok(bytes.read_at(buffer, offset_bytes).is_ok_and(|read| read == buffer.len()))
    }
}

fn span_values(snapshot: &Snapshot, id: &BlobId) -> Result<Option<Vec<[u8; 32]>>, StoreError> {
    let Some(record) = snapshot.blob(id)? else { return Ok(None) };
    let shape = Shape::of(record.size_bytes);
    let mut values = Vec::new();
    for span in 0..u32::try_from(shape.span_values()).unwrap_or(u32::MAX) {
        let Some(groups) = group_values(snapshot, id, span)? else { return Ok(None) };
        let Some(value) = (Span { groups }).value() else { return Ok(None) };
        values.push(value);
    }
    Ok(Some(values))
}

fn group_values(snapshot: &Snapshot, id: &BlobId, span: u32) -> Result<Option<Vec<[u8; 32]>>, StoreError> {
    if snapshot.blob(id)?.is_none() {
        return Ok(None);
    }
    let groups = snapshot.span(id, span)?;
    Ok(groups.map(|bytes| bytes.chunks_exact(32).filter_map(|value| value.try_into().ok()).collect()))
}
