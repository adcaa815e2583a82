//! What a node has applied, as the machines ask of it: chains, heads with their hashes, and the branches of forked boots.

use std::convert::Infallible;

use keepwell_protocol::catalog::removal::{Cut, Removal, RemovalBody};
use keepwell_protocol::id::{BootId, EntryHash, NodeId, Seq, ValueId};
use keepwell_protocol::log::admit::Applied;
use keepwell_protocol::log::branch::{Branch, Branches};
use keepwell_protocol::log::vector::{Chain, Head, Past, Vector};

use super::world::{Entry, Slots, World, author, boot_id, byte, node_id};

/// A node's log, with the names that its chains have there.
pub(crate) struct Known {
    placed: Vec<Placed>,
}

struct Placed {
    slot: usize,
    chain: Chain,
    head: Head,
    begins: Option<Branch>,
}

impl Known {
    /// The entries in `log`. Without `hashes`, entries of one position are one and the same to everybody.
    pub(crate) fn new(world: &World, log: Slots, hashes: bool) -> Known {
        let mut entries: Vec<(usize, &Entry)> = world.entries_in(log).collect();
        entries.sort_by_key(|(slot, entry)| (author(*slot), entry.boot, entry.seq, *slot));
        let mut known = Known { placed: Vec::with_capacity(entries.len()) };
        for (slot, entry) in &entries {
            let is_twin = |(other, twin): &(usize, &Entry)| {
                other != slot && author(*other) == author(*slot) && (twin.boot, twin.prev) == (entry.boot, entry.prev)
            };
            known.place(*slot, entry, hashes && entries.iter().any(is_twin), hashes);
        }
        known
    }

    fn place(&mut self, slot: usize, entry: &Entry, is_branch: bool, hashes: bool) {
        let node = author(slot);
        let root = boot_id(node, entry.boot);
        let mark = if hashes { byte(slot) + 1 } else { (byte(node) + 1) * 32 + entry.boot * 8 + entry.seq };
        let head = Head { seq: Seq(entry.seq.into()), hash: EntryHash([mark; 32]) };
        let before = self.placed.iter().find(|placed| entry.prev.is_some_and(|prev| usize::from(prev) == placed.slot));
        let parent = before.map_or(root, |placed| placed.chain.boot);
        let begins = is_branch.then_some(Branch { root, parent, first: head.seq });
        let boot = if is_branch { BootId::of_branch(&head.hash) } else { parent };
        self.placed.push(Placed { slot, chain: Chain { node: node_id(node), boot }, head, begins });
    }

    /// How far it has come.
    pub(crate) fn vector(&self) -> Vector {
        let mut vector = Vector::default();
        for placed in &self.placed {
            vector.advance(placed.chain, placed.head);
        }
        vector
    }

    /// Where the entry at `slot` is.
    pub(crate) fn place_of(&self, slot: usize) -> Option<(Chain, Head)> {
        self.placed.iter().find(|placed| placed.slot == slot).map(|placed| (placed.chain, placed.head))
    }

    /// `slots` as a causal past.
    pub(crate) fn past(&self, slots: Slots) -> Past {
        let mut past = Past::default();
        for placed in self.placed.iter().filter(|placed| slots & 1 << placed.slot != 0) {
            past.extend(placed.chain.boot, placed.head.seq);
        }
        past
    }

    /// The removal that the entry at `slot` says with this body, upon `past`. The lower its number, the longer a node has been a member.
    pub(crate) fn removal(&self, slot: usize, body: &RemovalBody, past: Slots) -> Option<Removal> {
        let (chain, head) = self.place_of(slot)?;
        let begun = self.placed.iter().filter_map(|placed| placed.begins.map(|branch| (placed.chain.boot, branch)));
        let cut = Cut::of(body, &self.past(past), &Branches(begun.collect()))?;
        let id = ValueId { boot: chain.boot, seq: head.seq, index: 0 };
        let admitted = u64::try_from(author(slot)).unwrap_or(u64::MAX);
        Some(Removal { id, author: chain.node, admitted, cut, knows: vec![] })
    }
}

impl Applied for Known {
    type Error = Infallible;

    fn head_at(&self, chain: &Chain, seq: Seq) -> Result<Option<Head>, Infallible> {
        Ok(self.placed.iter().find(|placed| placed.chain == *chain && placed.head.seq == seq).map(|placed| placed.head))
    }

    fn branches(&self, node: &NodeId) -> Result<Branches, Infallible> {
        let own = self.placed.iter().filter(|placed| placed.chain.node == *node);
        Ok(Branches(own.filter_map(|placed| placed.begins.map(|branch| (placed.chain.boot, branch))).collect()))
    }

    fn forked_after(&self, _: &Chain, _: Seq, _: Option<&EntryHash>) -> Result<bool, Infallible> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use keepwell_protocol::log::compare::includes;

    use super::*;
    use crate::catalog::world::{NODES, SLOTS};

    /// The first node wrote one entry, was rolled back, and wrote another at the same position.
    fn forked() -> World {
        let one = Entry { boot: 0, seq: 1, prev: None, value: true, fact: false, ends: 0, removes: 0, says: None, past: 0 };
        let mut entries = [None; SLOTS];
        entries[0] = Some(one);
        entries[1] = Some(one);
        World { entries, nodes: Default::default(), flight: [[None; NODES]; NODES], crashes: 0, rollbacks: 1, left: 0 }
    }

    #[test]
    fn the_other_branch_of_a_fork_is_missing_unless_numbers_alone_are_compared() {
        let world = forked();
        let has = |log, other, hashes| {
            let vector = |slots| Known::new(&world, slots, hashes).vector();
            includes(&Known::new(&world, log, hashes), &vector(other), &vector(log)).unwrap()
        };
        assert!(!has(0b01, 0b10, true));
        assert!(has(0b01, 0b10, false));
        assert!(has(0b11, 0b11, true));
        assert!(!has(0b11, 0b10, true), "it has one branch of two");
    }
}
