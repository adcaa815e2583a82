//! Cycles of declared links: found when they may have lost what they hung on, and ended.
//!
//! A blob on a cycle gives itself a reason, over the links that lead back to it. So whenever a blob loses a reason and keeps others (or
//! is given one before it has passed on that it had none), and has links to and from it, it is *doubtful*: it may be kept by itself alone. A walk upwards over the links tells, and rests on no count.
//! If no ref names it, nor any blob above it, all of these have only each other for a reason: they are cut from their children at once,
//! each loses its last reason by that, and what hangs on them is settled like everything else.

use std::collections::BTreeSet;

use keepwell_protocol::id::BlobId;
use redb::ReadableTableMetadata;

use crate::error::StoreError;
use crate::limits::MAX_CYCLE_BLOBS;
use crate::reach::{Change, Reach};
use crate::store::Transaction;
use crate::tables::{Access, Tables};

impl<A: Access> Tables<A> {
    /// Whether some blob may be kept by a cycle alone.
    pub fn has_doubtful(&self) -> Result<bool, StoreError> {
        Ok(!self.doubtful.is_empty()?)
    }

    /// The blobs from which links lead to `id`, and itself. None if a ref names one of them, or if there are more than
    /// [`MAX_CYCLE_BLOBS`].
    fn unnamed_above(&self, id: &BlobId) -> Result<Option<BTreeSet<BlobId>>, StoreError> {
        let (mut above, mut due) = (BTreeSet::from([*id]), vec![*id]);
        while let Some(at) = due.pop() {
            if self.is_named(&at)? || above.len() > MAX_CYCLE_BLOBS {
                return Ok(None);
            }
            due.extend(self.parents(&at)?.into_iter().filter(|parent| above.insert(*parent)));
        }
        Ok(Some(above))
    }
}

impl Transaction<'_> {
    /// Looks at so many doubtful blobs, and ends the cycles that keep them. Everything must be settled; until it is, nothing happens.
    ///
    /// A cycle with more than [`MAX_CYCLE_BLOBS`] above it stays, until `fsck` counts anew.
    pub fn end_cycles(&mut self, limit: usize) -> Result<(), StoreError> {
        for _ in 0..limit {
            if !self.is_settled()? {
                break;
            }
            let Some(id) = self.doubtful.pop_first()?.map(|(id, _)| BlobId::from(*id.value())) else { break };
            if self.reasons(&id)? == 0 {
                continue;
            }
            if let Some(above) = self.unnamed_above(&id)? {
                self.cut(&above)?;
            }
        }
        Ok(())
    }

    /// Notes that the reasons of a blob may come from itself. One without links to it or from it is on no cycle.
    pub(crate) fn note_doubt(&mut self, id: &BlobId) -> Result<(), StoreError> {
        if self.has_parent(id)? && self.facts_of(id)?.next().is_some() {
            self.doubtful.insert(id.as_bytes(), ())?;
        }
        Ok(())
    }

    /// Ends what blobs give each other reasons, of which no ref names one, and to which nothing links but they themselves.
    fn cut(&mut self, blobs: &BTreeSet<BlobId>) -> Result<(), StoreError> {
        let mut given = Vec::new();
        for id in blobs {
            let reach = self.reach_of(id)?;
            if reach.is_spread {
                self.put_reach(id, Reach { is_spread: false, ..reach })?;
                given.extend(self.mentions(id)?);
            }
        }
        // What else hangs on them is settled in portions, as ever.
        given.iter().try_for_each(|child| self.change_reasons(child, Change::Fewer))
    }
}

#[cfg(test)]
mod tests;
