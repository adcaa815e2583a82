//! Taking in an entry from elsewhere: checked, put in its turn, applied, and remembered if it proves something bad.

use keepwell_protocol::id::{BlobId, NodeId, Seq};
use keepwell_protocol::log::admit::{Admission, admit};
use keepwell_protocol::log::entry::Entry;
use keepwell_protocol::log::exchange::{ForkProof, Message, Want};
use keepwell_protocol::log::op::{Holdings, Op};
use keepwell_protocol::log::vector::{Chain, Vector};
use keepwell_store::error::StoreError;

use crate::engine::author::Batch;
use crate::engine::effect::{Effect, Event};
use crate::engine::{Engine, Step, apply};

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
        let mut tried = Vec::new();
        loop {
            let applied = step.txn.vector()?;
            let Some(next) = self.replication.waiting.take_next(&applied, |chain| tried.contains(chain)) else { return Ok(()) };
            let chain = Entry::reopen(&next).map(|entry| entry.chain);
            match (self.accept_one(step, None, &next)?, chain) {
                (true, _) => tried.clear(),
                (false, Ok(chain)) => tried.push(chain),
                (false, Err(_)) => {}
            }
        }
    }

    /// Whether the entry has been applied.
    fn accept_one(&mut self, step: &mut Step<'_, '_>, from: Option<NodeId>, bytes: &[u8]) -> Result<bool, StoreError> {
        // What is known needs no second check of its signature: most entries come twice, by gossip and by pull.
        if let Ok(entry) = Entry::reopen(bytes)
            && step.txn.head_at(&entry.chain, entry.head.seq)? == Some(entry.head)
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
        if self.replication.closed.contains(&entry.chain) {
            return Ok(false);
        }
        // Only this node can have signed an entry of its own, and its log does not have this one.
        if entry.chain.node == self.home.node && !self.make_way(step, from, &entry, bytes)? {
            return Ok(false);
        }
        let applied = step.txn.vector()?;
        match admit(&entry, &applied, |chain, seq| step.txn.head_at(chain, seq))? {
            Admission::Apply => self.apply_foreign(step, &entry, bytes),
            Admission::Known => Ok(false),
            Admission::Wait(missing) => {
                self.replication.waiting.put(entry.chain, entry.head.seq, bytes);
                self.ask_for(step, from, &applied, &missing);
                Ok(false)
            }
            Admission::Fork { seq } => self.prove_fork(step, from, &entry, seq, bytes).map(|()| false),
            Admission::ForkedPast(other) => {
                let reason = format!("it builds on a branch of the forked boot {} that is not known here", other.boot);
                self.close(step, entry.chain, reason);
                Ok(false)
            }
        }
    }

    fn apply_foreign(&mut self, step: &mut Step<'_, '_>, entry: &Entry, bytes: &[u8]) -> Result<bool, StoreError> {
        let arrival = step.txn.next_arrival()?;
        if let Err(refused) = apply::apply(step.txn, &self.home, entry, arrival)? {
            self.close(step, entry.chain, refused.to_string());
            return Ok(false);
        }
        step.txn.append_entry(bytes)?;
        if entry.chain.node == self.home.node {
            self.disown_lost_copies(step, entry)?;
        }
        Ok(true)
    }

    /// An entry of an earlier boot of ours came back: what it says we hold may have been lost with the disk it was written on.
    fn disown_lost_copies(&self, step: &mut Step<'_, '_>, entry: &Entry) -> Result<(), StoreError> {
        let mut lost: Vec<BlobId> = Vec::new();
        for op in &entry.ops {
            let Op::Holdings(holdings) = op else { continue };
            for fact in &holdings.added {
                if step.txn.blob(&fact.sha1)?.is_none() {
                    lost.push(fact.sha1);
                }
            }
        }
        match lost.is_empty() {
            true => Ok(()),
            false => self.publish(step, Batch { holdings: Holdings { added: vec![], removed: lost }, ..Batch::default() }),
        }
    }

    fn ask_for(&mut self, step: &mut Step<'_, '_>, from: Option<NodeId>, applied: &Vector, missing: &[(Chain, Seq)]) {
        let Some(peer) = from.and_then(|from| self.replication.peers.get(&from)) else { return };
        if peer.pulling_until_ms.is_some_and(|until| step.now_ms < until) {
            return;
        }
        let open = missing.iter().filter(|(chain, _)| !self.replication.closed.contains(chain));
        let wants: Vec<Want> = open.map(|(chain, _)| Want { chain: *chain, after: applied.seq(chain) }).collect();
        if let (Some(from), false) = (from, wants.is_empty()) {
            if let Some(peer) = self.replication.peers.get_mut(&from) {
                peer.pulling_until_ms = Some(step.now_ms.saturating_add(crate::limits::PULL_TIMEOUT_MS));
            }
            step.send(from, &Message::Pull(wants));
        }
    }

    /// The entry differs from the one applied at `seq`, or continues one that does: with both at hand, the fork is proven.
    fn prove_fork(
        &mut self,
        step: &mut Step<'_, '_>,
        from: Option<NodeId>,
        entry: &Entry,
        seq: Seq,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        if let Some(peer) = from.and_then(|from| self.replication.peers.get_mut(&from)) {
            peer.diverged.insert(entry.chain);
        }
        if step.txn.fork(&entry.chain)?.is_some() {
            return Ok(());
        }
        if entry.head.seq != seq {
            self.ask_for_half(step, from, entry.chain, seq);
            return Ok(());
        }
        let Some(own) = step.txn.entry(&entry.chain, seq)? else { return Ok(()) };
        let proof = ForkProof { one: own, other: bytes.to_vec() };
        self.record_fork(step, entry.chain, proof)
    }

    fn ask_for_half(&self, step: &mut Step<'_, '_>, from: Option<NodeId>, chain: Chain, seq: Seq) {
        if let Some(from) = from {
            step.send(from, &Message::Pull(vec![Want { chain, after: seq.0.saturating_sub(1) }]));
        }
    }

    pub(super) fn record_fork(&mut self, step: &mut Step<'_, '_>, chain: Chain, proof: ForkProof) -> Result<(), StoreError> {
        if step.txn.fork(&chain)?.is_some() {
            return Ok(());
        }
        step.txn.put_fork(&chain, &proof)?;
        let peers: Vec<NodeId> = self.replication.peers.keys().copied().collect();
        for peer in peers {
            step.send(peer, &Message::Fork(proof.clone()));
        }
        step.effects.push(Effect::Tell(Event::Forked { chain }));
        Ok(())
    }

    /// A peer says that somebody forked. Two good signatures on two entries of one position say it alone.
    pub(super) fn heard_fork(&mut self, step: &mut Step<'_, '_>, from: NodeId, proof: ForkProof) -> Result<(), StoreError> {
        let network = &self.home.network;
        let (Ok(one), Ok(other)) = (Entry::open(&proof.one, network), Entry::open(&proof.other, network)) else {
            step.refuse(from, "a proof of a fork with a bad entry".into());
            return Ok(());
        };
        if one.chain != other.chain || one.head.seq != other.head.seq || one.head.hash == other.head.hash {
            step.refuse(from, "a proof of a fork that proves none".into());
            return Ok(());
        }
        if one.chain.node != self.home.node {
            return self.record_fork(step, one.chain, proof);
        }
        // Of the two, the one that our log does not have is what others know of us.
        let ours = step.txn.head_at(&one.chain, one.head.seq)?;
        let theirs = if ours == Some(one.head) { &proof.other } else { &proof.one };
        self.accept(step, Some(from), theirs)
    }

    /// Accepts nothing more of `chain`, and says why.
    fn close(&mut self, step: &mut Step<'_, '_>, chain: Chain, reason: String) {
        if self.replication.closed.insert(chain) {
            step.effects.push(Effect::Tell(Event::EntryRefused { chain, reason }));
        }
    }
}
