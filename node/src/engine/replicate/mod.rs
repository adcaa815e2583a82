//! Replication: keeping the log the same on all members.
//!
//! Fresh entries are pushed to whoever is connected; that is a hint. The truth is pulled: members tell each other how far they have
//! come, on connecting and every few seconds, and each pulls what it lacks. Nothing here is kept on disk: after a restart the next
//! exchange says everything again.

mod accept;
mod peer;
mod reclaim;
mod serve;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::id::{BootId, NodeId};
use keepwell_protocol::limits::MAX_GOSSIP_ENTRY_BYTES;
use keepwell_protocol::log::admit::{Applied, Missing};
use keepwell_protocol::log::exchange::{Ack, Message, SignedAck, contradictions, wants};
use keepwell_protocol::log::vector::{Chain, Vector};
use keepwell_store::error::StoreError;

use super::effect::Effect;
use super::{Engine, Step};
use crate::limits::{PULL_TIMEOUT_MS, STATUS_EVERY_MS};
use peer::Peer;
use waiting::Waiting;

/// What is known of the other members right now.
#[derive(Default)]
pub(super) struct Replication {
    /// The members that are connected.
    peers: BTreeMap<NodeId, Peer>,
    /// The last word of each member in this process, connected or not.
    acks: BTreeMap<NodeId, Ack>,
    /// Entries that came before what they build on.
    waiting: Waiting,
    /// Chains of which it has been told that something in them does not count.
    refused: BTreeSet<Chain>,
    /// The members that have said something since the last tick.
    heard: BTreeSet<NodeId>,
    /// When the peers were last told how far we have come.
    told_ms: u64,
    /// The boot of this node and its last entry when this process first heard an entry in its own name.
    began_at: Option<(BootId, u64)>,
    /// Whether it was told that another process writes in the name of this node.
    has_told_of_twin: bool,
    /// Whether this process has looked whether there was one, and corrected what it said of our copies.
    has_compared: bool,
}

impl Replication {
    /// The members that have said how far they have come since this was last asked.
    pub(super) fn heard_since_tick(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.heard)
    }
}

impl Engine {
    /// How far each member says that it has come, as heard in this process.
    pub fn acks(&self) -> &BTreeMap<NodeId, Ack> {
        &self.replication.acks
    }

    /// The members that are connected.
    pub fn connected_peers(&self) -> impl Iterator<Item = &NodeId> {
        self.replication.peers.keys()
    }

    /// How many entries are kept until what they build on arrives.
    pub fn waiting_entries(&self) -> usize {
        self.replication.waiting.len()
    }

    pub(super) fn connected(&mut self, step: &mut Step<'_, '_>, peer: NodeId) -> Result<(), StoreError> {
        self.replication.peers.insert(peer, Peer::default());
        self.copies_in_reach();
        let status = self.status(step)?;
        self.tell(step, peer, &status);
        step.send(peer, &Message::Clock { now_ms: step.now_ms });
        Ok(())
    }

    pub(super) fn disconnected(&mut self, peer: NodeId) -> Result<(), StoreError> {
        self.replication.peers.remove(&peer);
        self.dropping.heard(&peer);
        self.await_no_answer_of(&peer);
        Ok(())
    }

    pub(super) fn tick(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        self.correct_copies_after_twins(step)?;
        if step.steady_ms < self.replication.told_ms.saturating_add(STATUS_EVERY_MS) || self.replication.peers.is_empty() {
            return Ok(());
        }
        self.replication.told_ms = step.steady_ms;
        let status = self.status(step)?;
        let peers: Vec<NodeId> = self.replication.peers.keys().copied().collect();
        for peer in peers {
            self.tell(step, peer, &status);
            step.send(peer, &Message::Clock { now_ms: step.now_ms });
        }
        Ok(())
    }

    pub(super) fn received(&mut self, step: &mut Step<'_, '_>, from: NodeId, bytes: &[u8]) -> Result<(), StoreError> {
        if !self.replication.peers.contains_key(&from) {
            return Ok(());
        }
        self.dropping.heard(&from);
        match Message::decode(bytes) {
            Ok(Message::Status(ack)) => self.heard_status(step, from, ack),
            Ok(Message::Pull(wants)) => serve::serve(step, from, &wants),
            Ok(Message::Entries { entries, more }) => self.heard_entries(step, from, &entries, more),
            Ok(Message::Fork(proof)) => self.heard_fork(step, from, proof),
            Ok(Message::Question(question)) => self.heard_question(step, from, question),
            Ok(Message::Answer(answer)) => self.heard_answer(step, from, answer),
            Ok(Message::DropRequest(asked)) => self.heard_drop_request(step, from, asked),
            Ok(Message::DropReport(report)) => {
                self.heard_drop_report(step, from, report);
                Ok(())
            }
            Ok(Message::UseRequest(asked)) => self.heard_use_request(step, from, asked),
            Ok(Message::UseReport(report)) => {
                self.heard_use_report(step, from, report);
                Ok(())
            }
            Ok(Message::Clock { now_ms }) => {
                self.heard_clock(from, now_ms);
                Ok(())
            }
            Err(error) => {
                step.refuse(from, error.to_string());
                Ok(())
            }
        }
    }

    fn heard_status(&mut self, step: &mut Step<'_, '_>, from: NodeId, ack: SignedAck) -> Result<(), StoreError> {
        let ack = match ack.open(&from, &self.home.network) {
            Ok(ack) => ack,
            Err(error) => {
                step.refuse(from, error.to_string());
                return Ok(());
            }
        };
        let mine = step.txn.vector()?;
        let theirs = step.txn.by_names_here(&ack.persisted)?;
        let lacking = !wants(&theirs, &mine).is_empty();
        self.tell_of_forks(step, from, &mine, &ack.persisted)?;
        self.replication.heard.insert(from);
        self.replication.acks.insert(from, ack);
        if let Some(peer) = self.replication.peers.get_mut(&from) {
            peer.may_ask_again();
        }
        self.pull(step, from, &mine)?;
        let told = self.replication.peers.get(&from).is_some_and(|peer| peer.told == mine);
        if lacking && !told {
            let status = self.status(step)?;
            self.tell(step, from, &status);
        }
        Ok(())
    }

    /// Proves the forks of boots that a peer may still take for whole, because it has come further in some part of them.
    fn tell_of_forks(&self, step: &mut Step<'_, '_>, to: NodeId, mine: &Vector, theirs: &Vector) -> Result<(), StoreError> {
        for chain in step.txn.forked()? {
            let branches = step.txn.branches(&chain.node)?;
            let mut parts = branches.candidates(&chain.boot).map(|boot| Chain { boot, ..chain });
            if parts.any(|part| theirs.seq(&part) > mine.seq(&part)) {
                for proof in step.txn.forks_of(&chain)? {
                    step.send(to, &Message::Fork(proof));
                }
            }
        }
        Ok(())
    }

    fn heard_entries(
        &mut self,
        step: &mut Step<'_, '_>,
        from: NodeId,
        entries: &[Vec<u8>],
        more: bool,
    ) -> Result<(), StoreError> {
        let Some(peer) = self.replication.peers.get_mut(&from) else { return Ok(()) };
        let goes_on = peer.pulling_until_ms.take().is_some() && more;
        for bytes in entries {
            self.accept(step, Some(from), bytes)?;
        }
        if !goes_on && !self.replication.peers.get(&from).is_some_and(Peer::may_lack) {
            return Ok(());
        }
        let mine = step.txn.vector()?;
        if goes_on || self.replication.peers.get_mut(&from).is_some_and(|peer| peer.is_lacking(&mine)) {
            self.pull(step, from, &mine)?;
        }
        Ok(())
    }

    /// Asks a peer for what it said it has and we lack, and for what its entries build on, unless it has been asked.
    fn pull(&mut self, step: &mut Step<'_, '_>, from: NodeId, mine: &Vector) -> Result<(), StoreError> {
        let Replication { peers, acks, .. } = &mut self.replication;
        let Some(peer) = peers.get_mut(&from) else { return Ok(()) };
        if peer.pulling_until_ms.is_some_and(|until| step.steady_ms < until) {
            return Ok(());
        }
        let mut news = Vec::new();
        if let Some(ack) = acks.get(&from) {
            let theirs = step.txn.by_names_here(&ack.persisted)?;
            for (chain, seq) in contradictions(mine, &theirs) {
                peer.lack(&Missing { chain, seq, differs: true });
            }
            news = wants(mine, &theirs);
        }
        let wanted = peer.wants(news, mine);
        if !wanted.is_empty() {
            peer.pulling_until_ms = Some(step.steady_ms.saturating_add(PULL_TIMEOUT_MS));
            step.send(from, &Message::Pull(wanted));
        }
        Ok(())
    }

    /// Our word on how far we have come. It leaves after the commit of this step, so what it says is durable.
    fn status(&self, step: &Step<'_, '_>) -> Result<SignedAck, StoreError> {
        let chain = self.own_chain()?;
        let persisted = step.txn.vector()?;
        let ack = Ack { network: self.home.network, node: chain.node, boot: chain.boot, seq: persisted.seq(&chain), persisted };
        Ok(ack.sign(&self.key))
    }

    fn tell(&mut self, step: &mut Step<'_, '_>, to: NodeId, status: &SignedAck) {
        if let Some(peer) = self.replication.peers.get_mut(&to) {
            peer.told = status.claimed().persisted.clone();
            step.send(to, &Message::Status(status.clone()));
        }
    }

    /// Pushes entries of ours, fresh from this step, to whoever is connected, and has the small ones gossiped.
    pub(super) fn push(&self, step: &mut Step<'_, '_>, entries: Vec<Vec<u8>>) {
        for entry in entries {
            for peer in self.replication.peers.keys() {
                step.send(*peer, &Message::Entries { entries: vec![entry.clone()], more: false });
            }
            if entry.len() <= MAX_GOSSIP_ENTRY_BYTES {
                step.effects.push(Effect::Publish(entry));
            }
        }
    }
}

impl Step<'_, '_> {
    pub(super) fn send(&mut self, to: NodeId, message: &Message) {
        self.effects.push(Effect::Send { to, bytes: message.encode() });
    }

    pub(super) fn refuse(&mut self, peer: NodeId, reason: String) {
        self.effects.push(Effect::Refuse { peer, reason });
    }
}
