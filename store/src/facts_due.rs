//! Blobs that nobody holds any more, and when their link facts are this node's to end (Unix milliseconds). It is this node's own affair, and
//! a hint: whether facts end is a verdict on the catalog.

use keepwell_protocol::id::BlobId;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::tables::{Access, Tables, Writing};

impl<A: Access> Tables<A> {
    /// All of them, in order of SHA-1.
    pub fn facts_due(&self) -> Result<Vec<(BlobId, u64)>, StoreError> {
        self.facts_due
            .iter()?
            .map(|row| row.map(|(id, until)| ((*id.value()).into(), until.value())).map_err(Into::into))
            .collect()
    }
}

impl Tables<Writing<'_>> {
    /// Notes when it is time to end the facts of `parent`.
    pub fn put_facts_due(&mut self, parent: &BlobId, until_ms: u64) -> Result<(), StoreError> {
        self.facts_due.insert(parent.as_bytes(), until_ms)?;
        Ok(())
    }

    /// Notes that there is no such time.
    pub fn remove_facts_due(&mut self, parent: &BlobId) -> Result<(), StoreError> {
        self.facts_due.remove(parent.as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHome;

    #[test]
    fn what_is_noted_outlives_a_crash_until_it_is_taken_back() {
        let home = TestHome::new();
        let (one, two) = (BlobId([1; 20]), BlobId([2; 20]));
        home.write(|txn| txn.put_facts_due(&two, 7));
        home.write(|txn| txn.put_facts_due(&one, 9));
        home.write(|txn| txn.put_facts_due(&two, 8));
        let home = home.reopened();
        assert_eq!(home.snapshot().facts_due().unwrap(), [(one, 9), (two, 8)]);
        home.write(|txn| txn.remove_facts_due(&one));
        assert_eq!(home.snapshot().facts_due().unwrap(), [(two, 8)]);
    }
}
