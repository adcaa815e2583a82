//! A change: one author's writes to one shard of the catalog, and the rules by which every node judges it alike.
//!
//! A change carries the parts of an automerge change rather than its chunk: [`super::doc`] builds the chunk from them. So nothing
//! foreign ever reaches automerge's decoder, whose run lengths and compressed columns have no bound, and a write can be judged
//! without a document at hand. Each write is put under a key of its own (its value id): what replaces what is said by
//! [`Write::replaces`], the same within an epoch and across epochs.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use super::item::Item;
use crate::id::{BootId, Seq, ValueId};
use crate::limits::{EPOCH_BYTES, EPOCH_OPS, MAX_BODY_BYTES, MAX_CHANGE_DEPS, MAX_REPLACES};
use crate::log::vector::Past;

/// The name that automerge gives a change: the SHA-256 of its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct ChangeHash(pub [u8; 32]);

/// One write to one item.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Write {
    /// What is written.
    pub item: Item,
    /// The earlier writes that its author saw and that this one takes the place of.
    pub replaces: Vec<ValueId>,
    /// The new value, in the encoding of the item's kind; none deletes.
    pub body: Option<Vec<u8>>,
}

/// Writes of one author to one (shard, epoch).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Change {
    /// The shard of all its items.
    pub shard: u8,
    /// Which of the shard's documents.
    pub epoch: u32,
    /// The position among its author's changes to this document, from 1.
    pub actor_seq: u64,
    /// The number of its first operation: one past the highest that its author saw in this document.
    pub start_op: u64,
    /// The newest changes of this document that its author had applied, ascending.
    pub deps: Vec<ChangeHash>,
    /// For a change without deps in an epoch past the first: some change of the epoch before.
    pub prior: Option<ChangeHash>,
    /// The writes, in order.
    pub writes: Vec<Write>,
}

/// Where a write stands in automerge's order, which picks the winner among values that nobody replaced.
///
/// A later epoch wins, then the higher operation number, then the greater boot id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Order {
    /// The epoch of its document.
    pub epoch: u32,
    /// Its operation number there.
    pub counter: u64,
    /// Its author's boot.
    pub boot: BootId,
}

/// What is known of an applied change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct AppliedChange {
    /// The boot that wrote it.
    pub boot: BootId,
    /// In which entry.
    pub seq: Seq,
    /// The number of its last operation.
    pub max_op: u64,
}

/// The last change of one author to one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct LastChange {
    /// Its position among its author's changes to the document.
    pub actor_seq: u64,
    /// The number of its last operation.
    pub max_op: u64,
}

/// What has been applied of one (shard, epoch): enough to write the next change and to judge a foreign one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct DocState {
    /// The newest changes, with the number of their last operation.
    pub heads: BTreeMap<ChangeHash, u64>,
    /// The last change of each author.
    pub actors: BTreeMap<BootId, LastChange>,
    /// Operations in all.
    pub ops: u32,
    /// Bytes of writes in all.
    pub bytes: u32,
}

/// Why a change cannot be accepted. Each is a function of the change and its author's causal past.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A change says something.
    #[error("change without writes")]
    Empty,
    /// See [`Item::has_legal_key`].
    #[error("`{0}` is not a name that an item of its kind can have")]
    IllegalKey(String),
    /// See [`Item::shard`].
    #[error("write to `{0}` stands in the wrong shard")]
    WrongShard(String),
    /// Past a limit.
    #[error("{what}: {count}; the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Names something that its author cannot have seen.
    #[error("{0} is not in the causal past of its author")]
    NotInPast(String),
    /// Not the next change of its author in this document.
    #[error("actor sequence {found} where {expected} was due")]
    WrongActorSeq {
        /// The sequence it claims.
        found: u64,
        /// The one that was due.
        expected: u64,
    },
    /// Not one past the operations it depends on.
    #[error("first operation {found} where {expected} was due")]
    WrongStartOp {
        /// The number it claims.
        found: u64,
        /// The one that was due.
        expected: u64,
    },
    /// It does not build on its author's earlier change: two writes would have one name in automerge.
    #[error("first operation {found} after its author wrote operation {own}")]
    ForgetsItself {
        /// The number it claims.
        found: u64,
        /// The number of its author's last operation.
        own: u64,
    },
    /// Its dependencies are not in ascending order, or one stands twice.
    #[error("dependencies are not in order")]
    UnorderedDeps,
    /// An epoch is opened by naming a change of the one before it.
    #[error("epoch {0} is opened without a change of the epoch before it")]
    UngroundedEpoch(u32),
    /// An author that wrote to a later epoch never goes back.
    #[error("epoch {found} after its author wrote to epoch {newest}")]
    BackToOldEpoch {
        /// The epoch it is for.
        found: u32,
        /// The newest its author wrote to.
        newest: u32,
    },
}

/// What [`Change::check`] must look up in the store.
pub trait AppliedChanges {
    /// Why a look-up failed.
    type Error;
    /// The applied change `hash` of (shard, epoch), if it is in `past`. (Two branches of a forked boot can contain the same change.)
    fn applied(&self, shard: u8, epoch: u32, hash: &ChangeHash, past: &Past) -> Result<Option<AppliedChange>, Self::Error>;
    /// The newest epoch of `shard` that `boot` has written to.
    fn newest_epoch(&self, shard: u8, boot: &BootId) -> Result<Option<u32>, Self::Error>;
}

impl Change {
    /// The next change of `boot` to `state`, the document of (shard, epoch). `prior` is any change of the epoch before.
    pub fn next(shard: u8, epoch: u32, boot: &BootId, state: &DocState, prior: Option<ChangeHash>, writes: Vec<Write>) -> Change {
        Change {
            shard,
            epoch,
            actor_seq: state.next_actor_seq(boot),
            start_op: state.next_op(),
            deps: state.next_deps(),
            prior: if state.heads.is_empty() { prior } else { None },
            writes,
        }
    }

    /// The number of its last operation.
    pub fn max_op(&self) -> u64 {
        self.start_op + self.writes.len() as u64 - 1
    }

    /// The place of the write at `index` in automerge's order.
    pub fn order_of(&self, index: usize, boot: BootId) -> Order {
        Order { epoch: self.epoch, counter: self.start_op + index as u64, boot }
    }

    /// Judges the change of an author whose causal past is `past` against the document it is for.
    ///
    /// `author` is the boot that wrote it; for a branch of a forked boot, followed by what it branches off, nearest first.
    /// The outer error is a failed look-up, the inner one the verdict that the change is not acceptable, on any node.
    pub fn check<A: AppliedChanges>(
        &self,
        author: &[BootId],
        past: &Past,
        state: &DocState,
        changes: &A,
    ) -> Result<Result<(), ChangeError>, A::Error> {
        if let Err(refused) = self.check_writes(past).and_then(|()| self.check_position(author, state)) {
            return Ok(Err(refused));
        }
        for boot in author {
            if let Some(newest) = changes.newest_epoch(self.shard, boot)?.filter(|newest| *newest > self.epoch) {
                return Ok(Err(ChangeError::BackToOldEpoch { found: self.epoch, newest }));
            }
        }
        self.check_deps(past, changes)
    }

    fn check_writes(&self, past: &Past) -> Result<(), ChangeError> {
        if self.writes.is_empty() {
            return Err(ChangeError::Empty);
        }
        for write in &self.writes {
            if !write.item.has_legal_key() {
                return Err(ChangeError::IllegalKey(write.item.key.chars().take(100).collect()));
            }
            if write.item.shard() != self.shard {
                return Err(ChangeError::WrongShard(write.item.key.clone()));
            }
            within("replaced writes", write.replaces.len(), MAX_REPLACES)?;
            within("bytes of a body", write.body.as_ref().map_or(0, Vec::len), MAX_BODY_BYTES)?;
            if let Some(id) = write.replaces.iter().find(|id| !past.includes(&id.boot, id.seq)) {
                return Err(ChangeError::NotInPast(id.to_string()));
            }
        }
        Ok(())
    }

    fn check_position(&self, author: &[BootId], state: &DocState) -> Result<(), ChangeError> {
        within("dependencies", self.deps.len(), MAX_CHANGE_DEPS)?;
        if !self.deps.is_sorted_by(|a, b| a < b) {
            return Err(ChangeError::UnorderedDeps);
        }
        let own = author.iter().find_map(|boot| state.actors.get(boot));
        let expected = own.map_or(0, |last| last.actor_seq) + 1;
        if self.actor_seq != expected {
            return Err(ChangeError::WrongActorSeq { found: self.actor_seq, expected });
        }
        match own {
            Some(own) if self.start_op <= own.max_op => Err(ChangeError::ForgetsItself { found: self.start_op, own: own.max_op }),
            _ => Ok(()),
        }
    }

    fn check_deps<A: AppliedChanges>(&self, past: &Past, changes: &A) -> Result<Result<(), ChangeError>, A::Error> {
        let mut highest = 0;
        for hash in &self.deps {
            match changes.applied(self.shard, self.epoch, hash, past)? {
                Some(change) => highest = highest.max(change.max_op),
                None => return Ok(Err(ChangeError::NotInPast("a change it depends on".into()))),
            }
        }
        if self.start_op != highest + 1 {
            return Ok(Err(ChangeError::WrongStartOp { found: self.start_op, expected: highest + 1 }));
        }
        if self.epoch == 0 || !self.deps.is_empty() {
            return Ok(Ok(()));
        }
        let grounded = match &self.prior {
            Some(hash) => changes.applied(self.shard, self.epoch - 1, hash, past)?.is_some(),
            None => false,
        };
        Ok(if grounded { Ok(()) } else { Err(ChangeError::UngroundedEpoch(self.epoch)) })
    }
}

impl DocState {
    /// Whether the next write should go to the next epoch.
    pub fn is_full(&self) -> bool {
        self.ops >= EPOCH_OPS || self.bytes >= EPOCH_BYTES
    }

    /// Notes that `change` of `boot`, named `hash`, has been applied.
    pub fn note(&mut self, boot: BootId, hash: ChangeHash, change: &Change) {
        for dep in &change.deps {
            self.heads.remove(dep);
        }
        self.heads.insert(hash, change.max_op());
        self.actors.insert(boot, LastChange { actor_seq: change.actor_seq, max_op: change.max_op() });
        self.ops = self.ops.saturating_add(u32::try_from(change.writes.len()).unwrap_or(u32::MAX));
        let bytes: usize = change.writes.iter().map(|write| write.item.key.len() + write.body.as_ref().map_or(0, Vec::len)).sum();
        self.bytes = self.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    fn next_actor_seq(&self, boot: &BootId) -> u64 {
        self.actors.get(boot).map_or(0, |last| last.actor_seq) + 1
    }

    /// The heads that the next change builds on. Of more than may be named, those that are furthest: their operation numbers tell that
    /// the change comes after all the others as well, which stay heads until later changes name them.
    fn next_deps(&self) -> Vec<ChangeHash> {
        let mut heads: Vec<(u64, ChangeHash)> = self.heads.iter().map(|(hash, max_op)| (*max_op, *hash)).collect();
        heads.sort_unstable();
        let named = heads.split_off(heads.len().saturating_sub(MAX_CHANGE_DEPS));
        let mut deps: Vec<ChangeHash> = named.into_iter().map(|(_, hash)| hash).collect();
        deps.sort_unstable();
        deps
    }

    fn next_op(&self) -> u64 {
        self.heads.values().copied().max().unwrap_or(0) + 1
    }
}

fn within(what: &'static str, count: usize, limit: usize) -> Result<(), ChangeError> {
    if count <= limit { Ok(()) } else { Err(ChangeError::TooMany { what, count, limit }) }
}

#[cfg(test)]
mod tests;
