//! What goes wrong with one node alone: a full disk, a failing one, a process that is paused, a crash while it starts after another. And a
//! network that parts and comes together in quick succession.

use super::node::Failed;
use super::{EPOCH_MS, Happening, Violation, World};
use crate::engine::Input;

/// Calls to the disk within which one fails.
const FAIL_WITHIN_CALLS: u64 = 80;
/// Calls to the disk within which a node crashes that is doomed to crash as it starts: that is a few hundred calls.
const CRASH_IN_RECOVERY_CALLS: u64 = 60;
/// The longest that the disk of one node is full, in milliseconds.
const MAX_FULL_MS: u64 = 20_000;
/// The longest that a node is paused, in milliseconds: some are until peace is made.
const MAX_PAUSED_MS: u64 = 90_000;
/// The longest that a flapping network stays as it is, in milliseconds, and how often it changes at most.
const FLAP_MS: u64 = 1_500;
const MAX_FLAPS: u64 = 12;
/// The longest that a node stays down whose disk has failed, in milliseconds.
const MAX_FAILED_MS: u64 = 5_000;
/// Queued removals that a node tries again at once.
const RETRIED: usize = 8;

impl World {
    /// Something goes wrong with one node.
    pub(super) fn mishap(&mut self, node: usize) {
        match self.draw(6) {
            0 => self.fill(node),
            1 | 2 => {
                let calls = 1 + self.draw(FAIL_WITHIN_CALLS);
                self.nodes[node].fail_within(calls);
            }
            3 => self.pause(node),
            4 => {
                let (sides, left) = (self.some_sides(), 2 + self.draw(MAX_FLAPS));
                self.summary.flaps += 1;
                self.after(1, Happening::Flap { sides, left });
            }
            _ => {
                let calls = 1 + self.draw(CRASH_IN_RECOVERY_CALLS);
                self.nodes[node].doom(calls);
                self.condemn(node);
            }
        }
    }

    fn fill(&mut self, node: usize) {
        self.note(format!("the disk of node {node} is full"));
        self.nodes[node].fill_disk(true);
        self.summary.full_disks += 1;
        let full_ms = 1 + self.draw(MAX_FULL_MS);
        self.after(full_ms, Happening::Room(node));
    }

    fn pause(&mut self, node: usize) {
        if self.nodes[node].is_running() {
            self.note(format!("node {node} is paused"));
            self.paused.entry(node).or_default();
            self.summary.pauses += 1;
            let paused_ms = 1 + self.draw(MAX_PAUSED_MS);
            self.after(paused_ms, Happening::Resume(node));
        }
    }

    /// A node that was paused goes on with all that has come for it meanwhile.
    pub(super) fn resume(&mut self, node: usize) -> Result<(), Violation> {
        let waiting = self.paused.remove(&node).unwrap_or_default();
        waiting.into_iter().try_for_each(|happening| self.happen(happening))
    }

    pub(super) fn resume_all(&mut self) -> Result<(), Violation> {
        (0..self.nodes.len()).try_for_each(|node| self.resume(node))
    }

    /// What happens to a paused node happens when it goes on. It has missed its ticks.
    pub(super) fn unless_paused(&mut self, happening: Happening) -> Option<Happening> {
        let node = match &happening {
            Happening::Deliver { to, .. } | Happening::Gossip { to, .. } => *to,
            Happening::Retrieve(node, _) | Happening::Bring(node, _) | Happening::Took(node, _) => *node,
            _ => return Some(happening),
        };
        match self.paused.get_mut(&node) {
            Some(waiting) => {
                waiting.push(happening);
                None
            }
            None => Some(happening),
        }
    }

    /// As [`World::unless_paused`], for what a node is given at once.
    pub(super) fn put_off_if_paused(&mut self, node: usize, input: Input) -> Option<Input> {
        match self.paused.get_mut(&node) {
            Some(_) if matches!(input, Input::Tick | Input::Room(_)) => None,
            Some(waiting) => {
                waiting.push(Happening::Give(node, input));
                None
            }
            None => Some(input),
        }
    }

    /// The network parts, then it is whole, then it parts as before, so many times.
    pub(super) fn flap(&mut self, sides: Vec<bool>, left: u64) -> Result<(), Violation> {
        match left % 2 {
            0 if left > 0 => self.part_by(&sides)?,
            _ => self.heal()?,
        }
        if left > 0 {
            let as_it_is_ms = 1 + self.draw(FLAP_MS);
            self.after(as_it_is_ms, Happening::Flap { sides, left: left - 1 });
        }
        Ok(())
    }

    /// A step has failed: the machine has crashed, the disk is full, or it has failed, and then the process ends and is started again.
    pub(super) fn step_failed(&mut self, node: usize, error: &Failed) -> Result<(), Violation> {
        match &self.nodes[node] {
            sim if sim.disk_crashed() => self.crashed(node),
            sim if sim.met_full(error) => Ok(()),
            sim if sim.disk_failed() => self.failed(node),
            _ => Err(self.violation(format!("node {node} failed without a fault: {error}"))),
        }
    }

    /// What was tried with files has failed: for want of space, or because the disk fails, and then it has simply not been done.
    pub(super) fn work_failed(&mut self, node: usize, error: &Failed) -> Result<(), Violation> {
        match &self.nodes[node] {
            sim if sim.disk_crashed() => self.crashed(node),
            sim if sim.met_full(error) || sim.disk_failed() => Ok(()),
            _ => Err(self.violation(format!("node {node} cannot move files: {error}"))),
        }
    }

    /// A process ends by an error of its disk, and is started again.
    fn failed(&mut self, node: usize) -> Result<(), Violation> {
        self.note(format!("node {node} ends by an error of its disk"));
        self.summary.io_errors += 1;
        self.nodes[node].stop_process();
        let down_ms = 1 + self.draw(MAX_FAILED_MS);
        self.after(down_ms, Happening::Restart(node));
        self.cut_off(node)
    }

    /// A start has failed: the machine crashed at that, or its disk is full. It is tried again.
    pub(super) fn start_failed(&mut self, node: usize, error: &Failed) -> Result<(), Violation> {
        match &self.nodes[node] {
            sim if sim.disk_crashed() => {
                self.summary.crashes_in_recovery += 1;
                self.crashed(node)
            }
            sim if sim.met_full(error) => {
                self.after(MAX_FAILED_MS, Happening::Restart(node));
                Ok(())
            }
            _ => Err(self.violation(format!("node {node} does not start: {error}"))),
        }
    }

    /// What could not be moved out of the way is tried again.
    pub(super) fn retry_unlinks(&mut self, node: usize) -> Result<(), Violation> {
        if self.paused.contains_key(&node) {
            return Ok(());
        }
        let Some(Ok(snapshot)) = self.nodes[node].engine().map(|engine| engine.store().snapshot()) else { return Ok(()) };
        for (blob, _) in snapshot.queued_unlinks_from(&FIRST, RETRIED).unwrap_or_default() {
            self.unlink(node, &blob)?;
        }
        Ok(())
    }

    pub(super) fn note(&mut self, line: String) {
        self.trace.note(self.now_ms - EPOCH_MS, line, &[]);
    }
}

/// Before all blobs.
const FIRST: keepwell_protocol::id::BlobId = keepwell_protocol::id::BlobId([0; keepwell_protocol::id::BlobId::LEN]);
