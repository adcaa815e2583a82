//! What the last garbage collection came to, for whoever asks.

use bincode::{Decode, Encode};
use keepwell_protocol::wire;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::row;
use crate::tables::{Access, Tables, Writing};

/// The row of `meta` that says it.
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

impl<A: Access> Tables<A> {
    /// The last collection that deleted something; none if there has been none.
    pub fn last_collection(&self) -> Result<Option<LastCollection>, StoreError> {
        row::decode("meta", self.meta.get(LAST_COLLECTION))
    }
}

impl Tables<Writing<'_>> {
    /// Writes what the last collection came to.
    pub fn put_last_collection(&mut self, last: &LastCollection) -> Result<(), StoreError> {
        self.meta.insert(LAST_COLLECTION, wire::encode(last).as_slice())?;
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
        home.write(|txn| txn.put_last_collection(&last));
        assert_eq!(home.snapshot().last_collection().unwrap(), Some(last));
        assert_eq!(golden(&last), "0103020101");
    }
}
