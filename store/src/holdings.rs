//! Who holds what, as their logs say. Hints for fetching and for people; never a proof for deleting.
//!
//! A holding stands under the chain that said so, and is taken back by an entry that builds on it: what a node says twice at once, in two
//! of its boots, comes out alike everywhere, in whatever order the two are heard.

use std::collections::BTreeSet;

use bincode::{Decode, Encode};
use keepwell_protocol::id::{B3, BlobFact, BlobId, NodeId, Seq};
use keepwell_protocol::log::vector::{Chain, Past};
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

/// Who says that it holds what: looked up once for all that an entry says of that.
#[derive(Debug)]
pub struct Speaker {
    /// The number of its chain.
    number: u32,
    /// All chains of its node that have ever said of a holding, with their numbers.
    chains: Vec<(Chain, u32)>,
}

#[derive(Encode, Decode)]
struct HoldingRow {
    b3: B3,
    size_bytes: u64,
    since: Seq,
}

impl<A: Access> Tables<A> {
    /// The nodes whose logs say that they hold `blob`, in the order of their ids.
    pub fn holders(&self, blob: &BlobId) -> Result<Vec<Holding>, StoreError> {
        let mut holders = Vec::new();
        for (number, HoldingRow { b3, size_bytes, .. }) in self.holding_rows(blob)? {
            let fact = BlobFact { sha1: *blob, b3, size_bytes };
            holders.push(Holding { node: self.chain_of(number)?.node, fact });
        }
        holders.sort_by_key(|holding| holding.node);
        holders.dedup_by_key(|holding| holding.node);
        Ok(holders)
    }

    /// Whether `node`'s log says that it holds `blob`.
    pub fn is_held_by(&self, blob: &BlobId, node: &NodeId) -> Result<bool, StoreError> {
        for (_, number) in self.numbers_of(node)? {
            if self.holdings.get((blob.as_bytes(), number))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Visits the blobs that `node`'s log says that it holds, some more than once. It reads all that is said of holdings.
    pub fn visit_held_by<E: From<StoreError>>(
        &self,
        node: &NodeId,
        mut visit: impl FnMut(BlobId) -> Result<(), E>,
    ) -> Result<(), E> {
        let numbers: BTreeSet<u32> = self.numbers_of(node)?.into_iter().map(|(_, number)| number).collect();
        for row in self.holdings.iter().map_err(StoreError::from)? {
            let (key, _) = row.map_err(StoreError::from)?;
            let (blob, number) = key.value();
            if numbers.contains(&number) {
                visit((*blob).into())?;
            }
        }
        Ok(())
    }

    fn holding_rows(&self, blob: &BlobId) -> Result<Vec<(u32, HoldingRow)>, StoreError> {
        let rows = self.holdings.range((blob.as_bytes(), 0)..=(blob.as_bytes(), u32::MAX))?;
        rows.map(|row| {
            let (key, value) = row?;
            Ok((key.value().1, row::decode_bytes("holdings", value.value())?))
        })
        .collect()
    }

    /// The chains of `node` that have ever said of a holding, with their numbers.
    fn numbers_of(&self, node: &NodeId) -> Result<Vec<(Chain, u32)>, StoreError> {
        let rows = self.chain_numbers.range((node.as_bytes(), &[0; 16])..=(node.as_bytes(), &[0xff; 16]))?;
        rows.map(|row| {
            let (key, number) = row?;
            Ok((Chain { node: *node, boot: (*key.value().1).into() }, number.value()))
        })
        .collect()
    }

    fn chain_of(&self, number: u32) -> Result<Chain, StoreError> {
        for row in self.chain_numbers.iter()? {
            let (chain, found) = row?;
            if found.value() == number {
                let (node, boot) = chain.value();
                return Ok(Chain { node: (*node).into(), boot: (*boot).into() });
            }
        }
        Err(StoreError::Inconsistent(format!("no chain has the number {number}")))
    }
}

impl Tables<Writing<'_>> {
    /// The chain as one that says who holds what, with all others of its node.
    pub fn speaker(&mut self, chain: &Chain) -> Result<Speaker, StoreError> {
        let number = self.number_of(chain)?;
        Ok(Speaker { number, chains: self.numbers_of(&chain.node)? })
    }

    /// Notes that the node of `speaker` holds a blob, as it says at `since`; whether that is news.
    pub fn add_holding(&mut self, speaker: &Speaker, since: Seq, fact: &BlobFact) -> Result<bool, StoreError> {
        let row = wire::encode(&HoldingRow { b3: fact.b3, size_bytes: fact.size_bytes, since });
        let mut is_news = self.holdings.insert((fact.sha1.as_bytes(), speaker.number), row.as_slice())?.is_none();
        for (_, other) in speaker.chains.iter().filter(|(_, other)| *other != speaker.number) {
            is_news &= self.holdings.get((fact.sha1.as_bytes(), *other))?.is_none();
        }
        Ok(is_news)
    }

    /// Notes that the node of `speaker` no longer holds the copies of `blob` that it told of within `past`; the size of what it held, if
    /// that was all.
    pub fn remove_holding(&mut self, speaker: &Speaker, past: &Past, blob: &BlobId) -> Result<Option<u64>, StoreError> {
        let (mut removed, mut is_left) = (None, false);
        for (chain, number) in &speaker.chains {
            // It is taken out before it is looked at: hardly ever does it stay.
            let row: Option<HoldingRow> = row::decode("holdings", self.holdings.remove((blob.as_bytes(), *number)))?;
            let Some(row) = row else { continue };
            if past.includes(&chain.boot, row.since) {
                removed = Some(row.size_bytes);
            } else {
                self.holdings.insert((blob.as_bytes(), *number), wire::encode(&row).as_slice())?;
                is_left = true;
            }
        }
        Ok(removed.filter(|_| !is_left))
    }

    fn number_of(&mut self, chain: &Chain) -> Result<u32, StoreError> {
        let key = (chain.node.as_bytes(), chain.boot.as_bytes());
        if let Some(number) = self.chain_numbers.get(key)? {
            return Ok(number.value());
        }
        let mut next = 0;
        for row in self.chain_numbers.iter()? {
            next = next.max(row?.1.value() + 1);
        }
        self.chain_numbers.insert(key, next)?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests;
