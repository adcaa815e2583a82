//! Members that leave: declared dead or removed by an admin, or silent for so long that somebody does not wait for them any more.
//!
//! What is dead and what is removed is said in entries, and known where these are; who is absent is each node's own matter. What counts of
//! a removed member is for `keepwell_protocol::catalog::removal` to say. Void entries stay in their chains, so vectors compare as before.

use keepwell_protocol::catalog::removal::{Removal, RemovalBody, is_cut};
use keepwell_protocol::gc::question::Why;
use keepwell_protocol::id::NodeId;

use super::Catalog;
use super::known::Known;
use super::rules::Broken;
use super::world::{Entry, NODES, Slots, View, World, author, node_id, others};

/// What an admin says of a member, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    /// It is dead.
    Dead(usize),
    /// It is not, after all.
    Revived(usize),
    /// It is removed: what the admin has applied of it counts, and nothing else.
    Removed(usize),
}

/// When a node may take another one for absent. How long that takes is no matter of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Silence {
    /// Never: nobody is silent for so long.
    Never,
    /// Once it has had an exchange with it since it started: nobody who comes back alone stays alone for so long.
    OnceHeard,
    /// Whenever it does not hear it.
    Always,
}

/// Who leaves, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaving {
    /// When others are taken for absent.
    pub(crate) silence: Silence,
    /// Whom each node takes for absent at the beginning, as bits.
    pub(crate) absent: [u8; NODES],
    /// Who says of whom that it is dead, and that it is not.
    pub(crate) deaths: Option<(usize, usize)>,
    /// Whether that one is dead at the beginning, and can only be revived.
    pub(crate) is_dead: bool,
    /// Who removes whom.
    pub(crate) removal: Option<(usize, usize)>,
    /// Whether a value whose delete turns out to be void is to have its blobs, as if it had never been deleted.
    pub(crate) keeps_what_comes_back: bool,
    /// Whether a copy is to be there that was given up by the word of one who was removed meanwhile.
    pub(crate) keeps_what_was_left: bool,
}

impl Leaving {
    /// Nobody leaves.
    pub(crate) const NOBODY: Leaving = Leaving {
        silence: Silence::Never,
        absent: [0; NODES],
        deaths: None,
        is_dead: false,
        removal: None,
        keeps_what_comes_back: false,
        keeps_what_was_left: false,
    };
}

impl Catalog {
    /// What `node` may say of members.
    pub(super) fn words_of(&self, node: usize) -> impl Iterator<Item = Word> {
        let of = |pair: Option<(usize, usize)>| pair.filter(|(admin, _)| *admin == node).map(|(_, of)| of);
        let dead = of(self.leaving.deaths).filter(|_| !self.leaving.is_dead).map(Word::Dead);
        dead.into_iter().chain(of(self.leaving.deaths).map(Word::Revived)).chain(of(self.leaving.removal).map(Word::Removed))
    }

    /// Whether it is news to an admin that has applied `log`.
    pub(super) fn is_news(world: &World, log: Slots, word: Word) -> bool {
        match word {
            Word::Dead(of) => !world.is_dead(log, of),
            Word::Revived(of) => world.is_dead(log, of),
            Word::Removed(of) => !world.is_removed(log, of),
        }
    }

    /// `node` has not heard `of` for so long that it does not wait for it any more.
    pub(super) fn fall_silent(&self, world: &mut World, node: usize, of: usize) -> Option<()> {
        let me = &mut world.nodes[node];
        let has_heard = me.exchanged & 1 << of != 0;
        let may_be = match self.leaving.silence {
            Silence::Never => false,
            Silence::OnceHeard => has_heard,
            Silence::Always => true,
        };
        // Only whoever has something to delete waits for anybody.
        (may_be && me.absent & 1 << of == 0 && (me.has() != 0 || self.links)).then_some(())?;
        me.absent |= 1 << of;
        // Whoever is waited for again has been heard anew.
        me.acks[of] = None;
        Some(())
    }

    /// The others that `node` knows to be neither dead nor removed.
    pub(super) fn members(&self, world: &World, node: usize) -> impl Iterator<Item = usize> {
        let log = world.nodes[node].applied();
        let counts = move |other: &usize| !world.is_removed(log, *other) || self.broken == Broken::RemovedVouch;
        others(node).filter(move |other| !world.is_dead(log, *other)).filter(counts)
    }

    /// What `log` amounts to for whoever has applied it.
    pub(super) fn view(&self, world: &World, log: Slots) -> View {
        if self.broken == Broken::Cut { world.view_without(log, 0) } else { world.view(log) }
    }

    /// The others whom `node` waits for.
    pub(super) fn waited_for(&self, world: &World, node: usize) -> Vec<NodeId> {
        let (me, log) = (&world.nodes[node], world.nodes[node].applied());
        let waits = |other: &usize| me.absent & 1 << other == 0 && !world.is_dead(log, *other) && !world.is_removed(log, *other);
        others(node).filter(waits).map(node_id).collect()
    }

    /// Why `node` may delete nothing whatever others say: it knows that they do not count on it.
    pub(super) fn refuses_as_gone(&self, world: &World, node: usize) -> Option<Why> {
        let log = world.nodes[node].applied();
        let is_gone = world.is_removed(log, node) || world.is_dead(log, node) && self.broken != Broken::DeadDelete;
        is_gone.then_some(Why::DeclaredDead)
    }
}

impl World {
    /// Whether those who have applied `log` take `node` for dead.
    pub(crate) fn is_dead(&self, log: Slots, node: usize) -> bool {
        let revived = self.saying(log, Word::Revived(node)).fold(0, |all, (_, entry)| all | entry.past);
        self.saying(log, Word::Dead(node)).any(|(slot, _)| revived & 1 << slot == 0)
    }

    /// Whether those who have applied `log` know that `node` was removed.
    pub(crate) fn is_removed(&self, log: Slots, node: usize) -> bool {
        self.saying(log, Word::Removed(node)).next().is_some()
    }

    /// The entries in `log` that are void because their author was removed.
    pub(crate) fn void(&self, log: Slots) -> Slots {
        let removals: Vec<(usize, usize)> = self.entries_in(log).filter_map(|(slot, entry)| removed(slot, entry)).collect();
        if removals.is_empty() {
            return 0;
        }
        let known = Known::new(self, log, true);
        let of = |node: usize| -> Vec<Removal> {
            removals
                .iter()
                .filter(|(_, removed)| *removed == node)
                .filter_map(|(slot, _)| self.removal(&known, *slot, node))
                .collect()
        };
        let in_force: [Vec<Removal>; NODES] = std::array::from_fn(of);
        let is_void = |slot: usize, entry: &Entry| {
            let (chain, head) = known.place_of(slot)?;
            Some(is_cut(&in_force[author(slot)], &known.past(entry.past), &chain.boot, head.seq))
        };
        self.entries_in(log).filter(|(slot, entry)| is_void(*slot, entry) == Some(true)).fold(0, |all, (slot, _)| all | 1 << slot)
    }

    /// The removal of `node` that the entry at `slot` says, to whoever has applied `known`.
    fn removal(&self, known: &Known, slot: usize, node: usize) -> Option<Removal> {
        let past = self.entries[slot]?.past;
        let heads = Known::new(self, past, true).vector().0.into_iter().filter(|(chain, _)| chain.node == node_id(node));
        let body = RemovalBody { removed_ms: 0, cuts: heads.map(|(chain, head)| (chain.boot, head.seq)).collect() };
        known.removal(slot, &body, past)
    }

    fn saying(&self, log: Slots, word: Word) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries_in(log).filter(move |(_, entry)| entry.says == Some(word))
    }
}

fn removed(slot: usize, entry: &Entry) -> Option<(usize, usize)> {
    match entry.says {
        Some(Word::Removed(node)) => Some((slot, node)),
        _ => None,
    }
}
