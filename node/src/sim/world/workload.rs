//! What users do: found a lab, put blobs, name them, name them anew, delete names.

use std::sync::Arc;

use keepwell_protocol::gc::question::Question;
use keepwell_protocol::id::{BlobFact, BlobId, NodeId};
use keepwell_protocol::name::RefName;
use keepwell_store::error::StoreError;
use keepwell_store::place::Placed;
use keepwell_store::trash::Retrieved;
use rand_chacha::rand_core::Rng;

use super::node::Failed;
use super::{Happening, Violation, World};
use crate::engine::{Collect, Engine, Input, Probed, PutBlob, RefOp, RefSet, RequestId, Stored};
use crate::limits::{DROP_TIMEOUT_MS, TICK_MS, TRASH_PORTION};

/// When the hostile node begins, in milliseconds.
const EVIL_FROM_MS: u64 = 5_000;
/// Refs that users quarrel over.
const NAMES: u64 = 12;
/// Blobs that one collection may purge.
const COLLECTED: usize = 20;
/// Blobs that one request may give up.
const DROPPED: u64 = 6;
/// How often every node is asked in the end to give up all that it has.
const SURPLUS_ROUNDS: usize = 4;
/// A thousandth of the longest time that a ref lasts which ends by itself, in milliseconds.
const LASTS_STEP_MS: u64 = 20;
/// How long others last, in milliseconds: no clock that is right sees their end.
const LONG_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// The size of a blob that lives in a file, in bytes.
pub(super) const LARGE_BYTES: usize = 40_000;
/// Blobs in a circle of links.
const CIRCLE: u64 = 3;

impl World {
    /// Makes the network: the first node invites the others.
    pub(super) fn found(&mut self) -> Result<(), Violation> {
        let network = self.nodes[0].found().map_err(|error| self.violation(format!("the first home was not made: {error}")))?;
        self.network_id = Some(network);
        for node in 1..self.nodes.len() {
            self.nodes[node].join(network).map_err(|error| self.violation(format!("home {node} was not made: {error}")))?;
            let (id, body) = (self.nodes[node].id(), self.nodes[node].record());
            if let Some(body) = body {
                self.give(0, Input::Admit { request: RequestId(0), node: id, body })?;
            }
        }
        for node in 0..self.nodes.len() {
            self.after(1 + node as u64, Happening::Tick(node));
        }
        self.heal()?;
        self.after(1, Happening::Act);
        self.after(1, Happening::Look);
        if self.plan.hostile.is_some() {
            self.after(EVIL_FROM_MS, Happening::Evil);
        }
        if self.plan.removal {
            self.plan_removal();
        }
        if self.plan.faults.flips {
            (0..self.nodes.len()).for_each(|node| self.after(1, Happening::Scrub(node)));
        }
        if self.plan.faults.every_ms > 0 {
            self.after(self.plan.faults.every_ms, Happening::Fault);
        }
        Ok(())
    }

    /// One user does one thing, and another will.
    pub(super) fn act(&mut self) -> Result<(), Violation> {
        let next = 1 + self.draw(2 * self.plan.act_every_ms);
        self.after(next, Happening::Act);
        let node = self.some_node();
        if !self.nodes[node].is_running() || self.paused.contains_key(&node) || self.is_hostile(node) {
            return Ok(());
        }
        match self.draw(27) {
            26 => self.put_circle(node),
            24..=25 => self.lease(node),
            22 => self.declare(),
            18..=21 => self.drop_copies(node),
            23 => self.drop_from(node),
            10..=16 => self.collect(node),
            17 => self.restore(node),
            0..=3 => self.put(node),
            4..=7 => self.set_refs(node),
            8 => self.delete_ref(node),
            _ => self.touch_ref(node),
        }
    }

    fn put(&mut self, node: usize) -> Result<(), Violation> {
        let content = self.draw(self.plan.contents);
        let children = if content.is_multiple_of(3) { self.some_held(node, 3) } else { Vec::new() };
        let Some((placed, was_held)) = self.take_in(node, &bytes_of(content))? else { return Ok(()) };
        let sha1 = placed.fact().sha1;
        // What is held already is put all the same at times: with other links than it had, and over what may have rotten. Else its putter
        // ends just before it is recorded.
        if was_held && self.draw(4) > 0 {
            return Ok(());
        }
        let children = children.into_iter().filter(|child| *child != sha1).collect();
        let blobs = vec![PutBlob { blob: Stored::New(placed), children }];
        self.give(node, Input::Put { request: RequestId(1), blobs, lease: None })
    }

    /// Puts a few blobs that link to each other in a circle, whether they were there or not. Circles stay apart from each other, or one ref
    /// would soon reach all there is.
    fn put_circle(&mut self, node: usize) -> Result<(), Violation> {
        let first = self.draw(self.plan.contents / CIRCLE) * CIRCLE;
        let (mut blobs, mut facts): (Vec<PutBlob>, Vec<BlobFact>) = (Vec::new(), Vec::new());
        for content in first..first + CIRCLE {
            let Some((placed, _)) = self.take_in(node, &bytes_of(content))? else { return Ok(()) };
            let children = facts.last().map(|fact| fact.sha1).into_iter().collect();
            facts.push(placed.fact());
            blobs.push(PutBlob { blob: Stored::New(placed), children });
        }
        if let (Some(first), Some(last)) = (facts.first(), facts.last()) {
            blobs.push(PutBlob { blob: Stored::Known(*first), children: vec![last.sha1] });
        }
        self.give(node, Input::Put { request: RequestId(1), blobs, lease: None })
    }

    /// Takes in bytes for a put; none if it came to nothing.
    fn take_in(&mut self, node: usize, bytes: &[u8]) -> Result<Option<(Placed, bool)>, Violation> {
        match self.nodes[node].take_in(bytes) {
            Ok(taken) => Ok(Some(taken)),
            Err(error) => self.work_failed(node, &error).map(|()| None),
        }
    }

    /// Whatever nothing needs may go at once: users here cut every grace short.
    fn collect(&mut self, node: usize) -> Result<(), Violation> {
        let how = Collect { grace_ms: Some(0), limit: COLLECTED };
        self.give(node, Input::Collect { request: RequestId(5), how })
    }

    /// The first node's admin says that another is dead, which is not true, or takes it back.
    fn declare(&mut self) -> Result<(), Violation> {
        let (of, is_dead) = (self.some_node(), self.draw(2) == 0);
        let node = self.nodes[of].id();
        // What a member links to that nobody waits for may be gone before it is heard: that would hide what a removal does.
        if of == 0 || self.plan.removal || !self.nodes[0].is_running() {
            return Ok(());
        }
        self.give(0, Input::Declare { request: RequestId(9), node, is_dead })
    }

    /// Nobody is dead after all.
    pub(super) fn revive_all(&mut self) -> Result<(), Violation> {
        for of in 1..self.nodes.len() {
            let node = self.nodes[of].id();
            self.give(0, Input::Declare { request: RequestId(9), node, is_dead: false })?;
        }
        Ok(())
    }

    /// Copies that one node has are to go there, or on all nodes at once.
    fn drop_copies(&mut self, node: usize) -> Result<(), Violation> {
        let blobs = self.some_held(node, DROPPED);
        let everywhere = self.draw(2) == 0;
        for at in
            (0..self.nodes.len()).filter(|at| everywhere || *at == node).filter(|at| !self.is_hostile(*at)).collect::<Vec<_>>()
        {
            self.give(at, Input::Drop { request: RequestId(7), blobs: blobs.clone() })?;
        }
        Ok(())
    }

    /// Another node is to give up copies that it may have.
    fn drop_from(&mut self, node: usize) -> Result<(), Violation> {
        let (from, blobs) = (self.some_node(), self.some_held(node, DROPPED));
        let from = self.nodes[from].id();
        self.give(node, Input::DropFrom { request: RequestId(10), node: from, blobs })
    }

    /// Every node is asked again and again to give up all that it has.
    pub(super) fn give_up_all_surplus(&mut self) -> Result<(), Violation> {
        // Only now: a declaration that a lost disk had forgotten may have come back.
        self.revive_all()?;
        self.go_on_until(self.now_ms + DROP_TIMEOUT_MS)?;
        for _ in 0..SURPLUS_ROUNDS {
            for node in (0..self.nodes.len()).filter(|node| !self.is_hostile(*node)).collect::<Vec<_>>() {
                // What its disk says, also one that was put back: users know of less.
                let blobs = self.nodes[node].all_blobs();
                self.give(node, Input::Drop { request: RequestId(8), blobs })?;
            }
            self.go_on_until(self.now_ms + DROP_TIMEOUT_MS + TICK_MS)?;
        }
        Ok(())
    }

    /// A worker looks at copies that another node asks about.
    pub(super) fn probe(&mut self, node: usize, from: NodeId, question: Question, seed: u64) -> Result<(), Violation> {
        let Some(engine) = self.nodes[node].engine() else { return Ok(()) };
        let probes = engine.store().probe_all(&question.blobs, seed, 0);
        self.disk_work(node, Ok(()))?;
        self.give(node, Input::Probed(Probed { from, question, probes }))
    }

    fn restore(&mut self, node: usize) -> Result<(), Violation> {
        let retrieved = self.nodes[node].retrieve_oldest();
        self.restore_retrieved(node, retrieved)
    }

    pub(super) fn retrieve(&mut self, node: usize, blob: &BlobId) -> Result<(), Violation> {
        let store = self.nodes[node].engine().map(|engine| Arc::clone(engine.store()));
        let retrieved = store.map_or(Ok(None), |store| store.try_retrieve(blob));
        self.restore_retrieved(node, retrieved.map_err(Failed::from))
    }

    fn restore_retrieved(&mut self, node: usize, retrieved: Result<Option<Retrieved>, Failed>) -> Result<(), Violation> {
        match retrieved {
            Ok(Some(retrieved)) => self.give(node, Input::Restore { request: RequestId(6), retrieved }),
            Ok(None) => Ok(()),
            Err(error) => self.work_failed(node, &error),
        }
    }

    pub(super) fn unlink(&mut self, node: usize, blob: &BlobId) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        let done = self.nodes[node].engine().map_or(Ok(()), |engine| engine.store().unlink(blob, now_ms).map(drop));
        self.disk_work(node, done)
    }

    pub(super) fn empty_trash(&mut self, node: usize, until_ms: u64, enough_bytes: u64) -> Result<(), Violation> {
        let empty = |engine: &Engine| engine.store().empty_some_trash(until_ms, TRASH_PORTION, enough_bytes).map(drop);
        let done = self.nodes[node].engine().map_or(Ok(()), empty);
        self.disk_work(node, done)
    }

    /// What the driver does on the disk between steps: the machine may stop at it.
    fn disk_work(&mut self, node: usize, done: Result<(), StoreError>) -> Result<(), Violation> {
        match done {
            _ if self.nodes[node].is_running() && self.nodes[node].disk_crashed() => self.crashed(node),
            Ok(()) => Ok(()),
            Err(error) => self.step_failed(node, &error.into()),
        }
    }

    fn set_refs(&mut self, node: usize) -> Result<(), Violation> {
        let count = 1 + self.draw(3);
        let ops = (0..count).map(|_| self.a_set(node)).collect();
        self.give(node, Input::WriteRefs { request: RequestId(2), ops })
    }

    fn a_set(&mut self, node: usize) -> RefOp {
        let links = self.some_held(node, 2);
        let number = self.draw(1_000);
        let lasts_ms = 1 + number * LASTS_STEP_MS;
        RefOp::Set(RefSet {
            expires_ms: match number % 8 {
                1 => Some(self.clock_of(node) + lasts_ms),
                5 => Some(self.clock_of(node) + LONG_MS),
                _ => None,
            },
            ttl_access_ms: (number % 8 >= 6).then_some(lasts_ms),
            copies: if number.is_multiple_of(3) { 2 } else { 1 } + self.lied_copies(),
            allow_missing: number.is_multiple_of(10),
            ..RefSet::new(self.a_name(), format!("{{\"n\":{number}}}"), links)
        })
    }

    fn delete_ref(&mut self, node: usize) -> Result<(), Violation> {
        let name = self.a_name();
        self.give(node, Input::WriteRefs { request: RequestId(3), ops: vec![RefOp::Delete { name, if_rev: None }] })
    }

    fn touch_ref(&mut self, node: usize) -> Result<(), Violation> {
        let name = self.a_name();
        self.give(node, Input::WriteRefs { request: RequestId(4), ops: vec![RefOp::Touch { name }] })
    }

    pub(super) fn a_name(&mut self) -> RefName {
        let number = self.draw(NAMES);
        RefName::new("lab", &format!("ref{number}")).expect("invariant: letters and digits are a name")
    }

    /// Some blobs that `node` holds, as its users would know.
    pub(super) fn some_held(&mut self, node: usize, most: u64) -> Vec<BlobId> {
        let held: Vec<BlobId> =
            self.oracle.held.iter().filter(|(holder, _)| *holder == node).map(|(_, fact)| fact.sha1).collect();
        let wanted = self.draw(most + 1);
        let mut chosen: Vec<BlobId> = Vec::new();
        for _ in 0..wanted {
            if let Some(id) = held.get(usize::try_from(self.rng.next_u64() % held.len().max(1) as u64).unwrap_or(0))
                && !chosen.contains(id)
            {
                chosen.push(*id);
            }
        }
        chosen
    }
}

/// What users put under a number.
fn bytes_of(content: u64) -> Vec<u8> {
    let mut bytes = format!("content {content}").into_bytes();
    if content.is_multiple_of(4) {
        bytes.resize(LARGE_BYTES, u8::try_from(content).unwrap_or(0));
    }
    bytes
}
