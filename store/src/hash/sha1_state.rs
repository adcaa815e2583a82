//! The state of a SHA-1 in the middle of a blob, small enough to store: a resumed fetch goes on from it.

use sha1::Sha1;
use sha1::digest::common::hazmat::{SerializableState, SerializedState};

/// The block of SHA-1, which is all it ever buffers (bytes).
pub const BLOCK_BYTES: usize = 64;

const STATE_BYTES: usize = 20;
const COUNT_BYTES: usize = 8;

/// No blob is this long, and a SHA-1 counts its bits in a word of 64: a count beyond this is not from a real state (bytes).
const PREFIX_MAX_BYTES: u64 = 1 << 60;

/// A SHA-1 after a whole number of blocks: the chaining state and the number of blocks that went into it.
///
/// Kept as bytes, because it lives in the database; a state from a wrong place gives a wrong hash, which the comparison with
/// the blob's name then finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha1State([u8; Sha1State::LEN]);

impl Sha1State {
    /// Bytes in a saved state.
    pub const LEN: usize = STATE_BYTES + COUNT_BYTES;

    /// Takes the state of a hasher, or `None` when it stands within a block.
    pub fn save(hasher: &Sha1) -> Option<Self> {
        let whole = hasher.serialize();
        let (core, buffer) = whole.split_at(Self::LEN);
        // The buffer says how far into a block the hasher stands: an empty one is that of a new hasher.
        let empty = Sha1::default().serialize();
        let between_blocks = buffer == &empty[Self::LEN..];
        between_blocks.then(|| Self(core.try_into().expect("invariant: split at exactly this length")))
    }

    /// A hasher that goes on from here.
    pub fn restore(&self) -> Sha1 {
        let mut whole: SerializedState<Sha1> = Sha1::default().serialize();
        whole[..Self::LEN].copy_from_slice(&self.0);
        Sha1::deserialize(&whole).expect("invariant: every core state with an empty buffer is legal")
    }

    /// How much of the blob went into this state (bytes).
    pub fn prefix_bytes(&self) -> u64 {
        blocks_in(&self.0).saturating_mul(BLOCK_BYTES as u64)
    }

    /// The state as it is stored.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// A state as it was stored, or `None` for bytes that no state has.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Option<Self> {
        (blocks_in(&bytes) <= PREFIX_MAX_BYTES / BLOCK_BYTES as u64).then_some(Self(bytes))
    }
}

fn blocks_in(state: &[u8; Sha1State::LEN]) -> u64 {
    let mut count = [0; COUNT_BYTES];
    count.copy_from_slice(&state[STATE_BYTES..]);
    u64::from_le_bytes(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SHA1_STATE_EVERY_BYTES;
    use sha1::Digest;

    #[test]
    fn a_restored_state_ends_in_the_same_hash() {
        let bytes: Vec<u8> = (0..1_000_u32).flat_map(u32::to_le_bytes).collect();
        for cut in [0, 64, 128, 3_968] {
            let mut hasher = Sha1::new();
            hasher.update(&bytes[..cut]);
            let state = Sha1State::from_bytes(*Sha1State::save(&hasher).unwrap().as_bytes()).unwrap();
            assert_eq!(state.prefix_bytes(), cut as u64);
            let mut resumed = state.restore();
            resumed.update(&bytes[cut..]);
            assert_eq!(resumed.finalize(), Sha1::digest(&bytes), "cut at {cut}");
        }
    }

    #[test]
    fn a_state_within_a_block_is_not_saved() {
        for cut in [1, 63, 65] {
            let mut hasher = Sha1::new();
            hasher.update(vec![7; cut]);
            assert_eq!(Sha1State::save(&hasher), None, "cut at {cut}");
        }
    }

    #[test]
    fn a_state_of_another_prefix_gives_another_hash() {
        let mut hasher = Sha1::new();
        hasher.update([1; 64]);
        let mut resumed = Sha1State::save(&hasher).unwrap().restore();
        resumed.update([3; 10]);
        let mut honest = Sha1::new();
        honest.update([2; 64]);
        honest.update([3; 10]);
        assert_ne!(resumed.finalize(), honest.finalize());
    }

    #[test]
    fn arbitrary_stored_bytes_do_not_panic() {
        assert_eq!(Sha1State::from_bytes([0xff; Sha1State::LEN]), None);
        let mut bytes = [0xff; Sha1State::LEN];
        bytes[STATE_BYTES..].copy_from_slice(&(PREFIX_MAX_BYTES / 64).to_le_bytes());
        let state = Sha1State::from_bytes(bytes).unwrap();
        assert_eq!(state.prefix_bytes(), PREFIX_MAX_BYTES);
        state.restore().finalize();
    }
    #[test]
    fn a_state_can_be_saved_at_sha1_state_every_bytes_and_not_one_byte_past_it() {
        let mut hasher = Sha1::new();
        hasher.update(vec![7; SHA1_STATE_EVERY_BYTES]);
        let state = Sha1State::save(&hasher).unwrap();
        assert_eq!(state.prefix_bytes(), SHA1_STATE_EVERY_BYTES as u64);
        hasher.update([1]);
        assert_eq!(Sha1State::save(&hasher), None);
        let mut resumed = state.restore();
        resumed.update([1]);
        assert_eq!(resumed.finalize(), hasher.finalize());
    }
}
