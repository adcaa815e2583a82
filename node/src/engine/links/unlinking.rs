//! Ending the facts of what is gone: on ticks, a portion at a time, once the catalog has converged on that.
//!
//! What loses its last holder is noticed as it happens, and a slow walk over all facts finds what that missed. Noticed facts wait until no
//! trash can hold their parent any more; then the node that wrote them is first to end them, and the others one after the other.
//! Until when they wait is written down too, by the clock as the trash goes by, so that a start does not begin the wait anew; how it is
//! slept away is counted by a clock that nobody sets. The rest lives in memory. The verdict is `keepwell_protocol::gc::unlink`.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::catalog::expiry::mark_after_ms;
use keepwell_protocol::gc::sweep::PurgeFacts;
use keepwell_protocol::gc::unlink::{UnlinkFacts, Unlinking};
use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_protocol::limits::MARK_TURN_MS;
use keepwell_protocol::log::op::Unlink;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use crate::engine::author::Batch;
use crate::engine::{Engine, Step};
use crate::limits::{
    FACT_BLOBS_ABOVE, FACT_LOOKS_PER_TICK, FACT_TURNS, FACT_WALK_EVERY_MS, FACTS_PER_SWEEP, MAX_FACTS_DUE, SETTLE_MENTIONS,
};

/// What the engine keeps of facts that are to end.
#[derive(Default)]
pub(in crate::engine) struct Unlinks {
    /// Whether what was written down has been read by a clock that others had compared; none before it was read at all.
    is_read: Option<bool>,
    /// Parents that nobody holds, by when their facts are this node's to end.
    due: BTreeSet<(u64, BlobId)>,
    /// The same by parent.
    noticed: BTreeMap<BlobId, u64>,
    under_way: Option<Unlinking>,
    /// Parents whose turn comes again, since something ended what was under way.
    again: Vec<BlobId>,
    /// Where the walk over all facts goes on; none while there is none.
    walk: Option<Option<BlobId>>,
    /// When the last walk ended.
    walked_ms: Option<u64>,
}

impl Unlinks {
    /// The names of chains have changed: what is under way cannot be compared any more.
    pub(in crate::engine) fn forget_sweep(&mut self) {
        self.again.extend(self.under_way.take().into_iter().flat_map(|unlinking| unlinking.parents().clone()));
    }

    /// Blobs have been named, have come or gone, or lost facts: what is under way ends with them.
    pub(in crate::engine) fn touched<'b>(&mut self, mut blobs: impl Iterator<Item = &'b BlobId>) {
        if let Some(unlinking) = &self.under_way
            && blobs.any(|blob| unlinking.is_ended_by(blob))
        {
            self.forget_sweep();
        }
    }

    /// Whether there is room to wait for it.
    pub(super) fn wait(&mut self, parent: BlobId, until_ms: u64) -> bool {
        self.forget(&parent);
        if self.noticed.len() == MAX_FACTS_DUE {
            return false;
        }
        self.noticed.insert(parent, until_ms);
        self.due.insert((until_ms, parent))
    }

    /// How many parents wait, and of how many the facts are being ended.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.noticed.len(), self.under_way.as_ref().map_or(0, |unlinking| unlinking.parents().len()))
    }

    /// Whether it has waited.
    fn forget(&mut self, parent: &BlobId) -> bool {
        let until_ms = self.noticed.remove(parent);
        until_ms.is_some_and(|until_ms| self.due.remove(&(until_ms, *parent)))
    }

    fn waits(&self, parent: &BlobId) -> bool {
        let is_under_way = self.under_way.as_ref().is_some_and(|unlinking| unlinking.parents().contains(parent));
        is_under_way || self.noticed.contains_key(parent)
    }

    fn next(&mut self, steady_ms: u64) -> Option<BlobId> {
        let (_, parent) = *self.due.first().filter(|(until_ms, _)| *until_ms <= steady_ms)?;
        self.forget(&parent);
        Some(parent)
    }
}

impl Engine {
    /// At the end of a step: copies of these have come or gone somewhere. What is held by nobody now begins to wait.
    pub(in crate::engine) fn unlink_moved(&mut self, step: &mut Step<'_, '_>, moved: &[BlobId]) -> Result<(), StoreError> {
        self.read_facts_due(step)?;
        self.unlinking.touched(moved.iter());
        for id in moved {
            if self.unlinking.forget(id) {
                step.txn.remove_facts_due(id)?;
            }
        }
        self.notice(step, moved)
    }

    /// After a start: goes on waiting where it was.
    fn read_facts_due(&mut self, step: &Step<'_, '_>) -> Result<(), StoreError> {
        let is_compared = self.clock.was_compared();
        if self.unlinking.is_read == Some(true) || self.unlinking.is_read == Some(is_compared) {
            return Ok(());
        }
        self.unlinking.is_read = Some(is_compared);
        // Of a clock that was set back, or that is contradicted, no more is believed than that a start begins anew. Before it could be, nothing ends.
        let most_ms = self.settings.facts_after_ms.saturating_mul(2);
        let ends_ms = if is_compared { step.ends_ms } else { step.now_ms };
        for (parent, until_ms) in step.txn.facts_due()? {
            let left_ms = until_ms.saturating_sub(ends_ms).min(most_ms);
            self.unlinking.wait(parent, step.steady_ms.saturating_add(left_ms));
        }
        Ok(())
    }

    /// As time passes: ends a portion of the facts whose time has come.
    pub(in crate::engine) fn unlink_on_tick(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        if !self.is_member(step.txn)? {
            return Ok(());
        }
        self.read_facts_due(step)?;
        if !self.clock.was_compared() {
            return Ok(());
        }
        for parent in std::mem::take(&mut self.unlinking.again) {
            // One that came and went meanwhile waits anew.
            if !self.unlinking.noticed.contains_key(&parent) {
                self.unlinking.wait(parent, step.steady_ms.saturating_add(self.facts_turn_ms()));
            }
        }
        self.walk_facts(step)?;
        match self.unlinking.under_way.take() {
            Some(unlinking) => self.unlink(step, unlinking),
            None => self.begin_unlinking(step),
        }
    }

    /// How long each member leaves to the one before it.
    fn facts_turn_ms(&self) -> u64 {
        (self.settings.facts_after_ms / FACT_TURNS).max(1)
    }

    fn walk_facts(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        let unlinks = &mut self.unlinking;
        let is_due = unlinks.walked_ms.is_none_or(|at_ms| step.steady_ms.abs_diff(at_ms) >= FACT_WALK_EVERY_MS);
        let Some(after) = unlinks.walk.or(is_due.then_some(None)) else { return Ok(()) };
        let parents = step.txn.linking_after(after.as_ref(), FACT_LOOKS_PER_TICK)?;
        unlinks.walk = parents.last().filter(|_| parents.len() == FACT_LOOKS_PER_TICK).map(|last| Some(*last));
        unlinks.walked_ms = Some(step.steady_ms);
        let new: Vec<BlobId> = parents.into_iter().filter(|parent| !unlinks.waits(parent)).collect();
        self.notice(step, &new)
    }

    /// Notes when it is this node's turn to end the facts of those of `parents` that are gone.
    fn notice(&mut self, step: &mut Step<'_, '_>, parents: &[BlobId]) -> Result<(), StoreError> {
        let (mut writers, mut members) = (BTreeMap::new(), None);
        for parent in parents {
            let Some(fact) = step.txn.first_fact_id(parent)? else { continue };
            if !is_gone(step.txn, parent)? {
                continue;
            }
            if members.is_none() {
                writers = step.txn.vector()?.0.into_keys().map(|chain| (chain.boot, chain.node)).collect();
                members = Some(self.members(step.txn)?.into_keys().collect::<Vec<NodeId>>());
            }
            let writer = writers.get(&fact.boot).unwrap_or(&self.home.node);
            let turns = mark_after_ms(&self.home.node, writer, members.iter().flatten(), &fact) / MARK_TURN_MS;
            let after_ms = self.settings.facts_after_ms.saturating_add(turns.saturating_mul(self.facts_turn_ms()));
            if self.unlinking.wait(*parent, step.steady_ms.saturating_add(after_ms)) {
                step.txn.put_facts_due(parent, step.now_ms.saturating_add(after_ms))?;
            }
        }
        Ok(())
    }

    fn begin_unlinking(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        let (mut parents, mut above, mut mentions) = (BTreeSet::new(), BTreeSet::new(), 0);
        while parents.len() < FACTS_PER_SWEEP && mentions < SETTLE_MENTIONS {
            let Some(parent) = self.unlinking.next(step.steady_ms) else { break };
            if !step.txn.has_facts(&parent)? {
                step.txn.remove_facts_due(&parent)?;
                continue;
            }
            match all_above(step.txn, &parent)? {
                Some(found) => {
                    mentions += step.txn.children(&parent)?.len();
                    above.extend(found);
                    parents.insert(parent);
                }
                // It is held again, or what links to it is: that may change.
                None => drop(self.unlinking.wait(parent, step.steady_ms.saturating_add(self.facts_turn_ms()))),
            }
        }
        if !parents.is_empty() {
            self.unlinking.under_way = Some(Unlinking::begin(step.txn.vector()?, parents, above));
        }
        Ok(())
    }

    /// Ends the facts, if the catalog has converged on their parents' being gone.
    fn unlink(&mut self, step: &mut Step<'_, '_>, unlinking: Unlinking) -> Result<(), StoreError> {
        let waited_for = self.waited_for(step.txn)?;
        let common = self.common_facts(step.txn, &waited_for)?;
        let mut sweep = unlinking.sweep();
        self.acks().values().for_each(|ack| sweep.hear(ack));
        let converged = match sweep.converged(&waited_for, &**step.txn)? {
            Ok(converged) if common.missing().is_empty() => converged,
            _ => {
                self.unlinking.under_way = Some(unlinking);
                return Ok(());
            }
        };
        let mut unlinks = Vec::new();
        for parent in unlinking.parents() {
            step.txn.remove_facts_due(parent)?;
            let facts = step.txn.fact_ids(parent)?;
            let is_live = step.txn.is_live(parent)? || step.txn.is_reached(parent)?;
            let is_pinned = step.txn.trashed(parent)?.is_some();
            let is_held = step.txn.blob(parent)?.is_some() || !step.txn.holders(parent)?.is_empty();
            let were_known = facts.iter().all(|fact| unlinking.knew(fact));
            let looked_at = UnlinkFacts { purge: PurgeFacts { is_live, is_pinned, ..common }, is_held, were_known };
            if converged.unlinks(&looked_at) && !facts.is_empty() {
                unlinks.push(Unlink { parent: *parent, facts });
            }
        }
        self.publish(step, Batch { unlinks, ..Batch::default() })
    }
}

/// Whether nobody holds `id`, as far as the catalog tells, and no ref reaches it, as far as that is counted.
fn is_gone(txn: &Transaction<'_>, id: &BlobId) -> Result<bool, StoreError> {
    Ok(!txn.is_live(id)? && txn.blob(id)?.is_none() && txn.holders(id)?.is_empty())
}

/// All from which links lead to `parent`, if they and it are gone and lie in no trash here; none also when they are too many.
pub(super) fn all_above(txn: &Transaction<'_>, parent: &BlobId) -> Result<Option<BTreeSet<BlobId>>, StoreError> {
    let (mut above, mut due) = (BTreeSet::new(), vec![*parent]);
    while let Some(at) = due.pop() {
        if above.len() > FACT_BLOBS_ABOVE || !is_gone(txn, &at)? || txn.trashed(&at)?.is_some() {
            return Ok(None);
        }
        due.extend(txn.parents(&at)?.into_iter().filter(|next| next != parent && above.insert(*next)));
    }
    Ok(Some(above))
}
