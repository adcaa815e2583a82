//! Garbage collection in the engine: what nothing needs is purged once the catalog has converged on that, and brought back from the
//! trash when somebody wants it after all. The verdicts are those of `keepwell_protocol::gc`; here they are given what they look at.

use keepwell_protocol::gc::Missing;
use keepwell_protocol::gc::question::Why;
use keepwell_protocol::gc::sweep::{Converged, PurgeFacts, Sweep};
use keepwell_protocol::id::{BlobFact, NodeId};
use keepwell_protocol::log::op::Holdings;
use keepwell_protocol::log::vector::Vector;
use keepwell_store::audit::Note;
use keepwell_store::blobs::Place;
use keepwell_store::collected::{LastCollection, Scanned};
use keepwell_store::counts::Count;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;
use keepwell_store::trash::Retrieved;

use super::author::Batch;
use super::effect::{Collected, Effect, Reply};
use super::input::{Collect, RequestId};
use super::{Engine, Step};
use crate::limits::{CYCLES_PER_STEP, GRACES_PER_STEP, MAX_TRASH_AGE_MS, SETTLE_MENTIONS, TRASH_EVERY_MS};

mod unasked;

/// What the engine keeps of garbage collection between steps. In memory: after a start everything is asked anew.
#[derive(Default)]
pub(super) struct Collector {
    /// The oldest sweep that has not ended: what was applied when it began, and the number that what was unneeded then is below.
    sweep: Option<(Vector, u64)>,
    /// When the trash was last looked at.
    trash_ms: u64,
    /// Whether the last portion left more to do: then the next one goes on with the same collection.
    goes_on: bool,
    unasked: unasked::Unasked,
}

/// What one step may purge.
#[derive(Clone, Copy)]
struct Portion {
    /// Blobs that have been unneeded since their numbers were below this one.
    before: u64,
    /// At most so many.
    limit: usize,
    /// Whether nobody has asked for it.
    by_itself: bool,
}

impl Collector {
    /// The names of chains have changed, so what the sweep had seen cannot be compared any more.
    pub(super) fn forget_sweep(&mut self) {
        self.sweep = None;
    }
}

impl Engine {
    /// Lets what is live spread to what it links to, a portion in each step.
    pub(super) fn settle(&self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        if !step.txn.is_settled()? {
            step.txn.settle(SETTLE_MENTIONS)?;
        } else if step.txn.has_doubtful()? {
            step.txn.end_cycles(CYCLES_PER_STEP)?;
        }
        Ok(())
    }

    /// What garbage collection does by itself as time passes.
    pub(super) fn collect_on_tick(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        let (may_write, may_end) = (self.may_write_unasked(step.steady_ms, step.rng), self.clock.was_compared());
        if may_write && may_end {
            if step.txn.next_grace_ms()?.is_some_and(|until_ms| until_ms <= step.ends_ms) {
                step.txn.end_graces(step.ends_ms, GRACES_PER_STEP)?;
            }
            self.end_leases(step)?;
        }
        self.keep_sweeping(step.txn)?;
        if let Some(oldest_ms) = step.txn.oldest_trash_ms()?
            && step.steady_ms >= self.collector.trash_ms + TRASH_EVERY_MS
            && let Some(until_ms) = self.trash_until_ms(step)?.filter(|until_ms| oldest_ms <= *until_ms)
        {
            self.collector.trash_ms = step.steady_ms;
            step.effects.push(Effect::EmptyTrash { until_ms, enough_bytes: u64::MAX });
        }
        if may_write { self.collect_unasked(step) } else { Ok(()) }
    }

    /// Until when what was deleted is to be removed for good now, if anything is.
    fn trash_until_ms(&self, step: &Step<'_, '_>) -> Result<Option<u64>, StoreError> {
        let until_ms = self.checked_until_ms(step.ends_ms.saturating_sub(MAX_TRASH_AGE_MS));
        Ok((self.clock.was_compared() && self.is_counted_on(step.txn)?).then_some(until_ms))
    }

    /// Purges a portion of what nothing needs, if the catalog has converged on that.
    pub(super) fn collect(&mut self, step: &mut Step<'_, '_>, request: RequestId, how: Collect) -> Result<(), StoreError> {
        if !self.is_member(step.txn)? {
            step.effects.push(Effect::Reply(request, Reply::NotAMember));
            return Ok(());
        }
        if how.limit > 0 {
            // A command without a daemon is told the time by nothing else.
            self.clock_on_tick(step)?;
            self.expire(step)?;
        }
        let mut collected = self.collect_portion(step, how, false)?;
        collected.trash_until_ms = self.trash_until_ms(step)?;
        step.effects.push(Effect::Reply(request, Reply::Collected(collected)));
        Ok(())
    }

    /// Purges a portion, asked or not; with a limit of 0 it only looks what stands in the way.
    fn collect_portion(&mut self, step: &mut Step<'_, '_>, how: Collect, by_itself: bool) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        if how.limit > 0 {
            // A grace that the user cuts short is one that seems to end sooner.
            let usual_ms = self.settings.grace_ms;
            let over_ms = match how.grace_ms {
                None => step.ends_ms,
                Some(grace_ms) => step.now_ms.saturating_add(usual_ms).saturating_sub(grace_ms),
            };
            if self.clock.was_compared() {
                if step.txn.next_grace_ms()?.is_some_and(|until_ms| until_ms <= over_ms) {
                    collected.more = !step.txn.end_graces(over_ms, GRACES_PER_STEP.max(how.limit))?;
                }
                collected.more |= !self.end_leases(step)?;
            }
            self.settle(step)?;
        }
        let waited_for = self.waited_for(step.txn)?;
        let facts = self.common_facts(step.txn, &waited_for)?;
        for (sweep, before) in self.sweeps(step.txn)? {
            collected.missing = match sweep.converged(&waited_for, &**step.txn)? {
                Err(missing) => missing,
                Ok(_) if how.limit == 0 => facts.missing(),
                Ok(converged) => {
                    self.purge(step, &converged, Portion { before, limit: how.limit, by_itself }, facts, &mut collected)?
                }
            };
            if collected.missing.is_empty() {
                break;
            }
        }
        if how.limit > 0 {
            self.note_collection(step, &collected, by_itself)?;
        }
        Ok(collected)
    }

    /// Adds a portion to what is known of the last collection, or begins with it.
    fn note_collection(&mut self, step: &mut Step<'_, '_>, portion: &Collected, by_itself: bool) -> Result<(), StoreError> {
        let goes_on = std::mem::replace(&mut self.collector.goes_on, portion.more);
        if portion.purged.is_empty() {
            return Ok(());
        }
        let before = if goes_on { step.txn.last_collection()? } else { None };
        let before = before.filter(|last| last.by_itself == by_itself);
        let scanned = if before.is_some() { step.txn.last_scanned()? } else { Scanned::default() };
        let (blobs, bytes) = before.map_or((0, 0), |last| (last.blobs, last.bytes));
        let last = LastCollection {
            at_ms: step.now_ms,
            blobs: blobs + portion.purged.len() as u64,
            bytes: portion.purged.iter().fold(bytes, |sum, fact| sum.saturating_add(fact.size_bytes)),
            by_itself,
        };
        let scanned = Scanned {
            blobs: scanned.blobs + portion.scanned.blobs,
            by_grace: scanned.by_grace + portion.scanned.by_grace,
            by_lease: scanned.by_lease + portion.scanned.by_lease,
        };
        step.txn.put_last_collection(&last, &scanned)
    }

    /// Records a blob again whose bytes were brought back from the trash.
    pub(super) fn restore(&self, step: &mut Step<'_, '_>, request: RequestId, retrieved: Retrieved) -> Result<(), StoreError> {
        if !self.is_member(step.txn)? {
            step.effects.push(Effect::Reply(request, Reply::NotAMember));
            return Ok(());
        }
        let fact = retrieved.fact();
        let is_restored = step.txn.restore(retrieved, step.now_ms.saturating_add(self.settings.grace_ms))?;
        if is_restored {
            step.txn.note(step.now_ms, Note::Restored { blob: fact, by_itself: request == RequestId::NOBODY })?;
            self.publish(step, Batch { holdings: Holdings { added: vec![fact], removed: vec![] }, ..Batch::default() })?;
        }
        step.effects.push(Effect::Reply(request, Reply::Restored(is_restored.then_some(fact))));
        Ok(())
    }

    /// Purges a portion of what is unneeded; what stands in the way of the next blob.
    fn purge(
        &self,
        step: &mut Step<'_, '_>,
        converged: &Converged<'_>,
        portion: Portion,
        common: PurgeFacts,
        collected: &mut Collected,
    ) -> Result<Vec<Missing>, StoreError> {
        let Portion { before, limit, by_itself } = portion;
        let (mut purged, mut effects, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        let due = step.txn.unneeded_before(before, limit)?;
        collected.more |= due.len() == limit;
        for (number, id) in due {
            collected.scanned.blobs += 1;
            // What was just put may rest on it: then it is kept as long, and its turn comes again.
            if let Some(until_ms) = step.txn.graced_until_ms(&id)? {
                step.txn.renew_grace(&id, until_ms)?;
                collected.more = true;
                collected.scanned.by_grace += 1;
                continue;
            }
            // The walk is the proof; the counts only say where to look.
            let is_live = step.txn.is_live(&id)? || step.txn.is_reached(&id)?;
            let was_unreached = step.txn.is_unneeded_since(&id)? == Some(number);
            let lease = step.txn.covering_lease(&id, step.ends_ms)?;
            let is_pinned = lease.is_some();
            match converged.purge(&id, &PurgeFacts { is_live, was_unreached, is_pinned, ..common }) {
                Ok(permit) => {
                    let Some(record) = step.txn.delete(permit, step.now_ms)? else { continue };
                    effects.extend((record.place == Place::File).then_some(Effect::Unlink(id)));
                    purged.push(record.fact(id));
                }
                Err(mut obstacles) => {
                    // A lease stands in the way of this blob alone: it waits for the end of that one, and those behind it go on.
                    obstacles.retain(|obstacle| *obstacle != Missing::Unpinned);
                    match lease {
                        Some((lease, _)) if obstacles.is_empty() => {
                            collected.scanned.by_lease += 1;
                            step.txn.wait_for_lease(&id, &lease)?;
                        }
                        _ => {
                            (missing, collected.more) = (obstacles, false);
                            break;
                        }
                    }
                }
            }
        }
        if !purged.is_empty() {
            self.note_purge(step, converged, &purged, by_itself)?;
            let removed = purged.iter().map(|fact: &BlobFact| fact.sha1).collect();
            self.publish(step, Batch { holdings: Holdings { added: vec![], removed }, ..Batch::default() })?;
        }
        step.effects.extend(effects);
        collected.purged.extend(purged);
        Ok(missing)
    }

    /// What holds for every blob alike, of one that nothing needs.
    pub(super) fn common_facts(&mut self, txn: &Transaction<'_>, waited_for: &[NodeId]) -> Result<PurgeFacts, StoreError> {
        Ok(PurgeFacts {
            refuses: self.refuses_to_purge(txn, waited_for)?,
            is_settled: txn.is_settled()?,
            is_live: false,
            was_unreached: true,
            is_pinned: false,
            understands_all: txn.count(Count::UnknownProtecting)? == 0,
        })
    }

    /// The sweeps that may have converged, with the numbers that their blobs are below: one that begins now reaches furthest, and when
    /// others go on writing, an older one converges first.
    fn sweeps(&self, txn: &Transaction<'_>) -> Result<Vec<(Sweep, u64)>, StoreError> {
        let fresh = (txn.vector()?, txn.next_unneeded_number()?);
        let begun = std::iter::once(fresh).chain(self.collector.sweep.clone());
        let hear = |(seen, before)| {
            let mut sweep = Sweep::begin(seen);
            self.acks().values().for_each(|ack| sweep.hear(ack));
            (sweep, before)
        };
        Ok(begun.map(hear).collect())
    }

    /// Begins a sweep when something is unneeded and none is under way, and ends one that has nothing left.
    fn keep_sweeping(&mut self, txn: &Transaction<'_>) -> Result<(), StoreError> {
        let is_due = |before: &u64| Ok::<_, StoreError>(!txn.unneeded_before(*before, 1)?.is_empty());
        match &self.collector.sweep {
            Some((_, before)) if is_due(before)? => {}
            _ => {
                let before = txn.next_unneeded_number()?;
                self.collector.sweep = if is_due(&before)? { Some((txn.vector()?, before)) } else { None };
            }
        }
        Ok(())
    }

    /// Why nothing may be purged now, if so: what this node knows cannot be relied on, or not everybody in reach has been heard since the
    /// start (R11).
    fn refuses_to_purge(&mut self, txn: &Transaction<'_>, waited_for: &[NodeId]) -> Result<Option<Why>, StoreError> {
        let reachable: Vec<NodeId> = self.connected_peers().filter(|peer| waited_for.contains(peer)).copied().collect();
        Ok(self.refuses_by_itself(txn)?.or(self.start(txn)?.refuses_to_purge(&reachable, waited_for)))
    }
}

#[cfg(test)]
pub(super) mod tests;
