//! A node that meets entries of its own which its disk does not have: it was restored from an old copy, and others know better.
//!
//! It goes on under a new boot. If it had not written since, the lost entries are simply pulled. If it had, its log and that of the
//! others part at some position: it takes its own branch back, adopts theirs, and says under the new boot what the branch said, so
//! that nothing it acknowledged is lost. Values that both branches gave a ref are both kept, as conflicts.

use keepwell_protocol::id::{NodeId, Seq};
use keepwell_protocol::log::entry::Entry;
use keepwell_protocol::log::exchange::{ForkProof, Message, Want};
use keepwell_protocol::log::op::{Holdings, Op};
use keepwell_protocol::log::vector::{Chain, Vector};
use keepwell_store::error::StoreError;

use crate::engine::author::{Batch, OwnWrite};
use crate::engine::effect::{Effect, Event};
use crate::engine::{Engine, Step};

/// How far back the first question goes when it is not known where two branches part; each further one goes twice as far.
const FIRST_STEP_BACK: u64 = 16;

impl Engine {
    /// A peer that knows more of our present boot than we do, or other things, shows that our disk was rolled back.
    pub(super) fn notice_rollback(&mut self, step: &mut Step<'_, '_>, theirs: &Vector) -> Result<(), StoreError> {
        let chain = self.own_chain()?;
        let Some(known) = theirs.head(&chain) else { return Ok(()) };
        if step.txn.head_at(&chain, known.seq)? == Some(*known) {
            return Ok(());
        }
        self.begin_boot_after_rollback(step)
    }

    pub(super) fn begin_boot_after_rollback(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        let old = self.own_chain()?.boot;
        self.begin_boot(step)?;
        step.effects.push(Effect::Tell(Event::RolledBack { old }));
        Ok(())
    }

    /// Makes way for an entry of our own that our log does not have. False if it must be asked for again, from further back.
    pub(super) fn make_way(
        &mut self,
        step: &mut Step<'_, '_>,
        from: Option<NodeId>,
        entry: &Entry,
        bytes: &[u8],
    ) -> Result<bool, StoreError> {
        let (chain, Seq(seq)) = (entry.chain, entry.head.seq);
        if chain == self.own_chain()? {
            self.begin_boot_after_rollback(step)?;
        }
        let known = step.txn.chain(&chain)?.map_or(0, |state| state.head.seq.0);
        // A branch is taken back once: the proof that is kept then says so.
        if seq > known + 1 || step.txn.fork(&chain)?.is_some() {
            return Ok(true);
        }
        let before = step.txn.head_at(&chain, Seq(seq - 1))?.map(|head| head.hash);
        if before == entry.prev_hash {
            self.take_back(step, chain, entry.head.seq, bytes)?;
            self.replication.step_back = FIRST_STEP_BACK;
            return Ok(true);
        }
        if let Some(from) = from {
            let back = self.replication.step_back.max(FIRST_STEP_BACK);
            self.replication.step_back = back.saturating_mul(2);
            step.send(from, &Message::Pull(vec![Want { chain, after: (seq - 1).saturating_sub(back) }]));
        }
        Ok(false)
    }

    /// Takes our entries of `chain` from `first` on back, and says again, under the present boot, what they said.
    fn take_back(&mut self, step: &mut Step<'_, '_>, chain: Chain, first: Seq, theirs: &[u8]) -> Result<(), StoreError> {
        let Some(ours) = step.txn.entry(&chain, first)? else { return Ok(()) };
        self.record_fork(step, chain, ForkProof { one: ours, other: theirs.to_vec() })?;
        if has_followers(step, chain, first)? {
            return Ok(());
        }
        let branch = branch(step, chain, first)?;
        step.txn.remove_entries(&chain, first)?;
        self.rebuild_within(step.txn)?;
        let mut batch = Batch::default();
        for entry in branch {
            say_again(step, entry, &mut batch)?;
        }
        self.publish(step, batch)
    }
}

/// Our entries of `chain` from `first` on.
fn branch(step: &Step<'_, '_>, chain: Chain, first: Seq) -> Result<Vec<Entry>, StoreError> {
    let (mut entries, mut seq) = (Vec::new(), first);
    while let Some(bytes) = step.txn.entry(&chain, seq)? {
        entries.push(Entry::reopen(&bytes).map_err(|error| StoreError::Inconsistent(error.to_string()))?);
        seq = seq.next();
    }
    Ok(entries)
}

/// Whether somebody else has built on our branch: then it is not ours to take back.
fn has_followers(step: &Step<'_, '_>, chain: Chain, first: Seq) -> Result<bool, StoreError> {
    let Some(mut from) = step.txn.arrival_of(&chain, first)? else { return Ok(false) };
    while let Some((arrival, bytes)) = step.txn.entry_from(from)? {
        let entry = Entry::reopen(&bytes).map_err(|error| StoreError::Inconsistent(error.to_string()))?;
        if entry.deps.iter().any(|(dep, head)| *dep == chain && head.seq >= first) {
            return Ok(true);
        }
        from = arrival + 1;
    }
    Ok(false)
}

fn say_again(step: &Step<'_, '_>, entry: Entry, batch: &mut Batch) -> Result<(), StoreError> {
    for op in entry.ops {
        match op {
            Op::LinkFact(fact) => batch.facts.push(fact),
            Op::Holdings(Holdings { added, removed }) => {
                for fact in added {
                    if step.txn.blob(&fact.sha1)?.is_some() && !step.txn.is_held_by(&fact.sha1, &entry.chain.node)? {
                        batch.holdings.added.push(fact);
                    }
                }
                for id in removed {
                    if step.txn.blob(&id)?.is_none() && step.txn.is_held_by(&id, &entry.chain.node)? {
                        batch.holdings.removed.push(id);
                    }
                }
            }
            Op::Change(change) => {
                batch.writes.extend(change.writes.into_iter().map(|write| OwnWrite { item: write.item, body: write.body }));
            }
            Op::Boot(_) | Op::Unknown(_) => {}
        }
    }
    Ok(())
}
