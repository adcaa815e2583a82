//! The one codec file: how plain values become bytes, and how foreign bytes become values or a refusal.
//!
//! Every record that outlives the process or leaves it is `{version, body}`: one version byte, then bincode. Decoding bounds memory
//! before it allocates, insists that every byte is used, and refuses a second spelling of the same value (bincode's integers have
//! several), so that equal values have equal bytes. Whatever is signed or hashed is kept as the bytes received.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

use crate::limits::{MAX_DECODED_BYTES, WIRE_VERSION};

type Bounded = Configuration<LittleEndian, Varint, Limit<MAX_DECODED_BYTES>>;

const BOUNDED: Bounded = bincode::config::standard().with_limit::<MAX_DECODED_BYTES>();

/// Why bytes are not a value.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The sender speaks a version this build does not know.
    #[error("unknown format version {found}; this build reads version {WIRE_VERSION}")]
    UnknownVersion {
        /// The version byte found.
        found: u8,
    },
    /// Nothing there.
    #[error("empty message")]
    Empty,
    /// The bytes do not follow the format, or claim more memory than the limit.
    #[error("malformed message: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    /// Bytes are left over after the value.
    #[error("{extra} bytes left over after the message")]
    LeftOver {
        /// How many.
        extra: usize,
    },
    /// A legal value in an illegal spelling.
    #[error("message is not in its canonical form")]
    NotCanonical,
}

/// The bytes of `value`, version byte first.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = vec![WIRE_VERSION];
    bincode::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .expect("invariant: encoding into memory cannot fail, our types have no fallible Encode");
    bytes
}

/// The value in `bytes`, which may come from anyone.
pub fn decode<T: Decode<()> + Encode>(bytes: &[u8]) -> Result<T, WireError> {
    let value = decode_own(bytes)?;
    if encode(&value) == bytes { Ok(value) } else { Err(WireError::NotCanonical) }
}

/// The value in `bytes` that this node wrote itself: bounded and complete as in [`decode`], without the second encoding.
pub fn decode_own<T: Decode<()>>(bytes: &[u8]) -> Result<T, WireError> {
    let (&version, body) = bytes.split_first().ok_or(WireError::Empty)?;
    if version != WIRE_VERSION {
        return Err(WireError::UnknownVersion { found: version });
    }
    let (value, used) = bincode::decode_from_slice(body, BOUNDED)?;
    match body.len() - used {
        0 => Ok(value),
        extra => Err(WireError::LeftOver { extra }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_round_trips_behind_its_version() {
        let bytes = encode(&(7u32, String::from("seven")));
        assert_eq!(bytes[0], WIRE_VERSION);
        assert_eq!(decode::<(u32, String)>(&bytes).unwrap(), (7, "seven".into()));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = encode(&7u32);
        bytes[0] = 9;
        assert!(matches!(decode::<u32>(&bytes), Err(WireError::UnknownVersion { found: 9 })));
        assert!(matches!(decode::<u32>(&[]), Err(WireError::Empty)));
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let mut bytes = encode(&7u32);
        bytes.push(0);
        assert!(matches!(decode::<u32>(&bytes), Err(WireError::LeftOver { extra: 1 })));
    }

    #[test]
    fn a_second_spelling_of_a_number_is_refused() {
        // bincode reads 5 from `05` and from the two-byte form `fb 05 00`.
        assert!(matches!(decode::<u32>(&[WIRE_VERSION, 0xfb, 5, 0]), Err(WireError::NotCanonical)));
    }

    #[test]
    fn memory_is_bounded_at_max_decoded_bytes_before_it_is_claimed() {
        let claim = |bytes: u64| {
            let mut message = encode(&bytes);
            message.truncate(message.len());
            decode::<Vec<u8>>(&message)
        };
        assert!(matches!(
            claim(MAX_DECODED_BYTES as u64 + 1),
            Err(WireError::Malformed(bincode::error::DecodeError::LimitExceeded))
        ));
        // At the edge the claim is legal, and refused only because the bytes are not there.
        assert!(matches!(
            claim(MAX_DECODED_BYTES as u64 - 16),
            Err(WireError::Malformed(bincode::error::DecodeError::UnexpectedEnd { .. }))
        ));
    }
}
