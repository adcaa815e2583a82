//! The ingests that clients were given: only they are committed, and each once.

use std::collections::{BTreeSet, VecDeque};

use keepwell_store::ingest::IngestId;

use crate::limits::MAX_OPEN_INGESTS;

/// Ingests whose clients are still writing, or have gone.
///
/// Life of one: issued, then taken by its commit. Of too many the oldest is forgotten; the caller removes its file.
#[derive(Debug, Default)]
pub(super) struct OpenIngests {
    open: BTreeSet<IngestId>,
    order: VecDeque<IngestId>,
}

impl OpenIngests {
    /// Remembers a new ingest. The one that had to be forgotten for it, if any.
    pub(super) fn issue(&mut self, id: IngestId) -> Option<IngestId> {
        self.open.insert(id);
        self.order.push_back(id);
        // Those that were taken stand in the order until their turn comes, so that taking one costs no search.
        while self.order.front().is_some_and(|oldest| !self.open.contains(oldest)) {
            self.order.pop_front();
        }
        if self.open.len() <= MAX_OPEN_INGESTS {
            return None;
        }
        let oldest = self.order.pop_front()?;
        self.open.remove(&oldest);
        Some(oldest)
    }

    /// Whether it was issued and not yet taken; it is taken now.
    pub(super) fn take(&mut self, id: &IngestId) -> bool {
        self.open.remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> IngestId {
        IngestId((number as u128).to_be_bytes())
    }

    #[test]
    fn one_is_taken_once() {
        let mut open = OpenIngests::default();
        assert!(!open.take(&id(1)));
        open.issue(id(1));
        assert!(open.take(&id(1)));
        assert!(!open.take(&id(1)));
    }

    #[test]
    fn of_more_than_max_open_ingests_the_oldest_is_forgotten() {
        let mut open = OpenIngests::default();
        assert!((0..MAX_OPEN_INGESTS).all(|number| open.issue(id(number)).is_none()));
        assert!(open.take(&id(0)));
        assert_eq!(open.issue(id(MAX_OPEN_INGESTS)), None, "a place had become free");
        assert_eq!(open.issue(id(MAX_OPEN_INGESTS + 1)), Some(id(1)));
        assert!(!open.take(&id(1)));
        assert!(open.take(&id(2)));
    }
}
