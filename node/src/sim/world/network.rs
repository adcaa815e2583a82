//! The network: who can hear whom, and what becomes of what is sent.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::faults::Faults;

/// The shortest way of a message, in milliseconds.
const MIN_DELAY_MS: u64 = 1;

/// Who can hear whom.
pub(super) struct Network {
    nodes: usize,
    /// Pairs (from, to) of which the second hears nothing from the first.
    deaf: BTreeSet<(usize, usize)>,
    /// Pairs (smaller, greater) that are connected, as both of them know.
    connected: BTreeSet<(usize, usize)>,
}

impl Network {
    pub(super) fn new(nodes: usize) -> Self {
        Network { nodes, deaf: BTreeSet::new(), connected: BTreeSet::new() }
    }

    /// There is one more.
    pub(super) fn grow(&mut self) {
        self.nodes += 1;
    }

    /// Whether what `from` sends now can reach `to`.
    pub(super) fn can_hear(&self, from: usize, to: usize) -> bool {
        self.is_connected(from, to) && !self.deaf.contains(&(from, to))
    }

    pub(super) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.connected.contains(&(a.min(b), a.max(b)))
    }

    /// The nodes that one is connected with, as it knows.
    pub(super) fn peers_of(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes).filter(move |other| *other != node && self.is_connected(node, *other))
    }

    /// Connects two nodes; whether that is news.
    pub(super) fn connect(&mut self, a: usize, b: usize) -> bool {
        self.connected.insert((a.min(b), a.max(b)))
    }

    /// Ends the connection of two nodes; whether there was one.
    pub(super) fn disconnect(&mut self, a: usize, b: usize) -> bool {
        self.connected.remove(&(a.min(b), a.max(b)))
    }

    /// From now on `to` hears nothing from `from`, and neither of them knows.
    pub(super) fn deafen(&mut self, from: usize, to: usize) {
        self.deaf.insert((from, to));
    }

    pub(super) fn undeafen_all(&mut self) {
        self.deaf.clear();
    }

    /// All pairs of nodes.
    pub(super) fn pairs(&self) -> Vec<(usize, usize)> {
        (0..self.nodes).flat_map(|a| (a + 1..self.nodes).map(move |b| (a, b))).collect()
    }

    /// When a message arrives: once, not at all, or more than once.
    pub(super) fn fates(&self, rng: &mut ChaCha8Rng, faults: &Faults) -> Vec<u64> {
        let copies = match rng.next_u64() % 100 {
            roll if roll < faults.loss_percent => 0,
            roll if roll < faults.loss_percent + faults.repeat_percent => 2,
            _ => 1,
        };
        (0..copies).map(|_| MIN_DELAY_MS + rng.next_u64() % faults.max_delay_ms.max(1)).collect()
    }
}
