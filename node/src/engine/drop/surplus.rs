//! Giving up surplus copies because space is short: which, how many at once, and when to try again (R10).
//!
//! The records are walked, a portion on each look, for copies that others are said to hold too. First go those that all of the keepers,
//! as the rank has them, hold elsewhere; only when a whole walk has found none of these, the others. What is found is asked about in
//! rounds like any other, by the same proof, with nobody to answer to. A blob that had to stay is let alone for a while, and for longer
//! each time; so is all of it when nothing goes. A lease keeps a copy here, and so does the grace of a put or fetch: somebody just
//! wanted it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::gc::backoff::full_jitter_ms;
use keepwell_protocol::id::{BlobId, StorageId};
use keepwell_protocol::place::rank::rank;
use keepwell_store::blobs::BlobRecord;
use keepwell_store::error::StoreError;
use rand_chacha::rand_core::Rng;

use super::Whom;
use super::facts::Facts;
use crate::engine::effect::DropOutcome;
use crate::engine::pressure::Wait;
use crate::engine::{Engine, Step};
use crate::limits::{MAX_REFUSED_DROPS, SURPLUS_BATCH, SURPLUS_LOOKS, SURPLUS_RETRY_MORE_MS, SURPLUS_RETRY_MOST_MS};

/// Where the walk is, and what was tried in vain. In memory: after a start it begins anew.
#[derive(Default)]
pub(super) struct Surplus {
    /// The blob that the walk goes on at; none at its beginning.
    next: Option<BlobId>,
    /// Whether this walk takes all that others hold, and not only what others are to keep rather.
    takes_all: bool,
    found: Vec<Candidate>,
    /// Whether others are being asked.
    is_asking: bool,
    /// Whether the last two walks found nothing.
    is_exhausted: bool,
    all: Again,
    refused: BTreeMap<BlobId, Again>,
}

/// A copy that may be surplus.
struct Candidate {
    id: BlobId,
    /// How many others keep it rather.
    rank: usize,
    size_bytes: u64,
}

/// When something is tried again.
#[derive(Default)]
struct Again {
    /// How often it was in vain.
    tries: u32,
    /// When the next try is; 0 before the first.
    due_ms: u64,
}

impl Again {
    fn later(&mut self, now_ms: u64, draw: u64) {
        let jitter_ms = full_jitter_ms(SURPLUS_RETRY_MORE_MS, SURPLUS_RETRY_MOST_MS, self.tries, draw);
        self.tries = self.tries.saturating_add(1);
        self.due_ms = now_ms.saturating_add(SURPLUS_RETRY_MORE_MS).saturating_add(jitter_ms);
    }
}

impl Engine {
    /// Does one step towards giving up copies of `left_bytes`; what is waited for, if anything.
    pub(in crate::engine) fn give_up_surplus(
        &mut self,
        step: &mut Step<'_, '_>,
        left_bytes: u64,
    ) -> Result<Option<Wait>, StoreError> {
        if self.dropping.surplus.is_asking {
            return Ok(Some(Wait::Asking));
        }
        if self.connected_peers().next().is_none() {
            return Ok(Some(Wait::Needed));
        }
        if self.dropping.surplus.all.due_ms == 0 {
            // Others may have become as full at the same moment.
            let jitter_ms = full_jitter_ms(SURPLUS_RETRY_MORE_MS, SURPLUS_RETRY_MOST_MS, 0, step.rng.next_u64());
            self.dropping.surplus.all.due_ms = step.steady_ms.saturating_add(jitter_ms).max(1);
        }
        if step.steady_ms < self.dropping.surplus.all.due_ms {
            return Ok(self.dropping.surplus.why_nothing_goes(step.steady_ms));
        }
        let mut facts = self.facts(step.txn)?;
        if !facts.allow_drops() {
            return Ok(Some(Wait::NotHeard));
        }
        self.end_attempts_on_new_roots(step)?;
        let is_walked = self.look_for_surplus(step, &mut facts)?;
        let surplus = &mut self.dropping.surplus;
        if surplus.found.len() < SURPLUS_BATCH && !is_walked {
            return Ok(None);
        }
        if surplus.found.is_empty() {
            surplus.is_exhausted = surplus.takes_all;
            surplus.takes_all = !surplus.is_exhausted;
            if surplus.is_exhausted {
                surplus.all.later(step.steady_ms, step.rng.next_u64());
            }
            return Ok(surplus.why_nothing_goes(step.steady_ms));
        }
        if !self.may_write_unasked(step.steady_ms, step.rng) {
            return Ok(Some(Wait::FullDisk));
        }
        let surplus = &mut self.dropping.surplus;
        let batch = surplus.batch(left_bytes);
        surplus.is_asking = true;
        self.drop_copies(step, Whom::Pressure, &batch)?;
        Ok(Some(Wait::Asking))
    }

    /// Space is not short any more. What was tried in vain is remembered.
    pub(in crate::engine) fn leave_surplus(&mut self) {
        let surplus = &mut self.dropping.surplus;
        (surplus.next, surplus.takes_all, surplus.is_exhausted) = (None, false, false);
        surplus.found.clear();
    }

    /// Walks on by a portion; whether this walk has come to its end.
    fn look_for_surplus(&mut self, step: &Step<'_, '_>, facts: &mut Facts) -> Result<bool, StoreError> {
        let from = self.dropping.surplus.next.take().unwrap_or(BlobId([0; BlobId::LEN]));
        let (mut portion, mut next) = (Vec::new(), None);
        step.txn.visit_blobs(&from, |id, record| {
            match portion.len() {
                SURPLUS_LOOKS => next = Some(id),
                _ => portion.push((id, record)),
            }
            Ok::<_, StoreError>(next.is_none())
        })?;
        for (id, record) in portion {
            if self.dropping.surplus.found.len() == SURPLUS_BATCH {
                next = Some(id);
                break;
            }
            let candidate = self.candidate(step, facts, id, &record)?;
            self.dropping.surplus.found.extend(candidate);
        }
        self.dropping.surplus.next = next;
        Ok(next.is_none())
    }

    fn candidate(
        &self,
        step: &Step<'_, '_>,
        facts: &mut Facts,
        id: BlobId,
        record: &BlobRecord,
    ) -> Result<Option<Candidate>, StoreError> {
        let surplus = &self.dropping.surplus;
        let is_let_alone = surplus.refused.get(&id).is_some_and(|again| step.steady_ms < again.due_ms);
        if is_let_alone || self.dropping.attempts.is_flagged(&id) || step.txn.is_in_grace(&id, record)? {
            return Ok(None);
        }
        let holders = step.txn.holders(&id)?.into_iter().map(|holding| holding.node);
        let in_reach = holders.filter(|node| self.is_connected(node)).filter_map(|node| facts.members.get(&node).copied());
        let others: BTreeSet<StorageId> = in_reach.filter(|storage| *storage != self.home.storage).collect();
        if others.is_empty() {
            return Ok(None);
        }
        let about = facts.about(step, &id)?;
        let need = usize::try_from(facts.need(&about).others_to_drop()).unwrap_or(usize::MAX);
        let rank = rank(&self.home.storage, &others, &id);
        let is_surplus = about.copies > 0 && others.len() >= need && !about.is_pinned;
        let goes = is_surplus && (surplus.takes_all || rank >= need);
        Ok(goes.then_some(Candidate { id, rank, size_bytes: record.size_bytes }))
    }

    /// Hears how a round ended that was begun because space is short.
    pub(super) fn surplus_round_ended(&mut self, step: &mut Step<'_, '_>, outcomes: &[DropOutcome]) {
        let surplus = &mut self.dropping.surplus;
        surplus.is_asking = false;
        surplus.refused.retain(|_, again| step.steady_ms < again.due_ms.saturating_add(SURPLUS_RETRY_MOST_MS));
        for outcome in outcomes.iter().filter(|outcome| outcome.gone.is_none()) {
            if surplus.refused.len() < MAX_REFUSED_DROPS || surplus.refused.contains_key(&outcome.blob) {
                surplus.refused.entry(outcome.blob).or_default().later(step.steady_ms, step.rng.next_u64());
            }
        }
        match outcomes.iter().any(|outcome| outcome.gone.is_some()) {
            true => surplus.all = Again { tries: 0, due_ms: step.steady_ms },
            false => surplus.all.later(step.steady_ms, step.rng.next_u64()),
        }
    }
}

impl Surplus {
    pub(super) fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// What goes next of what was found: what others keep rather first, then what is largest, until it is enough.
    fn batch(&mut self, left_bytes: u64) -> Vec<BlobId> {
        let mut found = std::mem::take(&mut self.found);
        found.sort_by_key(|candidate| (Reverse(candidate.rank), Reverse(candidate.size_bytes), candidate.id));
        let (mut batch, mut bytes) = (Vec::new(), 0_u64);
        for candidate in found {
            if bytes >= left_bytes {
                break;
            }
            bytes = bytes.saturating_add(candidate.size_bytes);
            batch.push(candidate.id);
        }
        batch
    }

    fn why_nothing_goes(&self, now_ms: u64) -> Option<Wait> {
        let blobs = self.refused.values().filter(|again| now_ms < again.due_ms).count();
        match blobs {
            0 => self.is_exhausted.then_some(Wait::Needed),
            blobs => Some(Wait::Refused { blobs }),
        }
    }
}

#[cfg(test)]
mod tests;
