//! What the last garbage collection came to, for whoever asks.

use bincode::{Decode, Encode};
use keepwell_protocol::wire;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::row;
use crate::tables::{Access, Tables, Writing};

/// The row of `meta` that says what it looked at.
const LAST_SCANNED: &str = "last_scanned";
/// The row of `meta` that says what it came to.
const LAST_COLLECTION: &str = "last_collection";

/// A collection that has deleted something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct LastCollection {
    /// When it deleted its last blob so far, in Unix milliseconds.
    pub at_ms: u64,
    /// How many blobs it deleted.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether the node began it by itself.
    pub by_itself: bool,
}

/// What the last collection looked at, and why it kept some of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Scanned {
    /// Unneeded blobs that it looked at.
    pub blobs: u64,
    /// Those that it kept for a grace.
    pub by_grace: u64,
    /// Those that it kept for a lease.
    pub by_lease: u64,
}

impl<A: Access> Tables<A> {
    /// What the last collection looked at.
    pub fn last_scanned(&self) -> Result<Scanned, StoreError> {
        Ok(row::decode("meta", self.meta.get(LAST_SCANNED))?.unwrap_or_default())
    }

    /// The last collection that deleted something; none if there has been none.
    pub fn last_collection(&self) -> Result<Option<LastCollection>, StoreError> {
        row::decode("meta", self.meta.get(LAST_COLLECTION))
    }
}

impl Tables<Writing<'_>> {
    /// Writes what the last collection came to, and what it looked at.
    pub fn put_last_collection(&mut self, last: &LastCollection, scanned: &Scanned) -> Result<(), StoreError> {
        self.meta.insert(LAST_COLLECTION, wire::encode(last).as_slice())?;
        self.meta.insert(LAST_SCANNED, wire::encode(scanned).as_slice())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestHome, golden};

    #[test]
    fn the_last_collection_is_remembered() {
        let home = TestHome::new();
        assert_eq!(home.snapshot().last_collection().unwrap(), None);
        let last = LastCollection { at_ms: 3, blobs: 2, bytes: 1, by_itself: true };
        let scanned = Scanned { blobs: 5, by_grace: 2, by_lease: 1 };
        home.write(|txn| txn.put_last_collection(&last, &scanned));
        assert_eq!(home.snapshot().last_collection().unwrap(), Some(last));
        assert_eq!((home.snapshot().last_scanned().unwrap(), golden(&scanned).as_str()), (scanned, "01050201"));
        assert_eq!(golden(&last), "0103020101");
    }
}
