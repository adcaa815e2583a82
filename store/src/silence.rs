//! For how long this node has run without hearing from each member: by its own running time, which no clock can jump.

use std::collections::BTreeMap;

use keepwell_protocol::id::NodeId;
use keepwell_protocol::wire;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::row;
use crate::tables::{Access, Tables, Writing};

const SILENCE: &str = "silence";

impl<A: Access> Tables<A> {
    /// What was last noted, in milliseconds of running time. Members that are not named were heard, or are new.
    pub fn silences(&self) -> Result<BTreeMap<NodeId, u64>, StoreError> {
        Ok(row::decode("meta", self.meta.get(SILENCE))?.unwrap_or_default())
    }
}

impl Tables<Writing<'_>> {
    /// Notes it for all members.
    pub fn put_silences(&mut self, silences: &BTreeMap<NodeId, u64>) -> Result<(), StoreError> {
        self.meta.insert(SILENCE, wire::encode(silences).as_slice())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHome;

    #[test]
    fn what_is_noted_is_there_after_the_commit() {
        let home = TestHome::new();
        assert!(home.snapshot().silences().unwrap().is_empty());
        let noted = BTreeMap::from([(NodeId([1; 32]), 5), (NodeId([2; 32]), u64::MAX)]);
        home.write(|txn| txn.put_silences(&noted));
        assert_eq!(home.snapshot().silences().unwrap(), noted);
    }
}
