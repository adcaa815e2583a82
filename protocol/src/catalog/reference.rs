//! What a ref's value says: the object its user gave it, and the blobs that the object names.

use bincode::{Decode, Encode};

use super::row::Value;
use crate::id::{B3, BlobFact, BlobId};
use crate::wire::{self, WireError};

/// One blob that a ref's object names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct RefLink {
    /// Its name.
    pub sha1: BlobId,
    /// What authenticates its bytes. Unknown only in an unbacked value whose author had never heard of the blob.
    pub proof: Option<(B3, u64)>,
}

impl RefLink {
    /// The blob's identity, if it is known.
    pub fn fact(&self) -> Option<BlobFact> {
        self.proof.map(|(b3, size_bytes)| BlobFact { sha1: self.sha1, b3, size_bytes })
    }
}

impl From<BlobFact> for RefLink {
    fn from(fact: BlobFact) -> Self {
        RefLink { sha1: fact.sha1, proof: Some((fact.b3, fact.size_bytes)) }
    }
}

/// The body of a ref's value.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RefBody {
    /// The user's object: compact JSON with sorted keys.
    pub obj: String,
    /// The user's notes on it, likewise; `null` when there are none.
    pub meta: String,
    /// The blobs that `obj` names, each once, in the object's order.
    pub links: Vec<RefLink>,
    /// When it lapses, in Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// How long it lives after its last touch, in milliseconds.
    pub ttl_access_ms: Option<u64>,
    /// Copies that its blobs shall have.
    pub copies: u32,
    /// The storage account it is charged to; none is the default lot.
    pub lot: Option<String>,
    /// Its author's clock, in Unix milliseconds: told to users, never a ground for deleting.
    pub set_at_ms: u64,
    /// Written without its author holding all it names (`--allow-missing`): it protects, and promises nothing.
    pub unbacked: bool,
}

impl RefBody {
    /// The body in a value of an item of kind `REF`.
    pub fn of(value: &Value) -> Result<RefBody, WireError> {
        wire::decode_own(&value.body)
    }

    /// The bytes to write.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }
}
