//! The log on disk: every entry as received, in the order in which it was applied, and the state of every chain.

use bincode::{Decode, Encode};
use keepwell_protocol::id::{EntryHash, Seq, StorageId};
use keepwell_protocol::log::entry::Entry;
use keepwell_protocol::log::exchange::ForkProof;
use keepwell_protocol::log::vector::{Chain, Head, Past, Vector};
use keepwell_protocol::wire;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::row;
use crate::tables::{Access, Tables, Writing};

/// How far a chain has been applied, and what that rests on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ChainState {
    /// Its last applied entry.
    pub head: Head,
    /// The causal past of that entry.
    pub past: Past,
    /// The disk that its boot op named.
    pub storage: StorageId,
}

#[derive(Encode, Decode)]
struct PositionRow {
    arrival: u64,
    hash: EntryHash,
}

impl<A: Access> Tables<A> {
    /// The state of `chain`, if anything of it has been applied.
    pub fn chain(&self, chain: &Chain) -> Result<Option<ChainState>, StoreError> {
        row::decode("chains", self.chains.get((chain.node.as_bytes(), chain.boot.as_bytes())))
    }

    /// How far everything has been applied.
    pub fn vector(&self) -> Result<Vector, StoreError> {
        let mut vector = Vector::default();
        for row in self.chains.iter()? {
            let (key, value) = row?;
            let (node, boot) = key.value();
            let state: ChainState = row::decode_bytes("chains", value.value())?;
            vector.advance(Chain { node: (*node).into(), boot: (*boot).into() }, state.head);
        }
        Ok(vector)
    }

    /// The head that `chain` had at `seq`.
    pub fn head_at(&self, chain: &Chain, seq: Seq) -> Result<Option<Head>, StoreError> {
        Ok(self.position(chain, seq)?.map(|position| Head { seq, hash: position.hash }))
    }

    /// The bytes of the entry at `seq` of `chain`.
    pub fn entry(&self, chain: &Chain, seq: Seq) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(position) = self.position(chain, seq)? else { return Ok(None) };
        let entry = self.entries.get(position.arrival)?.map(|row| row.value().to_vec());
        entry
            .map(Some)
            .ok_or_else(|| StoreError::Inconsistent(format!("entry {seq} of boot {} has a position but no bytes", chain.boot)))
    }

    /// The entry that arrived at or next after `arrival`, with its arrival number. Arrival order is a causal order.
    pub fn entry_from(&self, arrival: u64) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let found = self.entries.range(arrival..)?.next().transpose()?;
        Ok(found.map(|(number, bytes)| (number.value(), bytes.value().to_vec())))
    }

    /// The arrival number that the next entry will have.
    pub fn next_arrival(&self) -> Result<u64, StoreError> {
        Ok(self.entries.last()?.map_or(0, |(number, _)| number.value() + 1))
    }

    /// When the entry at `seq` of `chain` arrived, counted in entries.
    pub fn arrival_of(&self, chain: &Chain, seq: Seq) -> Result<Option<u64>, StoreError> {
        Ok(self.position(chain, seq)?.map(|position| position.arrival))
    }

    /// The proof that `chain` forked, if there is one.
    pub fn fork(&self, chain: &Chain) -> Result<Option<ForkProof>, StoreError> {
        row::decode("forks", self.forks.get((chain.node.as_bytes(), chain.boot.as_bytes())))
    }

    /// The chains that are known to have forked.
    pub fn forked(&self) -> Result<Vec<Chain>, StoreError> {
        let rows = self.forks.iter()?;
        rows.map(|row| {
            let (key, _) = row?;
            let (node, boot) = key.value();
            Ok(Chain { node: (*node).into(), boot: (*boot).into() })
        })
        .collect()
    }

    fn position(&self, chain: &Chain, seq: Seq) -> Result<Option<PositionRow>, StoreError> {
        row::decode("positions", self.positions.get((chain.node.as_bytes(), chain.boot.as_bytes(), seq.0)))
    }
}

impl Tables<Writing<'_>> {
    /// Appends an entry's bytes to the log; its arrival number.
    pub fn append_entry(&mut self, bytes: &[u8]) -> Result<u64, StoreError> {
        let arrival = self.next_arrival()?;
        self.entries.insert(arrival, bytes)?;
        Ok(arrival)
    }

    /// Removes the entries of `chain` from `first` on: a branch that its author takes back. The derived tables must be rebuilt.
    pub fn remove_entries(&mut self, chain: &Chain, first: Seq) -> Result<(), StoreError> {
        let mut seq = first;
        while let Some(arrival) = self.arrival_of(chain, seq)? {
            self.entries.remove(arrival)?;
            seq = seq.next();
        }
        Ok(())
    }

    /// Keeps the proof that `chain` forked; the first one found is as good as any.
    pub fn put_fork(&mut self, chain: &Chain, proof: &ForkProof) -> Result<(), StoreError> {
        self.forks.insert((chain.node.as_bytes(), chain.boot.as_bytes()), wire::encode(proof).as_slice())?;
        Ok(())
    }

    /// Notes where `entry` stands, and that its chain has come as far as it.
    pub fn advance_chain(&mut self, entry: &Entry, arrival: u64, state: &ChainState) -> Result<(), StoreError> {
        let Chain { node, boot } = &entry.chain;
        let position = PositionRow { arrival, hash: entry.head.hash };
        self.positions.insert((node.as_bytes(), boot.as_bytes(), entry.head.seq.0), wire::encode(&position).as_slice())?;
        self.chains.insert((node.as_bytes(), boot.as_bytes()), wire::encode(state).as_slice())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
