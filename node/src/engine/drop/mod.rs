//! Giving up surplus copies: this node's rounds, in which it asks others whether they keep theirs.
//!
//! A round flags its blobs, asks every connected holder of each (`Effect::Send`), hears the answers, and decides blob by blob in the
//! step in which an answer comes; what has not been decided when the round is over is given up on, with what is missing. Answers to the
//! questions of others are in `witness`, what a decision looks at in `facts`, who is asked in `asking`, and the same questions for no
//! deletion, but to know how durable something is, in `confirm`. All of it lives in memory: a start begins with nothing
//! flagged, and nobody's word counts twice.

mod asking;
mod confirm;
mod elsewhere;
mod facts;
mod operator;
mod surplus;
mod witness;

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::gc::attempt::Attempts;
use keepwell_protocol::gc::question::{Purpose, SignedAnswer, Word};
use keepwell_protocol::gc::start::Start;
use keepwell_protocol::gc::{Missing, permit::Permit};
use keepwell_protocol::id::{BlobFact, BlobId, NodeId, Nonce, StorageId};
use keepwell_protocol::limits::MAX_QUESTION_BLOBS;
use keepwell_protocol::log::exchange::Message;
use keepwell_protocol::log::op::Holdings;
use keepwell_store::blobs::Place;
use keepwell_store::error::StoreError;

use super::author::Batch;
use super::effect::{DropOutcome, Dropped, Effect, Event, Reply};
use super::input::RequestId;
use super::open::draw;
use super::{Engine, Step, closure};
use crate::limits::NEW_ROOT_VISITS;
use asking::{Asking, Unproven};
use confirm::Confirmation;
use elsewhere::Asked;
use facts::{About, Facts};
use surplus::Surplus;
pub use witness::Probed;

/// What this node is giving up, and what it has been asked.
#[derive(Default)]
pub(super) struct Dropping {
    attempts: Attempts,
    rounds: BTreeMap<Nonce, Round>,
    confirmations: BTreeMap<Nonce, Confirmation>,
    start: Start,
    surplus: Surplus,
    /// What other members have been asked to give up.
    asked: BTreeMap<Nonce, Asked>,
    /// Questions of others whose copies are being looked at.
    probing: usize,
    /// Who has let a question run out of time, and has said nothing at all since: what comes next is not asked of them, or each portion of a large
    /// request would wait as long again.
    hung: BTreeSet<NodeId>,
}

/// Who wants copies to be given up.
pub(super) enum Whom {
    /// Somebody here, who waits for the answer.
    Request(RequestId),
    /// Another member, who is told what it came to.
    Member {
        /// Who.
        node: NodeId,
        /// What the report is bound to.
        nonce: Nonce,
    },
    /// Nobody: space is short.
    Pressure,
}

/// The blobs of one request, while others are asked about them.
struct Round {
    whom: Whom,
    asking: Asking,
    /// The blobs that are still to be decided.
    open: BTreeSet<BlobId>,
    outcomes: Vec<DropOutcome>,
}

impl Dropping {
    /// Ends all attempts: what others were asked about has other names now.
    pub(super) fn end_attempts(&mut self) {
        self.attempts.end_all();
    }

    /// Something has come from `peer`.
    pub(super) fn heard(&mut self, peer: &NodeId) {
        self.hung.remove(peer);
    }

    /// Whether others are being asked about what nobody here asked for.
    pub(super) fn is_asking_unasked(&self) -> bool {
        self.surplus.is_asking()
    }

    /// This node was rolled back and writes under a new boot: everybody must be heard again.
    pub(super) fn begin_again(&mut self) {
        self.attempts.end_all();
        self.start.begin_again();
    }
}

impl Engine {
    /// Begins to give up the copies of `blobs`, at most [`MAX_QUESTION_BLOBS`]; more are not looked at.
    pub(super) fn drop_copies(&mut self, step: &mut Step<'_, '_>, whom: Whom, blobs: &[BlobId]) -> Result<(), StoreError> {
        if !self.is_member(step.txn)? {
            self.tell_whom(step, &whom, None);
            return Ok(());
        }
        self.end_attempts_on_new_roots(step)?;
        let mut facts = self.facts(step.txn)?;
        let (boot, seen) = (self.own_chain()?.boot, step.txn.vector()?);
        let asking = Asking::new(Nonce(draw(step.rng)), boot, Purpose::Drop, seen, step.steady_ms);
        let mut round = Round { whom, asking, open: BTreeSet::new(), outcomes: Vec::new() };
        for id in blobs.iter().take(MAX_QUESTION_BLOBS) {
            let Some(record) = step.txn.blob(id)? else {
                round.outcomes.push(DropOutcome::refused(*id, vec![Missing::Copy]));
                continue;
            };
            let fact = record.fact(*id);
            let about = facts.about(step, id)?;
            if self.dropping.attempts.flag(round.asking.nonce, boot, [(fact, about.reached_by)]).is_empty() {
                round.outcomes.push(DropOutcome::refused(*id, vec![Missing::Attempt]));
                continue;
            }
            // Nobody has answered yet: what is missing beside the copies will not come by asking.
            let missing = self.decide(&facts, &about, id).err().unwrap_or_default();
            self.ask_holders(step, &facts, &mut round, &fact, missing)?;
        }
        self.ask(step, &round.asking);
        self.dropping.rounds.insert(round.asking.nonce, round);
        self.end_rounds_that_are_over(step)
    }

    /// Notes whom the blob is to be asked of; if that is in vain, because more is `missing` than copies, its attempt ends at once.
    fn ask_holders(
        &mut self,
        step: &Step<'_, '_>,
        facts: &Facts,
        round: &mut Round,
        fact: &BlobFact,
        missing: Vec<Missing>,
    ) -> Result<(), StoreError> {
        let id = &fact.sha1;
        let (mut holders, mut out_of_reach, mut storages) = (Vec::new(), Vec::new(), BTreeSet::new());
        for holder in step.txn.holders(id)?.into_iter().map(|holding| holding.node) {
            let Some(storage) = facts.members.get(&holder).filter(|storage| **storage != self.home.storage) else { continue };
            if self.may_answer(&holder) {
                holders.push(holder);
                storages.insert(*storage);
            } else {
                out_of_reach.push(holder);
            }
        }
        round.open.insert(*id);
        let in_reach = u32::try_from(storages.len()).unwrap_or(u32::MAX);
        let (mut lasting, mut is_in_vain) = (Vec::new(), false);
        for missing in missing {
            match missing {
                // What refs reach is computed on; copies are what is asked for, if there may be enough.
                Missing::Settled => {}
                Missing::Copies { need, .. } if in_reach >= need => {}
                Missing::Copies { need, .. } => {
                    is_in_vain = true;
                    lasting.push(Missing::Copies { have: in_reach, need });
                }
                other => {
                    is_in_vain = true;
                    lasting.push(other);
                }
            }
        }
        if is_in_vain {
            self.dropping.attempts.end(id);
            round.asking.ask(fact, &[], out_of_reach);
            round.close(id, Err(lasting));
        } else {
            round.asking.ask(fact, &holders, out_of_reach);
        }
        Ok(())
    }

    /// Whether it is worth while to ask `node`.
    fn may_answer(&self, node: &NodeId) -> bool {
        self.is_connected(node) && !self.dropping.hung.contains(node)
    }

    /// Asks everybody in reach about what is still awaited of them.
    fn ask(&self, step: &mut Step<'_, '_>, asking: &Asking) {
        for (node, question) in asking.questions().filter(|(node, _)| self.is_connected(node)) {
            step.send(node, &Message::Question(question));
        }
    }

    /// Takes an answer, and gives up what has been proven enough.
    pub(super) fn heard_answer(&mut self, step: &mut Step<'_, '_>, from: NodeId, answer: SignedAnswer) -> Result<(), StoreError> {
        let answer = match answer.open(&from, &self.home.network) {
            Ok(answer) => answer,
            Err(error) => {
                step.refuse(from, error.to_string());
                return Ok(());
            }
        };
        let Some(mut round) = self.dropping.rounds.remove(&answer.nonce) else {
            return self.heard_confirmation(step, &answer);
        };
        self.end_attempts_on_new_roots(step)?;
        self.dropping.attempts.hear(&answer);
        round.asking.hear(&answer);
        let heard: Vec<BlobId> = answer.words.iter().map(|(id, _)| *id).collect();
        self.decide_all(step, &mut round, &heard, false)?;
        self.dropping.rounds.insert(answer.nonce, round);
        self.end_rounds_that_are_over(step)
    }

    /// Decides each of `blobs` that the round has open, and deletes those that may go; the rest stay open unless the round is over.
    fn decide_all(
        &mut self,
        step: &mut Step<'_, '_>,
        round: &mut Round,
        blobs: &[BlobId],
        is_over: bool,
    ) -> Result<(), StoreError> {
        let (mut facts, mut gone, mut unlinks) = (self.facts(step.txn)?, Vec::new(), Vec::new());
        for id in blobs.iter().filter(|id| round.open.contains(id)).collect::<Vec<_>>() {
            // Its attempt may have ended, and another have begun since.
            let is_ours = self.dropping.attempts.of(id).is_some_and(|attempt| attempt.nonce == round.asking.nonce);
            if !is_ours {
                round.close(id, Err(vec![Missing::Attempt]));
                continue;
            }
            let about = facts.about(step, id)?;
            match self.decide(&facts, &about, id) {
                Ok((permit, proof)) => {
                    let record = step.txn.delete(permit, step.now_ms)?;
                    if let Some(record) = &record {
                        unlinks.extend((record.place == Place::File).then_some(Effect::Unlink(*id)));
                        gone.push(*id);
                        step.tell(Event::Dropped { blob: record.fact(*id), proof: proof.clone() })?;
                    }
                    round.close(id, Ok((record.map(|record| record.fact(*id)), proof)));
                }
                Err(missing) if is_over => {
                    self.dropping.attempts.end(id);
                    round.close(id, Err(missing));
                }
                Err(_) => {}
            }
        }
        if !gone.is_empty() {
            self.publish(step, Batch { holdings: Holdings { added: vec![], removed: gone }, ..Batch::default() })?;
        }
        step.effects.extend(unlinks);
        Ok(())
    }

    fn decide(&mut self, facts: &Facts, about: &About, id: &BlobId) -> Decision {
        let decided = self.dropping.attempts.decide(id, &facts.for_drop(&self.home, about));
        decided.map(|(permit, attempt)| {
            let words = attempt.words.iter().filter(|(_, (_, word))| *word == Word::Yes);
            (permit, words.map(|(node, (storage, _))| (*node, *storage)).collect())
        })
    }

    /// As time passes: asks again, and ends what has taken too long.
    pub(super) fn drop_on_tick(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        self.hear_exchanges(step.txn)?;
        for mut round in std::mem::take(&mut self.dropping.rounds).into_values() {
            if round.asking.is_due_again(step.steady_ms) {
                self.ask(step, &round.asking);
            }
            self.dropping.rounds.insert(round.asking.nonce, round);
        }
        for mut confirmation in std::mem::take(&mut self.dropping.confirmations).into_values() {
            if confirmation.asking.is_due_again(step.steady_ms) {
                self.ask(step, &confirmation.asking);
            }
            self.dropping.confirmations.insert(confirmation.asking.nonce, confirmation);
        }
        self.end_requests_to_others(step);
        self.end_confirmations_that_are_over(step)?;
        self.end_rounds_that_are_over(step)
    }

    /// Answers for rounds in which nothing is open any more: all has been decided, nobody will say more, or time is up.
    fn end_rounds_that_are_over(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        self.end_attempts_on_new_roots(step)?;
        for mut round in std::mem::take(&mut self.dropping.rounds).into_values() {
            // What is still being computed is waited for.
            let over = round.asking.over(&round.open, step.steady_ms);
            self.dropping.hung.extend(round.asking.late(step.steady_ms));
            if !over.is_empty() && (step.txn.is_settled()? || round.asking.is_late(step.steady_ms)) {
                self.decide_all(step, &mut round, &over, true)?;
            }
            if !round.open.is_empty() {
                self.dropping.rounds.insert(round.asking.nonce, round);
                continue;
            }
            let unheard = self.unheard(step.txn)?;
            self.tell_whom(step, &round.whom, Some(Dropped { outcomes: round.outcomes, unheard }));
        }
        Ok(())
    }

    /// Tells whoever wanted it what a round came to; none if this node is no member.
    fn tell_whom(&mut self, step: &mut Step<'_, '_>, whom: &Whom, dropped: Option<Dropped>) {
        match whom {
            Whom::Request(request) => {
                step.effects.push(Effect::Reply(*request, dropped.map_or(Reply::NotAMember, Reply::Dropped)));
            }
            Whom::Member { node, nonce } => self.report_drop(step, *node, *nonce, dropped.unwrap_or_default()),
            Whom::Pressure => self.surplus_round_ended(step, &dropped.unwrap_or_default().outcomes),
        }
    }

    /// Somebody has put the blob here again: this copy is wanted.
    pub(super) fn end_attempt_on(&mut self, blob: &BlobId) {
        self.dropping.attempts.end(blob);
    }

    /// Nothing more will come of `peer` for now.
    pub(super) fn await_no_answer_of(&mut self, peer: &NodeId) {
        let Dropping { rounds, confirmations, .. } = &mut self.dropping;
        let confirmed = confirmations.values_mut().map(|confirmation| &mut confirmation.asking);
        let asked = rounds.values_mut().map(|round| &mut round.asking).chain(confirmed);
        asked.for_each(|asking| asking.await_no_answer_of(peer));
    }

    /// A value or a fact that names a blob is a new reason to keep it and what it links to: whoever was asked about them before has
    /// not vouched for that. To be called before anything is decided, whenever something may have been applied.
    pub(super) fn end_attempts_on_new_roots(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        let named = step.txn.take_newly_named();
        self.copies.named(&named);
        self.unlinking.touched(named.iter());
        if self.dropping.attempts.is_empty() || named.is_empty() {
            return Ok(());
        }
        let (attempts, mut visits) = (&mut self.dropping.attempts, 0);
        closure::visit(step.txn, &named, |id| {
            visits += 1;
            attempts.end(&id);
            Ok(visits < NEW_ROOT_VISITS && !attempts.is_empty())
        })?;
        // What was not looked at may be wanted too.
        if visits >= NEW_ROOT_VISITS {
            attempts.end_all();
        }
        Ok(())
    }

    pub(super) fn is_connected(&self, node: &NodeId) -> bool {
        self.connected_peers().any(|peer| peer == node)
    }
}

/// Leave to delete a blob with those who have proven their copy, or what is missing.
type Decision = Result<(Permit, Proof), Vec<Missing>>;
/// The members that have proven their copies, and the disks that these are on.
type Proof = Vec<(NodeId, StorageId)>;

impl Round {
    fn close(&mut self, id: &BlobId, outcome: Result<(Option<BlobFact>, Proof), Vec<Missing>>) {
        if self.open.remove(id) {
            let Unproven { refusals, silent } = self.asking.close(id);
            let (gone, proof, missing) = match outcome {
                Ok((gone, proof)) => (gone, proof, Vec::new()),
                Err(missing) => (None, Vec::new(), missing),
            };
            self.outcomes.push(DropOutcome { blob: *id, gone, proof, missing, refusals, silent });
        }
    }
}
