//! Asking others about copies: who is asked about which blobs, who has yet to answer, and who said no.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::gc::question::{Answer, Purpose, Question, Why, Word};
use keepwell_protocol::id::{BlobFact, BlobId, BootId, NodeId, Nonce};
use keepwell_protocol::log::vector::Vector;

use crate::limits::{ASK_AGAIN_MS, DROP_TIMEOUT_MS};

/// What is asked under one nonce.
pub(super) struct Asking {
    pub(super) nonce: Nonce,
    pub(super) boot: BootId,
    purpose: Purpose,
    /// What was applied here when it began.
    seen: Vector,
    until_ms: u64,
    /// When the questions are asked once more, if there is nothing to do but wait.
    again_ms: u64,
    /// Whom each blob was asked of who has yet to say something that lasts.
    awaited: BTreeMap<NodeId, BTreeMap<BlobId, BlobFact>>,
    /// Who has said anything.
    answered: BTreeSet<NodeId>,
    refusals: BTreeMap<BlobId, BTreeMap<NodeId, Why>>,
    /// Holders that could not be asked.
    out_of_reach: BTreeMap<BlobId, Vec<NodeId>>,
}

/// Who would not vouch for a copy, and who has not answered or cannot be asked.
#[derive(Default)]
pub(super) struct Unproven {
    pub(super) refusals: Vec<(NodeId, Why)>,
    pub(super) silent: Vec<NodeId>,
}

/// A no that may soon be a yes: it is asked again in the same round.
fn may_pass(why: Why) -> bool {
    matches!(why, Why::Behind | Why::JustStarted | Why::NotLive)
}

impl Asking {
    pub(super) fn new(nonce: Nonce, boot: BootId, purpose: Purpose, seen: Vector, now_ms: u64) -> Asking {
        Asking {
            nonce,
            boot,
            purpose,
            seen,
            until_ms: now_ms.saturating_add(DROP_TIMEOUT_MS),
            again_ms: now_ms.saturating_add(ASK_AGAIN_MS),
            awaited: BTreeMap::new(),
            answered: BTreeSet::new(),
            refusals: BTreeMap::new(),
            out_of_reach: BTreeMap::new(),
        }
    }

    /// Notes whom a blob is to be asked of, and who holds it too and cannot be asked.
    pub(super) fn ask(&mut self, fact: &BlobFact, in_reach: &[NodeId], out_of_reach: Vec<NodeId>) {
        for node in in_reach {
            self.awaited.entry(*node).or_default().insert(fact.sha1, *fact);
        }
        self.out_of_reach.insert(fact.sha1, out_of_reach);
    }

    /// The questions about all that is still awaited.
    pub(super) fn questions(&self) -> impl Iterator<Item = (NodeId, Question)> + '_ {
        self.awaited.iter().filter(|(_, blobs)| !blobs.is_empty()).map(|(node, blobs)| {
            let Asking { nonce, boot, purpose, .. } = *self;
            (*node, Question { nonce, boot, purpose, seen: self.seen.clone(), blobs: blobs.values().copied().collect() })
        })
    }

    /// Whether it is time to ask once more.
    pub(super) fn is_due_again(&mut self, now_ms: u64) -> bool {
        let is_due = now_ms >= self.again_ms;
        if is_due {
            self.again_ms = now_ms.saturating_add(ASK_AGAIN_MS);
        }
        is_due
    }

    /// Notes what `answer` says.
    pub(super) fn hear(&mut self, answer: &Answer) {
        self.answered.insert(answer.node);
        for (id, word) in &answer.words {
            let refusals = self.refusals.entry(*id).or_default();
            match word {
                Word::Yes => drop(refusals.remove(&answer.node)),
                Word::No(why) => drop(refusals.insert(answer.node, *why)),
            }
            let lasts = !matches!(word, Word::No(why) if may_pass(*why));
            if let Some(awaited) = self.awaited.get_mut(&answer.node).filter(|_| lasts) {
                awaited.remove(id);
            }
        }
    }

    /// Nothing more will come of `peer` for now.
    pub(super) fn await_no_answer_of(&mut self, peer: &NodeId) {
        for id in self.awaited.remove(peer).unwrap_or_default().into_keys() {
            self.out_of_reach.entry(id).or_default().push(*peer);
        }
    }

    /// Those of `open` on which nobody will say more, or on which time is up.
    pub(super) fn over(&self, open: &BTreeSet<BlobId>, now_ms: u64) -> Vec<BlobId> {
        let awaited: BTreeSet<&BlobId> = self.awaited.values().flat_map(BTreeMap::keys).collect();
        open.iter().filter(|id| self.is_late(now_ms) || !awaited.contains(id)).copied().collect()
    }

    /// Who has answered nothing, once time is up.
    pub(super) fn late(&self, now_ms: u64) -> Vec<NodeId> {
        let is_late = self.is_late(now_ms);
        let silent = |(node, blobs): &(&NodeId, &BTreeMap<BlobId, BlobFact>)| !blobs.is_empty() && !self.answered.contains(*node);
        self.awaited.iter().filter(|awaited| is_late && silent(awaited)).map(|(node, _)| *node).collect()
    }

    pub(super) fn is_late(&self, now_ms: u64) -> bool {
        now_ms >= self.until_ms
    }

    /// Asks no more about a blob; who has not proven a copy of it.
    pub(super) fn close(&mut self, id: &BlobId) -> Unproven {
        let refusals = self.refusals.remove(id).unwrap_or_default().into_iter().collect();
        let mut silent = self.out_of_reach.remove(id).unwrap_or_default();
        for (node, awaited) in &mut self.awaited {
            silent.extend(awaited.remove(id).map(|_| *node));
        }
        Unproven { refusals, silent }
    }
}
