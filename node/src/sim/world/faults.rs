//! What goes wrong: partitions, deafness, crashes at some call to the disk, restored old disks.

use super::{Happening, Violation, World};
use crate::engine::Input;

/// Calls to the disk within which a condemned node crashes.
const CRASH_WITHIN_CALLS: u64 = 60;
/// The longest that a node stays down, in milliseconds.
const MAX_DOWN_MS: u64 = 20_000;
/// The longest that a node with a restored disk is alone, in milliseconds.
const MAX_ALONE_MS: u64 = 5_000;
/// The longest that the network stays parted, in milliseconds.
const MAX_PARTED_MS: u64 = 30_000;

/// How the world misbehaves. All percentages are of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// Messages that get lost.
    pub loss_percent: u64,
    /// Messages that arrive twice.
    pub repeat_percent: u64,
    /// The longest delay of a message, in milliseconds; different delays change the order.
    pub max_delay_ms: u64,
    /// Milliseconds between two of the faults below, on average; 0 for none.
    pub every_ms: u64,
    /// Whether nodes crash.
    pub crashes: bool,
    /// Whether the network parts, in two groups or in one direction.
    pub partitions: bool,
    /// Whether old states of disks are put back.
    pub rollbacks: bool,
    /// Whether clocks are set wrong.
    pub clocks: bool,
    /// Whether single nodes have mishaps: full and failing disks, pauses, crashes while they start; and whether the network flaps.
    pub mishaps: bool,
    /// Whether bits flip in the files of blobs; then nodes are scrubbed.
    pub flips: bool,
    /// Whether the disk of a running node is copied, and two processes of one key go on.
    pub twins: bool,
}

impl Faults {
    /// A good day.
    pub fn none() -> Faults {
        Faults {
            loss_percent: 0,
            repeat_percent: 0,
            max_delay_ms: 5,
            every_ms: 0,
            crashes: false,
            partitions: false,
            rollbacks: false,
            clocks: false,
            mishaps: false,
            flips: false,
            twins: false,
        }
    }

    /// A bad one on which single nodes have mishaps too.
    pub fn with_mishaps() -> Faults {
        Faults { mishaps: true, every_ms: 2_000, ..Faults::all() }
    }

    /// A bad one, though clocks are right.
    pub fn all() -> Faults {
        Faults {
            loss_percent: 20,
            repeat_percent: 10,
            max_delay_ms: 3_000,
            every_ms: 4_000,
            crashes: true,
            partitions: true,
            rollbacks: true,
            clocks: false,
            mishaps: false,
            flips: false,
            twins: false,
        }
    }
}

impl World {
    pub(super) fn fault(&mut self) -> Result<(), Violation> {
        let every_ms = self.plan.faults.every_ms;
        let next = 1 + self.draw(2 * every_ms);
        self.after(next, Happening::Fault);
        let node = self.some_node();
        if self.paused.contains_key(&node) {
            return Ok(());
        }
        if self.plan.faults.mishaps && self.draw(3) > 0 {
            self.mishap(node);
            return Ok(());
        }
        if self.plan.faults.flips && self.draw(2) == 0 {
            self.flip_a_bit(node);
            return Ok(());
        }
        if self.plan.faults.clocks && self.draw(2) == 0 {
            self.set_clock(node);
            return Ok(());
        }
        if self.plan.faults.twins && self.twins.is_none() && self.draw(3) == 0 {
            return self.copy_running(node);
        }
        match self.draw(6) {
            0 | 1 if self.plan.faults.crashes => self.condemn(node),
            2 if self.plan.faults.partitions => self.part()?,
            3 if self.plan.faults.partitions => self.deafen(),
            4 | 5 if self.plan.faults.rollbacks => self.remember_or_roll_back(node)?,
            _ => {}
        }
        Ok(())
    }

    /// The node will crash at one of its next calls to the disk.
    pub(super) fn condemn(&mut self, node: usize) {
        let calls = 1 + self.draw(CRASH_WITHIN_CALLS);
        self.nodes[node].crash_within(calls);
    }

    pub(super) fn crashed(&mut self, node: usize) -> Result<(), Violation> {
        self.summary.crashes += 1;
        self.tell_of_all(format!("node {node} crashes"));
        self.nodes[node].stop();
        let down_ms = 1 + self.draw(MAX_DOWN_MS);
        self.after(down_ms, Happening::Restart(node));
        self.cut_off(node)
    }

    /// Starts a node that does not run, and connects it to whoever is there.
    pub(super) fn restart(&mut self, node: usize) -> Result<(), Violation> {
        self.start(node)?;
        for other in 0..self.nodes.len() {
            self.connect(node, other)?;
        }
        Ok(())
    }

    fn start(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].is_running() || self.is_stopped(node) {
            return Ok(());
        }
        self.forget_heard_clocks(node);
        match self.nodes[node].start() {
            Ok(()) => {
                self.tell_of_all(format!("node {node} starts"));
                self.hear_of_deletions(node)
            }
            Err(error) => self.start_failed(node, &error),
        }
    }

    /// Makes a copy of a disk, or puts the copy back that was made before. The node does not notice, and for a while it may hear of
    /// nobody who could tell it, while its users go on.
    fn remember_or_roll_back(&mut self, node: usize) -> Result<(), Violation> {
        // What the admin alone has heard of who was removed would be lost with its disk, and the removal with it.
        if !self.nodes[node].is_running() || (node == 0 && self.removed.is_some()) {
            return Ok(());
        }
        let before = self.nodes[node].all_blobs();
        if !self.nodes[node].put_back_old_disk() {
            self.nodes[node].remember_disk();
            self.tell_of_all(format!("a copy is made of the disk of node {node}"));
            return Ok(());
        }
        self.summary.rollbacks += 1;
        self.rolled_back.insert(self.nodes[node].id());
        self.oracle.lost_disk(node);
        self.nodes[node].stop();
        self.cut_off(node)?;
        self.start(node)?;
        self.tell_put_back(node, &before);
        let alone_ms = 1 + self.draw(MAX_ALONE_MS);
        self.after(alone_ms, Happening::Restart(node));
        Ok(())
    }

    fn part(&mut self) -> Result<(), Violation> {
        let sides = self.some_sides();
        self.part_by(&sides)?;
        let parted_ms = 1 + self.draw(MAX_PARTED_MS);
        self.after(parted_ms, Happening::Heal);
        Ok(())
    }

    /// For each node, on which of two sides it is.
    pub(super) fn some_sides(&mut self) -> Vec<bool> {
        (0..self.nodes.len()).map(|_| self.draw(2) == 0).collect()
    }

    pub(super) fn part_by(&mut self, sides: &[bool]) -> Result<(), Violation> {
        for (a, b) in self.network.pairs() {
            if sides[a] != sides[b] {
                self.disconnect(a, b)?;
            }
        }
        Ok(())
    }

    fn deafen(&mut self) {
        let (from, to) = (self.some_node(), self.some_node());
        self.network.deafen(from, to);
        let deaf_ms = 1 + self.draw(MAX_PARTED_MS);
        self.after(deaf_ms, Happening::Heal);
    }

    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.network.undeafen_all();
        for (a, b) in self.network.pairs() {
            self.connect(a, b)?;
        }
        Ok(())
    }

    /// No more faults, and whatever was wrong is mended.
    pub(super) fn make_peace(&mut self) -> Result<(), Violation> {
        self.plan.faults = Faults { max_delay_ms: self.plan.faults.max_delay_ms, ..Faults::none() };
        self.queue.retain(|_, happening| {
            !matches!(happening, Happening::Fault | Happening::Act | Happening::Flap { .. } | Happening::Evil)
        });
        self.set_clocks_right();
        (0..self.nodes.len()).for_each(|node| self.nodes[node].pardon());
        self.resume_all()?;
        for node in 0..self.nodes.len() {
            // A process that has met an error of its disk ends by the next thing that it does.
            if self.nodes[node].is_running() && self.nodes[node].disk_failed() {
                self.nodes[node].stop_process();
                self.cut_off(node)?;
            }
            self.restart(node)?;
        }
        self.stop_a_twin()?;
        self.heal()
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) -> Result<(), Violation> {
        if a == b
            || self.is_cut_off(a, b)
            || self.are_in_each_others_way(a, b)
            || !self.nodes[a].is_running()
            || !self.nodes[b].is_running()
            || !self.network.connect(a, b)
        {
            return Ok(());
        }
        for (node, other) in [(a, b), (b, a)] {
            let peer = self.nodes[other].id();
            self.give(node, Input::Connected { peer })?;
        }
        Ok(())
    }

    pub(super) fn disconnect(&mut self, a: usize, b: usize) -> Result<(), Violation> {
        if !self.network.disconnect(a, b) {
            return Ok(());
        }
        for (node, other) in [(a, b), (b, a)] {
            let peer = self.nodes[other].id();
            self.give(node, Input::Disconnected { peer })?;
        }
        Ok(())
    }

    pub(super) fn cut_off(&mut self, node: usize) -> Result<(), Violation> {
        for other in 0..self.nodes.len() {
            self.disconnect(node, other)?;
        }
        Ok(())
    }
}
