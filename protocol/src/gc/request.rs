//! Asking another node to give up its own copies: "drop these", and what became of each.
//!
//! A node deletes only its own copies (R1), so whoever is asked runs a round of its own, by its own proof, and says what it came to. Its
//! word is for people to read: nothing is decided by it.

use bincode::{Decode, Encode};

use super::Missing;
use super::question::Why;
use crate::id::{BlobFact, BlobId, NodeId, Nonce};
use crate::limits::{MAX_QUESTION_BLOBS, MAX_REPORTED_NODES};

/// Asks a node to give up its copies of some blobs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DropRequest {
    /// What the report is bound to.
    pub nonce: Nonce,
    /// The blobs, at most [`MAX_QUESTION_BLOBS`].
    pub blobs: Vec<BlobId>,
}

/// What a request to give up copies came to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DropReport {
    /// That of the request.
    pub nonce: Nonce,
    /// One for each blob, in no order, at most [`MAX_QUESTION_BLOBS`].
    pub outcomes: Vec<Outcome>,
    /// Members that have not been heard since that node started, the first [`MAX_REPORTED_NODES`] of them.
    pub unheard: Vec<NodeId>,
}

/// What became of one copy.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Outcome {
    /// Of which blob.
    pub blob: BlobId,
    /// What is gone there.
    pub gone: Option<BlobFact>,
    /// What stood in the way.
    pub missing: Vec<Missing>,
    /// Who would not vouch for a copy, and why: the first [`MAX_REPORTED_NODES`] of them.
    pub refusals: Vec<(NodeId, Why)>,
    /// Who is said to hold one and has not answered, or cannot be asked: the first [`MAX_REPORTED_NODES`] of them.
    pub silent: Vec<NodeId>,
}

impl DropRequest {
    /// Whether it keeps within its limit.
    pub fn is_within_limits(&self) -> bool {
        self.blobs.len() <= MAX_QUESTION_BLOBS
    }
}

impl DropReport {
    /// The same within the limits of a message.
    #[must_use]
    pub fn cut(mut self) -> DropReport {
        self.outcomes.truncate(MAX_QUESTION_BLOBS);
        self.unheard.truncate(MAX_REPORTED_NODES);
        for outcome in &mut self.outcomes {
            outcome.refusals.truncate(MAX_REPORTED_NODES);
            outcome.silent.truncate(MAX_REPORTED_NODES);
        }
        self
    }

    /// Whether it keeps within its limit.
    pub fn is_within_limits(&self) -> bool {
        self.outcomes.len() <= MAX_QUESTION_BLOBS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::B3;
    use crate::limits::MAX_MESSAGE_BYTES;
    use crate::log::exchange::{Message, MessageError};
    use crate::wire;

    fn outcome(nodes: usize) -> Outcome {
        Outcome {
            blob: BlobId([2; 20]),
            gone: Some(BlobFact { sha1: BlobId([2; 20]), b3: B3([3; 32]), size_bytes: u64::MAX }),
            missing: vec![Missing::Copies { have: 1, need: 2 }, Missing::Leave(Why::JustStarted), Missing::Unpinned],
            refusals: vec![(NodeId([4; 32]), Why::Behind); nodes],
            silent: vec![NodeId([5; 32]); nodes],
        }
    }

    fn report(outcomes: usize, nodes: usize) -> DropReport {
        DropReport { nonce: Nonce([1; 16]), outcomes: vec![outcome(nodes); outcomes], unheard: vec![NodeId([6; 32]); nodes] }
    }

    #[test]
    fn requests_and_reports_are_bounded_at_max_question_blobs() {
        let request = |blobs| Message::DropRequest(DropRequest { nonce: Nonce([1; 16]), blobs: vec![BlobId([2; 20]); blobs] });
        assert!(Message::decode(&request(MAX_QUESTION_BLOBS).encode()).is_ok());
        let too_many = Message::decode(&request(MAX_QUESTION_BLOBS + 1).encode());
        assert!(matches!(too_many, Err(MessageError::TooManyBlobs { count }) if count == MAX_QUESTION_BLOBS + 1));
        let told = |outcomes| Message::decode(&Message::DropReport(report(outcomes, 0)).encode());
        assert!(told(MAX_QUESTION_BLOBS).is_ok());
        assert!(matches!(told(MAX_QUESTION_BLOBS + 1), Err(MessageError::TooManyBlobs { .. })));
    }

    #[test]
    fn the_largest_report_fits_in_a_message_and_names_max_reported_nodes() {
        let cut = report(MAX_QUESTION_BLOBS + 1, MAX_REPORTED_NODES + 1).cut();
        assert_eq!((cut.outcomes.len(), cut.unheard.len()), (MAX_QUESTION_BLOBS, MAX_REPORTED_NODES));
        assert!(cut.outcomes.iter().all(|outcome| *outcome == self::outcome(MAX_REPORTED_NODES)));
        let message = Message::DropReport(cut);
        assert!(message.encode().len() <= MAX_MESSAGE_BYTES);
        assert_eq!(Message::decode(&message.encode()).unwrap(), message);
    }

    #[test]
    fn the_bytes_of_a_report_never_change() {
        // Golden bytes: a change of them makes nodes of two versions misunderstand each other about copies.
        assert_eq!(blake3::hash(&wire::encode(&report(1, 1))).to_string(), GOLDEN);
    }

    const GOLDEN: &str = "86b496aa0ea7f85b4d07036352a085045bd099e4c42f2a1c1505f2d78b853a0e";
}
