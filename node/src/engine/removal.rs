//! Members that are removed (R12): which removals are in force, and what is void for them.
//!
//! An entry past the cut of its author's removal is in its chain like any other and is judged as if there were no removals, so that what
//! others built on it still fits together; its effects alone are left out: no value, no delete, no holding, no member of its making. Link
//! facts stay, because the refs of others may rest on them. When a removal becomes known after such entries were applied, the log is
//! replayed, as after a fork.

use keepwell_protocol::catalog::authority::creator_of;
use keepwell_protocol::catalog::change::Write;
use keepwell_protocol::catalog::item::{Item, Kind};
use keepwell_protocol::catalog::removal::{Cut, Removal, RemovalBody, is_cut};
use keepwell_protocol::id::{BlobId, BootId, NodeId, Seq, ValueId};
use keepwell_protocol::limits::MAX_REMOVAL_CUTS;
use keepwell_protocol::log::entry::Entry;
use keepwell_protocol::log::op::Holdings;
use keepwell_protocol::log::vector::Past;
use keepwell_protocol::wire;
use keepwell_store::audit::Note;
use keepwell_store::error::StoreError;
use keepwell_store::home::Home;
use keepwell_store::removals::KnownRemoval;
use keepwell_store::store::Transaction;

use super::apply::{Basis, changes_of, judge_authority};
use super::author::Batch;
use super::effect::{Effect, Reply};
use super::input::RequestId;
use super::{Engine, Step};

/// Whether `entry`, which is applied in `boot` and whose author had this past, is void by the removals in force: its author's own, or that
/// of somebody by whose word it is a member.
pub(super) fn is_void(txn: &Transaction<'_>, home: &Home, entry: &Entry, boot: &BootId, past: &Past) -> Result<bool, StoreError> {
    if !txn.has_removals()? {
        return Ok(false);
    }
    let known = txn.removals_of(&entry.chain.node)?.into_iter();
    let in_force: Vec<Removal> = known.filter(|known| known.in_force).map(|known| known.removal).collect();
    if is_cut(&in_force, past, boot, entry.head.seq) {
        return Ok(true);
    }
    Ok(judge_authority(txn, home, entry, past, Basis::WhatCounts)?.is_err())
}

/// Notes the removal that `write` is; whether it is known to be in force.
pub(super) fn note_removal(
    txn: &mut Transaction<'_>,
    id: ValueId,
    author: NodeId,
    past: &Past,
    write: &Write,
) -> Result<bool, StoreError> {
    let body = write.body.as_deref().and_then(|body| wire::decode_own::<RemovalBody>(body).ok());
    // What names no node or cannot be read was refused with its entry.
    let (Ok(node), Some(body)) = (write.item.key.parse::<NodeId>(), body) else { return Ok(false) };
    let Some(cut) = Cut::of(&body, past, &txn.all_branches()?) else { return Ok(false) };
    let earlier = txn.removals_of(&node)?.into_iter().map(|known| known.removal.id);
    let knows = earlier.filter(|other| *other != id && past.includes(&other.boot, other.seq)).collect();
    let is_creators = creator_of(&txn.item(&Item::network())?) == Some(author);
    let admitted = if is_creators { 0 } else { txn.admitted_at(&author, past)?.unwrap_or(u64::MAX) };
    txn.put_removal(&node, &Removal { id, author, admitted, cut, knows }, false)
}

/// Of the removals that count and are not in force yet, the one that is judged next.
pub(super) fn next_in_force(txn: &Transaction<'_>) -> Result<Option<KnownRemoval>, StoreError> {
    let mut next: Option<KnownRemoval> = None;
    for known in txn.all_removals()? {
        let counts = !known.in_force && !txn.is_cut_write(&Item::removal(&known.node), &known.removal.id)?;
        if counts && next.as_ref().is_none_or(|next| known.removal.goes_before(&next.removal)) {
            next = Some(known);
        }
    }
    Ok(next)
}

impl Engine {
    /// Removes a member: what this node has applied of it counts, and nothing else of it.
    pub(super) fn remove_member(&mut self, step: &mut Step<'_, '_>, request: RequestId, node: &NodeId) -> Result<(), StoreError> {
        let Some(role) = self.role(step.txn)? else {
            step.effects.push(Effect::Reply(request, Reply::NotAMember));
            return Ok(());
        };
        let item = Item::removal(node);
        let body = wire::encode(&RemovalBody { removed_ms: step.now_ms, cuts: cuts(step.txn, node)? });
        // Said twice it is no news, but who may not say it is told so all the same.
        let is_so = !step.txn.item(&item)?.is_empty();
        let outcome = match is_so {
            true => self.judge(step.txn, role, &item, Some(&body))?,
            false => self.write_as(step, role, item, Some(body))?,
        };
        if !is_so && outcome.is_ok() {
            self.settle_removals(step)?;
            step.txn.note(step.now_ms, Note::Removed { node: *node, is_removed: true, by: self.home.node })?;
        }
        let reply = outcome.map_or_else(Reply::MayNotAdmit, |()| Reply::Declared);
        step.effects.push(Effect::Reply(request, reply));
        Ok(())
    }

    /// What follows from an entry that has been applied and says of somebody that they are removed, or taken in again.
    pub(super) fn heard_of_removals(&mut self, step: &mut Step<'_, '_>, entry: &Entry) -> Result<(), StoreError> {
        let writes: Vec<&Write> =
            changes_of(entry).flat_map(|change| &change.writes).filter(|write| write.item.kind == Kind::REMOVAL).collect();
        if writes.iter().any(|write| write.body.is_some()) {
            self.settle_removals(step)?;
        }
        let itself = Item::removal(&self.home.node);
        if writes.iter().any(|write| write.item == itself && write.body.is_none()) {
            self.announce_copies(step)?;
        }
        Ok(())
    }

    /// Has the removals in force that are to be. Unless the new one is alone and cuts nothing that is applied here, all of them are judged
    /// anew: which are in force must not depend on the order in which they came.
    fn settle_removals(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        if let Some(known) = only_news(step.txn)? {
            step.txn.put_removal(&known.node, &known.removal, true)?;
            return Ok(());
        }
        self.replay(step.txn)?;
        self.look_at_all_anew();
        Ok(())
    }

    /// The log was replayed and may amount to something else: what rests on what it amounted to is begun again.
    pub(super) fn look_at_all_anew(&mut self) {
        self.collector.forget_sweep();
        self.unlinking.forget_sweep();
        self.dropping.end_attempts();
        self.copies.look_at_all();
        self.arrivals.look_at_all();
    }

    /// This node is a member again: what it had said of its copies since its removal was void, and is said again.
    fn announce_copies(&self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        if !self.is_member(step.txn)? {
            return Ok(());
        }
        let mut added = Vec::new();
        step.txn.visit_blobs::<StoreError>(&BlobId([0; BlobId::LEN]), |id, record| {
            if !step.txn.is_held_by(&id, &self.home.node)? {
                added.push(record.fact(id));
            }
            Ok(true)
        })?;
        self.publish(step, Batch { holdings: Holdings { added, removed: vec![] }, ..Batch::default() })
    }
}

/// The last entry that is applied here of each part of the boots of `node`; of too many parts, of those with the most entries.
fn cuts(txn: &Transaction<'_>, node: &NodeId) -> Result<Vec<(BootId, Seq)>, StoreError> {
    let chains = txn.vector()?.0.into_iter().filter(|(chain, _)| chain.node == *node);
    let mut cuts: Vec<(BootId, Seq)> = chains.map(|(chain, head)| (chain.boot, head.seq)).collect();
    cuts.sort_by_key(|(_, seq)| std::cmp::Reverse(*seq));
    cuts.truncate(MAX_REMOVAL_CUTS);
    cuts.sort_unstable();
    Ok(cuts)
}

/// The one removal that is not in force, if it voids nothing that is applied here and no other one can have to do with it.
fn only_news(txn: &Transaction<'_>) -> Result<Option<KnownRemoval>, StoreError> {
    let all = txn.all_removals()?;
    let mut news = all.iter().filter(|known| !known.in_force);
    let (Some(new), None) = (news.next(), news.next()) else { return Ok(None) };
    let is_apart = |other: &KnownRemoval| other.removal.id == new.removal.id || other.node != new.node;
    let stands_alone = all.iter().all(|other| is_apart(other) && other.removal.author != new.node);
    let counts = !txn.is_cut_write(&Item::removal(&new.node), &new.removal.id)?;
    let chains = txn.vector()?.0.into_iter();
    let mut of_it = chains.filter(|(chain, _)| chain.node == new.node);
    let cuts_nothing = of_it.all(|(chain, head)| new.removal.cut.leaves(&chain.boot, head.seq));
    Ok((stands_alone && counts && cuts_nothing).then(|| new.clone()))
}
