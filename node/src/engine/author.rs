//! Writing our own entries: what this node has to say, cut into entries within their limits, signed, appended and applied.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::catalog::change::{Change, ChangeHash, Write};
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::id::{BootId, Seq, ValueId};
use keepwell_protocol::limits::{MAX_ENTRY_BYTES, MAX_ENTRY_DEPS, MAX_ENTRY_OPS};
use keepwell_protocol::log::admit::{Admission, admit};
use keepwell_protocol::log::entry::{Draft, Entry};
use keepwell_protocol::log::op::{Boot, Holdings, LinkFact, Op, Unlink};
use keepwell_protocol::log::vector::{Chain, Head};
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use super::Engine;
use super::apply::{self, Strangers, Verdict};

/// Bytes that the ops of one entry may add up to, as estimated here: the rest is for deps and framing.
const ENTRY_BUDGET_BYTES: usize = MAX_ENTRY_BYTES / 2;
/// Bytes that an op's framing adds at most, beyond its own content.
const FRAMING_BYTES: usize = 64;
/// Bytes of one blob fact, at most.
const FACT_BYTES: usize = 61;
/// Bytes of the id of a value that is replaced, at most.
const VALUE_ID_BYTES: usize = 30;
/// Heads of other chains that one entry names as news: half of what it may name, which leaves room for branches.
const MAX_NEWS: usize = MAX_ENTRY_DEPS / 2;

/// What this node has to say.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Link facts; they come before the writes that may rest on them.
    pub facts: Vec<LinkFact>,
    /// Facts that end, after those.
    pub unlinks: Vec<Unlink>,
    /// Changes of what it holds.
    pub holdings: Holdings,
    /// Writes to the catalog, in order.
    pub writes: Vec<OwnWrite>,
    /// Values that end, after those.
    pub marks: Vec<Mark>,
}

/// A delete of one value, whatever else its item shows.
#[derive(Debug)]
pub(super) struct Mark {
    pub item: Item,
    pub value: ValueId,
}

/// A write whose author is this node: it replaces whatever values this node sees.
#[derive(Debug)]
pub(super) struct OwnWrite {
    pub item: Item,
    pub body: Option<Vec<u8>>,
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Authored {
    /// The entries, in order, to be published once they are durable.
    pub entries: Vec<Vec<u8>>,
    /// The id of each write of the batch, in order; then those of its marks.
    pub ids: Vec<ValueId>,
}

/// The ops of one entry that is being filled.
#[derive(Default)]
struct Parcel {
    facts: Vec<LinkFact>,
    unlinks: Vec<Unlink>,
    holdings: Holdings,
    writes: Vec<OwnWrite>,
    marks: Vec<Mark>,
    items: BTreeSet<Item>,
    weight: usize,
    bytes: usize,
}

impl Engine {
    /// Writes `batch` to the log and applies it, as any entry is applied.
    pub(super) fn author(&self, txn: &mut Transaction<'_>, batch: Batch) -> Result<Authored, StoreError> {
        let mut authored = Authored::default();
        for parcel in parcels(txn, batch)? {
            self.write_parcel(txn, parcel, &mut authored)?;
        }
        Ok(authored)
    }

    fn write_parcel(&self, txn: &mut Transaction<'_>, parcel: Parcel, authored: &mut Authored) -> Result<(), StoreError> {
        let chain = self.own_chain()?;
        let mut deps = self.news(txn, &chain)?;
        // More than one entry may name: those before it say nothing else.
        while deps.len() > MAX_NEWS {
            let rest = deps.split_off(MAX_NEWS);
            self.append(txn, Vec::new(), deps, authored)?;
            deps = rest;
        }
        let ended: Vec<ValueId> = parcel.unlinks.iter().flat_map(|unlink| &unlink.facts).copied().collect();
        let mut ops: Vec<Op> = parcel.facts.into_iter().map(Op::LinkFact).collect();
        ops.extend(parcel.unlinks.into_iter().map(Op::Unlink));
        if !parcel.holdings.added.is_empty() || !parcel.holdings.removed.is_empty() {
            ops.push(Op::Holdings(parcel.holdings));
        }
        let seq = txn.chain(&chain)?.map_or(Seq::FIRST, |state| state.head.seq.next());
        let first = ops.iter().map(Op::ids).sum();
        let writes = writes(txn, parcel.writes, parcel.marks)?;
        let (changes, ids) = changes(txn, ValueId { boot: chain.boot, seq, index: first }, writes)?;
        authored.ids.extend(ids);
        let replaced = changes.iter().flat_map(|change| &change.writes).flat_map(|write| &write.replaces);
        tell_branches(txn, replaced.chain(&ended), &mut deps)?;
        // Whoever does not know of a branch that is not told then takes the entry for void until it does.
        deps.truncate(MAX_ENTRY_DEPS);
        ops.extend(changes.into_iter().map(Op::Change));
        self.append(txn, ops, deps, authored)
    }

    /// The heads of other chains that have moved since this chain's last entry. Those come first that say we are a member: when the news
    /// do not fit in one entry, already the first must show that its author may write.
    fn news(&self, txn: &Transaction<'_>, own: &Chain) -> Result<Vec<(Chain, Head)>, StoreError> {
        let past = txn.chain(own)?.map(|state| state.past).unwrap_or_default();
        let told = |chain: &Chain, head: &Head| past.includes(&chain.boot, head.seq);
        let mut news: Vec<(Chain, Head)> = txn.vector()?.0.into_iter().collect();
        news.retain(|(chain, head)| chain != own && !told(chain, head));
        if news.len() > MAX_NEWS {
            let mut boots: BTreeSet<BootId> = BTreeSet::new();
            for item in [Item::network(), Item::node(&self.home.node), Item::removal(&self.home.node)] {
                boots.extend(txn.writes_to(&item)?.into_iter().map(|id| id.boot));
            }
            news.sort_by_key(|(chain, _)| !boots.contains(&chain.boot));
        }
        Ok(news)
    }

    /// Signs the next entry of our chain, appends it to the log and applies it.
    fn append(
        &self,
        txn: &mut Transaction<'_>,
        mut ops: Vec<Op>,
        deps: Vec<(Chain, Head)>,
        authored: &mut Authored,
    ) -> Result<(), StoreError> {
        let chain = self.own_chain()?;
        let state = txn.chain(&chain)?;
        if state.is_none() {
            let nonce = self.home.boot.as_ref().map_or([0; 16], |boot| boot.nonce);
            ops.insert(0, Op::Boot(Boot { storage: self.home.storage, nonce }));
        }
        let seq = state.as_ref().map_or(Seq::FIRST, |state| state.head.seq.next());
        let prev_hash = state.map(|state| state.head.hash);
        let bytes = Draft { network: self.home.network, chain, seq, prev_hash, deps, ops }.seal(&self.key);
        let entry = Entry::open(&bytes, &self.home.network).map_err(|error| own(&error))?;
        let Admission::Apply(placement) = admit(&entry, &**txn)? else {
            return Err(StoreError::Inconsistent("own entry is not the next of its chain".into()));
        };
        let arrival = txn.append_entry(&bytes)?;
        match apply::apply(txn, &self.home, &entry, &placement, arrival, Strangers::Ignored)? {
            Verdict::Counts => authored.entries.push(bytes),
            Verdict::Void(refused) | Verdict::OfAStranger(refused) => return Err(own(&refused)),
            Verdict::Cut => return Err(StoreError::Inconsistent("own entry refused: this node was removed".into())),
        }
        Ok(())
    }
}

/// Adds the branches of forked boots that an entry names by `ids`: what it ends there was told before the fork was known, under another
/// name, and who does not know of the fork yet must wait until it does.
fn tell_branches<'i>(
    txn: &Transaction<'_>,
    ids: impl Iterator<Item = &'i ValueId>,
    deps: &mut Vec<(Chain, Head)>,
) -> Result<(), StoreError> {
    for id in ids {
        if deps.iter().any(|(chain, head)| chain.boot == id.boot && head.seq >= id.seq) {
            continue;
        }
        let Some(chain) = txn.branch_chain(&id.boot)? else { continue };
        if let Some(head) = txn.head_at(&chain, id.seq)? {
            deps.retain(|(dep, _)| *dep != chain);
            deps.push((chain, head));
        }
    }
    Ok(())
}

/// What our writes and marks replace, as of now.
fn writes(txn: &Transaction<'_>, writes: Vec<OwnWrite>, marks: Vec<Mark>) -> Result<Vec<Write>, StoreError> {
    let mut all = Vec::with_capacity(writes.len() + marks.len());
    for OwnWrite { item, body } in writes {
        let replaces = txn.item(&item)?.ids();
        all.push(Write { item, replaces, body });
    }
    all.extend(marks.into_iter().map(|Mark { item, value }| Write { item, replaces: vec![value], body: None }));
    Ok(all)
}

/// The changes that make `writes`, by shard, and the id of each write in the order given.
fn changes(txn: &Transaction<'_>, first: ValueId, writes: Vec<Write>) -> Result<(Vec<Change>, Vec<ValueId>), StoreError> {
    let mut by_shard: BTreeMap<u8, Vec<(usize, Write)>> = BTreeMap::new();
    let mut ids = vec![first; writes.len()];
    for (at, write) in writes.into_iter().enumerate() {
        by_shard.entry(write.item.shard()).or_default().push((at, write));
    }
    let mut changes = Vec::new();
    let mut index = first.index;
    for (shard, writes) in by_shard {
        for (at, _) in &writes {
            ids[*at] = ValueId { index, ..first };
            index += 1;
        }
        changes.push(next_change(txn, shard, &first, writes.into_iter().map(|(_, write)| write).collect())?);
    }
    Ok((changes, ids))
}

/// Our next change to a shard: to its newest document, or to a new one when that is full.
fn next_change(txn: &Transaction<'_>, shard: u8, author: &ValueId, writes: Vec<Write>) -> Result<Change, StoreError> {
    let newest = txn.latest_epoch(shard)?;
    let state = txn.doc(shard, newest)?;
    if !state.is_full() {
        let prior = if state.heads.is_empty() { prior(txn, shard, newest)? } else { None };
        return Ok(Change::next(shard, newest, &author.boot, &state, prior, writes));
    }
    let prior = state.heads.keys().next().copied();
    Ok(Change::next(shard, newest + 1, &author.boot, &Default::default(), prior, writes))
}

fn prior(txn: &Transaction<'_>, shard: u8, epoch: u32) -> Result<Option<ChangeHash>, StoreError> {
    match epoch {
        0 => Ok(None),
        _ => Ok(txn.doc(shard, epoch - 1)?.heads.keys().next().copied()),
    }
}

/// Cuts a batch into what fits in one entry each, in order: facts, their ends and holdings first.
fn parcels(txn: &Transaction<'_>, batch: Batch) -> Result<Vec<Parcel>, StoreError> {
    let mut parcels = vec![Parcel::default()];
    for fact in batch.facts {
        let room = room(&mut parcels, fact.children.len().max(1), fact.children.len() * FACT_BYTES);
        room.facts.push(fact);
    }
    for unlink in batch.unlinks {
        let room = room(&mut parcels, unlink.facts.len().max(1), unlink.facts.len() * VALUE_ID_BYTES + FRAMING_BYTES);
        room.unlinks.push(unlink);
    }
    for fact in batch.holdings.added {
        room(&mut parcels, 1, FACT_BYTES).holdings.added.push(fact);
    }
    for id in batch.holdings.removed {
        room(&mut parcels, 1, FACT_BYTES).holdings.removed.push(id);
    }
    for write in batch.writes {
        let replaces = txn.item(&write.item)?.ids().len() * VALUE_ID_BYTES;
        let bytes = write.item.key.len() + write.body.as_ref().map_or(0, Vec::len) + replaces + FRAMING_BYTES;
        room_of(&mut parcels, &write.item, bytes).writes.push(write);
    }
    for mark in batch.marks {
        let bytes = mark.item.key.len() + VALUE_ID_BYTES + FRAMING_BYTES;
        room_of(&mut parcels, &mark.item, bytes).marks.push(mark);
    }
    parcels.retain(|parcel| parcel.weight > 0);
    Ok(parcels)
}

/// The parcel that takes a write of `item`. An item written twice needs two entries: the second write replaces the first one's value.
fn room_of<'p>(parcels: &'p mut Vec<Parcel>, item: &Item, bytes: usize) -> &'p mut Parcel {
    if parcels.last().is_some_and(|parcel| parcel.items.contains(item)) {
        parcels.push(Parcel::default());
    }
    let room = room(parcels, 1, bytes);
    room.items.insert(item.clone());
    room
}

/// The parcel that takes so much more: the last one, or a new one.
fn room(parcels: &mut Vec<Parcel>, weight: usize, bytes: usize) -> &mut Parcel {
    let full = |parcel: &Parcel| parcel.weight + weight >= MAX_ENTRY_OPS || parcel.bytes + bytes > ENTRY_BUDGET_BYTES;
    if parcels.last().is_none_or(|last| last.weight > 0 && full(last)) {
        parcels.push(Parcel::default());
    }
    let last = parcels.last_mut().expect("invariant: there is a parcel, one was pushed if there was none");
    last.weight += weight;
    last.bytes += bytes;
    last
}

/// An entry of our own that our own rules refuse: a fault of this program, which must not reach the disk.
fn own(refused: &dyn std::error::Error) -> StoreError {
    StoreError::Inconsistent(format!("own entry refused: {refused}"))
}
