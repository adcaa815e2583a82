//! What two nodes say to each other: how far each has come, what one wants of the other's log, entries, and questions about copies.
//!
//! Gossip is a hint, pull is the truth: whatever gets lost, comparing two [`Ack`]s says what is missing, and a [`Want`] fetches it.

use bincode::{Decode, Encode};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::vector::{Chain, Head, Vector};
use crate::catalog::usage::{UseReport, UseRequest};
use crate::gc::question::{Question, SignedAnswer};
use crate::gc::request::{DropReport, DropRequest};
use crate::id::{BootId, NetworkId, NodeId, Seq};
use crate::limits::{MAX_MESSAGE_BYTES, MAX_QUESTION_BLOBS, MAX_WANTS};
use crate::wire::{self, WireError};

/// What is signed in an acknowledgement, so that the signature means nothing elsewhere.
const ACK_DOMAIN: &[u8] = b"keepwell ack v1\0";

/// What one node tells another.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// How far the sender has come, durably.
    Status(SignedAck),
    /// Entries that the sender would like to have.
    Pull(Vec<Want>),
    /// Entries, in a causal order: fresh ones, or what was pulled.
    Entries {
        /// Each as it was signed.
        entries: Vec<Vec<u8>>,
        /// Whether what was pulled goes on beyond these.
        more: bool,
    },
    /// Two entries of one position: their author forked.
    Fork(ForkProof),
    /// Asks whether the receiver keeps some blobs.
    Question(Question),
    /// The answer to a question.
    Answer(SignedAnswer),
    /// Asks the receiver to give up copies of its own.
    DropRequest(DropRequest),
    /// What became of them.
    DropReport(DropReport),
    /// What the clock of the sender shows.
    Clock {
        /// In Unix milliseconds.
        now_ms: u64,
    },
    /// Asks the receiver to write that a ref is used.
    UseRequest(UseRequest),
    /// Whether it has.
    UseReport(UseReport),
}

/// The entries of one chain after a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Want {
    /// Whose.
    pub chain: Chain,
    /// The last position that is not wanted; 0 for all.
    pub after: u64,
}

/// Two signed entries of one author and position.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ForkProof {
    /// One of them.
    pub one: Vec<u8>,
    /// The other.
    pub other: Vec<u8>,
}

/// A node's word on how far it has come. Only its latest counts, and only in the boot that it names.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ack {
    /// For which network.
    pub network: NetworkId,
    /// Whose word it is.
    pub node: NodeId,
    /// The boot in which it was given.
    pub boot: BootId,
    /// The last entry of that boot; 0 before the first.
    pub seq: u64,
    /// What it had applied, durably, when it said so.
    pub persisted: Vector,
}

/// An acknowledgement with the signature of its node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedAck {
    ack: Ack,
    signature: [u8; Signature::BYTE_SIZE],
}

/// Why a message is not acceptable.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Past [`MAX_MESSAGE_BYTES`].
    #[error("message of {size} bytes exceeds the limit of {MAX_MESSAGE_BYTES}")]
    TooLarge {
        /// Its size, in bytes.
        size: usize,
    },
    /// Not the format.
    #[error("unreadable message: {0}")]
    Unreadable(#[from] WireError),
    /// Past [`MAX_WANTS`].
    #[error("pull of {count} chains; the limit is {MAX_WANTS}")]
    TooManyWants {
        /// How many it asks for.
        count: usize,
    },
    /// Past [`MAX_QUESTION_BLOBS`].
    #[error("question about {count} blobs; the limit is {MAX_QUESTION_BLOBS}")]
    TooManyBlobs {
        /// How many it asks about.
        count: usize,
    },
    /// Not signed by the node that it speaks for, or meant for another network.
    #[error("acknowledgement is not by node {0}")]
    BadAck(NodeId),
}

impl Message {
    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Reads what a peer sent.
    pub fn decode(bytes: &[u8]) -> Result<Message, MessageError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(MessageError::TooLarge { size: bytes.len() });
        }
        let message = wire::decode(bytes)?;
        match &message {
            Message::Pull(wants) if wants.len() > MAX_WANTS => Err(MessageError::TooManyWants { count: wants.len() }),
            Message::Question(question) if !question.is_within_limits() => {
                Err(MessageError::TooManyBlobs { count: question.blobs.len() })
            }
            Message::DropRequest(asked) if !asked.is_within_limits() => {
                Err(MessageError::TooManyBlobs { count: asked.blobs.len() })
            }
            Message::DropReport(report) if !report.is_within_limits() => {
                Err(MessageError::TooManyBlobs { count: report.outcomes.len() })
            }
            _ => Ok(message),
        }
    }
}

impl Ack {
    /// Signs it.
    pub fn sign(self, key: &SigningKey) -> SignedAck {
        let signature = key.sign(&self.signed_message()).to_bytes();
        SignedAck { ack: self, signature }
    }

    fn signed_message(&self) -> Vec<u8> {
        [ACK_DOMAIN, &wire::encode(self)].concat()
    }
}

impl SignedAck {
    /// What it claims, signed or not.
    pub fn claimed(&self) -> &Ack {
        &self.ack
    }

    /// The statement, if `node` has signed it for `network`.
    pub fn open(self, node: &NodeId, network: &NetworkId) -> Result<Ack, MessageError> {
        let refused = || MessageError::BadAck(*node);
        if self.ack.node != *node || self.ack.network != *network {
            return Err(refused());
        }
        let key = VerifyingKey::from_bytes(node.as_bytes()).map_err(|_| refused())?;
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&self.ack.signed_message(), &signature).map_err(|_| refused())?;
        Ok(self.ack)
    }
}

/// What to pull from somebody who has come as far as `theirs`, having come as far as `mine`.
pub fn wants(mine: &Vector, theirs: &Vector) -> Vec<Want> {
    let news = theirs.news_since(mine).into_iter();
    news.map(|(chain, _)| Want { chain, after: mine.seq(&chain) }).take(MAX_WANTS).collect()
}

/// The chains on which two vectors disagree at one and the same position: proof of a fork is there to be had.
pub fn contradictions(mine: &Vector, theirs: &Vector) -> Vec<(Chain, Seq)> {
    let differs = |chain: &Chain, head: &Head| mine.head(chain).is_some_and(|own| own.seq == head.seq && own.hash != head.hash);
    theirs.0.iter().filter(|(chain, head)| differs(chain, head)).map(|(chain, head)| (*chain, head.seq)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::EntryHash;
    use crate::log::entry::node_id;

    fn chain(n: u8) -> Chain {
        Chain { node: NodeId([n; 32]), boot: BootId([n; 16]) }
    }

    fn vector(heads: &[(u8, u64, u8)]) -> Vector {
        let head = |seq, hash| Head { seq: Seq(seq), hash: EntryHash([hash; 32]) };
        Vector(heads.iter().map(|(n, seq, hash)| (chain(*n), head(*seq, *hash))).collect())
    }

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn ack(key: &SigningKey) -> SignedAck {
        let persisted = vector(&[(1, 3, 13)]);
        Ack { network: NetworkId([9; 32]), node: node_id(key), boot: BootId([1; 16]), seq: 3, persisted }.sign(key)
    }

    #[test]
    fn one_wants_what_the_other_has_beyond_it() {
        let (mine, theirs) = (vector(&[(1, 3, 13), (2, 5, 25)]), vector(&[(1, 4, 14), (2, 5, 25), (3, 1, 31)]));
        assert_eq!(wants(&mine, &theirs), [Want { chain: chain(1), after: 3 }, Want { chain: chain(3), after: 0 }]);
        assert!(wants(&theirs, &mine).is_empty());
    }

    #[test]
    fn two_hashes_at_one_position_are_a_contradiction() {
        let (mine, theirs) = (vector(&[(1, 3, 13), (2, 5, 25)]), vector(&[(1, 3, 99), (2, 6, 26)]));
        assert_eq!(contradictions(&mine, &theirs), [(chain(1), Seq(3))]);
    }

    #[test]
    fn an_acknowledgement_is_its_nodes_alone_and_for_its_network() {
        let network = NetworkId([9; 32]);
        assert_eq!(ack(&key(1)).open(&node_id(&key(1)), &network).unwrap().seq, 3);
        assert!(ack(&key(1)).open(&node_id(&key(2)), &network).is_err());
        assert!(ack(&key(1)).open(&node_id(&key(1)), &NetworkId([8; 32])).is_err());
        let mut forged = ack(&key(1));
        forged.ack.seq = 4;
        assert!(forged.open(&node_id(&key(1)), &network).is_err());
    }

    #[test]
    fn messages_round_trip_and_are_refused_past_max_message_bytes() {
        let message = Message::Entries { entries: vec![vec![1, 2], vec![3]], more: true };
        assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        assert!(matches!(Message::decode(&vec![1; MAX_MESSAGE_BYTES + 1]), Err(MessageError::TooLarge { .. })));
        assert!(matches!(Message::decode(&vec![1; MAX_MESSAGE_BYTES]), Err(MessageError::Unreadable(_))));
    }

    #[test]
    fn a_pull_is_bounded_at_max_wants() {
        let pull = |count| Message::decode(&Message::Pull(vec![Want { chain: chain(1), after: 0 }; count]).encode());
        assert!(pull(MAX_WANTS).is_ok());
        assert!(matches!(pull(MAX_WANTS + 1), Err(MessageError::TooManyWants { .. })));
    }
}
