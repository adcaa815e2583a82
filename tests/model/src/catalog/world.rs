//! The world of the model: what has been written, and what each node has of it, on disk and in memory.
//!
//! Sets are bits of a number, so that a state is small: a log is a set of `Slot`s, and vectors are made of it when a machine asks.

use keepwell_protocol::id::{B3, BlobFact, BlobId, BootId, NodeId, StorageId};

use super::leaving::Word;

/// How many nodes there are.
pub(crate) const NODES: usize = 3;
/// How many entries each node can write.
pub(crate) const PER_NODE: usize = 3;
/// How many entries there can be.
pub(crate) const SLOTS: usize = NODES * PER_NODE;
/// The blob that values name: `b`, or the parent `p`.
pub(crate) const ROOT: usize = 0;
/// The blob that a link fact of the root names: `c`.
pub(crate) const CHILD: usize = 1;

/// A set of entries, by their places in [`World::entries`].
pub(crate) type Slots = u16;

/// One entry of somebody's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    /// The boot that wrote it, counted from 0.
    pub(crate) boot: u8,
    /// Its position in the chain of that boot.
    pub(crate) seq: u8,
    /// The entry before it in the chain.
    pub(crate) prev: Option<u8>,
    /// Whether it writes a value that names the root.
    pub(crate) value: bool,
    /// Whether it writes the link fact root → child.
    pub(crate) fact: bool,
    /// The values that it replaces or deletes.
    pub(crate) ends: Slots,
    /// The link facts that it removes.
    pub(crate) removes: Slots,
    /// What it says of a member.
    pub(crate) says: Option<Word>,
    /// What its author had applied.
    pub(crate) past: Slots,
}

/// An attempt to give up a copy, as much of it as differs between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flag {
    /// What was applied when it was flagged.
    pub(crate) seen: Slots,
    /// Who has said yes, as bits.
    pub(crate) yes: u8,
}

/// What a node has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    /// Its log, on disk.
    pub(crate) log: Slots,
    /// What it has applied and a crash takes away: nothing while R8 is kept.
    pub(crate) fresh: Slots,
    /// Its copies, on disk, as bits.
    pub(crate) holds: u8,
    /// Copies that a crash takes away: none while R8 is kept.
    pub(crate) unsynced: u8,
    /// The boot that it writes under.
    pub(crate) boot: u8,
    /// What each node has acknowledged to it.
    pub(crate) acks: [Option<Slots>; NODES],
    /// For each blob that is unreached, what was applied when it became so: there its sweep began, for a later one asks for more.
    pub(crate) sweeps: [Option<Slots>; 2],
    /// The copies that it is giving up.
    pub(crate) flags: [Option<Flag>; 2],
    /// The copies that it has promised the first node to keep until it hears of a value of that one, on disk, as bits.
    pub(crate) pins: u8,
    /// What it was promised, as bits. A start forgets it.
    pub(crate) promised: u8,
    /// Whom it has exchanged with since it started, as bits.
    pub(crate) exchanged: u8,
    /// Whom it takes for absent, as bits.
    pub(crate) absent: u8,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// All that was ever written: the places of each node one after another, filled in the order of writing.
    pub(crate) entries: [Option<Entry>; SLOTS],
    /// The nodes.
    pub(crate) nodes: [Node; NODES],
    /// Acknowledgements under way, from and to whom; each may be heard at any time and any number of times.
    pub(crate) flight: [[Option<Slots>; NODES]; NODES],
    /// How many crashes there have been.
    pub(crate) crashes: u8,
    /// How many rollbacks there have been.
    pub(crate) rollbacks: u8,
    /// The blobs of which a copy was given up by the word of one who has been or will be removed, by whom could not know it, as bits.
    pub(crate) left: u8,
}

/// What a log amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    /// The values that nothing known replaces or deletes.
    pub(crate) values: Slots,
    /// The link facts that nothing known removes.
    pub(crate) facts: Slots,
}

impl View {
    /// The blobs that a value reaches, as bits.
    pub(crate) fn live(&self) -> u8 {
        if self.values == 0 { 0 } else { self.closure() }
    }

    /// The root and all it is known to link to, as bits.
    pub(crate) fn closure(&self) -> u8 {
        if self.facts == 0 { 1 << ROOT } else { 1 << ROOT | 1 << CHILD }
    }
}

impl World {
    /// What `log` amounts to.
    pub(crate) fn view(&self, log: Slots) -> View {
        self.view_without(log, self.void(log))
    }

    /// What `log` amounts to when the entries in `void` count for nothing. Link facts count all the same.
    pub(crate) fn view_without(&self, log: Slots, void: Slots) -> View {
        let mut view = View { values: 0, facts: 0 };
        let (mut ended, mut removed) = (0, 0);
        for (slot, entry) in self.entries_in(log) {
            view.facts |= Slots::from(entry.fact) << slot;
            if void & 1 << slot == 0 {
                view.values |= Slots::from(entry.value) << slot;
                ended |= entry.ends;
                removed |= entry.removes;
            }
        }
        View { values: view.values & !ended, facts: view.facts & !removed }
    }

    /// The entries in `log` with their places.
    pub(crate) fn entries_in(&self, log: Slots) -> impl Iterator<Item = (usize, &Entry)> {
        let all = self.entries.iter().enumerate();
        all.filter_map(move |(slot, entry)| entry.as_ref().filter(|_| log & 1 << slot != 0).map(|entry| (slot, entry)))
    }

    /// What is persisted anywhere.
    pub(crate) fn persisted(&self) -> Slots {
        self.nodes.iter().fold(0, |all, node| all | node.log)
    }

    /// The blobs of which somebody has a copy, as bits.
    pub(crate) fn held(&self) -> u8 {
        self.nodes.iter().fold(0, |all, node| all | node.has())
    }
}

impl Node {
    /// What it has applied.
    pub(crate) fn applied(&self) -> Slots {
        self.log | self.fresh
    }

    /// The copies that it takes for durable, as bits.
    pub(crate) fn has(&self) -> u8 {
        self.holds | self.unsynced
    }
}

/// Who has the place `slot` in [`World::entries`].
pub(crate) fn author(slot: usize) -> usize {
    slot / PER_NODE
}

/// The nodes beside `node`.
pub(crate) fn others(node: usize) -> impl Iterator<Item = usize> {
    (0..NODES).filter(move |other| *other != node)
}

/// A small number as a byte.
pub(crate) fn byte(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

/// The id of a node.
pub(crate) fn node_id(node: usize) -> NodeId {
    NodeId([byte(node) + 1; 32])
}

/// The id of a node's disk.
pub(crate) fn storage_id(node: usize) -> StorageId {
    StorageId([byte(node) + 1; 16])
}

/// The id of a node's boot.
pub(crate) fn boot_id(node: usize, boot: u8) -> BootId {
    BootId([(byte(node) + 1) * 16 + boot; 16])
}

/// What identifies a blob.
pub(crate) fn blob_fact(blob: usize) -> BlobFact {
    BlobFact { sha1: BlobId([byte(blob) + 1; 20]), b3: B3([byte(blob) + 1; 32]), size_bytes: 1 }
}
