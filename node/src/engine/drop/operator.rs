//! Giving up this node's own copies because an operator says so, without the proof of others.

use keepwell_protocol::gc::operator::{OperatorFacts, give_up};
use keepwell_protocol::id::BlobId;
use keepwell_protocol::limits::MAX_QUESTION_BLOBS;
use keepwell_protocol::log::op::Holdings;
use keepwell_store::audit::Note;
use keepwell_store::blobs::Place;
use keepwell_store::error::StoreError;

use crate::engine::author::Batch;
use crate::engine::effect::{DropOutcome, Dropped, Effect, Reply};
use crate::engine::input::RequestId;
use crate::engine::{Engine, Step};

impl Engine {
    /// Gives up the copies of `blobs` here, at most [`MAX_QUESTION_BLOBS`], for `by`, who is named in the audit log.
    pub(in crate::engine) fn give_up(
        &mut self,
        step: &mut Step<'_, '_>,
        request: RequestId,
        blobs: &[BlobId],
        by: &str,
    ) -> Result<(), StoreError> {
        if !self.is_member(step.txn)? {
            step.effects.push(Effect::Reply(request, Reply::NotAMember));
            return Ok(());
        }
        self.end_attempts_on_new_roots(step)?;
        let (mut dropped, mut unlinks, mut gone) = (Dropped::default(), Vec::new(), Vec::new());
        for id in blobs.iter().take(MAX_QUESTION_BLOBS) {
            let facts = OperatorFacts {
                refuses: self.refuses_by_its_index(),
                is_held: step.txn.blob(id)?.is_some(),
                is_flagged: self.dropping.attempts.is_flagged(id),
                is_pinned: step.txn.covering_lease(id, step.ends_ms)?.is_some(),
                is_graced: step.txn.graced_until_ms(id)?.is_some_and(|until_ms| until_ms > step.ends_ms),
            };
            let mut outcome = DropOutcome::refused(*id, Vec::new());
            match give_up(*id, facts) {
                Ok(permit) => {
                    if let Some(record) = step.txn.delete(permit, step.now_ms)? {
                        let blob = record.fact(*id);
                        unlinks.extend((record.place == Place::File).then_some(Effect::Unlink(*id)));
                        step.txn.note(step.now_ms, Note::GivenUp { blob, by: by.to_owned() })?;
                        gone.push(*id);
                        outcome.gone = Some(blob);
                    }
                }
                Err(missing) => outcome.missing = missing,
            }
            dropped.outcomes.push(outcome);
        }
        if !gone.is_empty() {
            self.publish(step, Batch { holdings: Holdings { added: vec![], removed: gone }, ..Batch::default() })?;
        }
        step.effects.extend(unlinks);
        step.effects.push(Effect::Reply(request, Reply::Dropped(dropped)));
        Ok(())
    }
}
