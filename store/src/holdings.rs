//! Who holds what, as their logs say. Hints for fetching and for people; never a proof for deleting.

use bincode::{Decode, Encode};
use keepwell_protocol::id::{B3, BlobFact, BlobId, NodeId};
use keepwell_protocol::wire;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::row;
use crate::tables::{Access, Tables, Writing};

/// The copy that a node says it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Who holds it.
    pub node: NodeId,
    /// What it holds.
    pub fact: BlobFact,
}

#[derive(Encode, Decode)]
struct HoldingRow {
    b3: B3,
    size_bytes: u64,
}

impl<A: Access> Tables<A> {
    /// The nodes whose logs say that they hold `blob`.
    pub fn holders(&self, blob: &BlobId) -> Result<Vec<Holding>, StoreError> {
        let rows = self.holdings.range((blob.as_bytes(), 0)..=(blob.as_bytes(), u32::MAX))?;
        let mut holders = Vec::new();
        for row in rows {
            let (key, value) = row?;
            let HoldingRow { b3, size_bytes } = row::decode_bytes("holdings", value.value())?;
            holders.push(Holding { node: self.node_of(key.value().1)?, fact: BlobFact { sha1: *blob, b3, size_bytes } });
        }
        Ok(holders)
    }

    /// Whether `node`'s log says that it holds `blob`.
    pub fn is_held_by(&self, blob: &BlobId, node: &NodeId) -> Result<bool, StoreError> {
        let Some(number) = self.node_numbers.get(node.as_bytes())? else { return Ok(false) };
        Ok(self.holdings.get((blob.as_bytes(), number.value()))?.is_some())
    }

    fn node_of(&self, number: u32) -> Result<NodeId, StoreError> {
        for row in self.node_numbers.iter()? {
            let (node, found) = row?;
            if found.value() == number {
                return Ok((*node.value()).into());
            }
        }
        Err(StoreError::Inconsistent(format!("no node has the number {number}")))
    }
}

impl Tables<Writing<'_>> {
    /// Notes that `node` holds a blob; whether that is news.
    pub fn add_holding(&mut self, node: &NodeId, fact: &BlobFact) -> Result<bool, StoreError> {
        let number = self.number_of(node)?;
        let row = wire::encode(&HoldingRow { b3: fact.b3, size_bytes: fact.size_bytes });
        Ok(self.holdings.insert((fact.sha1.as_bytes(), number), row.as_slice())?.is_none())
    }

    /// Notes that `node` no longer holds `blob`; the size of what it held.
    pub fn remove_holding(&mut self, node: &NodeId, blob: &BlobId) -> Result<Option<u64>, StoreError> {
        let number = self.number_of(node)?;
        let removed = row::decode("holdings", self.holdings.remove((blob.as_bytes(), number)))?;
        Ok(removed.map(|row: HoldingRow| row.size_bytes))
    }

    fn number_of(&mut self, node: &NodeId) -> Result<u32, StoreError> {
        if let Some(number) = self.node_numbers.get(node.as_bytes())? {
            return Ok(number.value());
        }
        let mut next = 0;
        for row in self.node_numbers.iter()? {
            next = next.max(row?.1.value() + 1);
        }
        self.node_numbers.insert(node.as_bytes(), next)?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests;
