//! How durable something is: on how many disks, this one included, all of it is right now, as others prove (R7).

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::gc::question::{Answer, Purpose, Word};
use keepwell_protocol::id::{BlobId, NodeId, Nonce, StorageId};
use keepwell_protocol::limits::MAX_QUESTION_BLOBS;
use keepwell_store::error::StoreError;

use super::asking::Asking;
use crate::engine::effect::{Confirmed, Effect, Reply};
use crate::engine::input::RequestId;
use crate::engine::open::draw;
use crate::engine::{Engine, Step};

/// The blobs of one request, while others are asked about them.
pub(super) struct Confirmation {
    request: RequestId,
    pub(super) asking: Asking,
    /// The blobs on which something is awaited.
    open: BTreeSet<BlobId>,
    /// The disks on which each blob is, as proven.
    proven: BTreeMap<BlobId, BTreeSet<StorageId>>,
    silent: BTreeSet<NodeId>,
}

impl Engine {
    /// Asks on how many disks `blobs` are, at most [`MAX_QUESTION_BLOBS`]; more are not looked at.
    pub(in crate::engine) fn confirm(
        &mut self,
        step: &mut Step<'_, '_>,
        request: RequestId,
        blobs: &[BlobId],
    ) -> Result<(), StoreError> {
        let members = self.members(step.txn)?;
        let (boot, seen) = (self.own_chain()?.boot, step.txn.vector()?);
        let mut confirmation = Confirmation {
            request,
            asking: Asking::new(Nonce(draw(step.rng)), boot, Purpose::Confirm, seen, step.steady_ms),
            open: BTreeSet::new(),
            proven: BTreeMap::new(),
            silent: BTreeSet::new(),
        };
        for id in blobs.iter().take(MAX_QUESTION_BLOBS) {
            let record = step.txn.blob(id)?;
            let proven = confirmation.proven.entry(*id).or_default();
            proven.extend(record.as_ref().map(|_| self.home.storage));
            let holdings = step.txn.holders(id)?;
            let known = record.map(|record| record.fact(*id)).or_else(|| holdings.first().map(|holding| holding.fact));
            let Some(fact) = known else { continue };
            let holders = holdings.into_iter().map(|holding| holding.node).filter(|node| members.contains_key(node));
            let (in_reach, out_of_reach): (Vec<NodeId>, Vec<NodeId>) = holders.partition(|node| self.may_answer(node));
            confirmation.asking.ask(&fact, &in_reach, out_of_reach);
            confirmation.open.insert(*id);
        }
        self.ask(step, &confirmation.asking);
        self.dropping.confirmations.insert(confirmation.asking.nonce, confirmation);
        self.end_confirmations_that_are_over(step)
    }

    /// Takes an answer to a confirmation, if it is to one.
    pub(super) fn heard_confirmation(&mut self, step: &mut Step<'_, '_>, answer: &Answer) -> Result<(), StoreError> {
        let members = self.members(step.txn)?;
        let Some(confirmation) = self.dropping.confirmations.get_mut(&answer.nonce) else { return Ok(()) };
        confirmation.asking.hear(answer);
        for (id, word) in &answer.words {
            let is_proof = *word == Word::Yes && members.get(&answer.node) == Some(&answer.storage);
            if let Some(proven) = confirmation.proven.get_mut(id).filter(|_| is_proof) {
                proven.insert(answer.storage);
            }
        }
        self.end_confirmations_that_are_over(step)
    }

    pub(super) fn end_confirmations_that_are_over(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        for mut confirmation in std::mem::take(&mut self.dropping.confirmations).into_values() {
            self.dropping.hung.extend(confirmation.asking.late(step.steady_ms));
            for id in confirmation.asking.over(&confirmation.open, step.steady_ms) {
                confirmation.open.remove(&id);
                let unproven = confirmation.asking.close(&id);
                confirmation
                    .silent
                    .extend(unproven.silent.into_iter().chain(unproven.refusals.into_iter().map(|(node, _)| node)));
            }
            if !confirmation.open.is_empty() {
                self.dropping.confirmations.insert(confirmation.asking.nonce, confirmation);
                continue;
            }
            let fewest = confirmation.proven.values().map(BTreeSet::len).min().unwrap_or_default();
            let confirmed = Confirmed {
                copies: u32::try_from(fewest).unwrap_or(u32::MAX),
                unproven: confirmation.silent.into_iter().collect(),
            };
            step.effects.push(Effect::Reply(confirmation.request, Reply::Confirmed(confirmed)));
        }
        Ok(())
    }
}
