//! The clock of this machine, as far as it can be trusted: see `keepwell_protocol::clock`.
//!
//! Members tell each other the time whenever they tell how far they have come. While the clock is contradicted no lease and no grace ends
//! here by time, and no trash is emptied; nor before the first of the others, if there are any, has told the time since the start, for a
//! clock may have been set while no process looked. And while anything is doubtful about it, no ref is ended (see `expiry`).

use keepwell_protocol::clock::{ClockGuard, Doubt};
use keepwell_protocol::id::NodeId;
use keepwell_store::error::StoreError;

use super::{Engine, Step};

/// What the engine keeps of clocks. In memory, and kept when the engine starts anew in one process: no disk knows of it.
#[derive(Default)]
pub(super) struct Clock {
    guard: ClockGuard,
    /// The time since the machine was started; none if nobody tells.
    boot_ms: Option<u64>,
    /// Whether there are others who could tell the time, as of the last tick, or of the first step; none before that.
    has_others: Option<bool>,
}

impl Clock {
    /// A time that nobody sets, for what is done again every so often: `now_ms` if there is none.
    pub(super) fn steady_ms(&self, now_ms: u64) -> u64 {
        self.boot_ms.unwrap_or(now_ms)
    }

    /// The time by which leases and graces end and the trash is emptied: while the clock is contradicted, or could not be yet, one at which none
    /// does.
    pub(super) fn ends_ms(&self, now_ms: u64) -> u64 {
        if !self.was_compared() || self.guard.doubt().is_some_and(Doubt::is_contradicted) { 0 } else { now_ms }
    }

    /// Whether the clock could be contradicted by now: one of the others has been heard, if there are any.
    pub(super) fn was_compared(&self) -> bool {
        self.has_others == Some(false) || self.boot_ms.is_none() || self.guard.has_heard()
    }
}

impl Engine {
    /// Why nothing is ended by this machine's clock now, if so.
    pub fn clock_doubt(&self) -> Option<Doubt> {
        self.clock.guard.doubt().filter(|doubt| *doubt != Doubt::Unheard || self.clock.has_others == Some(true))
    }

    /// Reads the clock beside the time since the machine was started.
    pub(super) fn elapsed(&mut self, step: &mut Step<'_, '_>, boot_ms: u64) -> Result<(), StoreError> {
        self.clock.boot_ms = Some(boot_ms);
        self.clock.guard.read(step.now_ms, boot_ms);
        step.steady_ms = boot_ms;
        if self.clock.has_others.is_none() {
            return self.clock_on_tick(step);
        }
        step.ends_ms = self.clock.ends_ms(step.now_ms);
        Ok(())
    }

    /// Hears what the clock of a connected member shows.
    pub(super) fn heard_clock(&mut self, from: NodeId, now_ms: u64) {
        self.clock.guard.hear(from, now_ms);
    }

    /// As time passes: who else could tell it.
    pub(super) fn clock_on_tick(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        self.clock.has_others = Some(!self.waited_for(step.txn)?.is_empty());
        step.ends_ms = self.clock.ends_ms(step.now_ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
