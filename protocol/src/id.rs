//! The identifiers of keepwell: a newtype for each, so that none can be passed where another is meant.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use data_encoding::HEXLOWER_PERMISSIVE as HEX;

/// Why a string is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: expected {digits} hexadecimal digits")]
pub struct ParseIdError {
    what: &'static str,
    digits: usize,
    text: String,
}

/// Defines an identifier of a fixed number of bytes, written in lower-case hexadecimal.
macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Bytes in this identifier.
            pub const LEN: usize = $len;

            /// The identifier's bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let refused = || ParseIdError {
                    what: $what,
                    digits: 2 * $len,
                    text: text.chars().take(100).collect(),
                };
                let bytes = HEX.decode(text.as_bytes()).map_err(|_| refused())?;
                bytes.try_into().map(Self).map_err(|_| refused())
            }
        }
    };
}

byte_id!(
    /// The name of a blob: the SHA-1 of its bytes.
    BlobId, 20, "a SHA-1"
);
byte_id!(
    /// The BLAKE3 of a blob's bytes, which verifies any range of it and tells SHA-1 collisions apart.
    B3, 32, "a BLAKE3 hash"
);
byte_id!(
    /// A node: its ed25519 public key, so that whoever knows the id can check its signatures.
    NodeId, 32, "a node id"
);
byte_id!(
    /// One home's disk, by random bytes drawn at `init`. A copied home keeps it and counts once.
    StorageId, 16, "a storage id"
);
byte_id!(
    /// A network: random bytes drawn when its first home is made.
    NetworkId, 32, "a network id"
);
byte_id!(
    /// One writing life of a node, by a random nonce; also the automerge actor of that life. See [`BootId::of`].
    BootId, 16, "a boot id"
);
byte_id!(
    /// One attempt to give up copies: random bytes that are never used again, so that no answer to another attempt counts for it.
    Nonce, 16, "the nonce of an attempt"
);
byte_id!(
    /// A lease: random bytes drawn by the node that grants it.
    LeaseId, 16, "a lease id"
);
byte_id!(
    /// The BLAKE3 of a whole signed entry, as received.
    EntryHash, 32, "an entry hash"
);

/// What boot ids are derived under.
const BOOT_CONTEXT: &str = "keepwell 2026-11-23 boot id v1";
/// What the ids of the branches of forked boots are derived under.
const BRANCH_CONTEXT: &str = "keepwell 2026-11-23 branch id v1";

impl BootId {
    /// The boot of `node` that drew `nonce`: nobody can write under another node's boot.
    pub fn of(node: &NodeId, nonce: &[u8; 16]) -> BootId {
        let mut hasher = blake3::Hasher::new_derive_key(BOOT_CONTEXT);
        hasher.update(node.as_bytes());
        hasher.update(nonce);
        let mut id = [0; BootId::LEN];
        hasher.finalize_xof().fill(&mut id);
        BootId(id)
    }

    /// The branch of a forked boot that begins with the entry `first`: every node that knows of the fork gives it this name.
    pub fn of_branch(first: &EntryHash) -> BootId {
        let mut id = [0; BootId::LEN];
        blake3::Hasher::new_derive_key(BRANCH_CONTEXT).update(first.as_bytes()).finalize_xof().fill(&mut id);
        BootId(id)
    }
}

/// What identifies a blob beyond doubt: its name, the hash that authenticates ranges, and its size.
///
/// Refs, link facts and holdings all carry one, so that a fetch always has an authenticated root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct BlobFact {
    /// SHA-1 of the bytes.
    pub sha1: BlobId,
    /// BLAKE3 of the bytes.
    pub b3: B3,
    /// Number of bytes.
    pub size_bytes: u64,
}

/// The position of an entry in the log of one (node, boot): 1 for the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Seq(pub u64);

impl Seq {
    /// The position of a boot's first entry.
    pub const FIRST: Seq = Seq(1);

    /// The position after this one. A log cannot reach the end of 64 bits.
    #[must_use]
    pub const fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one write in the catalog (a ref's value, a link fact): the author's boot, the entry, and the place in it.
///
/// Printed as `rev`, which users treat as an opaque string.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ValueId {
    /// The boot that wrote it.
    pub boot: BootId,
    /// The entry of that boot.
    pub seq: Seq,
    /// Its index among the writes of that entry, from 0.
    pub index: u32,
}

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.boot, self.seq, self.index)
    }
}

impl fmt::Debug for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueId({self})")
    }
}

impl FromStr for ValueId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refused =
            || ParseIdError { what: "a rev (BOOT-SEQ-INDEX)", digits: 2 * BootId::LEN, text: text.chars().take(100).collect() };
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().ok_or_else(refused);
        Ok(ValueId {
            boot: part()?.parse()?,
            seq: Seq(part()?.parse().map_err(|_| refused())?),
            index: part()?.parse().map_err(|_| refused())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_in_lower_case_and_read_in_both() {
        let id: BlobId = "D9E989F651CDD269d7f9bb8a215d024d8d283688".parse().expect("40 digits");
        assert_eq!(id.to_string(), "d9e989f651cdd269d7f9bb8a215d024d8d283688");
    }

    #[test]
    fn a_wrong_length_or_digit_is_refused_with_what_was_expected() {
        for text in ["", "d9e9", "g9e989f651cdd269d7f9bb8a215d024d8d283688", &"0".repeat(41)] {
            let error = text.parse::<BlobId>().expect_err("not a SHA-1");
            assert!(error.to_string().contains("expected 40 hexadecimal digits"), "{error}");
        }
    }

    #[test]
    fn a_rev_round_trips() {
        let id = ValueId { boot: BootId([7; 16]), seq: Seq(12), index: 3 };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("07-1".parse::<ValueId>().is_err());
    }
    #[test]
    fn the_bytes_of_ids_never_change() {
        // Golden bytes: a change of any of them breaks homes and networks in the field.
        let hex = data_encoding::HEXLOWER;
        let fact = BlobFact { sha1: BlobId([1; 20]), b3: B3([2; 32]), size_bytes: 70_000 };
        assert_eq!(
            hex.encode(&crate::wire::encode(&fact)),
            "0101010101010101010101010101010101010101010202020202020202020202020202020202020202020202020202020202020202fc70110100"
        );
        let id = ValueId { boot: BootId([7; 16]), seq: Seq(300), index: 3 };
        assert_eq!(hex.encode(&crate::wire::encode(&id)), "0107070707070707070707070707070707fb2c0103");
        assert_eq!(BootId::of(&NodeId([1; 32]), &[2; 16]).to_string(), "b95f8d06b0bbc6b9b62e526dd5303227");
    }
}
