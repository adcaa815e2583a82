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
    /// The user's notes on it, likewise; `{}` when there are none.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::change::Order;
    use crate::id::{BootId, NodeId, Seq, ValueId};

    fn link(n: u8, known: bool) -> RefLink {
        RefLink { sha1: BlobId([n; 20]), proof: known.then_some((B3([n; 32]), n.into())) }
    }

    fn body() -> RefBody {
        RefBody {
            obj: r#"{"a":"sha1://…"}"#.into(),
            meta: "null".into(),
            links: vec![link(1, true), link(2, false)],
            expires_ms: Some(1_700_000_000_000),
            ttl_access_ms: None,
            copies: 2,
            lot: Some("lab".into()),
            set_at_ms: 1_600_000_000_000,
            unbacked: true,
        }
    }

    fn value(body: Vec<u8>) -> Value {
        let id = ValueId { boot: BootId([1; 16]), seq: Seq(1), index: 0 };
        Value { id, order: Order { epoch: 0, counter: 1, boot: id.boot }, author: NodeId([1; 32]), body }
    }

    #[test]
    fn a_body_round_trips_through_a_value() {
        assert_eq!(RefBody::of(&value(body().encode())).unwrap(), body());
        let plain = RefBody { links: vec![], expires_ms: None, lot: None, unbacked: false, ..body() };
        assert_eq!(RefBody::of(&value(plain.encode())).unwrap(), plain);
    }

    #[test]
    fn a_body_that_is_cut_short_or_of_another_version_is_refused() {
        let mut bytes = body().encode();
        bytes.pop();
        assert!(RefBody::of(&value(bytes.clone())).is_err());
        bytes[0] += 1;
        assert!(matches!(RefBody::of(&value(bytes)), Err(WireError::UnknownVersion { .. })));
    }

    #[test]
    fn a_link_is_a_fact_when_its_blob_was_known() {
        let fact = BlobFact { sha1: BlobId([1; 20]), b3: B3([1; 32]), size_bytes: 1 };
        assert_eq!((link(1, true).fact(), RefLink::from(fact)), (Some(fact), link(1, true)));
        assert_eq!(link(2, false).fact(), None);
    }

    #[test]
    fn the_bytes_of_a_body_never_change() {
        // Golden bytes: a change of them breaks homes and networks in the field.
        assert_eq!(
            data_encoding::HEXLOWER.encode(&body().encode()),
            "01127b2261223a22736861313a2f2fe280a6227d046e756c6c0201010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010102020202020202020202020202020202020202020001fd0068e5cf8b010000000201036c6162fd00806e877401000001"
        );
    }
}
