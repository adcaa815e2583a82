//! Several authors write at once and hear of each other in any causal order: all of them come to the same catalog.

use std::collections::BTreeSet;

use super::*;
use crate::catalog::row::Row;
use crate::id::NodeId;

const NODES: usize = 4;
const STEPS: usize = 240;
const SEEDS: u64 = 8;
/// A body of which few fill an epoch, so that a story sees several epochs.
const LARGE_BODY_BYTES: usize = (EPOCH_BYTES / 5) as usize;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn up_to(&mut self, max: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % (max as u64 + 1)).unwrap()
    }
}

/// One entry: a change and what its author had applied.
#[derive(Clone)]
struct Entry {
    boot: BootId,
    seq: u64,
    past: Past,
    change: Change,
}

#[derive(Default)]
struct Node {
    applied: Applied,
    rows: BTreeMap<Item, Row>,
}

struct World {
    nodes: Vec<Node>,
    entries: Vec<Entry>,
    random: Random,
}

fn boot(node: usize) -> BootId {
    BootId([u8::try_from(node).unwrap() + 1; 16])
}

/// Three items of one shard, so that their writes meet in one document.
fn items() -> Vec<Item> {
    let named = (0..).map(|n| Item::reference(&format!("lab/{n}")));
    named.filter(|item| item.shard() == Item::reference("lab/0").shard()).take(3).collect()
}

fn shard() -> u8 {
    items()[0].shard()
}

impl Node {
    /// Judges an entry as any node does, and applies it.
    fn take(&mut self, entry: &Entry) -> Result<(), ChangeError> {
        let Entry { boot, seq, past, change } = entry;
        let state = self.applied.doc(change.shard, change.epoch);
        let Ok(verdict) = change.check(&[*boot], past, &state, &self.applied);
        verdict?;
        self.applied.apply(*boot, *seq, change);
        for (index, write) in (0..).zip(&change.writes) {
            let order = change.order_of(index, *boot);
            let id = ValueId { index: u32::try_from(index).unwrap(), ..id(*boot, *seq) };
            self.rows.entry(write.item.clone()).or_default().apply(id, order, NodeId([0; 32]), write);
        }
        Ok(())
    }

    fn is_next(&self, entry: &Entry) -> bool {
        let known = |boot: &BootId| self.applied.past.0.get(boot).map_or(0, |seq| seq.0);
        known(&entry.boot) + 1 == entry.seq && entry.past.0.iter().all(|(boot, seq)| *boot == entry.boot || known(boot) >= seq.0)
    }

    /// The next change of this node: to the newest document, or to a new one when that is full.
    fn write(&self, boot: &BootId, writes: Vec<Write>) -> Change {
        let newest = self.applied.docs.keys().next_back().map_or(0, |(_, epoch)| *epoch);
        let state = self.applied.doc(shard(), newest);
        if !state.is_full() {
            return Change::next(shard(), newest, boot, &state, None, writes);
        }
        Change::next(shard(), newest + 1, boot, &DocState::default(), state.heads.keys().next().copied(), writes)
    }
}

impl World {
    fn new(seed: u64) -> World {
        World { nodes: (0..NODES).map(|_| Node::default()).collect(), entries: Vec::new(), random: Random(seed) }
    }

    fn some_write(&mut self, node: usize) -> Write {
        let item = items().swap_remove(self.random.up_to(2));
        let replaces = self.nodes[node].rows.get(&item).map(Row::ids).unwrap_or_default();
        let body = match self.random.up_to(9) {
            0 => None,
            1..4 => Some(vec![0; LARGE_BODY_BYTES]),
            _ => Some(vec![u8::try_from(node).unwrap()]),
        };
        Write { item, replaces, body }
    }

    fn author(&mut self, node: usize) -> Result<(), ChangeError> {
        let writes = (0..=self.random.up_to(2)).map(|_| self.some_write(node)).collect();
        let change = self.nodes[node].write(&boot(node), writes);
        let mut past = self.nodes[node].applied.past.clone();
        let seq = past.0.get(&boot(node)).map_or(1, |seq| seq.0 + 1);
        past.extend(boot(node), Seq(seq));
        let entry = Entry { boot: boot(node), seq, past, change };
        self.entries.push(entry.clone());
        self.nodes[node].take(&entry)
    }

    /// Delivers to `node` some entry whose turn it is; whether there was one.
    fn deliver(&mut self, node: usize) -> Result<bool, ChangeError> {
        let due: Vec<usize> = (0..self.entries.len()).filter(|at| self.nodes[node].is_next(&self.entries[*at])).collect();
        if due.is_empty() {
            return Ok(false);
        }
        let chosen = due[self.random.up_to(due.len() - 1)];
        self.nodes[node].take(&self.entries[chosen]).map(|()| true)
    }

    /// Writing and delivering at random, then delivering until everyone has everything.
    fn play(seed: u64) -> Result<World, ChangeError> {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            let node = world.random.up_to(NODES - 1);
            if world.random.up_to(3) == 0 {
                world.author(node)?;
            } else {
                world.deliver(node)?;
            }
        }
        for node in 0..NODES {
            while world.deliver(node)? {}
        }
        Ok(world)
    }

    fn epochs(&self) -> BTreeSet<u32> {
        self.entries.iter().map(|entry| entry.change.epoch).collect()
    }

    fn doc(&self, epoch: u32) -> Doc {
        let of_epoch = self.entries.iter().filter(|entry| entry.change.epoch == epoch);
        Doc::build(of_epoch.map(|entry| (&entry.change, id(entry.boot, entry.seq)))).unwrap()
    }
}

fn worlds() -> impl Iterator<Item = (u64, World)> {
    (0..SEEDS)
        .map(|seed| (seed, World::play(seed).unwrap_or_else(|error| panic!("seed {seed}: an honest change is refused: {error}"))))
}

#[test]
fn every_honest_change_is_accepted_everywhere_in_any_causal_order() {
    let mut conflicts = 0;
    let mut epochs = 0;
    for (seed, world) in worlds() {
        for node in &world.nodes {
            assert_eq!(node.applied.changes.len(), world.entries.len(), "seed {seed}: somebody lacks an entry");
        }
        conflicts += world.nodes[0].rows.values().map(|row| row.conflicts().len()).sum::<usize>();
        epochs += world.epochs().len() as u64;
    }
    assert!(conflicts > 0 && epochs > 2 * SEEDS, "the stories are concurrent and see several epochs");
}

#[test]
fn all_nodes_come_to_the_same_documents_and_rows() {
    for (seed, world) in worlds() {
        let first = &world.nodes[0];
        for node in &world.nodes[1..] {
            assert_eq!(node.applied.docs, first.applied.docs, "seed {seed}");
            assert_eq!(node.applied.changes, first.applied.changes, "seed {seed}");
            assert_eq!(node.rows, first.rows, "seed {seed}");
        }
    }
}

#[test]
fn the_automerge_documents_have_the_heads_and_the_writes_of_the_states() {
    for (seed, world) in worlds() {
        for epoch in world.epochs() {
            let doc = world.doc(epoch);
            let state = world.nodes[0].applied.doc(shard(), epoch);
            assert_eq!(doc.heads(), state.heads.into_keys().collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(doc.writes(epoch).unwrap(), world.told(epoch), "seed {seed}");
        }
    }
}

impl World {
    /// The writes of one epoch as the changes tell them, by id.
    fn told(&self, epoch: u32) -> Vec<(ValueId, Order, Write)> {
        let mut told = Vec::new();
        for Entry { boot, seq, change, .. } in self.entries.iter().filter(|entry| entry.change.epoch == epoch) {
            for (index, write) in (0..).zip(&change.writes) {
                let id = ValueId { index: u32::try_from(index).unwrap(), ..id(*boot, *seq) };
                told.push((id, change.order_of(index, *boot), write.clone()));
            }
        }
        told.sort_by_key(|(id, _, _)| *id);
        told
    }
}

#[test]
fn the_rows_follow_from_the_writes_of_the_documents_in_any_order() {
    for (seed, world) in worlds() {
        let documents: Vec<_> = world.epochs().into_iter().flat_map(|epoch| world.doc(epoch).writes(epoch).unwrap()).collect();
        for (item, row) in &world.nodes[0].rows {
            let of_item = documents.iter().filter(|(_, _, write)| write.item == *item);
            let mut writes: Vec<_> = of_item.map(|(id, order, write)| (*id, *order, NodeId([0; 32]), write.clone())).collect();
            assert_eq!(Row::of(&writes), *row, "seed {seed}");
            writes.reverse();
            assert_eq!(Row::of(&writes), *row, "seed {seed}, backwards");
        }
    }
}

#[test]
fn a_value_stands_until_a_write_names_it() {
    for (seed, world) in worlds() {
        let writes: Vec<_> = world.epochs().into_iter().flat_map(|epoch| world.told(epoch)).collect();
        let named: BTreeSet<ValueId> = writes.iter().flat_map(|(_, _, write)| write.replaces.clone()).collect();
        let standing = writes.iter().filter(|(id, _, write)| write.body.is_some() && !named.contains(id));
        let expected: BTreeSet<ValueId> = standing.map(|(id, _, _)| *id).collect();
        let found: BTreeSet<ValueId> = world.nodes[0].rows.values().flat_map(Row::ids).collect();
        assert_eq!(found, expected, "seed {seed}");
    }
}
