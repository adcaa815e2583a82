//! Reading blobs back, verified group by group before a byte leaves.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use keepwell_protocol::id::{B3, BlobFact, BlobId};
use keepwell_protocol::uri::BlobUri;
use keepwell_store::blobs::{BlobRecord, Bytes};
use keepwell_store::error::StoreError;
use keepwell_store::hash::groups::{expected_group, verify_group};
use keepwell_store::limits::{GROUP_BYTES, GROUPS_PER_SPAN};
use keepwell_store::store::Snapshot;

use super::Node;
use super::backend::Backend;
use super::collision;
use crate::failure::{Code, Failure};

/// Why a blob was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The blob is not here, or not what it should be.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Whoever takes the bytes takes no more.
    #[error("cannot write")]
    Sink(#[source] io::Error),
}

/// A blob that is here, opened.
pub struct Blob {
    id: BlobId,
    record: BlobRecord,
    snapshot: Arc<Snapshot>,
    bytes: Bytes,
}

/// Opens a blob that is held here. If the URI says which BLAKE3 it has, a blob with another one is not it.
pub fn open(node: &dyn Node, uri: &BlobUri) -> Result<Blob, Failure> {
    let snapshot = node.store().snapshot()?;
    let id = uri.sha1;
    let record = snapshot.blob(&id)?;
    let record = record.ok_or_else(|| Failure::no_provider(format!("nobody here has blob {id}"), &[id]))?;
    if uri.b3.is_some_and(|b3| b3 != record.b3) {
        return Err(Failure::new(Code::Integrity, format!("the blob {id} that is stored here is not the one that is meant"))
            .hint("two files with this SHA-1 exist; look for the other one on another node")
            .about("sha1", id.to_string())
            .about("here_b3", record.b3.to_string()));
    }
    let bytes = node.store().open_blob(&snapshot, &id, &record)?;
    Ok(Blob { id, record, snapshot, bytes })
}

/// What the catalog says that a blob is, wherever it is: a ref that names it, else whoever holds it.
pub fn recorded(snapshot: &Snapshot, id: &BlobId) -> Result<Option<BlobFact>, StoreError> {
    if let Some(fact) = collision::named(snapshot, id)?.first() {
        return Ok(Some(*fact));
    }
    Ok(snapshot.holders(id)?.first().map(|holding| holding.fact))
}

impl Blob {
    /// Its size.
    pub fn size_bytes(&self) -> u64 {
        self.record.size_bytes
    }

    /// Its name.
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// Its BLAKE3.
    pub fn b3(&self) -> B3 {
        self.record.b3
    }

    /// Gives all of it to `sink`.
    pub fn copy(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), ReadError> {
        self.copy_range(0..self.record.size_bytes, sink)
    }

    /// Gives the bytes of `range`, which lies within the blob, to `sink`.
    pub fn copy_range(&self, range: Range<u64>, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), ReadError> {
        const GROUP: u64 = GROUP_BYTES as u64;
        let mut buffer = vec![0; GROUP_BYTES];
        let mut span = (u64::MAX, Vec::new());
        let mut at = range.start;
        while at < range.end {
            let group = at / GROUP;
            let spans = group / GROUPS_PER_SPAN as u64;
            if span.0 != spans {
                span = (spans, self.span(spans)?);
            }
            let bytes = self.group(group, &span.1, &mut buffer)?;
            let (from, to) = (at % GROUP, (range.end - group * GROUP).min(GROUP));
            let wanted = usize::try_from(from).ok().zip(usize::try_from(to).ok()).and_then(|(from, to)| bytes.get(from..to));
            sink(wanted.ok_or_else(|| self.rotten("it is shorter than recorded"))?).map_err(ReadError::Sink)?;
            at = group * GROUP + to;
        }
        Ok(())
    }

    fn group<'b>(&self, group: u64, span: &[[u8; 32]], buffer: &'b mut [u8]) -> Result<&'b [u8], Failure> {
        let read = self.bytes.read_at(buffer, group * GROUP_BYTES as u64).map_err(|error| {
            let message = format!("cannot read blob {}: {error}", self.id);
            Failure::new(Code::Internal, message).hint("check the disk of the home, then try again")
        })?;
        let bytes = &buffer[..read];
        let expected = expected_group(self.record.b3, self.record.size_bytes, span, group);
        let verified = expected.and_then(|expected| verify_group(self.record.size_bytes, group, bytes, &expected));
        verified.map_err(|error| self.rotten(&error.to_string()))?;
        Ok(bytes)
    }

    fn span(&self, span: u64) -> Result<Vec<[u8; 32]>, Failure> {
        let span = u32::try_from(span).map_err(|_| self.rotten("it is too large"))?;
        let values = self.snapshot.span(&self.id, span)?.unwrap_or_default();
        Ok(values.as_chunks::<32>().0.to_vec())
    }

    fn rotten(&self, why: &str) -> Failure {
        Failure::new(Code::Integrity, format!("the bytes of blob {} are not what was stored: {why}", self.id))
            .hint("run `keepwell fsck --verify`, then get the blob from another node or put it again")
            .about("sha1", self.id.to_string())
    }
}

/// All bytes of a blob that has at most `limit` of them.
pub fn read_whole(backend: &dyn Backend, uri: &BlobUri, limit: usize) -> Result<Vec<u8>, Failure> {
    let blob = backend.open(uri)?;
    if blob.size_bytes() > limit as u64 {
        return Err(Failure::usage(format!("blob {} is too large for that: more than {limit} bytes", uri.sha1)));
    }
    let mut bytes = Vec::new();
    let copied = blob.copy(&mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    match copied {
        Ok(()) => Ok(bytes),
        Err(ReadError::Failed(failure)) => Err(failure),
        Err(ReadError::Sink(error)) => Err(Failure::new(Code::Internal, error.to_string())),
    }
}
