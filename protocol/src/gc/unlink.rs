//! Ending link facts: what was purged everywhere needs none, and a catalog that kept them all would grow for ever.
//!
//! Life of an [`Unlinking`]: it begins as a sweep does, with what is applied here, for parents that no ref reaches and nobody holds; whatever
//! names, holds or unlinks one of them or a blob above them, here or by word of another, ends it; when the catalog has converged
//! the facts go that were known when it began. A value that somebody wrote meanwhile, without having heard of that, finds the facts gone
//! of a parent that it reaches only if its author does not hold the parent: a copy brings facts of its own with it, and who holds one
//! says them again when it hears that they ended. So a removal that should not have been is mended by whoever holds the parent
//! before anybody can have converged on what it left unreached.

use std::collections::BTreeSet;

use super::sweep::{Converged, PurgeFacts, Sweep};
use crate::id::{BlobId, ValueId};
use crate::log::vector::Vector;

/// Parents whose facts are to go, and what would keep them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unlinking {
    seen: Vector,
    parents: BTreeSet<BlobId>,
    above: BTreeSet<BlobId>,
}

/// What a decision to end the facts of one parent looks at, in the transaction that writes it.
#[derive(Debug, Clone, Copy)]
pub struct UnlinkFacts {
    /// What a purge of the parent would look at; pinned is what lies in the trash here, too.
    pub purge: PurgeFacts,
    /// Whether somebody holds it, as far as the catalog tells, or this node does.
    pub is_held: bool,
    /// Whether all of its facts were known when it began.
    pub were_known: bool,
}

impl Unlinking {
    /// Begins with what is applied here now, `seen`, for `parents`, all of which no ref reaches and nobody holds; nor what is `above` them,
    /// as the links go.
    pub fn begin(seen: Vector, parents: BTreeSet<BlobId>, above: BTreeSet<BlobId>) -> Unlinking {
        Unlinking { seen, parents, above }
    }

    /// What it is for.
    pub fn parents(&self) -> &BTreeSet<BlobId> {
        &self.parents
    }

    /// Whether what was named, held or unlinked, by whomever, ends it.
    pub fn is_ended_by(&self, blob: &BlobId) -> bool {
        self.parents.contains(blob) || self.above.contains(blob)
    }

    /// Whether what wrote the fact `id` was applied when it began.
    pub fn knew(&self, id: &ValueId) -> bool {
        self.seen.0.iter().any(|(chain, head)| chain.boot == id.boot && head.seq >= id.seq)
    }

    /// The sweep that has to converge.
    pub fn sweep(&self) -> Sweep {
        Sweep::begin(self.seen.clone())
    }
}

impl Converged<'_> {
    /// Whether the link facts of a parent may go now.
    pub fn unlinks(&self, facts: &UnlinkFacts) -> bool {
        facts.purge.missing().is_empty() && !facts.is_held && facts.were_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gc::question::Why;
    use crate::id::{BootId, EntryHash, NodeId, Seq};
    use crate::log::admit::Applied;
    use crate::log::branch::Branches;
    use crate::log::vector::{Chain, Head};

    /// A log in which nothing is.
    struct Empty;

    impl Applied for Empty {
        type Error = std::convert::Infallible;
        fn head_at(&self, _: &Chain, _: Seq) -> Result<Option<Head>, Self::Error> {
            Ok(None)
        }
        fn branches(&self, _: &NodeId) -> Result<Branches, Self::Error> {
            Ok(Branches::default())
        }
        fn forked_after(&self, _: &Chain, _: Seq, _: Option<&EntryHash>) -> Result<bool, Self::Error> {
            Ok(false)
        }
    }

    const GOOD: UnlinkFacts = UnlinkFacts {
        purge: PurgeFacts {
            refuses: None,
            is_settled: true,
            is_live: false,
            was_unreached: true,
            is_pinned: false,
            understands_all: true,
        },
        is_held: false,
        were_known: true,
    };

    #[test]
    fn facts_go_only_when_nothing_stands_in_the_way() {
        let unlinking = Unlinking::begin(Vector::default(), BTreeSet::new(), BTreeSet::new());
        let sweep = unlinking.sweep();
        let Ok(converged) = sweep.converged(&[], &Empty);
        let converged = converged.unwrap();
        assert!(converged.unlinks(&GOOD));
        let purge = GOOD.purge;
        for bad in [
            UnlinkFacts { is_held: true, ..GOOD },
            UnlinkFacts { were_known: false, ..GOOD },
            UnlinkFacts { purge: PurgeFacts { refuses: Some(Why::JustStarted), ..purge }, ..GOOD },
            UnlinkFacts { purge: PurgeFacts { is_settled: false, ..purge }, ..GOOD },
            UnlinkFacts { purge: PurgeFacts { is_live: true, ..purge }, ..GOOD },
            UnlinkFacts { purge: PurgeFacts { was_unreached: false, ..purge }, ..GOOD },
            UnlinkFacts { purge: PurgeFacts { is_pinned: true, ..purge }, ..GOOD },
            UnlinkFacts { purge: PurgeFacts { understands_all: false, ..purge }, ..GOOD },
        ] {
            assert!(!converged.unlinks(&bad), "{bad:?}");
        }
    }

    #[test]
    fn it_knew_what_the_chains_held_when_it_began() {
        let (boot, mut seen) = (BootId([3; 16]), Vector::default());
        seen.advance(Chain { node: NodeId([1; 32]), boot }, Head { seq: Seq(4), hash: EntryHash([0; 32]) });
        let unlinking = Unlinking::begin(seen, BTreeSet::new(), BTreeSet::new());
        let id = |boot, seq| ValueId { boot, seq: Seq(seq), index: 9 };
        assert_eq!([id(boot, 4), id(boot, 5), id(BootId([4; 16]), 1)].map(|id| unlinking.knew(&id)), [true, false, false]);
    }

    #[test]
    fn whatever_happens_to_a_parent_or_above_it_ends_it() {
        let [parent, above, other] = [1, 2, 3].map(|n| BlobId([n; 20]));
        let unlinking = Unlinking::begin(Vector::default(), [parent].into(), [above].into());
        assert_eq!([parent, above, other].map(|blob| unlinking.is_ended_by(&blob)), [true, true, false]);
        assert_eq!(unlinking.parents(), &BTreeSet::from([parent]));
    }
}
