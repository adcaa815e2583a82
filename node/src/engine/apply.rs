//! Applying an entry to the tables: all of it or nothing, the same for our own entries and for those of others.
//!
//! First every op is judged, then every op is applied; nothing in the second half can be refused. An entry that breaks a rule is void: it
//! stays in its chain, so that all nodes have the same log, and nothing of what it says counts. Nor does an entry past the cut of its
//! author's removal, but later ones may build on it: see `removal`. What an entry names is taken by the
//! names that chains have here, which differ from its author's once a boot is known to have forked: see `branch` in the protocol.

use std::borrow::Cow;

use keepwell_protocol::catalog::authority::{Authority, AuthorityError, creator_of, role_of};
use keepwell_protocol::catalog::change::{AppliedChange, Change, ChangeError, Order, Write};
use keepwell_protocol::catalog::doc::change_hash;
use keepwell_protocol::catalog::item::{Item, Kind};
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::catalog::removal::{Cut, RemovalBody};
use keepwell_protocol::catalog::row::{Row, Value};
use keepwell_protocol::id::{BootId, NodeId, StorageId, ValueId};
use keepwell_protocol::log::admit::{Applied, Placement, meant_by};
use keepwell_protocol::log::entry::Entry;
use keepwell_protocol::log::op::{Holdings, Op, PROTECTS, Unlink};
use keepwell_protocol::log::vector::{Chain, Past};
use keepwell_protocol::wire;
use keepwell_store::counts::Count;
use keepwell_store::error::StoreError;
use keepwell_store::home::Home;
use keepwell_store::log::ChainState;
use keepwell_store::store::Transaction;

use super::removal::{is_void, note_removal};

/// Why an entry does not count: a function of its author's causal past, so the same on every node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A change breaks a rule.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A write was not its author's to make.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// What became of an entry.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It counts.
    Counts,
    /// It is in its chain, and nothing of it counts.
    Void(Refusal),
    /// It breaks no rule, and does not count all the same, because somebody was removed.
    Cut,
    /// Nobody ever took its author in: it is not kept.
    OfAStranger(Refusal),
}

/// Whether entries of strangers are taken into their chains: only when the log that contains them is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strangers {
    Ignored,
    Kept,
}

/// Applies `entry`, which has arrived as number `arrival` and whose turn it is, as `admit` has found.
pub(super) fn apply(
    txn: &mut Transaction<'_>,
    home: &Home,
    entry: &Entry,
    placement: &Placement,
    arrival: u64,
    strangers: Strangers,
) -> Result<Verdict, StoreError> {
    let chain = placement.chain;
    let before = match &placement.begins {
        Some(branch) => txn.chain(&Chain { boot: branch.parent, ..chain })?,
        None => txn.chain(&chain)?,
    };
    let mut past = past_of(placement, before.as_ref());
    let verdict = match judge(txn, home, entry, placement, &past)? {
        Ok(()) if is_void(txn, home, entry, &chain.boot, &past)? => Verdict::Cut,
        Ok(()) => Verdict::Counts,
        Err(refused) if was_taken_in(txn, &chain.node, &past)? => Verdict::Void(refused),
        Err(refused) if strangers == Strangers::Ignored => return Ok(Verdict::OfAStranger(refused)),
        Err(refused) => Verdict::Void(refused),
    };
    let storage = match (entry.ops.first(), before) {
        (Some(Op::Boot(boot)), _) => boot.storage,
        (_, Some(before)) => before.storage,
        (_, None) => StorageId([0; StorageId::LEN]),
    };
    if let Some(branch) = &placement.begins {
        txn.put_branch(&chain, branch)?;
    }
    past.extend(chain.boot, entry.head.seq);
    if matches!(verdict, Verdict::Counts | Verdict::Cut) {
        let next = ValueId { boot: chain.boot, seq: entry.head.seq, index: 0 };
        let is_cut = matches!(verdict, Verdict::Cut);
        let mut applying = Applying { txn, home, chain, signed_boot: entry.chain.boot, past: &past, next, is_cut };
        for op in &entry.ops {
            applying.op(op)?;
        }
    }
    txn.advance_chain(&chain, arrival, &ChainState { head: entry.head, past, storage })?;
    Ok(verdict)
}

/// What the author of an entry had applied when it wrote.
fn past_of(placement: &Placement, before: Option<&ChainState>) -> Past {
    let mut past = before.map(|state| state.past.clone()).unwrap_or_default();
    for (boot, seq) in &placement.deps {
        past.extend(*boot, *seq);
    }
    past
}

fn judge(
    txn: &Transaction<'_>,
    home: &Home,
    entry: &Entry,
    placement: &Placement,
    past: &Past,
) -> Result<Result<(), Refusal>, StoreError> {
    if let Err(refused) = judge_authority(txn, home, entry, past, Basis::AllWritten)? {
        return Ok(Err(refused.into()));
    }
    let written_by = parts_written(txn, placement)?;
    for change in changes_of(entry) {
        let change = by_names_here(txn, change, past)?;
        if let Err(refused) = change.check(&written_by, past, &txn.doc(change.shard, change.epoch)?, &**txn)? {
            return Ok(Err(refused.into()));
        }
    }
    Ok(Ok(()))
}

/// Which writes authority is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// All of the author's causal past, as if nobody had been removed: so whether an entry fits in the log depends on no removal.
    AllWritten,
    /// Those that are not void by a removal.
    WhatCounts,
}

/// Whether all that `entry` writes was its author's to write.
pub(super) fn judge_authority(
    txn: &Transaction<'_>,
    home: &Home,
    entry: &Entry,
    past: &Past,
    basis: Basis,
) -> Result<Result<(), AuthorityError>, StoreError> {
    let row_of = |item: &Item| match basis {
        Basis::AllWritten => txn.authority_at(item, past),
        Basis::WhatCounts => txn.counting_authority_at(item, past),
    };
    let (author, network) = (entry.chain.node, row_of(&Item::network())?);
    let is_removed = basis == Basis::WhatCounts && !row_of(&Item::removal(&author))?.is_empty();
    let role = role_of(&author, &network, &row_of(&Item::node(&author))?).filter(|_| !is_removed);
    if role.is_none() && !is_genesis(entry) {
        return Ok(Err(AuthorityError::NotAMember(author)));
    }
    // Who made the network is no matter of what somebody had seen: its id tells, and nobody was ever a member before that was known.
    let creator = creator_of(&txn.item(&Item::network())?);
    let authority = Authority { network: &home.network, author, creator, role };
    for write in changes_of(entry).flat_map(|change| &change.writes) {
        if let Err(refused) = authority.judge(write, &row_of(&write.item)?) {
            return Ok(Err(refused));
        }
        if write.item.kind == Kind::REMOVAL && !names_what_was_seen(txn, write, past)? {
            return Ok(Err(AuthorityError::UnseenCut));
        }
    }
    Ok(Ok(()))
}

fn names_what_was_seen(txn: &Transaction<'_>, write: &Write, past: &Past) -> Result<bool, StoreError> {
    let Some(body) = write.body.as_deref().and_then(|body| wire::decode_own::<RemovalBody>(body).ok()) else { return Ok(true) };
    Ok(Cut::of(&body, past, &txn.all_branches()?).is_some())
}

/// The changes of documents that an entry brings.
pub(super) fn changes_of(entry: &Entry) -> impl Iterator<Item = &Change> {
    entry.ops.iter().filter_map(|op| if let Op::Change(change) = op { Some(change) } else { None })
}

/// Whether anybody in `past` ever wrote a record of `node`, whatever became of it.
fn was_taken_in(txn: &Transaction<'_>, node: &NodeId, past: &Past) -> Result<bool, StoreError> {
    Ok(txn.writes_to(&Item::node(node))?.iter().any(|id| past.includes(&id.boot, id.seq)))
}

/// The boot of an entry; if that is a branch, followed by what it branches off, nearest first.
fn parts_written(txn: &Transaction<'_>, placement: &Placement) -> Result<Vec<BootId>, StoreError> {
    let mut branches = txn.branches(&placement.chain.node)?;
    branches.0.extend(placement.begins.map(|branch| (placement.chain.boot, branch)));
    let before = branches.ancestors(&placement.chain.boot).into_iter().map(|(boot, _)| boot);
    Ok(std::iter::once(placement.chain.boot).chain(before).collect())
}

/// The change with the names that the writes it replaces have here. (Its own name, a hash, is that of the change as its author made it.)
fn by_names_here<'c>(txn: &Transaction<'_>, change: &'c Change, past: &Past) -> Result<Cow<'c, Change>, StoreError> {
    let is_known = |id: &ValueId| past.includes(&id.boot, id.seq);
    if change.writes.iter().flat_map(|write| &write.replaces).all(is_known) {
        return Ok(Cow::Borrowed(change));
    }
    let branches = txn.all_branches()?;
    let mut change = change.clone();
    for id in change.writes.iter_mut().flat_map(|write| &mut write.replaces) {
        id.boot = meant_by(past, &branches, &id.boot, id.seq).unwrap_or(id.boot);
    }
    Ok(Cow::Owned(change))
}

/// Whether this is the first entry of a network's creator, which nobody could have given leave for; what it says is judged on its own.
fn is_genesis(entry: &Entry) -> bool {
    let is_network =
        |op: &Op| matches!(op, Op::Change(change) if change.writes.iter().all(|write| write.item == Item::network()));
    matches!(entry.ops.as_slice(), [Op::Boot(_), change] if is_network(change))
}

/// The second half: an entry whose ops are being applied one after the other.
struct Applying<'a, 't> {
    txn: &'a mut Transaction<'t>,
    home: &'a Home,
    /// The chain that the entry belongs to here.
    chain: Chain,
    /// The boot that its author signed.
    signed_boot: BootId,
    /// Its causal past.
    past: &'a Past,
    /// The id of the next write.
    next: ValueId,
    /// Whether it is void because somebody was removed. What later entries may build on is noted all the same.
    is_cut: bool,
}

impl Applying<'_, '_> {
    fn op(&mut self, op: &Op) -> Result<(), StoreError> {
        match op {
            Op::Boot(_) => Ok(()),
            Op::Holdings(_) if self.is_cut => Ok(()),
            Op::Holdings(holdings) => self.holdings(holdings),
            Op::Change(change) => self.change(change),
            Op::LinkFact(fact) => {
                let id = self.next_id();
                self.txn.put_link_fact(&id, fact)
            }
            Op::Unlink(_) if self.is_cut => Ok(()),
            Op::Unlink(unlink) => self.unlink(unlink),
            Op::Unknown(raw) if raw.kind & PROTECTS != 0 && !self.is_cut => self.txn.add_to_count(Count::UnknownProtecting, 1),
            Op::Unknown(_) => Ok(()),
        }
    }

    fn next_id(&mut self) -> ValueId {
        let id = self.next;
        self.next.index += 1;
        id
    }

    /// Facts that the author had applied end, and no others: whoever has not heard of one yet hears of it first.
    fn unlink(&mut self, unlink: &Unlink) -> Result<(), StoreError> {
        for id in &unlink.facts {
            let boot = match self.past.includes(&id.boot, id.seq) {
                true => Some(id.boot),
                false => meant_by(self.past, &self.txn.all_branches()?, &id.boot, id.seq),
            };
            if let Some(boot) = boot {
                self.txn.remove_link_fact(&ValueId { boot, ..*id }, &unlink.parent)?;
            }
        }
        Ok(())
    }

    /// Only the author's own holdings can be said: nobody speaks for another's disk.
    fn holdings(&mut self, holdings: &Holdings) -> Result<(), StoreError> {
        let speaker = self.txn.speaker(&self.chain)?;
        let (mut blobs, mut bytes) = (0, 0_i64);
        let signed = |size_bytes: u64| i64::try_from(size_bytes).unwrap_or(i64::MAX);
        for fact in &holdings.added {
            self.txn.note_moved(&fact.sha1);
            if self.txn.add_holding(&speaker, self.next.seq, fact)? {
                blobs += 1;
                bytes = bytes.saturating_add(signed(fact.size_bytes));
            }
        }
        for id in &holdings.removed {
            self.txn.note_moved(id);
            if let Some(size_bytes) = self.txn.remove_holding(&speaker, self.past, id)? {
                blobs -= 1;
                bytes = bytes.saturating_sub(signed(size_bytes));
            }
        }
        if self.chain.node == self.home.node {
            self.txn.add_to_count(Count::Blobs, blobs)?;
            self.txn.add_to_count(Count::BlobBytes, bytes)?;
        }
        Ok(())
    }

    fn change(&mut self, change: &Change) -> Result<(), StoreError> {
        let first = self.next;
        let hash = change_hash(change, ValueId { boot: self.signed_boot, ..first });
        let change = &*by_names_here(self.txn, change, self.past)?;
        for (at, write) in change.writes.iter().enumerate() {
            let (id, order) = (self.next_id(), change.order_of(at, first.boot));
            let is_removal = write.item.kind == Kind::REMOVAL && write.body.is_some();
            // One that is in force stays so, also when its author is removed in turn.
            let in_force = is_removal && note_removal(self.txn, id, self.chain.node, self.past, write)?;
            if self.is_cut && !in_force {
                self.write_void(id, order, write)?;
            } else {
                self.write(id, order, write)?;
            }
        }
        let mut state = self.txn.doc(change.shard, change.epoch)?;
        state.note(first.boot, hash, change);
        let applied = AppliedChange { boot: first.boot, seq: first.seq, max_op: change.max_op() };
        self.txn.put_change((change.shard, change.epoch), &hash, &applied, &state)
    }

    fn write(&mut self, id: ValueId, order: Order, write: &Write) -> Result<(), StoreError> {
        let mut row = self.txn.item(&write.item)?;
        let existed = !row.is_empty();
        let delta = row.apply(id, order, self.chain.node, write);
        self.txn.put_item(&write.item, &row)?;
        for gone in &delta.removed {
            self.index(&write.item, gone, -1)?;
        }
        if let Some(new) = row.values().iter().find(|value| value.id == id) {
            self.index(&write.item, new, 1)?;
        }
        match write.item.kind {
            Kind::REF => self.count_ref(existed, &row),
            _ => self.keep_authority(id, order, write),
        }
    }

    /// A write that does not count: its item stays as it is.
    fn write_void(&mut self, id: ValueId, order: Order, write: &Write) -> Result<(), StoreError> {
        if write.item.kind == Kind::REF {
            return write.replaces.iter().try_for_each(|replaced| self.txn.note_returned(replaced));
        }
        self.keep_authority(id, order, write)?;
        self.txn.note_cut_write(&write.item, &id)
    }

    /// Keeps what authority rests on, whatever replaces it.
    fn keep_authority(&mut self, id: ValueId, order: Order, write: &Write) -> Result<(), StoreError> {
        if let (Kind::NODE, Ok(node)) = (write.item.kind, write.item.key.parse()) {
            let known = self.past.0.values().fold(0, |sum, seq| u64::saturating_add(sum, seq.0));
            self.txn.note_admission(&node, &id, known)?;
        }
        match write.item.kind {
            Kind::NETWORK | Kind::NODE | Kind::REMOVAL => self.txn.put_authority(&id, order, self.chain.node, write),
            _ => Ok(()),
        }
    }

    fn count_ref(&mut self, existed: bool, row: &Row) -> Result<(), StoreError> {
        match (existed, !row.is_empty()) {
            (false, true) => self.txn.add_to_count(Count::Refs, 1),
            (true, false) => self.txn.add_to_count(Count::Refs, -1),
            _ => Ok(()),
        }
    }

    /// Keeps what is looked up by blob or by time in step with a value that has come (1) or gone (-1).
    fn index(&mut self, item: &Item, value: &Value, sign: i64) -> Result<(), StoreError> {
        let body = match item.kind {
            Kind::REF => wire::decode_own::<RefBody>(&value.body).ok(),
            kind if !kind.protects() => return Ok(()),
            _ => None,
        };
        // A value that may protect data and cannot be read here: counted, so that nothing is deleted beside it.
        let Some(body) = body else { return self.txn.add_to_count(Count::UnknownProtecting, sign) };
        for link in &body.links {
            match sign {
                1 => self.txn.add_ref_link(&link.sha1, &item.key)?,
                _ => self.txn.remove_ref_link(&link.sha1, &item.key)?,
            }
        }
        if body.copies > 1 {
            self.txn.add_to_count(Count::Replicated, sign)?;
        }
        match (body.expires_ms, sign) {
            (None, _) => Ok(()),
            (Some(expires_ms), 1) => self.txn.put_expiry(&item.key, &value.id, expires_ms),
            (Some(expires_ms), _) => self.txn.remove_expiry(&item.key, &value.id, expires_ms),
        }
    }
}
