//! Refs, link facts, purges and drops on three nodes, each of which writes entries of its own.
//!
//! One blob `b` is named by values (or a parent `p` is, and a link fact says that it needs `c`). Every node may write a value, replace
//! or delete the values that it knows, pull from another what that one has persisted, hear how far another has come, sweep, purge, fetch,
//! and give up a surplus copy at one copy wanted; it may crash, and come back with the disk that it had at the beginning.
//!
//! **Invariant**: as long as a value is in somebody's log and no log replaces or deletes it, somebody holds what it names: the root, and
//! the child if its author knew the link fact, or if the link fact's author knew the value. And garbage can go: there is a state in which
//! no copy is left after a delete.
//!
//! Members leave in some worlds: they are declared dead and revived, taken for absent, or removed. What one who was removed wrote past the
//! cut is promised nothing, nor is what it held alone.
//!
//! **Bounds**: three nodes, at most three entries each, and as many in all as each test says; a crash, a rollback. One exchange brings all
//! that the other has; a question is answered at once, but used at any time later; acknowledgements are used at any time later. Vectors
//! with hashes, branches of forks, sweeps, attempts, answers and the wait after a start are those of `keepwell_protocol`.

mod deletions;
mod known;
mod leaving;
mod moves;
mod rules;
mod world;

use stateright::{Model, Property};

use leaving::{Leaving, Word};
use moves::Move;
use rules::Broken;
use world::{CHILD, Entry, NODES, Node, PER_NODE, ROOT, SLOTS, Slots, World, author, others};

/// A configuration of the model.
#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    /// The rule that is left out.
    pub(crate) broken: Broken,
    /// Whether there is a child, and link facts are written and removed.
    pub(crate) links: bool,
    /// Who writes and removes link facts, as bits.
    pub(crate) linkers: u8,
    /// Whether a link fact is known to all at the beginning.
    pub(crate) is_linked: bool,
    /// Who gives up surplus copies, as bits.
    pub(crate) droppers: u8,
    /// Who writes and ends values, as bits.
    pub(crate) writers: u8,
    /// Whether the first of the writers only adds values, and the others only delete them.
    pub(crate) shares: bool,
    /// How many entries there can be, with those of the beginning.
    pub(crate) entries: usize,
    /// Whether the first node may write values of which others have promised it to keep what it lacks (co-pins).
    pub(crate) co_pins: bool,
    /// What each node holds at the beginning, as bits.
    pub(crate) holds: [u8; NODES],
    /// How many crashes there may be.
    pub(crate) crashes: u8,
    /// Who may be rolled back, as bits; one of them is, once.
    pub(crate) rollers: u8,
    /// Whether entries reach others one by one too; else all that somebody has at once.
    pub(crate) by_entry: bool,
    /// Whether acknowledgements are messages that take any time; else they are heard as of now and used at any time.
    pub(crate) by_message: bool,
    /// Whether a node may be able to reach nobody but whom it is talking to.
    pub(crate) cut_off: bool,
    /// Who leaves, and how.
    pub(crate) leaving: Leaving,
}

impl Catalog {
    /// One value that all know, and what is held.
    pub(crate) fn beginning(&self) -> World {
        let mut entries = [None; SLOTS];
        let genesis = Entry { boot: 0, seq: 1, prev: None, value: true, fact: false, ends: 0, removes: 0, says: None, past: 0 };
        entries[0] = Some(genesis);
        let mut log = 1;
        if self.is_linked {
            entries[PER_NODE] = Some(Entry { value: false, fact: true, past: 1, ..genesis });
            log |= 1 << PER_NODE;
        }
        if let Some((admin, of)) = self.leaving.deaths.filter(|_| self.leaving.is_dead) {
            let slot = (admin * PER_NODE..).find(|slot| entries[*slot].is_none()).unwrap_or(SLOTS - 1);
            entries[slot] = Some(Entry { value: false, says: Some(Word::Dead(of)), past: 1, ..genesis });
            log |= 1 << slot;
        }
        let (holds, absent) = (self.holds, self.leaving.absent);
        let node = |n: usize| Node { log, holds: holds[n], absent: absent[n], exchanged: 0b111 & !(1 << n), ..Node::default() };
        let nodes = std::array::from_fn(node);
        let mut world = World { entries, nodes, flight: [[None; NODES]; NODES], crashes: 0, rollbacks: 0, left: 0 };
        for node in 0..NODES {
            self.sweep(&mut world, node);
        }
        world
    }
}

const SAFE: &str = "what a value names is held";
const COLLECTED: &str = "garbage goes";

impl Model for Catalog {
    type State = World;
    type Action = Move;

    fn init_states(&self) -> Vec<World> {
        vec![self.beginning()]
    }

    fn actions(&self, world: &World, moves: &mut Vec<Move>) {
        for node in 0..NODES {
            self.moves_of(world, node, moves);
        }
    }

    fn next_state(&self, world: &World, step: Move) -> Option<World> {
        let mut next = world.clone();
        self.step(&mut next, step)?;
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(SAFE, Catalog::is_safe), Property::sometimes(COLLECTED, |_, world| is_collected(world))]
    }
}

impl Catalog {
    /// Whether somebody holds all that each value names which nobody has replaced or deleted.
    fn is_safe(&self, world: &World) -> bool {
        let persisted = world.persisted();
        let known = world.nodes.iter().fold(0, |all, node| all | node.applied());
        let void = world.void(known);
        // A value that comes back because its delete is void is promised nothing.
        let ending = if self.leaving.keeps_what_comes_back { void } else { 0 };
        let view = world.view_without(known, ending);
        let values = view.values & !void;
        let held = self.held_by_members(world, known);
        world.entries_in(persisted).filter(|(slot, _)| !self.is_of_removed(world, known, *slot)).all(|(slot, entry)| {
            let needs_root = values & 1 << slot != 0;
            let knew = world.view(entry.past);
            // Facts that ended since are meant, too: whoever had the root at that time was to have said them again.
            let ever_knew = world.entries_in(entry.past).any(|(_, known)| known.fact);
            let needs_child = needs_root && (entry.fact || ever_knew) || entry.fact && knew.values & values != 0;
            let needed = Slots::from(needs_root) << ROOT | Slots::from(needs_child) << CHILD;
            needed & !Slots::from(held) == 0
        })
    }

    /// The blobs of which a member has a copy, or was given to understand that one who was removed had, as bits.
    fn held_by_members(&self, world: &World, known: Slots) -> u8 {
        match self.leaving.removal {
            Some((_, removed)) if world.is_removed(known, removed) => {
                let left = if self.leaving.keeps_what_was_left { 0 } else { world.left };
                others(removed).fold(left, |all, node| all | world.nodes[node].has())
            }
            _ => world.held(),
        }
    }

    /// Whether the value of `slot` may be gone with its author.
    fn is_of_removed(&self, world: &World, known: Slots, slot: usize) -> bool {
        self.leaving.removal.is_some_and(|(_, removed)| removed == author(slot) && world.is_removed(known, removed))
    }
}

/// Whether a delete has led to the last copy's going.
fn is_collected(world: &World) -> bool {
    world.view(world.persisted()).values == 0 && world.held() == 0
}

mod large;
mod leaving_tests;
mod tests;
