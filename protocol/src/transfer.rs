//! What is said on a bulk stream: a node asks for blobs and ranges, another answers, in order, without waiting in between.
//!
//! Requests and the heads of replies are frames; the bytes of blobs follow their head unframed. Nothing here is trusted: the asker
//! verifies every group of bytes against values that lead up to a BLAKE3 it knew before, and the SHA-1 of the whole at the end.

use bincode::{Decode, Encode};

use crate::id::BlobId;
use crate::limits::{MAX_RANGE_BYTES, MAX_SMALL_BLOBS, MAX_SPAN_VALUES};
use crate::wire::{self, WireError};

/// One question on a bulk stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum BulkRequest {
    /// Whole small blobs; one reply each, in order.
    Small(Vec<BlobId>),
    /// The BLAKE3 values of a blob's spans.
    SpanValues(BlobId),
    /// The BLAKE3 values of the groups of one span.
    GroupValues {
        /// Of which blob.
        blob: BlobId,
        /// Which span, from 0.
        span: u32,
    },
    /// Some of a blob's bytes.
    Range {
        /// Of which blob.
        blob: BlobId,
        /// From where.
        offset_bytes: u64,
        /// How many.
        length_bytes: u32,
    },
}

/// The head of a reply.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum BulkReply {
    /// The node does not hold it, or not as far as that.
    Absent,
    /// The values asked for.
    Values(Vec<[u8; 32]>),
    /// So many bytes follow.
    Bytes(u32),
}

/// Why a frame is not acceptable.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// Not the format.
    #[error("unreadable bulk frame: {0}")]
    Unreadable(#[from] WireError),
    /// Past a limit.
    #[error("bulk frame with {count} {what}; the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}

impl BulkRequest {
    /// The frame to send.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Reads a peer's question.
    pub fn decode(frame: &[u8]) -> Result<BulkRequest, BulkError> {
        let request = wire::decode(frame)?;
        match &request {
            BulkRequest::Small(ids) => within("blobs", ids.len(), MAX_SMALL_BLOBS)?,
            BulkRequest::Range { length_bytes, .. } => within("bytes", *length_bytes as usize, MAX_RANGE_BYTES)?,
            BulkRequest::SpanValues(_) | BulkRequest::GroupValues { .. } => {}
        }
        Ok(request)
    }
}

impl BulkReply {
    /// The frame to send; after `Bytes`, the bytes.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Reads the head of a peer's answer.
    pub fn decode(frame: &[u8]) -> Result<BulkReply, BulkError> {
        let reply = wire::decode(frame)?;
        match &reply {
            BulkReply::Values(values) => within("values", values.len(), MAX_SPAN_VALUES)?,
            BulkReply::Bytes(length) => within("bytes", *length as usize, MAX_RANGE_BYTES)?,
            BulkReply::Absent => {}
        }
        Ok(reply)
    }
}

fn within(what: &'static str, count: usize, limit: usize) -> Result<(), BulkError> {
    if count <= limit { Ok(()) } else { Err(BulkError::TooMany { what, count, limit }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip() {
        let request = BulkRequest::Range { blob: BlobId([7; 20]), offset_bytes: 1 << 40, length_bytes: 5 };
        assert_eq!(BulkRequest::decode(&request.encode()).unwrap(), request);
        let reply = BulkReply::Values(vec![[1; 32], [2; 32]]);
        assert_eq!(BulkReply::decode(&reply.encode()).unwrap(), reply);
    }

    #[test]
    fn a_request_is_bounded_at_max_small_blobs_and_max_range_bytes() {
        let small = |count| BulkRequest::decode(&BulkRequest::Small(vec![BlobId([0; 20]); count]).encode());
        assert!(small(MAX_SMALL_BLOBS).is_ok());
        assert!(matches!(small(MAX_SMALL_BLOBS + 1), Err(BulkError::TooMany { what: "blobs", .. })));
        let range = |bytes: usize| {
            let length_bytes = u32::try_from(bytes).unwrap();
            BulkRequest::decode(&BulkRequest::Range { blob: BlobId([0; 20]), offset_bytes: 0, length_bytes }.encode())
        };
        assert!(range(MAX_RANGE_BYTES).is_ok());
        assert!(matches!(range(MAX_RANGE_BYTES + 1), Err(BulkError::TooMany { what: "bytes", .. })));
    }

    #[test]
    fn a_reply_is_bounded_at_max_span_values() {
        let values = |count| BulkReply::decode(&BulkReply::Values(vec![[0; 32]; count]).encode());
        assert!(values(MAX_SPAN_VALUES).is_ok());
        assert!(matches!(values(MAX_SPAN_VALUES + 1), Err(BulkError::TooMany { what: "values", .. })));
        let past = u32::try_from(MAX_RANGE_BYTES + 1).unwrap();
        assert!(BulkReply::decode(&BulkReply::Bytes(past).encode()).is_err());
    }
}
