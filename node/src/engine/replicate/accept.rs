//! Taking in an entry from elsewhere: checked, put in its turn, applied, and remembered if it proves something bad.

use std::collections::BTreeSet;

use keepwell_protocol::id::NodeId;
use keepwell_protocol::log::admit::{Admission, Placement, admit, known_as};
use keepwell_protocol::log::entry::Entry;
use keepwell_protocol::log::exchange::{ForkProof, Message};
use keepwell_protocol::log::vector::Chain;
use keepwell_store::error::StoreError;

use crate::engine::apply::{self, Refusal, Strangers, Verdict};
use crate::engine::effect::Event;
use crate::engine::{Engine, Step};
use crate::limits::MAX_REFUSED_CHAINS;

impl Engine {
    /// Takes in an entry that gossip brought.
    pub(in crate::engine) fn gossiped(&mut self, step: &mut Step<'_, '_>, bytes: &[u8]) -> Result<(), StoreError> {
        self.accept(step, None, bytes)
    }

    /// Takes in an entry, and whatever has been waiting for it.
    pub(super) fn accept(&mut self, step: &mut Step<'_, '_>, from: Option<NodeId>, bytes: &[u8]) -> Result<(), StoreError> {
        if !self.accept_one(step, from, bytes)? {
            return Ok(());
        }
        let mut tried = BTreeSet::new();
        while self.replication.waiting.len() > 0 {
            let applied = step.txn.vector()?;
            let Some((chain, next)) = self.replication.waiting.take_next(&applied, |chain| tried.contains(chain)) else {
                return Ok(());
            };
            match self.accept_one(step, None, &next)? {
                true => tried.clear(),
                false => drop(tried.insert(chain)),
            }
        }
        Ok(())
    }

    /// Whether the entry has been applied.
    fn accept_one(&mut self, step: &mut Step<'_, '_>, from: Option<NodeId>, bytes: &[u8]) -> Result<bool, StoreError> {
        // What is known needs no second check of its signature: most entries come twice, by gossip and by pull.
        if let Ok(entry) = Entry::reopen(bytes)
            && known_as(&**step.txn, &entry.chain, &entry.head)?.is_some()
        {
            return Ok(false);
        }
        let entry = match Entry::open(bytes, &self.home.network) {
            Ok(entry) => entry,
            Err(error) => {
                if let Some(peer) = from {
                    step.refuse(peer, error.to_string());
                }
                return Ok(false);
            }
        };
        // Only this node can have signed an entry of its own, and its log does not have this one.
        if entry.chain == self.own_chain()? {
            self.begin_boot_after_rollback(step)?;
        }
        self.place(step, from, &entry, bytes)
    }

    fn place(&mut self, step: &mut Step<'_, '_>, from: Option<NodeId>, entry: &Entry, bytes: &[u8]) -> Result<bool, StoreError> {
        match admit(entry, &**step.txn)? {
            Admission::Apply(placement) => self.apply_foreign(step, entry, &placement, bytes),
            Admission::Known => Ok(false),
            Admission::Wait(missing) => {
                self.replication.waiting.put(entry, bytes);
                if let Some(peer) = from.and_then(|from| self.replication.peers.get_mut(&from)) {
                    missing.iter().for_each(|missing| peer.lack(missing));
                }
                Ok(false)
            }
            Admission::Fork(chain) => {
                let Some(one) = step.txn.entry(&chain, entry.head.seq)? else { return Ok(false) };
                self.record_fork(step, entry, ForkProof { one, other: bytes.to_vec() })?;
                self.place(step, from, entry, bytes)
            }
            Admission::UnderABranch => {
                if let Some(peer) = from {
                    step.refuse(peer, "an entry that is written under the name of a branch".into());
                }
                Ok(false)
            }
        }
    }

    fn apply_foreign(
        &mut self,
        step: &mut Step<'_, '_>,
        entry: &Entry,
        placement: &Placement,
        bytes: &[u8],
    ) -> Result<bool, StoreError> {
        let arrival = step.txn.next_arrival()?;
        match apply::apply(step.txn, &self.home, entry, placement, arrival, Strangers::Ignored)? {
            Verdict::Counts => step.note_declarations(entry)?,
            Verdict::Cut => {}
            Verdict::Void(refused) => self.tell_refused(step, placement.chain, &refused)?,
            Verdict::OfAStranger(refused) => {
                self.tell_refused(step, placement.chain, &refused)?;
                return Ok(false);
            }
        }
        step.txn.append_entry(bytes)?;
        self.replication.waiting.forget(entry);
        if entry.chain.node == self.home.node && !self.is_by_twin(step, placement)? {
            self.correct_copies(step, entry)?;
        }
        self.heard_of_removals(step, entry)?;
        Ok(true)
    }

    /// Keeps the proof that the author of `entry` forked right there, tells everybody, and makes branches of what follows.
    fn record_fork(&mut self, step: &mut Step<'_, '_>, entry: &Entry, proof: ForkProof) -> Result<(), StoreError> {
        let (chain, seq, prev_hash) = (entry.chain, entry.head.seq, entry.prev_hash.as_ref());
        if step.txn.fork(&chain, seq, prev_hash)?.is_some() {
            return Ok(());
        }
        if chain == self.own_chain()? {
            self.begin_boot_after_rollback(step)?;
        }
        step.txn.put_fork(&chain, seq, prev_hash, &proof)?;
        self.replay(step.txn)?;
        self.look_at_all_anew();
        self.replication.waiting.forget_chain(&chain);
        let peers: Vec<NodeId> = self.replication.peers.keys().copied().collect();
        for peer in peers {
            step.send(peer, &Message::Fork(proof.clone()));
        }
        step.tell(Event::Forked { chain })?;
        Ok(())
    }

    /// A peer says that somebody forked. Two good signatures on two entries after one predecessor say it alone.
    pub(super) fn heard_fork(&mut self, step: &mut Step<'_, '_>, from: NodeId, proof: ForkProof) -> Result<(), StoreError> {
        let network = &self.home.network;
        let (Ok(one), Ok(other)) = (Entry::open(&proof.one, network), Entry::open(&proof.other, network)) else {
            step.refuse(from, "a proof of a fork with a bad entry".into());
            return Ok(());
        };
        let place = |entry: &Entry| (entry.chain, entry.head.seq, entry.prev_hash);
        if place(&one) != place(&other) || one.head.hash == other.head.hash {
            step.refuse(from, "a proof of a fork that proves none".into());
            return Ok(());
        }
        // Of a boot that nothing is known of yet, the entries will tell.
        let is_applied = |entry: &Entry| Ok::<_, StoreError>(known_as(&**step.txn, &entry.chain, &entry.head)?.is_some());
        if is_applied(&one)? || is_applied(&other)? {
            self.record_fork(step, &one, proof)?;
        }
        Ok(())
    }

    /// Says once of a chain that something in it does not count. Of more chains than can be remembered, nothing is said.
    fn tell_refused(&mut self, step: &mut Step<'_, '_>, chain: Chain, refused: &Refusal) -> Result<(), StoreError> {
        if self.replication.refused.len() < MAX_REFUSED_CHAINS && self.replication.refused.insert(chain) {
            step.tell(Event::EntryRefused { chain, reason: refused.to_string() })?;
        }
        Ok(())
    }
}
