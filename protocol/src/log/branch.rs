//! Branches: what becomes of a boot whose author signed two entries of one position.
//!
//! A node that was rolled back without noticing, or that lies, forks its boot. Nobody can say which branch is the right one, so every
//! node follows all of them: from the fork on, each branch is a chain of its own, named by its first entry ([`BootId::of_branch`]).
//! The part before the fork keeps the boot's name. A node gives these names as soon as it knows of the fork, and replays its log under
//! them; so what the log amounts to depends on the entries that are known alone, not on the order in which they came.
//!
//! An author that does not know of a fork names its boot as if there were none. Such a name means the branch that its causal past
//! contains: [`Branches::candidates`] are to be tried, and hashes tell.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use crate::id::{BootId, Seq};

/// Where a branch comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Branch {
    /// The boot that forked, as its author signs it.
    pub root: BootId,
    /// What it branches off: that boot, or another branch of it.
    pub parent: BootId,
    /// Its first position.
    pub first: Seq,
}

/// All branches of one node's boots that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Branches(pub BTreeMap<BootId, Branch>);

impl Branches {
    /// The boot that `boot` is a part of, as its author signs it.
    pub fn root(&self, boot: &BootId) -> BootId {
        self.0.get(boot).map_or(*boot, |branch| branch.root)
    }

    /// Every part of the boot that `boot` is a part of: the boot itself, then its branches in the order of their names.
    pub fn candidates(&self, boot: &BootId) -> impl Iterator<Item = BootId> {
        let root = self.root(boot);
        let branches = self.0.iter().filter(move |(_, branch)| branch.root == root).map(|(boot, _)| *boot);
        std::iter::once(root).chain(branches)
    }

    /// What comes before the first position of `boot`: the parts it branches off, nearest first, each with its last position there.
    pub fn ancestors(&self, boot: &BootId) -> Vec<(BootId, Seq)> {
        let (mut ancestors, mut at) = (Vec::new(), self.0.get(boot));
        while let Some(branch) = at.filter(|branch| branch.first > Seq::FIRST) {
            ancestors.push((branch.parent, Seq(branch.first.0 - 1)));
            at = self.0.get(&branch.parent);
        }
        ancestors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: BootId = BootId([1; 16]);
    const A: BootId = BootId([2; 16]);
    const B: BootId = BootId([3; 16]);
    const B1: BootId = BootId([4; 16]);

    /// The boot forked after 6; its branch B forked again after 8.
    fn forked_twice() -> Branches {
        let branch = |parent, first| Branch { root: ROOT, parent, first: Seq(first) };
        Branches([(A, branch(ROOT, 7)), (B, branch(ROOT, 7)), (B1, branch(B, 9))].into())
    }

    #[test]
    fn a_boot_without_forks_is_its_only_part() {
        let branches = Branches::default();
        assert_eq!(branches.candidates(&ROOT).collect::<Vec<_>>(), [ROOT]);
        assert_eq!((branches.root(&ROOT), branches.ancestors(&ROOT)), (ROOT, vec![]));
    }

    #[test]
    fn all_parts_of_a_boot_are_found_from_any_of_them() {
        for part in [ROOT, A, B, B1] {
            assert_eq!(forked_twice().candidates(&part).collect::<Vec<_>>(), [ROOT, A, B, B1]);
        }
    }

    #[test]
    fn a_branch_rests_on_all_it_branches_off() {
        assert_eq!(forked_twice().ancestors(&B1), [(B, Seq(8)), (ROOT, Seq(6))]);
        assert_eq!(forked_twice().ancestors(&A), [(ROOT, Seq(6))]);
        assert_eq!(forked_twice().ancestors(&ROOT), []);
    }

    #[test]
    fn a_boot_that_forked_at_its_first_entry_has_branches_that_rest_on_nothing() {
        let branches = Branches([(A, Branch { root: ROOT, parent: ROOT, first: Seq::FIRST })].into());
        assert_eq!(branches.ancestors(&A), []);
    }
}
