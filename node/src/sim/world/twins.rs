//! A running node's disk is copied, and a second process goes on from the copy under the same key. Whoever dials the node reaches now the one
//! and now the other, and never both at once; they do not talk to each other. When peace is made, one of the two is stopped for good, and
//! what it alone had is gone with it, as with any disk that is lost.

use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::id::NodeId;

use super::model::Model;
use super::{Happening, Violation, World};

/// How long others reach the same one of the two, at most, in milliseconds.
const ROAM_WITHIN_MS: u64 = 6_000;

/// Two nodes of one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Twins {
    pub(super) original: usize,
    pub(super) copy: usize,
    /// Whether the copy lies elsewhere, so that it writes under a boot of its own from the start.
    pub(super) is_apart: bool,
    /// Which of them was stopped for good, if one was.
    pub(super) stopped: Option<usize>,
}

impl World {
    /// Copies the disk of a running node, and starts a second one from it. The admin's is not copied, whose word no other could repeat, nor
    /// that of who is to be removed; and there are never three of one.
    pub(super) fn copy_running(&mut self, node: usize) -> Result<(), Violation> {
        let is_other = node == 0 || self.is_hostile(node) || self.plan.removal || self.twins.is_some();
        if is_other || !self.nodes[node].is_running() {
            return Ok(());
        }
        let copy = self.nodes.len();
        // A copy on another machine lies elsewhere; one of a whole virtual machine does not know that it is one.
        let is_apart = self.draw(2) == 0;
        let twin = self.nodes[node].twin(is_apart.then_some(copy as u64), &mut self.rng);
        self.nodes.push(twin);
        self.network.grow();
        self.twins = Some(Twins { original: node, copy, is_apart, stopped: None });
        self.rolled_back.insert(self.nodes[node].id());
        self.tell_of_all(format!("the disk of node {node} is copied, and node {copy} runs on the copy"));
        self.note(format!("node {copy} becomes a twin of node {node}"));
        self.summary.twins += 1;
        self.oracle.copied(node, copy);
        self.after(1, Happening::Tick(copy));
        self.after(1, Happening::Roam);
        self.restart(copy)
    }

    /// Whoever dials the two reaches the other one now, or not.
    pub(super) fn roam(&mut self) -> Result<(), Violation> {
        let Some(Twins { original, copy, stopped: None, .. }) = self.twins else { return Ok(()) };
        let next_ms = 1 + self.draw(ROAM_WITHIN_MS);
        self.after(next_ms, Happening::Roam);
        for other in (0..self.nodes.len()).filter(|other| ![original, copy].contains(other)).collect::<Vec<_>>() {
            let (from, to) = if self.draw(2) == 0 { (original, copy) } else { (copy, original) };
            if self.network.is_connected(other, from) && self.nodes[to].is_running() {
                self.disconnect(other, from)?;
                self.connect(other, to)?;
            }
        }
        Ok(())
    }

    /// One of the two is stopped for good, and the other is started anew.
    pub(super) fn stop_a_twin(&mut self) -> Result<(), Violation> {
        let Some(twins) = self.twins else { return Ok(()) };
        let Twins { original, copy, .. } = twins;
        let (stopped, left) = if self.draw(2) == 0 { (original, copy) } else { (copy, original) };
        self.note(format!("node {stopped} is stopped for good, and its twin {left} goes on"));
        self.tell_of_all(format!("node {stopped} is stopped for good, and its twin {left} goes on"));
        self.twins = Some(Twins { stopped: Some(stopped), ..twins });
        self.oracle.lost.extend(self.nodes[stopped].all_blobs());
        self.nodes[stopped].stop();
        self.cut_off(stopped)?;
        // What others have heard of it counts, and what it alone had is lost.
        let mut known = Vec::new();
        for (_, node) in self.honest() {
            let Some(Ok(snapshot)) = node.engine().map(|engine| engine.store().snapshot()) else { continue };
            known.push(Model::of(&snapshot).map_err(|error| self.violation(error.to_string()))?);
        }
        self.oracle.values.retain(|id, (author, name)| {
            *author != stopped || known.iter().any(|model| model.has_write(&Item::reference(name.as_ref()), id))
        });
        self.oracle.stopped(stopped);
        self.nodes[left].stop();
        self.cut_off(left)?;
        self.restart(left)
    }

    /// The other one of the same key, if there are two.
    pub(super) fn twin_of(&self, node: usize) -> Option<usize> {
        match self.twins? {
            Twins { original, copy, .. } if original == node => Some(copy),
            Twins { original, copy, .. } if copy == node => Some(original),
            _ => None,
        }
    }

    /// As [`World::twin_of`], if both go on under one boot until they hear of each other.
    pub(super) fn unaware_twin_of(&self, node: usize) -> Option<usize> {
        self.twin_of(node).filter(|_| self.twins.is_some_and(|twins| !twins.is_apart))
    }

    /// Whether it was stopped for good.
    pub(super) fn is_stopped(&self, node: usize) -> bool {
        self.twins.is_some_and(|twins| twins.stopped == Some(node))
    }

    /// Whether the two cannot be connected now: they are one to everybody, and nobody talks to itself.
    pub(super) fn are_in_each_others_way(&self, a: usize, b: usize) -> bool {
        let is_reached =
            |node: usize, by: usize| self.twin_of(node).is_some_and(|twin| twin == by || self.network.is_connected(twin, by));
        is_reached(a, b) || is_reached(b, a) || self.is_stopped(a) || self.is_stopped(b)
    }

    /// Whom `from` reaches when it talks to `id`.
    pub(super) fn reached_as(&self, from: usize, id: &NodeId) -> Option<usize> {
        let mut all = (0..self.nodes.len()).filter(|at| self.nodes[*at].id() == *id);
        all.find(|at| self.twin_of(*at).is_none() || self.network.is_connected(from, *at))
    }
}
