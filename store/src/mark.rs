//! The mark: what the refs reach, walked from scratch, held against what was counted on the way.
//!
//! It reads every ref and every fact behind one, and holds a row in memory for each blob that it reaches; so it is for a check now and
//! then. It is a check of `reach`, not its replacement: neither side of a difference is ground for deleting anything.

use std::collections::HashMap;

use keepwell_protocol::id::BlobId;

use crate::error::StoreError;
use crate::store::Transaction;
use crate::tables::{Access, Tables};

/// What a mark has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    /// How many blobs the refs reach.
    pub reached_count: u64,
    /// Blobs that are counted as live and are not: cycles of declared links and what hangs on them. They are kept until a recount.
    pub unreached: Vec<BlobId>,
    /// Blobs that have fewer reasons counted than there are, and could be taken for dead too early: a fault.
    pub undercounted: Vec<BlobId>,
}

impl<A: Access> Tables<A> {
    /// Walks from the refs over all facts, and compares. None when something is unsettled: then the counts are not meant to be right.
    pub fn mark(&self) -> Result<Option<Mark>, StoreError> {
        if !self.is_settled()? {
            return Ok(None);
        }
        let found = self.walk()?;
        let mut mark = Mark { reached_count: found.len() as u64, ..Mark::default() };
        self.visit_live(|id| mark.unreached.extend((!found.contains_key(&id)).then_some(id)))?;
        for (id, reasons) in found {
            if u64::from(self.reasons(&id)?) < reasons {
                mark.undercounted.push(id);
            }
        }
        mark.undercounted.sort_unstable();
        Ok(Some(mark))
    }

    /// Every blob that is reached, with the reasons that it has.
    fn walk(&self) -> Result<HashMap<BlobId, u64>, StoreError> {
        let (mut found, mut open) = (HashMap::new(), Vec::new());
        let mut give = |id: BlobId, more: u64, open: &mut Vec<BlobId>| {
            let reasons = found.entry(id).or_insert(0);
            if *reasons == 0 {
                open.push(id);
            }
            *reasons += more;
        };
        for (id, values) in self.all_ref_links()? {
            give(id, values.into(), &mut open);
        }
        while let Some(parent) = open.pop() {
            for child in self.mentions(&parent)? {
                give(child, 1, &mut open);
            }
        }
        Ok(found)
    }
}

impl Transaction<'_> {
    /// Settles everything, and tells whether no blob has fewer reasons counted than there are. After a no, a recount must follow.
    pub fn settles_rightly(&mut self) -> Result<bool, StoreError> {
        match self.settle(usize::MAX) {
            Ok(_) => Ok(self.mark()?.is_some_and(|mark| mark.undercounted.is_empty())),
            Err(StoreError::Inconsistent(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }
}

#[cfg(test)]
mod tests;
