//! What a log says, computed from its entries alone in the simplest way there is: by hashes, and with every entry's causal past spelled
//! out. It shares no code with the engine but the rule of what a row shows.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::catalog::change::{Change, Order, Write};
use keepwell_protocol::catalog::item::{Item, Kind};
use keepwell_protocol::catalog::removal::RemovalBody;
use keepwell_protocol::id::{BlobFact, BlobId, BootId, EntryHash, NodeId, Seq, ValueId};
use keepwell_protocol::log::entry::Entry;
use keepwell_protocol::log::op::{Holdings, Op};
use keepwell_protocol::wire;
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;

/// What the log says.
#[derive(Default)]
pub(super) struct Model {
    pub(super) writes: BTreeMap<Item, Vec<(ValueId, Order, NodeId, Write)>>,
    /// The children that the facts of a parent name: of those that have not ended, and of all that ever were.
    pub(super) links: BTreeMap<BlobId, Links>,
    /// How often the last fact of a blob has ended.
    pub(super) unlinked: usize,
    /// Blob → who holds it, by each addition that was not taken back: (node, number of the entry).
    holdings: BTreeMap<BlobId, BTreeSet<(NodeId, usize)>>,
    /// The changes of each document, with the id of their first write. Documents that a fork reached are in `forked`.
    pub(super) documents: BTreeMap<(u8, u32), Vec<(Change, ValueId)>>,
    /// Documents with changes of a branch: automerge takes one change of an actor and sequence, and so none of these as a whole.
    pub(super) forked: BTreeSet<(u8, u32)>,
    /// Every boot and branch of one, with the boot as its author signs it.
    signed: BTreeMap<BootId, BootId>,
    /// Of each member that was removed, the entries that count.
    left: BTreeMap<NodeId, BTreeSet<usize>>,
    /// How many entries of such members do not, and the writes in them.
    pub(super) void: usize,
    pub(super) void_writes: BTreeSet<ValueId>,
    known: Vec<Known>,
    by_hash: BTreeMap<EntryHash, usize>,
    /// How many entries follow one: more than one is a fork.
    followers: BTreeMap<(BootId, Option<EntryHash>), usize>,
}

/// What is said of the links of one blob.
#[derive(Default)]
pub(super) struct Links {
    facts: BTreeMap<ValueId, Vec<BlobFact>>,
    /// The children that somebody named who was removed, past its cut. That counts all the same, and honest members say it again.
    past_cut: BTreeSet<BlobId>,
    pub(super) ever: BTreeSet<BlobFact>,
}

impl Links {
    /// The children that facts name which have not ended.
    pub(super) fn children(&self) -> BTreeSet<BlobFact> {
        self.facts.values().flatten().copied().collect()
    }
}

/// An entry, by what the model must know of it later.
struct Known {
    /// The boot, or the branch of it, that it belongs to.
    part: BootId,
    /// The names that somebody may give it: its part, what that branches off, and the boot as it is signed.
    names: BTreeSet<BootId>,
    seq: Seq,
    /// The number of the entry before it in its chain.
    before: Option<usize>,
    /// The numbers of all entries in its past, itself included.
    past: BTreeSet<usize>,
}

impl Model {
    /// The model of the log that a node has.
    pub(super) fn of(snapshot: &Snapshot) -> Result<Model, StoreError> {
        let mut model = Model::default();
        let mut entries = Vec::new();
        let mut from = 0;
        while let Some((arrival, bytes)) = snapshot.entry_from(from)? {
            let entry = Entry::reopen(&bytes).map_err(|error| StoreError::Inconsistent(error.to_string()))?;
            *model.followers.entry((entry.chain.boot, entry.prev_hash)).or_default() += 1;
            entries.push(entry);
            from = arrival + 1;
        }
        let numbered: Vec<(usize, &Entry)> = entries.iter().map(|entry| (model.note(entry), entry)).collect();
        for (number, entry) in &numbered {
            model.take_removals(*number, entry);
        }
        for (number, entry) in numbered {
            model.take(number, entry);
        }
        Ok(model)
    }

    /// Whether one of `roots` reaches `id` also without what somebody who was removed said past its cut.
    pub(super) fn reaches(&self, roots: &[BlobId], id: &BlobId) -> bool {
        let (mut due, mut seen) = (roots.to_vec(), BTreeSet::new());
        while let Some(at) = due.pop() {
            if !seen.insert(at) {
                continue;
            }
            let Some(links) = self.links.get(&at) else { continue };
            let children = links.facts.values().flatten().map(|child| child.sha1);
            due.extend(children.filter(|child| !links.past_cut.contains(child)));
        }
        seen.contains(id)
    }

    /// Every blob that some entry named as held.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &BlobId> {
        self.holdings.keys()
    }

    /// Whether some entry wrote to `item` under the id `id`, as its author knew it then.
    pub(super) fn has_write(&self, item: &Item, id: &ValueId) -> bool {
        let as_signed = |(known, ..): &(ValueId, Order, NodeId, Write)| ValueId { boot: self.signed[&known.boot], ..*known };
        self.writes.get(item).is_some_and(|writes| writes.iter().any(|write| as_signed(write) == *id))
    }

    /// Who holds a blob.
    pub(super) fn holders(&self, blob: &BlobId) -> BTreeSet<NodeId> {
        self.holdings.get(blob).into_iter().flatten().map(|(node, _)| *node).collect()
    }

    /// Notes which entries a removal leaves: those that it names, and what came before them in their chains.
    fn take_removals(&mut self, number: usize, entry: &Entry) {
        let changes = entry.ops.iter().filter_map(|op| if let Op::Change(change) = op { Some(change) } else { None });
        for write in changes.flat_map(|change| &change.writes).filter(|write| write.item.kind == Kind::REMOVAL) {
            let body = write.body.as_deref().and_then(|body| wire::decode_own::<RemovalBody>(body).ok());
            let (Ok(of), Some(body)) = (write.item.key.parse::<NodeId>(), body) else { continue };
            let mut left = BTreeSet::new();
            for (boot, seq) in body.cuts {
                let part = self.meant(number, &ValueId { boot, seq, index: 0 });
                let mut at = self.known.iter().position(|known| known.part == part && known.seq == seq);
                while let Some(last) = at {
                    left.insert(last);
                    at = self.known[last].before;
                }
            }
            self.left.entry(of).or_default().extend(left);
        }
    }

    fn take(&mut self, number: usize, entry: &Entry) {
        let is_void = self.left.get(&entry.chain.node).is_some_and(|left| !left.contains(&number));
        self.void += usize::from(is_void);
        let part = self.known[number].part;
        let mut next = ValueId { boot: part, seq: entry.head.seq, index: 0 };
        for op in &entry.ops {
            match op {
                Op::LinkFact(fact) => {
                    let links = self.links.entry(fact.parent).or_default();
                    links.facts.insert(next, fact.children.clone());
                    let named = fact.children.iter().filter(|_| is_void);
                    links.past_cut.extend(named.map(|child| child.sha1));
                    links.ever.extend(&fact.children);
                }
                Op::Unlink(_) | Op::Holdings(_) if is_void => {}
                Op::Unlink(unlink) => {
                    let meant: Vec<ValueId> = unlink.facts.iter().filter_map(|id| self.in_past(number, id)).collect();
                    let links = self.links.entry(unlink.parent).or_default();
                    let had_links = !links.facts.is_empty();
                    links.facts.retain(|id, _| !meant.contains(id));
                    self.unlinked += usize::from(had_links && links.facts.is_empty());
                }
                Op::Holdings(holdings) => self.take_holdings(entry.chain.node, number, holdings),
                Op::Change(change) => self.take_change(entry, (number, is_void), next, change),
                Op::Boot(_) | Op::Unknown(_) => {}
            }
            next.index += op.ids();
        }
    }

    /// Gives the entry a number, finds which part of its boot it belongs to, and what was before it.
    fn note(&mut self, entry: &Entry) -> usize {
        let number = self.known.len();
        let at = entry.prev_hash.and_then(|hash| self.by_hash.get(&hash)).copied();
        let before = at.map(|before| &self.known[before]);
        let forks_here = self.followers.get(&(entry.chain.boot, entry.prev_hash)).is_some_and(|followers| *followers > 1);
        let part = match (forks_here, before) {
            (true, _) => BootId::of_branch(&entry.head.hash),
            (false, Some(before)) => before.part,
            (false, None) => entry.chain.boot,
        };
        let mut names = before.map(|before| before.names.clone()).unwrap_or_default();
        let mut past: BTreeSet<usize> = before.map(|before| before.past.clone()).unwrap_or_default();
        for dep in entry.deps.iter().filter_map(|(_, head)| self.by_hash.get(&head.hash)) {
            past.extend(&self.known[*dep].past);
        }
        past.insert(number);
        self.by_hash.insert(entry.head.hash, number);
        self.signed.insert(part, entry.chain.boot);
        names.extend([part, entry.chain.boot]);
        self.known.push(Known { part, names, seq: entry.head.seq, before: at, past });
        number
    }

    fn take_holdings(&mut self, node: NodeId, number: usize, holdings: &Holdings) {
        for fact in &holdings.added {
            self.holdings.entry(fact.sha1).or_default().insert((node, number));
        }
        let past = &self.known[number].past;
        for id in &holdings.removed {
            self.holdings.entry(*id).or_default().retain(|(holder, since)| *holder != node || !past.contains(since));
        }
    }

    fn take_change(&mut self, entry: &Entry, (number, is_void): (usize, bool), first: ValueId, change: &Change) {
        let document = (change.shard, change.epoch);
        if first.boot != entry.chain.boot {
            self.forked.insert(document);
        }
        self.documents.entry(document).or_default().push((change.clone(), first));
        for (write, index) in change.writes.iter().zip(first.index..) {
            if is_void {
                self.void_writes.insert(ValueId { index, ..first });
                continue;
            }
            let order = change.order_of((index - first.index) as usize, first.boot);
            let mut write = write.clone();
            write.replaces.iter_mut().for_each(|id| id.boot = self.meant(number, id));
            let item = write.item.clone();
            self.writes.entry(item).or_default().push((ValueId { index, ..first }, order, entry.chain.node, write));
        }
    }

    /// The id as it is known here, if the entry's author knew what wrote it.
    fn in_past(&self, number: usize, id: &ValueId) -> Option<ValueId> {
        let named = ValueId { boot: self.meant(number, id), ..*id };
        let mut past = self.known[number].past.iter().map(|before| &self.known[*before]);
        past.any(|known| known.part == named.boot && known.seq == named.seq).then_some(named)
    }

    /// The part of a boot that an entry means by an id: of those with such a position in its past, the first by name.
    fn meant(&self, number: usize, id: &ValueId) -> BootId {
        let past = self.known[number].past.iter().map(|before| &self.known[*before]);
        let meant = past.filter(|known| known.seq == id.seq && known.names.contains(&id.boot));
        meant.map(|known| known.part).min().unwrap_or(id.boot)
    }
}
