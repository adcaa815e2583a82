//! Uses of refs that somebody else is to write down.
//!
//! A use is a new value, and a value is authored only by a node that holds all of what it names (SAFETY.md S10). Whoever reads a part of what a
//! ref names without holding the rest asks a holder to write the use. Its word says only whether it has; nothing is decided by it.

use bincode::{Decode, Encode};

use crate::id::Nonce;

/// Asks a node to write that a ref is used now.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UseRequest {
    /// What the report is bound to.
    pub nonce: Nonce,
    /// The name of the ref.
    pub name: String,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UseReport {
    /// That of the request.
    pub nonce: Nonce,
    /// Whether the use is written, or the last one was so short a time ago that it stands for this one too.
    pub done: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn the_bytes_of_a_request_and_a_report_never_change() {
        let request = UseRequest { nonce: Nonce([1; 16]), name: "g/k".into() };
        let hex = data_encoding::HEXLOWER;
        assert_eq!(hex.encode(&wire::encode(&request)), "010101010101010101010101010101010103672f6b");
        let report = UseReport { nonce: Nonce([1; 16]), done: true };
        assert_eq!(hex.encode(&wire::encode(&report)), "010101010101010101010101010101010101");
        assert_eq!(wire::decode::<UseRequest>(&wire::encode(&request)).unwrap(), request);
        assert_eq!(wire::decode::<UseReport>(&wire::encode(&report)).unwrap(), report);
    }
}
