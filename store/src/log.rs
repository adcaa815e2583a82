//! The log on disk: every entry as received, in the order in which it was applied, and the state of every chain.

use bincode::{Decode, Encode};
use keepwell_protocol::id::{BootId, EntryHash, NodeId, Seq, StorageId};
use keepwell_protocol::log::admit::Applied;
use keepwell_protocol::log::branch::{Branch, Branches};
use keepwell_protocol::log::compare;
use keepwell_protocol::log::exchange::ForkProof;
use keepwell_protocol::log::vector::{Chain, Head, Past, Vector};
use keepwell_protocol::wire;
use redb::{ReadableTable, ReadableTableMetadata};

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

    /// The first entry of `chain` after the position `after`: its position, and when it arrived, counted in entries.
    pub fn next_after(&self, chain: &Chain, after: u64) -> Result<Option<(Seq, u64)>, StoreError> {
        let key = |seq| (chain.node.as_bytes(), chain.boot.as_bytes(), seq);
        let Some(from) = after.checked_add(1) else { return Ok(None) };
        let Some(row) = self.positions.range(key(from)..=key(u64::MAX))?.next() else { return Ok(None) };
        let (key, value) = row?;
        let position: PositionRow = row::decode_bytes("positions", value.value())?;
        Ok(Some((Seq(key.value().2), position.arrival)))
    }

    /// The proof that `boot` forked at `seq` right after the entry `prev_hash`, if there is one.
    pub fn fork(&self, boot: &Chain, seq: Seq, prev_hash: Option<&EntryHash>) -> Result<Option<ForkProof>, StoreError> {
        row::decode("forks", self.forks.get((boot.node.as_bytes(), boot.boot.as_bytes(), seq.0, hash_or_zeros(prev_hash))))
    }

    /// The proofs of all forks of `boot`.
    pub fn forks_of(&self, boot: &Chain) -> Result<Vec<ForkProof>, StoreError> {
        let key = |seq, hash| (boot.node.as_bytes(), boot.boot.as_bytes(), seq, hash);
        let rows = self.forks.range(key(0, &[0; 32])..=key(u64::MAX, &[0xff; 32]))?;
        rows.map(|row| row::decode_bytes("forks", row?.1.value())).collect()
    }

    /// The boots that are known to have forked, as their authors sign them.
    pub fn forked(&self) -> Result<Vec<Chain>, StoreError> {
        let mut forked = Vec::new();
        for row in self.forks.iter()? {
            let (key, _) = row?;
            let (node, boot, ..) = key.value();
            forked.push(Chain { node: (*node).into(), boot: (*boot).into() });
        }
        forked.dedup();
        Ok(forked)
    }

    /// The branches of all boots that are known to have forked.
    pub fn all_branches(&self) -> Result<Branches, StoreError> {
        let mut branches = Branches::default();
        for row in self.branches.iter()? {
            let (key, value) = row?;
            branches.0.insert(BootId(*key.value().1), row::decode_bytes("branches", value.value())?);
        }
        Ok(branches)
    }

    /// The chain of the branch `boot`, if that is one.
    pub fn branch_chain(&self, boot: &BootId) -> Result<Option<Chain>, StoreError> {
        for row in self.branches.iter()? {
            let (key, _) = row?;
            let (node, branch) = key.value();
            if branch == boot.as_bytes() {
                return Ok(Some(Chain { node: (*node).into(), boot: *boot }));
            }
        }
        Ok(None)
    }

    /// `vector`, which another node said of itself, by the names that its chains have here.
    pub fn by_names_here(&self, vector: &Vector) -> Result<Vector, StoreError> {
        if self.branches.is_empty()? {
            return Ok(vector.clone());
        }
        compare::by_names_here(self, vector)
    }

    fn position(&self, chain: &Chain, seq: Seq) -> Result<Option<PositionRow>, StoreError> {
        row::decode("positions", self.positions.get((chain.node.as_bytes(), chain.boot.as_bytes(), seq.0)))
    }
}

impl<A: Access> Applied for Tables<A> {
    type Error = StoreError;

    fn head_at(&self, chain: &Chain, seq: Seq) -> Result<Option<Head>, StoreError> {
        Tables::head_at(self, chain, seq)
    }

    fn branches(&self, node: &NodeId) -> Result<Branches, StoreError> {
        let mut branches = Branches::default();
        for row in self.branches.range((node.as_bytes(), &[0; 16])..=(node.as_bytes(), &[0xff; 16]))? {
            let (key, value) = row?;
            branches.0.insert(BootId(*key.value().1), row::decode_bytes("branches", value.value())?);
        }
        Ok(branches)
    }

    fn forked_after(&self, boot: &Chain, seq: Seq, prev_hash: Option<&EntryHash>) -> Result<bool, StoreError> {
        Ok(self.fork(boot, seq, prev_hash)?.is_some())
    }
}

fn hash_or_zeros(hash: Option<&EntryHash>) -> &[u8; 32] {
    hash.map_or(&[0; 32], EntryHash::as_bytes)
}

impl Tables<Writing<'_>> {
    /// Appends an entry's bytes to the log; its arrival number.
    pub fn append_entry(&mut self, bytes: &[u8]) -> Result<u64, StoreError> {
        let arrival = self.next_arrival()?;
        self.entries.insert(arrival, bytes)?;
        Ok(arrival)
    }

    /// Keeps the proof that `boot` forked at `seq` right after the entry `prev_hash`. The derived tables must be rebuilt.
    pub fn put_fork(
        &mut self,
        boot: &Chain,
        seq: Seq,
        prev_hash: Option<&EntryHash>,
        proof: &ForkProof,
    ) -> Result<(), StoreError> {
        let key = (boot.node.as_bytes(), boot.boot.as_bytes(), seq.0, hash_or_zeros(prev_hash));
        self.forks.insert(key, wire::encode(proof).as_slice())?;
        Ok(())
    }

    /// Notes that `chain` is a branch of a forked boot.
    pub fn put_branch(&mut self, chain: &Chain, branch: &Branch) -> Result<(), StoreError> {
        self.branches.insert((chain.node.as_bytes(), chain.boot.as_bytes()), wire::encode(branch).as_slice())?;
        Ok(())
    }

    /// Notes that `chain` has come as far as `state`, with an entry of that arrival.
    pub fn advance_chain(&mut self, chain: &Chain, arrival: u64, state: &ChainState) -> Result<(), StoreError> {
        let Chain { node, boot } = chain;
        let position = PositionRow { arrival, hash: state.head.hash };
        self.positions.insert((node.as_bytes(), boot.as_bytes(), state.head.seq.0), wire::encode(&position).as_slice())?;
        self.chains.insert((node.as_bytes(), boot.as_bytes()), wire::encode(state).as_slice())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
