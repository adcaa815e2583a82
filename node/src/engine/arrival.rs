//! Restoration on arrival (R9): what was purged here and is needed again comes back from the trash by itself.
//!
//! Whatever becomes live in a step is looked up in the trash at the step's end. What a step has no room for, what could not be brought
//! back, and what a stop of the machine interrupted is found again by a walk over the trash, a portion on each tick. With an empty
//! trash, or with nothing newly live, nothing is looked up.
//!
//! A copy that was given up while others kept theirs stays in the trash: that a ref reaches it was known when it went.

use keepwell_protocol::id::BlobId;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use super::effect::Effect;
use super::{Engine, Step};
use crate::limits::{RETRIEVES_PER_STEP, TRASH_LOOKS_PER_TICK, TRASH_WALK_EVERY_MS};

/// Where the walk over the trash is. It begins with the engine: what came back when the process ended may have come half way.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// The blob that the walk goes on at; none while there is no walk.
    next: Option<BlobId>,
    /// When the last walk ended.
    ended_ms: u64,
}

impl Default for Arrivals {
    fn default() -> Self {
        Arrivals { next: Some(FIRST), ended_ms: 0 }
    }
}

impl Arrivals {
    /// Has all of the trash looked at anew.
    pub(super) fn look_at_all(&mut self) {
        self.next = Some(FIRST);
    }
}

/// No blob comes before it.
const FIRST: BlobId = BlobId([0; BlobId::LEN]);

impl Engine {
    /// Has what became live in this step brought back, if it lies in the trash.
    pub(super) fn restore_arrived(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        let newly_live = step.txn.take_newly_live();
        if newly_live.is_empty() || step.txn.oldest_trash_ms()?.is_none() {
            return Ok(());
        }
        let mut retrieves = 0;
        for id in newly_live {
            if !is_wanted(step.txn, &id)? {
                continue;
            }
            if retrieves == RETRIEVES_PER_STEP {
                self.arrivals.next = Some(FIRST);
                break;
            }
            retrieves += 1;
            step.effects.push(Effect::Retrieve(id));
        }
        Ok(())
    }

    /// Looks through a portion of the trash for what is live, if a walk is due.
    pub(super) fn walk_trash(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        // Also when the clock was set back.
        let is_due = step.now_ms.abs_diff(self.arrivals.ended_ms) >= TRASH_WALK_EVERY_MS;
        let Some(from) = self.arrivals.next.or(is_due.then_some(FIRST)) else { return Ok(()) };
        let ids = step.txn.trash_from(&from, TRASH_LOOKS_PER_TICK)?;
        self.arrivals.next = ids.last().copied().filter(|_| ids.len() == TRASH_LOOKS_PER_TICK);
        self.arrivals.ended_ms = step.now_ms;
        let mut retrieves = 0;
        for id in ids {
            if !is_wanted(step.txn, &id)? {
                continue;
            }
            if retrieves == RETRIEVES_PER_STEP {
                self.arrivals.next = Some(id);
                break;
            }
            retrieves += 1;
            step.effects.push(Effect::Retrieve(id));
        }
        Ok(())
    }
}

/// Whether a ref reaches what was purged here.
fn is_wanted(txn: &Transaction<'_>, id: &BlobId) -> Result<bool, StoreError> {
    Ok(txn.was_purged(id)? && txn.is_live(id)?)
}

#[cfg(test)]
mod tests;
