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
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{blocking, framed_length, read_frame};
use crate::limits::{BULK_IDLE, SERVE_BATCH_BYTES};

/// Answers questions until the asker closes the stream, breaks the protocol, or is silent for [`BULK_IDLE`].
pub async fn serve(store: Arc<Store>, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    loop {
        let Ok(frame) = timeout(BULK_IDLE, read_frame(&mut stream)).await else { return Ok(()) };
        let Some(frame) = frame? else { return Ok(()) };
        let request = BulkRequest::decode(&frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut next = Some(request);
        while let Some(request) = next.take() {
            let from = Arc::clone(&store);
            let (answer, rest) = blocking(move || answer(&from, request)).await?.map_err(io::Error::other)?;
            stream.write_all(&answer).await?;
            next = rest;
        }
        stream.flush().await?;
    }
}

/// The answer as it goes on the wire, and what of the question is still to be answered.
fn answer(store: &Store, request: BulkRequest) -> Result<(Vec<u8>, Option<BulkRequest>), StoreError> {
    let snapshot = store.snapshot()?;
    let mut wire = Vec::new();
    match request {
        BulkRequest::Small(ids) => {
            let rest = small(store, &snapshot, &ids, &mut wire)?;
            return Ok((wire, rest));
        }
        BulkRequest::SpanValues(id) => put_values(&mut wire, span_values(&snapshot, &id)?)?,
        BulkRequest::GroupValues { blob, span } => put_values(&mut wire, group_values(&snapshot, &blob, span)?)?,
        BulkRequest::Range { blob, offset_bytes, length_bytes } => {
            let bytes = range(store, &snapshot, &blob, offset_bytes, length_bytes as usize)?;
            put_bytes(&mut wire, bytes)?;
        }
    }
    Ok((wire, None))
}

fn small(store: &Store, snapshot: &Snapshot, ids: &[BlobId], wire: &mut Vec<u8>) -> Result<Option<BulkRequest>, StoreError> {
    for (at, id) in ids.iter().enumerate() {
        if wire.len() >= SERVE_BATCH_BYTES {
            return Ok(Some(BulkRequest::Small(ids[at..].to_vec())));
        }
        let record = snapshot.blob(id)?.filter(|record| record.size_bytes <= MAX_SMALL_BYTES);
        let bytes = match record {
            Some(record) => read(store, snapshot, id, &record, 0, usize::try_from(record.size_bytes).unwrap_or(usize::MAX))?,
            None => None,
        };
        put_bytes(wire, bytes)?;
    }
    Ok(None)
}

fn range(store: &Store, snapshot: &Snapshot, id: &BlobId, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
    match snapshot.blob(id)? {
        Some(record) if offset.checked_add(length as u64).is_some_and(|end| end <= record.size_bytes) => {
            read(store, snapshot, id, &record, offset, length)
        }
        _ => Ok(None),
    }
}

/// Some bytes of a blob; none when the disk does not give them, which is for `fsck` to find out, not for the asker.
fn read(
    store: &Store,
    snapshot: &Snapshot,
    id: &BlobId,
    record: &BlobRecord,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>, StoreError> {
    let bytes = match store.open_blob(snapshot, id, record) {
        Ok(bytes) => bytes,
        Err(StoreError::File { .. } | StoreError::Inconsistent(_)) => return Ok(None),
        Err(other) => return Err(other),
    };
    let mut buffer = vec![0; length];
    match bytes.read_at(&mut buffer, offset) {
        Ok(read) if read == length => Ok(Some(buffer)),
        _ => Ok(None),
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

fn put_values(wire: &mut Vec<u8>, values: Option<Vec<[u8; 32]>>) -> Result<(), StoreError> {
    put_head(wire, &values.map_or(BulkReply::Absent, BulkReply::Values))
}

fn put_bytes(wire: &mut Vec<u8>, bytes: Option<Vec<u8>>) -> Result<(), StoreError> {
    let length = bytes.as_ref().and_then(|bytes| u32::try_from(bytes.len()).ok());
    put_head(wire, &length.map_or(BulkReply::Absent, BulkReply::Bytes))?;
    wire.extend(bytes.unwrap_or_default());
    Ok(())
}

fn put_head(wire: &mut Vec<u8>, head: &BulkReply) -> Result<(), StoreError> {
    let frame = head.encode();
    let length = framed_length(&frame).map_err(|error| StoreError::Inconsistent(error.to_string()))?;
    wire.extend(length);
    wire.extend(frame);
    Ok(())
}
