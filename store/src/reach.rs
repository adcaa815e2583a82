//! Reach: which blobs are live, counted as the catalog changes.
//!
//! A blob is live when some value of a ref reaches it over link facts, whatever of that is held here. Counted are the *reasons* of
//! each blob: the values of refs that name it, and the mentions of it in the facts of blobs that have *spread*, which means that they
//! have given a reason to each of their children. A blob that has become live, or is live no more, and has not yet passed that on is
//! *unsettled*. Passing on may touch the whole history behind a ref, so it is done apart, in portions: see [`Transaction::settle`].
//! Only when everything is settled do the counts say what is live.
//!
//! Declared links can form cycles, and a cycle keeps itself counted when the last ref to it goes. That keeps too much and never too
//! little; `cycles` finds and ends such cycles.

use std::collections::BTreeSet;

use keepwell_protocol::id::{BlobFact, BlobId};
use redb::{ReadableTable, ReadableTableMetadata};

use crate::error::StoreError;
use crate::row;
use crate::store::Transaction;
use crate::tables::{Access, Tables, Writing};

/// Why a blob is live, and whether its children know. All zero for a blob without a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reach {
    /// Values of refs that name it, and mentions in facts of parents that have spread.
    pub(crate) reasons: u32,
    /// Whether each of its own mentions counts as a reason.
    pub(crate) is_spread: bool,
}

/// What a transaction remembers about reach until it ends.
#[derive(Debug, Default)]
pub(crate) struct ReachNotes {
    /// Blobs that had no reason and were given one.
    newly_live: Vec<BlobId>,
    /// Blobs that a value or a fact has named anew.
    newly_named: Vec<BlobId>,
    /// Blobs that some node has come to hold, or holds no longer.
    moved: Vec<BlobId>,
    /// Parents of which facts have ended, each with what they named.
    ended_facts: Vec<(BlobId, Vec<BlobFact>)>,
    /// Whether the log is being replayed: all is counted at its end, once, rather than on the way.
    is_replaying: bool,
}

/// A count of one more or one fewer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    More,
    Fewer,
}

impl Change {
    fn of(self, count: u32) -> Option<u32> {
        match self {
            Change::More => count.checked_add(1),
            Change::Fewer => count.checked_sub(1),
        }
    }
}

impl<A: Access> Tables<A> {
    /// Whether a value of some ref reaches `id`, as far as that is settled.
    pub fn is_live(&self, id: &BlobId) -> Result<bool, StoreError> {
        Ok(self.reasons(id)? > 0)
    }

    /// Whether a value of some ref reaches `id`, walked from the blob upwards over the links: it rests on no count, and sees through cycles.
    pub fn is_reached(&self, id: &BlobId) -> Result<bool, StoreError> {
        let (mut seen, mut due) = (BTreeSet::from([*id]), vec![*id]);
        while let Some(at) = due.pop() {
            if self.is_named(&at)? {
                return Ok(true);
            }
            due.extend(self.parents(&at)?.into_iter().filter(|parent| seen.insert(*parent)));
        }
        Ok(false)
    }

    /// Whether every blob has passed on to its children whether it is live.
    pub fn is_settled(&self) -> Result<bool, StoreError> {
        Ok(self.unsettled.is_empty()?)
    }

    /// The blobs that known facts link to `child`, ascending by SHA-1.
    pub fn parents(&self, child: &BlobId) -> Result<Vec<BlobId>, StoreError> {
        let rows = self.parents.range((child.as_bytes(), &[0; 20])..=(child.as_bytes(), &[0xff; 20]))?;
        rows.map(|row| Ok((*row?.0.value().1).into())).collect()
    }

    /// Whether known facts link some blob to `child`.
    pub(crate) fn has_parent(&self, child: &BlobId) -> Result<bool, StoreError> {
        Ok(self.parents.range((child.as_bytes(), &[0; 20])..=(child.as_bytes(), &[0xff; 20]))?.next().is_some())
    }

    /// How many reasons are counted for `id`.
    pub(crate) fn reasons(&self, id: &BlobId) -> Result<u32, StoreError> {
        Ok(self.reach_of(id)?.reasons)
    }

    /// Blobs that are counted as live, ascending by SHA-1, from `from` on, at most `limit` of them.
    pub fn live_from(&self, from: &BlobId, limit: usize) -> Result<Vec<BlobId>, StoreError> {
        let live = self
            .reached
            .range::<&[u8; BlobId::LEN]>(from.as_bytes()..)?
            .filter(|row| row.as_ref().map_or(true, |(_, value)| value.value().0 > 0));
        live.take(limit).map(|row| Ok((*row?.0.value()).into())).collect()
    }

    /// Visits the blobs that are counted as live, ascending by SHA-1.
    pub(crate) fn visit_live(&self, mut visit: impl FnMut(BlobId)) -> Result<(), StoreError> {
        for row in self.reached.iter()? {
            let (id, value) = row?;
            if value.value().0 > 0 {
                visit((*id.value()).into());
            }
        }
        Ok(())
    }

    /// Every mention of a child in the facts of `parent`, also one that is said twice.
    pub(crate) fn mentions(&self, parent: &BlobId) -> Result<Vec<BlobId>, StoreError> {
        let mut mentions = Vec::new();
        for row in self.facts_of(parent)? {
            let part: Vec<BlobFact> = row::decode_bytes("links", row?.1.value())?;
            mentions.extend(part.into_iter().map(|child| child.sha1));
        }
        Ok(mentions)
    }

    pub(crate) fn reach_of(&self, id: &BlobId) -> Result<Reach, StoreError> {
        let row = self.reached.get(id.as_bytes())?.map(|row| row.value());
        Ok(row.map_or_else(Reach::default, |(reasons, is_spread)| Reach { reasons, is_spread }))
    }

    fn first_unsettled(&self) -> Result<Option<BlobId>, StoreError> {
        Ok(self.unsettled.first()?.map(|(id, _)| (*id.value()).into()))
    }
}

impl Transaction<'_> {
    /// Lets unsettled blobs pass on to their children whether they are live, until `budget` mentions have been counted or all is
    /// settled; whether it is. A blob is settled whole, so the last one may go past the budget.
    pub fn settle(&mut self, budget: usize) -> Result<bool, StoreError> {
        let mut counted = 0;
        while let Some(parent) = self.first_unsettled()? {
            if counted >= budget {
                return Ok(false);
            }
            // A blob without children is work too: otherwise many of them would make one long transaction.
            counted += self.pass_on(&parent)?.max(1);
        }
        Ok(true)
    }

    /// The blobs that had no reason to be live and were given one in this transaction, since this was last asked. Some may have lost
    /// it since, and some come twice. After a replay or a recount they are all that are live.
    pub fn take_newly_live(&mut self) -> Vec<BlobId> {
        std::mem::take(&mut self.reach.newly_live)
    }

    /// The blobs that a value of a ref, or a fact, has named in this transaction, since this was last asked, whether they were live
    /// before or not. A replay names nothing anew.
    pub fn take_newly_named(&mut self) -> Vec<BlobId> {
        std::mem::take(&mut self.reach.newly_named)
    }

    /// Notes that some node has come to hold `id`, or holds it no longer. A replay moves nothing.
    pub fn note_moved(&mut self, id: &BlobId) {
        if !self.reach.is_replaying {
            self.reach.moved.push(*id);
        }
    }

    /// The blobs that some node has come to hold in this transaction, or holds no longer, since this was last asked.
    pub fn take_moved(&mut self) -> Vec<BlobId> {
        std::mem::take(&mut self.reach.moved)
    }

    /// Notes that a fact of `parent` that named `children` has ended. A replay ends nothing.
    pub(crate) fn note_ended_fact(&mut self, parent: &BlobId, children: Vec<BlobFact>) {
        if !self.reach.is_replaying {
            self.reach.ended_facts.push((*parent, children));
        }
    }

    /// The parents of which facts have ended in this transaction, since this was last asked, each with what they named.
    pub fn take_ended_facts(&mut self) -> Vec<(BlobId, Vec<BlobFact>)> {
        std::mem::take(&mut self.reach.ended_facts)
    }

    /// Empties what is derived, lets `replay` fill it again from the log, and then counts what is live and what is unneeded.
    ///
    /// # Errors
    /// Those of `replay`, after which the transaction must not be committed.
    pub fn rederive<E: From<StoreError>>(&mut self, replay: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), E> {
        self.clear_derived().map_err(StoreError::from)?;
        self.reach.is_replaying = true;
        replay(self)?;
        self.reach.is_replaying = false;
        self.recount_trash()?;
        Ok(self.recount_reach()?)
    }

    /// Counts anew what is live, from the refs: cycles that only keep themselves counted are gone afterwards, and all is settled.
    pub fn recount_reach(&mut self) -> Result<(), StoreError> {
        self.reached.retain(|_, _| false)?;
        self.unsettled.retain(|_, _| false)?;
        for (blob, values) in self.all_ref_links()? {
            for _ in 0..values {
                self.change_reasons(&blob, Change::More)?;
            }
        }
        self.settle(usize::MAX)?;
        self.number_all_unneeded()
    }

    /// Counts one value more or fewer of a ref that names `id`.
    pub(crate) fn count_ref_value(&mut self, id: &BlobId, change: Change) -> Result<(), StoreError> {
        if self.reach.is_replaying {
            return Ok(());
        }
        self.note_named(id, change);
        self.change_reasons(id, change)
    }

    /// Counts the mentions of one fact that has come or gone.
    pub(crate) fn count_mentions(&mut self, parent: &BlobId, children: &[BlobFact], change: Change) -> Result<(), StoreError> {
        let is_spread = !self.reach.is_replaying && self.reach_of(parent)?.is_spread;
        for child in children {
            self.note_named(&child.sha1, change);
            self.count_parent(&child.sha1, parent, change)?;
            if is_spread {
                self.change_reasons(&child.sha1, change)?;
            }
        }
        Ok(())
    }

    fn note_named(&mut self, id: &BlobId, change: Change) {
        if matches!(change, Change::More) && !self.reach.is_replaying {
            self.reach.newly_named.push(*id);
        }
    }

    /// Settles `parent`; how many mentions that was.
    fn pass_on(&mut self, parent: &BlobId) -> Result<usize, StoreError> {
        self.unsettled.remove(parent.as_bytes())?;
        let reach = self.reach_of(parent)?;
        let is_spread = reach.reasons > 0;
        if reach.is_spread == is_spread {
            return Err(StoreError::Inconsistent(format!("blob {parent} was to be settled and is")));
        }
        self.put_reach(parent, Reach { is_spread, ..reach })?;
        let mentions = self.mentions(parent)?;
        for child in &mentions {
            self.change_reasons(child, if is_spread { Change::More } else { Change::Fewer })?;
        }
        Ok(mentions.len())
    }

    pub(crate) fn change_reasons(&mut self, id: &BlobId, change: Change) -> Result<(), StoreError> {
        let mut reach = self.reach_of(id)?;
        let was_live = reach.reasons > 0;
        let wrong = || StoreError::Inconsistent(format!("the reasons of blob {id} cannot be counted; run `keepwell fsck`"));
        reach.reasons = change.of(reach.reasons).ok_or_else(wrong)?;
        let is_live = reach.reasons > 0;
        if was_live == is_live {
            if matches!(change, Change::Fewer) {
                self.note_doubt(id)?;
            }
            return self.put_reach(id, reach);
        }
        if reach.is_spread == is_live {
            self.unsettled.remove(id.as_bytes())?;
            if is_live {
                // Its children have not heard that it had no reason: what it was given may come from itself.
                self.note_doubt(id)?;
            }
        } else if self.facts_of(id)?.next().is_some() {
            self.unsettled.insert(id.as_bytes(), ())?;
        } else {
            reach.is_spread = is_live;
        }
        self.put_reach(id, reach)?;
        if is_live {
            self.reach.newly_live.push(*id);
            self.drop_unneeded(id)
        } else {
            self.number_if_unneeded(id)
        }
    }
}

impl Tables<Writing<'_>> {
    pub(crate) fn put_reach(&mut self, id: &BlobId, reach: Reach) -> Result<(), StoreError> {
        if reach == Reach::default() {
            self.reached.remove(id.as_bytes())?;
        } else {
            self.reached.insert(id.as_bytes(), (reach.reasons, reach.is_spread))?;
        }
        Ok(())
    }

    fn count_parent(&mut self, child: &BlobId, parent: &BlobId, change: Change) -> Result<(), StoreError> {
        let key = (child.as_bytes(), parent.as_bytes());
        let count = self.parents.get(key)?.map_or(0, |row| row.value());
        let wrong = || StoreError::Inconsistent(format!("the mentions of {child} by {parent} cannot be counted"));
        match change.of(count).ok_or_else(wrong)? {
            0 => drop(self.parents.remove(key)?),
            mentions => drop(self.parents.insert(key, mentions)?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
