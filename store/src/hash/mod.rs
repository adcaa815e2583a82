//! Hashing: the two hashes of one read, the values that let any range be verified alone, and SHA-1 states to resume from.

pub mod dual;
pub mod groups;
pub mod sha1_state;
mod shape;

pub use dual::{HashError, Hashed, Sink, hash_bytes, hash_stream};
pub use groups::{Expected, GroupError, GroupHasher, Outboard, Span};
pub use sha1_state::Sha1State;
pub use shape::Shape;
