//! An index in which damage was found: it is read and written as before, and nothing is deleted by what it says.
//!
//! What is damaged may be a ref, a link or a count, so that what seems to be garbage is needed, and a copy that is vouched for is not
//! there. So nothing is purged, dropped or emptied from the trash, no ref is ended, and nobody is told that this node keeps something.
//! This outlives a restart by a note in the home, outside the index (`home/damage`), which whoever opens the engine hands to it.

use keepwell_protocol::gc::question::Why;
use keepwell_store::audit::Note;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use super::effect::{Effect, Reply};
use super::{Engine, RequestId, Step};

impl Engine {
    /// The same engine, of an index in which damage was found before, if so.
    pub fn on_index(self, is_damaged: bool) -> Engine {
        Engine { is_index_damaged: is_damaged, ..self }
    }

    /// Whether damage was found in its index.
    pub fn is_index_damaged(&self) -> bool {
        self.is_index_damaged
    }

    /// Hears that damage was found in the index.
    pub(super) fn distrust_index(&mut self, step: &mut Step<'_, '_>, request: RequestId, why: String) -> Result<(), StoreError> {
        self.dropping.end_attempts();
        if !std::mem::replace(&mut self.is_index_damaged, true) {
            step.txn.note(step.now_ms, Note::IndexDamaged { why })?;
        }
        step.effects.push(Effect::Reply(request, Reply::Noted));
        Ok(())
    }

    /// Until when what was deleted may be removed for good, of what is old enough for that: what may have been deleted because of
    /// damage that nobody has found yet waits for a check that began later.
    pub(super) fn checked_until_ms(&self, old_ms: u64) -> u64 {
        if self.settings.checks_index { old_ms.min(self.index_whole_ms.saturating_sub(1)) } else { old_ms }
    }

    /// Why this node may delete nothing, whatever others say: its index is damaged, or it was declared dead.
    pub(super) fn refuses_by_itself(&self, txn: &Transaction<'_>) -> Result<Option<Why>, StoreError> {
        Ok(self.refuses_by_its_index().or(self.refuses_as_dead(txn)?))
    }

    /// Why nothing of what the index says may be acted on, if so.
    pub(super) fn refuses_by_its_index(&self) -> Option<Why> {
        self.is_index_damaged.then_some(Why::IndexDamaged)
    }
}

#[cfg(test)]
mod tests;
