//! "Drop from X" (R1): asking another member to give up its own copies, and being asked.
//!
//! Who is asked runs a round of its own, and answers when that is over. Both sides keep this in memory: what is lost with a connection or
//! a start is asked again by whoever wants it.

use keepwell_protocol::gc::Missing;
use keepwell_protocol::gc::question::Why;
use keepwell_protocol::gc::request::{DropReport, DropRequest, Outcome};
use keepwell_protocol::id::{BlobId, NodeId, Nonce};
use keepwell_protocol::limits::MAX_QUESTION_BLOBS;
use keepwell_protocol::log::exchange::Message;
use keepwell_store::error::StoreError;

use super::{Round, Whom};
use crate::engine::effect::{DropOutcome, Dropped, Effect, Reply};
use crate::engine::input::RequestId;
use crate::engine::open::draw;
use crate::engine::{Engine, Step};
use crate::limits::{DROP_FROM_TIMEOUT_MS, MAX_ROUNDS_OF_OTHERS};

/// A request to another member that it has not answered.
pub(super) struct Asked {
    request: RequestId,
    node: NodeId,
    until_ms: u64,
}

impl Engine {
    /// Asks `node` to give up its copies of `blobs`, at most [`MAX_QUESTION_BLOBS`]; more are not asked for.
    pub(in crate::engine) fn drop_from(
        &mut self,
        step: &mut Step<'_, '_>,
        request: RequestId,
        node: NodeId,
        blobs: Vec<BlobId>,
    ) -> Result<(), StoreError> {
        if !self.is_member(step.txn)? {
            step.effects.push(Effect::Reply(request, Reply::NotAMember));
            return Ok(());
        }
        if !self.is_connected(&node) {
            step.effects.push(Effect::Reply(request, Reply::NotConnected(node)));
            return Ok(());
        }
        let nonce = Nonce(draw(step.rng));
        let blobs = blobs.into_iter().take(MAX_QUESTION_BLOBS).collect();
        step.send(node, &Message::DropRequest(DropRequest { nonce, blobs }));
        let until_ms = step.steady_ms.saturating_add(DROP_FROM_TIMEOUT_MS);
        self.dropping.asked.insert(nonce, Asked { request, node, until_ms });
        Ok(())
    }

    /// Begins a round for `from`, if it is a member. Of more than [`MAX_ROUNDS_OF_OTHERS`] at once nothing is heard.
    pub(in crate::engine) fn heard_drop_request(
        &mut self,
        step: &mut Step<'_, '_>,
        from: NodeId,
        asked: DropRequest,
    ) -> Result<(), StoreError> {
        let whom = Whom::Member { node: from, nonce: asked.nonce };
        if !self.members(step.txn)?.contains_key(&from) {
            let refused = |blob: &BlobId| DropOutcome::refused(*blob, vec![Missing::Leave(Why::NotAMember)]);
            let outcomes = asked.blobs.iter().map(refused).collect();
            self.tell_whom(step, &whom, Some(Dropped { outcomes, unheard: vec![] }));
            return Ok(());
        }
        let of_others = || self.dropping.rounds.values().filter_map(Round::nonce_of_member);
        // A message may come twice.
        if of_others().count() >= MAX_ROUNDS_OF_OTHERS || of_others().any(|nonce| nonce == asked.nonce) {
            return Ok(());
        }
        self.drop_copies(step, whom, &asked.blobs)
    }

    /// Tells a member what became of the copies that it asked about.
    pub(super) fn report_drop(&self, step: &mut Step<'_, '_>, to: NodeId, nonce: Nonce, dropped: Dropped) {
        if self.is_connected(&to) {
            let outcomes = dropped.outcomes.into_iter().map(reported).collect();
            step.send(to, &Message::DropReport(DropReport { nonce, outcomes, unheard: dropped.unheard }.cut()));
        }
    }

    /// Passes on what another member says of its copies.
    pub(in crate::engine) fn heard_drop_report(&mut self, step: &mut Step<'_, '_>, from: NodeId, report: DropReport) {
        if self.dropping.asked.get(&report.nonce).is_none_or(|asked| asked.node != from) {
            return;
        }
        if let Some(asked) = self.dropping.asked.remove(&report.nonce) {
            let outcomes = report.outcomes.into_iter().map(heard).collect();
            let dropped = Dropped { outcomes, unheard: report.unheard };
            step.effects.push(Effect::Reply(asked.request, Reply::Dropped(dropped)));
        }
    }

    /// Gives up on who has been asked for too long, or has gone.
    pub(super) fn end_requests_to_others(&mut self, step: &mut Step<'_, '_>) {
        for (nonce, asked) in std::mem::take(&mut self.dropping.asked) {
            if !self.is_connected(&asked.node) {
                step.effects.push(Effect::Reply(asked.request, Reply::NotConnected(asked.node)));
            } else if step.steady_ms >= asked.until_ms {
                step.effects.push(Effect::Reply(asked.request, Reply::Late(asked.node)));
            } else {
                self.dropping.asked.insert(nonce, asked);
            }
        }
    }
}

impl Round {
    /// What the round is bound to, if another member wants it.
    fn nonce_of_member(&self) -> Option<Nonce> {
        match self.whom {
            Whom::Member { nonce, .. } => Some(nonce),
            Whom::Request(_) | Whom::Pressure => None,
        }
    }
}

fn reported(outcome: DropOutcome) -> Outcome {
    let DropOutcome { blob, gone, proof: _, missing, refusals, silent } = outcome;
    Outcome { blob, gone, missing, refusals, silent }
}

fn heard(outcome: Outcome) -> DropOutcome {
    let Outcome { blob, gone, missing, refusals, silent } = outcome;
    DropOutcome { blob, gone, proof: Vec::new(), missing, refusals, silent }
}
