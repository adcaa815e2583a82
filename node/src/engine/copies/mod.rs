//! Copies come about by themselves: what refs ask several copies of is fetched by the nodes whose turn it is, while fewer hold it.
//!
//! Driven by changes: what a value or a fact names anew, with all that it links to, and what has lost a copy is looked at. A walk over
//! all that is live finds the rest: it begins whenever a member comes into reach, or is no longer counted on. With no ref that asks for
//! more than one copy nothing is looked at at all.
//!
//! Nobody agrees with anybody on who fetches. The order of `place::rank::turn` says who is first; who comes later waits for the earlier ones to have
//! had their time, and fetches when there are still too few. So at worst there is a copy too many, which a drop gives up, and with
//! anybody in reach who can do it there is never one too few for long.

mod bringing;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::id::{BlobId, NodeId, StorageId};
use keepwell_store::counts::Count;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use super::{Engine, Step};
use crate::limits::{COPY_LOOKS_PER_STEP, COPY_LOOKS_PER_TICK, MAX_COPY_LOOKS_DUE, MAX_SHORT_BLOBS};
use bringing::Short;
pub use wanted::Wanted;

/// What this node knows of blobs that lack copies.
#[derive(Default)]
pub(super) struct Copies {
    /// Blobs to look at.
    due: BTreeSet<BlobId>,
    /// Those that have been looked at since nothing was due: links may form cycles.
    seen: BTreeSet<BlobId>,
    walk: Walk,
    /// The other members whose copies counted at the last tick, if there was one.
    counted: Option<BTreeSet<NodeId>>,
    /// Blobs that lack copies, that are not here, and that somebody in reach holds.
    short: BTreeMap<BlobId, Short>,
    /// Batches that are being fetched.
    coming: usize,
}

/// The walk over all that is live.
#[derive(Default)]
struct Walk {
    /// Where it goes on; none while there is none.
    next: Option<BlobId>,
    /// Whether there is reason for another one, after it.
    again: bool,
}

/// No blob comes before it.
const FIRST: BlobId = BlobId([0; BlobId::LEN]);

impl Walk {
    fn begin(&mut self) {
        match self.next {
            Some(FIRST) => {}
            Some(_) => self.again = true,
            None => self.next = Some(FIRST),
        }
    }

    fn went_to(&mut self, next: Option<BlobId>) {
        self.next = next;
        if next.is_none() && std::mem::take(&mut self.again) {
            self.next = Some(FIRST);
        }
    }
}

/// Whose copies count, and what has been looked up, in one state of the catalog.
pub(super) struct Reckoning {
    /// The other members that are waited for, with their disks.
    members: BTreeMap<NodeId, StorageId>,
    wanted: Wanted,
}

/// A blob that fewer disks hold than refs ask for.
pub(super) struct Lack {
    /// The disks that hold it.
    storages: BTreeSet<StorageId>,
    /// Their nodes, without this one.
    holders: Vec<NodeId>,
    /// How many more are wanted.
    missing: usize,
}

impl Copies {
    /// The catalog says something else than before of everything: all is to be looked at.
    pub(super) fn look_at_all(&mut self) {
        self.walk.begin();
    }

    /// Has the blobs looked at that values or facts name anew.
    pub(super) fn named(&mut self, blobs: &[BlobId]) {
        for id in blobs {
            self.seen.remove(id);
            self.due.insert(*id);
        }
        if self.due.len() + self.seen.len() > MAX_COPY_LOOKS_DUE {
            self.due.clear();
            self.seen.clear();
            self.walk.begin();
        }
    }

    /// Notes which copies have come and gone.
    fn moved(&mut self, txn: &Transaction<'_>, blobs: Vec<BlobId>) -> Result<(), StoreError> {
        for id in blobs {
            // What comes matters to what lacks copies alone, and what goes to what refs need.
            if self.short.contains_key(&id) || txn.is_live(&id)? {
                self.named(&[id]);
            }
        }
        Ok(())
    }

    fn is_at_rest(&self) -> bool {
        self.due.is_empty() && self.walk.next.is_none()
    }
}

impl Engine {
    /// A member has come into reach: what it holds can be fetched, and what failed is worth another try.
    pub(super) fn copies_in_reach(&mut self) {
        self.copies.walk.begin();
        self.copies.short.values_mut().for_each(Short::try_soon);
    }

    /// At the end of each step: looks at what it has changed, and fetches what is this node's to fetch.
    pub(super) fn see_to_copies(&mut self, step: &mut Step<'_, '_>, is_tick: bool) -> Result<(), StoreError> {
        let moved = step.txn.take_moved();
        self.unlink_moved(step, &moved)?;
        if step.txn.count(Count::Replicated)? == 0 {
            // Whoever asks for copies first is looked at by name.
            self.copies = Copies { coming: self.copies.coming, ..Copies::default() };
            return Ok(());
        }
        self.copies.moved(step.txn, moved)?;
        if is_tick {
            self.copies_on_tick(step.txn)?;
        }
        let budget = if is_tick { COPY_LOOKS_PER_TICK } else { COPY_LOOKS_PER_STEP };
        let is_idle = self.copies.is_at_rest() && (self.copies.short.is_empty() || !is_tick);
        // What refs reach is computed on for as long as it is not settled.
        if is_idle || !step.txn.is_settled()? || !self.is_member(step.txn)? {
            return Ok(());
        }
        let mut reckoning = self.reckoning(step.txn)?;
        let is_news = self.look(step, &mut reckoning, budget)?;
        if is_news || is_tick {
            self.bring_what_is_due(step, &mut reckoning)?;
        }
        Ok(())
    }

    /// Begins a walk when others are counted on than before.
    fn copies_on_tick(&mut self, txn: &Transaction<'_>) -> Result<(), StoreError> {
        let counted: BTreeSet<NodeId> = self.waited_for(txn)?.into_iter().collect();
        let before = self.copies.counted.replace(counted.clone());
        // Before the first tick nobody is known to be absent.
        if before.is_none_or(|before| before != counted) {
            self.copies.walk.begin();
        }
        Ok(())
    }

    /// What a look at blobs rests on.
    fn reckoning(&self, txn: &Transaction<'_>) -> Result<Reckoning, StoreError> {
        let mut members = self.members(txn)?;
        let counted: BTreeSet<NodeId> = self.waited_for(txn)?.into_iter().collect();
        members.retain(|node, _| counted.contains(node));
        Ok(Reckoning { members, wanted: Wanted::default() })
    }

    /// Looks at so many blobs; whether one is short that was not known to be.
    fn look(&mut self, step: &Step<'_, '_>, reckoning: &mut Reckoning, budget: usize) -> Result<bool, StoreError> {
        let (mut looks, before) = (0, self.copies.short.len());
        while looks < budget && self.copies.short.len() < MAX_SHORT_BLOBS {
            let Some(id) = self.copies.due.pop_first() else { break };
            looks += 1;
            if !self.copies.seen.insert(id) || self.look_at(step, reckoning, &id)? <= 1 {
                continue;
            }
            let children: Vec<BlobId> = step.txn.children(&id)?.into_iter().map(|child| child.sha1).collect();
            let unseen: Vec<BlobId> = children.into_iter().filter(|child| !self.copies.seen.contains(child)).collect();
            self.copies.named(&unseen);
        }
        if self.copies.due.is_empty() {
            self.copies.seen.clear();
        }
        let from = self.copies.walk.next.filter(|_| looks < budget);
        if let Some(from) = from.filter(|_| self.copies.short.len() < MAX_SHORT_BLOBS) {
            let room = (budget - looks).min(MAX_SHORT_BLOBS - self.copies.short.len());
            let ids = step.txn.live_from(&from, room)?;
            for id in &ids {
                self.look_at(step, reckoning, id)?;
            }
            self.copies.walk.went_to(ids.last().filter(|_| ids.len() == room).map(after));
        }
        Ok(self.copies.short.len() > before)
    }

    /// Notes whether the blob lacks copies that this node can make; how many are wanted.
    fn look_at(&mut self, step: &Step<'_, '_>, reckoning: &mut Reckoning, id: &BlobId) -> Result<u32, StoreError> {
        let wanted = if step.txn.is_live(id)? { reckoning.wanted.copies(step.txn, id)? } else { 0 };
        match self.lack(step.txn, reckoning, id, wanted)? {
            Some(_) => drop(self.copies.short.entry(*id).or_insert_with(|| Short::since(step.steady_ms))),
            None => drop(self.copies.short.remove(id)),
        }
        Ok(wanted)
    }

    /// What the blob lacks; nothing if it is here, or on as many disks as are wanted, or if nobody in reach could give it.
    fn lack(&self, txn: &Transaction<'_>, reckoning: &Reckoning, id: &BlobId, wanted: u32) -> Result<Option<Lack>, StoreError> {
        if wanted <= 1 || txn.blob(id)?.is_some() {
            return Ok(None);
        }
        let (mut storages, mut holders, mut is_given) = (BTreeSet::new(), Vec::new(), false);
        for holding in txn.holders(id)? {
            // Who is not counted on can give all the same: what is said to be dead may have the only copy.
            is_given |= self.is_connected(&holding.node);
            if let Some(storage) = reckoning.members.get(&holding.node) {
                storages.insert(*storage);
                holders.push(holding.node);
            }
        }
        let missing = usize::try_from(wanted).unwrap_or(usize::MAX).saturating_sub(storages.len());
        // Another home on this very disk may hold it: a second copy there would be none.
        let is_vain = storages.contains(&self.home.storage);
        Ok((missing > 0 && is_given && !is_vain).then_some(Lack { storages, holders, missing }))
    }
}

/// The id that comes next.
fn after(id: &BlobId) -> BlobId {
    let mut next = *id;
    for byte in next.0.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return next;
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(number: usize) -> BlobId {
        let mut id = [0; BlobId::LEN];
        id[..8].copy_from_slice(&number.to_be_bytes());
        BlobId(id)
    }

    #[test]
    fn past_max_copy_looks_due_all_that_is_live_is_looked_at_instead() {
        let mut copies = Copies::default();
        let blobs: Vec<BlobId> = (0..MAX_COPY_LOOKS_DUE).map(blob).collect();
        copies.named(&blobs);
        assert_eq!((copies.due.len(), copies.walk.next), (MAX_COPY_LOOKS_DUE, None));
        copies.named(&[blob(MAX_COPY_LOOKS_DUE)]);
        assert_eq!((copies.due.len(), copies.walk.next), (0, Some(FIRST)));
    }

    #[test]
    fn a_walk_that_is_asked_for_while_one_is_under_way_comes_after_it() {
        let mut walk = Walk::default();
        walk.begin();
        walk.begin();
        walk.went_to(None);
        assert_eq!(walk.next, None, "it had not set out");
        walk.begin();
        walk.went_to(Some(blob(1)));
        walk.begin();
        walk.went_to(Some(blob(2)));
        walk.went_to(None);
        assert_eq!((walk.next, walk.again), (Some(FIRST), false));
    }

    #[test]
    fn what_was_looked_at_is_looked_at_again_when_it_is_named_again() {
        let mut copies = Copies { seen: BTreeSet::from([blob(1)]), ..Copies::default() };
        copies.named(&[blob(1)]);
        assert!(copies.due.contains(&blob(1)) && copies.seen.is_empty());
    }

    #[test]
    fn the_next_id_is_one_more() {
        assert_eq!(after(&BlobId([0; 20])).0[19], 1);
        assert_eq!(after(&BlobId([[0; 19].as_slice(), &[0xff]].concat().try_into().unwrap())).0[18..], [1, 0]);
    }
}
