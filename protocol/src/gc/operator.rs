//! The last copy by command: an operator gives up this node's own copy, whether or not anybody proves another.
//!
//! What it does without is the word of others, and nothing else: what this node has promised to keep for a while stays, and so does what
//! it is just asking others about, since two ways to delete one copy are never under way at once.

use super::Missing;
use super::permit::{Ground, Permit};
use super::question::Why;
use crate::id::BlobId;

/// What the verdict looks at, in the deleting transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatorFacts {
    /// Why this node may delete nothing whoever wants it, if so.
    pub refuses: Option<Why>,
    /// Whether this node holds it.
    pub is_held: bool,
    /// Whether an attempt to give it up with proof is under way.
    pub is_flagged: bool,
    /// Whether a lease covers it here.
    pub is_pinned: bool,
    /// Whether the grace of a put or a fetch keeps it here.
    pub is_graced: bool,
}

/// Whether the copy of `blob` here may go because somebody who may wants it so.
///
/// # Errors
/// Everything that is in the way.
pub fn give_up(blob: BlobId, facts: OperatorFacts) -> Result<Permit, Vec<Missing>> {
    if !facts.is_held {
        return Err(vec![Missing::Copy]);
    }
    let checks =
        [(facts.is_flagged, Missing::Attempt), (facts.is_pinned, Missing::Unpinned), (facts.is_graced, Missing::GraceOver)];
    let mut missing: Vec<Missing> = facts.refuses.into_iter().map(Missing::Leave).collect();
    missing.extend(checks.into_iter().filter(|(is_in_the_way, _)| *is_in_the_way).map(|(_, what)| what));
    if missing.is_empty() { Ok(Permit::mint(blob, Ground::Operator)) } else { Err(missing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: BlobId = BlobId([1; 20]);
    const FREE: OperatorFacts =
        OperatorFacts { refuses: None, is_held: true, is_flagged: false, is_pinned: false, is_graced: false };

    #[test]
    fn an_operator_needs_nobodys_word_and_is_named_as_the_ground() {
        let permit = give_up(BLOB, FREE).unwrap();
        assert_eq!((permit.blob(), permit.ground()), (BLOB, Ground::Operator));
    }

    #[test]
    fn what_this_node_promised_is_in_an_operators_way_and_all_of_it_is_told() {
        let refused = |facts| give_up(BLOB, facts).unwrap_err();
        assert_eq!(refused(OperatorFacts { is_held: false, is_pinned: true, ..FREE }), [Missing::Copy]);
        assert_eq!(refused(OperatorFacts { is_flagged: true, ..FREE }), [Missing::Attempt]);
        let damaged = OperatorFacts { refuses: Some(Why::IndexDamaged), ..FREE };
        assert_eq!(refused(damaged), [Missing::Leave(Why::IndexDamaged)]);
        let both = OperatorFacts { is_pinned: true, is_graced: true, ..FREE };
        assert_eq!(refused(both), [Missing::Unpinned, Missing::GraceOver]);
    }
}
