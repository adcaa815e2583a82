//! What nodes say to each other about copies: "do you keep these?", and the signed answer.
//!
//! An answer names the attempt that it answers (R2), so that it counts for no other, and is signed, so that the audit log can keep it.

use bincode::{Decode, Encode};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::id::{BlobFact, BlobId, BootId, NetworkId, NodeId, Nonce, StorageId};
use crate::limits::MAX_QUESTION_BLOBS;
use crate::log::vector::Vector;
use crate::wire;

/// What is signed in an answer, so that the signature means nothing elsewhere.
const ANSWER_DOMAIN: &[u8] = b"keepwell answer v1\0";

/// What an answer is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Purpose {
    /// The asker would give up its copies.
    Drop,
    /// The asker has named the blobs, and would say how durable they are (R7).
    Confirm,
}

/// Asks whether another node keeps some blobs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Question {
    /// The attempt.
    pub nonce: Nonce,
    /// The boot of the asker in which it is made.
    pub boot: BootId,
    /// What for.
    pub purpose: Purpose,
    /// What the asker had applied when it flagged the blobs: whoever answers must know as much.
    pub seen: Vector,
    /// The blobs, at most [`MAX_QUESTION_BLOBS`].
    pub blobs: Vec<BlobFact>,
}

impl Question {
    /// Whether it keeps within its limit.
    pub fn is_within_limits(&self) -> bool {
        self.blobs.len() <= MAX_QUESTION_BLOBS
    }
}

/// Why a node does not say yes, or may not delete. Never an error: each names what must change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Why {
    /// It is not held there: not at all, in the trash, or only linked.
    NotHeld,
    /// Other bytes of the same SHA-1 are held there: a collision, which somebody must look at.
    OtherBytes,
    /// Its bytes did not pass the check.
    Damaged,
    /// The node is giving it up itself.
    Dropping,
    /// No ref reaches it in what that node knows.
    NotLive,
    /// That node does not know yet all that the asker knew.
    Behind,
    /// The asker is not a member, as far as is known there.
    NotAMember,
    /// It has started and not heard from the others yet (R11).
    JustStarted,
    /// Others know entries of its own that it does not (R11).
    RolledBack,
    /// It is about to leave.
    Draining,
    /// It may not change anything.
    ReadOnly,
    /// An admin declared it dead.
    DeclaredDead,
    /// What it knows cannot be trusted: damage was found in its index.
    IndexDamaged,
}

/// What is said of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Word {
    /// It is held, durably and whole, is live there, and is not being given up.
    Yes,
    /// None of that can be said.
    No(Why),
}

/// A node's answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Answer {
    /// For which network.
    pub network: NetworkId,
    /// Who asked.
    pub asker: NodeId,
    /// In which of its boots.
    pub boot: BootId,
    /// In which attempt.
    pub nonce: Nonce,
    /// Who answers.
    pub node: NodeId,
    /// The disk that its copies are on.
    pub storage: StorageId,
    /// What it says of each blob.
    pub words: Vec<(BlobId, Word)>,
}

/// An answer with the signature of its node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedAnswer {
    answer: Answer,
    signature: [u8; Signature::BYTE_SIZE],
}

/// An answer that does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an answer that node {0} did not sign for this network")]
pub struct BadAnswer(pub NodeId);

impl Answer {
    /// Signs it.
    pub fn sign(self, key: &SigningKey) -> SignedAnswer {
        let signature = key.sign(&self.signed_message()).to_bytes();
        SignedAnswer { answer: self, signature }
    }

    fn signed_message(&self) -> Vec<u8> {
        [ANSWER_DOMAIN, &wire::encode(self)].concat()
    }
}

impl SignedAnswer {
    /// What it claims, signed or not.
    pub fn claimed(&self) -> &Answer {
        &self.answer
    }

    /// The answer, if `node` has signed it for `network`.
    pub fn open(self, node: &NodeId, network: &NetworkId) -> Result<Answer, BadAnswer> {
        let refused = || BadAnswer(*node);
        if self.answer.node != *node || self.answer.network != *network || self.answer.words.len() > MAX_QUESTION_BLOBS {
            return Err(refused());
        }
        let key = VerifyingKey::from_bytes(node.as_bytes()).map_err(|_| refused())?;
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&self.answer.signed_message(), &signature).map_err(|_| refused())?;
        Ok(self.answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::B3;
    use crate::log::entry::node_id;

    const NETWORK: NetworkId = NetworkId([9; 32]);

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn answer(words: usize) -> Answer {
        Answer {
            network: NETWORK,
            asker: NodeId([2; 32]),
            boot: BootId([3; 16]),
            nonce: Nonce([4; 16]),
            node: node_id(&key(1)),
            storage: StorageId([5; 16]),
            words: vec![(BlobId([6; 20]), Word::No(Why::Dropping)); words],
        }
    }

    #[test]
    fn an_answer_is_its_nodes_alone_and_for_its_network() {
        let signed = answer(1).sign(&key(1));
        assert_eq!(signed.clone().open(&node_id(&key(1)), &NETWORK), Ok(answer(1)));
        assert!(signed.clone().open(&node_id(&key(2)), &NETWORK).is_err());
        assert!(signed.clone().open(&node_id(&key(1)), &NetworkId([8; 32])).is_err());
        let mut forged = signed;
        forged.answer.words[0].1 = Word::Yes;
        assert!(forged.open(&node_id(&key(1)), &NETWORK).is_err());
    }

    #[test]
    fn questions_and_answers_are_bounded_at_max_question_blobs() {
        let open = |words| answer(words).sign(&key(1)).open(&node_id(&key(1)), &NETWORK);
        assert!(open(MAX_QUESTION_BLOBS).is_ok());
        assert!(open(MAX_QUESTION_BLOBS + 1).is_err());
        let fact = BlobFact { sha1: BlobId([1; 20]), b3: B3([1; 32]), size_bytes: 1 };
        let ask = |count| Question {
            nonce: Nonce([1; 16]),
            boot: BootId([1; 16]),
            purpose: Purpose::Drop,
            seen: Vector::default(),
            blobs: vec![fact; count],
        };
        assert!(ask(MAX_QUESTION_BLOBS).is_within_limits());
        assert!(!ask(MAX_QUESTION_BLOBS + 1).is_within_limits());
    }

    #[test]
    fn the_bytes_of_an_answer_never_change() {
        // Golden bytes: a change of them makes nodes of two versions misunderstand each other about copies.
        let bytes = wire::encode(&answer(1));
        assert_eq!(blake3::hash(&bytes).to_string(), GOLDEN);
    }

    const GOLDEN: &str = "f5c2d7585348ab971e4eb5e16a7c5e22798c23fdaa41599ca76172ff957405db";
}
