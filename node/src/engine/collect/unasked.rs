//! Collecting without being asked: a portion whenever the schedule says so, by the same rules as a command.

use keepwell_protocol::gc::schedule::{End, Schedule};
use keepwell_store::error::StoreError;

use crate::engine::effect::{Collected, Effect};
use crate::engine::input::Collect;
use crate::engine::{Engine, Step};
use crate::limits::UNASKED_PORTION;

/// What is kept of it between steps.
#[derive(Default)]
pub(super) struct Unasked {
    /// When the next one comes; none until the first step, or if nothing is to be collected without being asked.
    schedule: Option<Schedule>,
    /// The number that the next unneeded blob gets, and how many entries there are, as they were at the end of the last step.
    noted: Option<(u64, u64)>,
    /// How the collection ended of which it is not known yet what it cost.
    ended: Option<End>,
    /// Whether something stood in the way of the last one.
    is_blocked: bool,
}

impl Engine {
    /// When the engine wants to be told the time, if before the next tick: something may be due then.
    pub fn wakes_ms(&self) -> Option<u64> {
        let next_ms = self.collector.unasked.schedule.as_ref()?.next_ms()?;
        Some(self.patient_until_ms().map_or(next_ms, |until_ms| until_ms.max(next_ms)))
    }

    /// Notes at the end of a step what has become garbage in it. A few reads, however much is held.
    pub(in crate::engine) fn note_garbage(&mut self, step: &Step<'_, '_>) -> Result<(), StoreError> {
        let Some(keys) = self.settings.schedule else { return Ok(()) };
        let (number, arrival) = (step.txn.next_unneeded_number()?, step.txn.next_arrival()?);
        let unasked = &mut self.collector.unasked;
        let schedule = unasked.schedule.get_or_insert_with(|| Schedule::start(keys, step.now_ms));
        let (deletions, mutations) = match unasked.noted.replace((number, arrival)) {
            Some((old_number, old_arrival)) => (number.saturating_sub(old_number), arrival.saturating_sub(old_arrival)),
            // What was left when the process ended.
            None => (u64::from(!step.txn.unneeded_before(u64::MAX, 1)?.is_empty()), 0),
        };
        schedule.note(step.now_ms, deletions, mutations);
        let ends = [step.txn.next_grace_ms()?, step.txn.next_expiry_ms()?, self.leases.next_end_ms()];
        schedule.arm(ends.into_iter().flatten().min());
        Ok(())
    }

    /// Purges a portion if that is due.
    pub(super) fn collect_unasked(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        let Some(schedule) = self.collector.unasked.schedule.as_mut() else { return Ok(()) };
        if !schedule.is_due(step.now_ms) {
            return Ok(());
        }
        schedule.begin();
        let is_garbage = !step.txn.unneeded_before(u64::MAX, 1)?.is_empty();
        if !is_garbage || !self.is_member(step.txn)? {
            self.collection_ended(step.now_ms, 0, End::Nothing);
            return Ok(());
        }
        let how = Collect { grace_ms: None, limit: UNASKED_PORTION };
        let collected = self.collect_portion(step, how, true)?;
        // It has seen all that was garbage by now, and what it wrote itself is no reason for another.
        self.collector.unasked.noted = Some((step.txn.next_unneeded_number()?, step.txn.next_arrival()?));
        // What has become garbage since the sweep began that has converged is for the next one.
        let is_left = !step.txn.unneeded_before(u64::MAX, 1)?.is_empty();
        let end = end_of(&collected, is_left);
        if collected.purged.is_empty() && end == End::Blocked {
            self.collection_ended(step.now_ms, 0, end);
        } else {
            self.collector.unasked.ended = Some(end);
            step.effects.push(Effect::Collected(collected));
        }
        Ok(())
    }

    /// Hears what the last collection cost.
    pub(in crate::engine) fn collection_took(&mut self, now_ms: u64, cost_us: u64) {
        if let Some(end) = self.collector.unasked.ended.take() {
            self.collection_ended(now_ms, cost_us, end);
        }
    }

    /// Has a collection begin as soon as there can be one: space is short.
    pub(in crate::engine) fn trigger_collection(&mut self, now_ms: u64) {
        if let Some(schedule) = self.collector.unasked.schedule.as_mut() {
            schedule.trigger(now_ms);
        }
    }

    /// Whether something stood in the way of the last collection.
    pub(in crate::engine) fn is_collection_blocked(&self) -> bool {
        self.collector.unasked.is_blocked
    }

    fn collection_ended(&mut self, now_ms: u64, cost_us: u64, end: End) {
        self.collector.unasked.is_blocked = end == End::Blocked;
        if let Some(schedule) = self.collector.unasked.schedule.as_mut() {
            schedule.end(now_ms, cost_us, end);
        }
    }
}

fn end_of(collected: &Collected, is_left: bool) -> End {
    match collected {
        Collected { missing, .. } if !missing.is_empty() => End::Blocked,
        Collected { more: true, .. } => End::More,
        _ if is_left => End::Blocked,
        _ => End::Done,
    }
}

#[cfg(test)]
mod tests;
