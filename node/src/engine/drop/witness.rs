//! Answering others about copies. First what needs no disk is looked at, then a worker looks at the bytes, and the word is given in the
//! step in which the worker reports: by what holds then.

use keepwell_protocol::gc::question::{Answer, Question, Why};
use keepwell_protocol::gc::witness::{Copy, Standing, answer};
use keepwell_protocol::id::{BlobFact, NodeId, StorageId};
use keepwell_protocol::log::compare::contains;
use keepwell_protocol::log::exchange::Message;
use keepwell_protocol::place::rank::before;
use keepwell_store::error::StoreError;
use keepwell_store::fsck::Probe;
use keepwell_store::store::Transaction;
use rand_chacha::rand_core::Rng;

use crate::engine::effect::Effect;
use crate::engine::{Engine, Step};
use crate::limits::MAX_PROBES;

/// A question, with what a worker found of the copies that it asks about.
#[derive(Debug)]
pub struct Probed {
    /// Who asked.
    pub from: NodeId,
    /// What.
    pub question: Question,
    /// One for each blob of the question, in order.
    pub probes: Vec<Probe>,
}

impl Engine {
    /// Has a worker look at the copies that `from` asks about; what is no for other reasons is answered at once.
    pub(in crate::engine) fn heard_question(
        &mut self,
        step: &mut Step<'_, '_>,
        from: NodeId,
        question: Question,
    ) -> Result<(), StoreError> {
        let standing = self.standing(step.txn, &from, &question)?;
        if !standing.asker_is_member || standing.refuses.is_some() || !standing.includes_asker {
            let probes = vec![Probe::Passed; question.blobs.len()];
            return self.answer(step, Probed { from, question, probes });
        }
        // Whoever asks more than we can look at asks again.
        if self.dropping.probing < MAX_PROBES {
            self.dropping.probing += 1;
            step.effects.push(Effect::Probe { from, question, seed: step.rng.next_u64() });
        }
        Ok(())
    }

    /// Answers a question whose copies have been looked at.
    pub(in crate::engine) fn probed(&mut self, step: &mut Step<'_, '_>, probed: Probed) -> Result<(), StoreError> {
        self.dropping.probing = self.dropping.probing.saturating_sub(1);
        for (fact, probe) in probed.question.blobs.iter().zip(&probed.probes) {
            if *probe == Probe::ReadWhole {
                step.txn.note_verified(fact, step.now_ms)?;
            }
        }
        self.answer(step, probed)
    }

    fn answer(&mut self, step: &mut Step<'_, '_>, probed: Probed) -> Result<(), StoreError> {
        let Probed { from, question, probes } = probed;
        if !self.connected_peers().any(|peer| *peer == from) {
            return Ok(());
        }
        self.end_attempts_on_new_roots(step)?;
        let standing = self.standing(step.txn, &from, &question)?;
        let asker = self.members(step.txn)?.get(&from).copied();
        let mut words = Vec::with_capacity(question.blobs.len());
        for (fact, probe) in question.blobs.iter().zip(&probes) {
            let copy = self.copy_of(step.txn, asker.as_ref(), fact, *probe)?;
            words.push((fact.sha1, answer(fact, question.purpose, &standing, &copy, &mut self.dropping.attempts)));
        }
        let answer = Answer {
            network: self.home.network,
            asker: from,
            boot: question.boot,
            nonce: question.nonce,
            node: self.home.node,
            storage: self.home.storage,
            words,
        };
        step.send(from, &Message::Answer(answer.sign(&self.key)));
        Ok(())
    }

    /// How this node stands to whoever asks. What this step has applied is durable before its answer leaves (R8).
    fn standing(&mut self, txn: &Transaction<'_>, from: &NodeId, question: &Question) -> Result<Standing, StoreError> {
        let members = self.members(txn)?;
        let reachable: Vec<NodeId> = self.connected_peers().filter(|peer| members.contains_key(peer)).copied().collect();
        let is_member = self.is_member(txn)?;
        Ok(Standing {
            asker_is_member: members.contains_key(from),
            refuses: self
                .refuses_by_its_index()
                .or(self.start(txn)?.refuses(&reachable))
                .or((!is_member).then_some(Why::ReadOnly)),
            includes_asker: contains(&**txn, &question.seen)?,
        })
    }

    fn copy_of(
        &self,
        txn: &Transaction<'_>,
        asker: Option<&StorageId>,
        fact: &BlobFact,
        probe: Probe,
    ) -> Result<Copy, StoreError> {
        let id = &fact.sha1;
        Ok(Copy {
            recorded: txn.blob(id)?.map(|record| record.fact(*id)),
            is_whole: probe != Probe::Failed,
            is_live: txn.is_live(id)? && txn.is_reached(id)?,
            keeps_rather: asker.is_some_and(|asker| before(&self.home.storage, asker, id)),
        })
    }
}
