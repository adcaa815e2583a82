//! After a start (R11): nothing is deleted and no copy vouched for before this node has heard from the others.
//!
//! A node that starts may have been rolled back: its disk an old backup, its refs and its knowledge those of then. One exchange with
//! each member that it can reach shows that, before it can act on what is no longer true.

use std::collections::BTreeSet;

use super::question::Why;
use crate::id::NodeId;

/// Whom this node has heard from since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Start {
    exchanged: BTreeSet<NodeId>,
}

impl Start {
    /// Notes a whole exchange: a member has said how far it has come, and all of that is applied here.
    pub fn exchanged(&mut self, with: NodeId) {
        self.exchanged.insert(with);
    }

    /// Whether there has been one with `node`.
    pub fn has_exchanged(&self, node: &NodeId) -> bool {
        self.exchanged.contains(node)
    }

    /// Forgets all exchanges: this node was rolled back, and everything must be heard again.
    pub fn begin_again(&mut self) {
        self.exchanged.clear();
    }

    /// Why nobody may be vouched for, if so. `reachable` are the active members that can be talked to.
    pub fn refuses<'a>(&self, reachable: impl IntoIterator<Item = &'a NodeId>) -> Option<Why> {
        let all = reachable.into_iter().all(|node| self.exchanged.contains(node));
        (!all).then_some(Why::JustStarted)
    }

    /// Why nothing may be dropped, if so: every member that is waited for must have been heard, in reach or not.
    ///
    /// The design asks for those in reach alone, and a model shows that this loses the last copy: a node that was rolled back, and can
    /// reach only members that do not know of its loss either, gives its copy up on their honest word.
    pub fn refuses_to_drop(&self, waited_for: &[NodeId]) -> Option<Why> {
        self.refuses(waited_for)
    }

    /// As [`Start::refuses`], for purging: at least one exchange besides, unless nobody is left whom it could be with.
    pub fn refuses_to_purge<'a>(&self, reachable: impl IntoIterator<Item = &'a NodeId>, waited_for: &[NodeId]) -> Option<Why> {
        let none = !waited_for.is_empty() && self.exchanged.is_empty();
        self.refuses(reachable).or(none.then_some(Why::JustStarted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);

    #[test]
    fn everybody_in_reach_must_have_been_heard() {
        let mut start = Start::default();
        assert_eq!(start.refuses([&A, &B]), Some(Why::JustStarted));
        start.exchanged(A);
        assert_eq!(start.refuses([&A, &B]), Some(Why::JustStarted));
        start.exchanged(B);
        assert_eq!(start.refuses([&A, &B]), None);
        start.begin_again();
        assert_eq!(start.refuses([&A]), Some(Why::JustStarted));
    }

    #[test]
    fn nothing_is_dropped_while_somebody_has_not_been_heard_in_reach_or_not() {
        let mut start = Start::default();
        start.exchanged(A);
        assert_eq!((start.refuses([&A]), start.refuses_to_drop(&[A, B])), (None, Some(Why::JustStarted)));
        start.exchanged(B);
        assert_eq!(start.refuses_to_drop(&[A, B]), None);
    }

    #[test]
    fn alone_nothing_is_purged_while_others_are_waited_for() {
        let mut start = Start::default();
        assert_eq!(start.refuses_to_purge([], &[A]), Some(Why::JustStarted));
        assert_eq!(start.refuses_to_purge([], &[]), None, "a network of one, or of dead and absent ones");
        start.exchanged(B);
        assert_eq!(start.refuses_to_purge([], &[A]), None);
    }
}
