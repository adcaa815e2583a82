//! Removing a member: which of its entries still count.
//!
//! A removal names, for each part of each boot of the member, the last entry that counts: its *cut*. An entry past the cut is void wherever
//! and whenever it is heard, unless its author knew of the removal when it wrote it: then whether it may write is judged by its causal past,
//! as for everybody, and that says no until it is taken in again.
//!
//! Two removals that did not know of each other add up to the greater cut in each part, since more that counts protects more. A later one,
//! of a member that had been taken in again, gives nothing back that an earlier one has cut.
//!
//! Which removals are *in force* cannot be a matter of the causal past alone: two admins may remove each other. They are judged one after
//! the other ([`Removal::goes_before`]): those of the network's creator first, then by how long their authors have been members; and one
//! whose own entry is void by those in force before it is void itself.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use crate::id::{BootId, NodeId, Seq, ValueId};
use crate::log::admit::meant_by;
use crate::log::branch::Branches;
use crate::log::vector::Past;

/// The body of the item that says that a member was removed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RemovalBody {
    /// When, by the clock of the admin's machine, in Unix milliseconds: told to users, never a ground for anything.
    pub removed_ms: u64,
    /// The last position that counts in each part of the member's boots, by the names that these have for the admin. A boot that is not
    /// named is cut before its first entry.
    pub cuts: Vec<(BootId, Seq)>,
}

/// The last positions that count, by the names that the parts of boots have here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Cut(pub BTreeMap<BootId, Seq>);

impl Cut {
    /// The cut that an author with this past means; none if it names what its author had not seen.
    pub fn of(body: &RemovalBody, past: &Past, branches: &Branches) -> Option<Cut> {
        let mut cut = Cut::default();
        for (boot, seq) in &body.cuts {
            let part = meant_by(past, branches, boot, *seq)?;
            // What a branch rests on counts with it.
            for (part, seq) in std::iter::once((part, *seq)).chain(branches.ancestors(&part)) {
                let last = cut.0.entry(part).or_insert(seq);
                *last = seq.max(*last);
            }
        }
        Some(cut)
    }

    /// Whether the entry at `seq` of `boot` still counts.
    pub fn leaves(&self, boot: &BootId, seq: Seq) -> bool {
        self.0.get(boot).is_some_and(|last| seq <= *last)
    }
}

/// A removal that its author could write, as far as its causal past tells.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Removal {
    /// The write that says so.
    pub id: ValueId,
    /// Who says so.
    pub author: NodeId,
    /// How many entries were known to whoever first took its author in; 0 for the network's creator.
    pub admitted: u64,
    /// What still counts of the member.
    pub cut: Cut,
    /// The earlier removals of the same member that its author knew of.
    pub knows: Vec<ValueId>,
}

impl Removal {
    /// Whether it is judged before `other`: its author has been a member for longer. Of two admissions that did not know of each other,
    /// the one comes first whose author knew of fewer entries.
    pub fn goes_before(&self, other: &Removal) -> bool {
        (self.admitted, self.author, self.id) < (other.admitted, other.author, other.id)
    }
}

/// Whether the entry at `seq` of `boot`, whose author had this past, is void by these removals of its author that are in force.
pub fn is_cut(in_force: &[Removal], past: &Past, boot: &BootId, seq: Seq) -> bool {
    let unknown: Vec<&Removal> = in_force.iter().filter(|removal| !past.includes(&removal.id.boot, removal.id.seq)).collect();
    let gives_back = |by: &Removal, cut: &Removal| by.cut.leaves(boot, seq) && !by.knows.contains(&cut.id);
    let is_void_by =
        |removal: &Removal| !removal.cut.leaves(boot, seq) && !unknown.iter().any(|other| gives_back(other, removal));
    unknown.iter().any(|removal| is_void_by(removal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::branch::Branch;
    use crate::wire;

    const BOOT: BootId = BootId([1; 16]);
    const OTHER: BootId = BootId([2; 16]);
    const ADMIN: BootId = BootId([9; 16]);

    fn cut(parts: &[(BootId, u64)]) -> Cut {
        Cut(parts.iter().map(|(boot, seq)| (*boot, Seq(*seq))).collect())
    }

    fn past(parts: &[(BootId, u64)]) -> Past {
        Past(cut(parts).0)
    }

    fn removal(seq: u64, parts: &[(BootId, u64)], knows: &[&Removal]) -> Removal {
        let id = ValueId { boot: ADMIN, seq: Seq(seq), index: 0 };
        Removal { id, author: NodeId([9; 32]), admitted: 0, cut: cut(parts), knows: knows.iter().map(|known| known.id).collect() }
    }

    fn void(in_force: &[&Removal], known: u64, boot: BootId) -> Vec<u64> {
        let in_force: Vec<Removal> = in_force.iter().map(|removal| (*removal).clone()).collect();
        (1..=9).filter(|seq| is_cut(&in_force, &past(&[(ADMIN, known)]), &boot, Seq(*seq))).collect()
    }

    #[test]
    fn what_lies_past_the_cut_is_void_and_a_boot_that_is_not_named_is_so_from_its_first_entry() {
        let one = removal(1, &[(BOOT, 7)], &[]);
        assert_eq!(void(&[], 0, BOOT), [0; 0]);
        assert_eq!(void(&[&one], 0, BOOT), [8, 9]);
        assert_eq!(void(&[&one], 0, OTHER), (1..=9).collect::<Vec<_>>());
    }

    #[test]
    fn of_two_removals_that_did_not_know_of_each_other_the_greater_cut_counts_in_each_boot() {
        let (one, two) = (removal(1, &[(BOOT, 7)], &[]), removal(2, &[(BOOT, 3), (OTHER, 8)], &[]));
        assert_eq!((void(&[&one, &two], 0, BOOT), void(&[&one, &two], 0, OTHER)), (vec![8, 9], vec![9]));
    }

    #[test]
    fn who_knew_of_its_removal_is_judged_by_its_past_alone() {
        let one = removal(1, &[(BOOT, 3)], &[]);
        assert_eq!(void(&[&one], 1, OTHER), [0; 0]);
    }

    #[test]
    fn a_later_removal_gives_nothing_back_that_an_earlier_one_has_cut() {
        let one = removal(1, &[(BOOT, 3)], &[]);
        let later = removal(5, &[(BOOT, 8)], &[&one]);
        // The entries from 4 to 6 were written before the member knew of the first removal, and those after that under a new invitation.
        assert_eq!(void(&[&one, &later], 0, BOOT), (4..=9).collect::<Vec<_>>());
        assert_eq!(void(&[&one, &later], 1, BOOT), [9]);
    }

    #[test]
    fn a_cut_is_taken_by_the_names_that_its_authors_past_means_and_must_lie_in_it() {
        let body = |cuts: &[(BootId, u64)]| RemovalBody {
            removed_ms: 5,
            cuts: cuts.iter().map(|(boot, seq)| (*boot, Seq(*seq))).collect(),
        };
        let none = Branches::default();
        assert_eq!(Cut::of(&body(&[(BOOT, 7)]), &past(&[(BOOT, 7)]), &none), Some(cut(&[(BOOT, 7)])));
        assert_eq!(Cut::of(&body(&[(BOOT, 8)]), &past(&[(BOOT, 7)]), &none), None);
        // The boot is known to have forked after 4: its author has seen one of the branches, and named the boot as if it were whole.
        let branch = Branch { root: BOOT, parent: BOOT, first: Seq(5) };
        let (left, right) = (BootId([4; 16]), BootId([5; 16]));
        let forked = Branches([(left, branch), (right, branch)].into());
        let seen = past(&[(BOOT, 4), (right, 7)]);
        assert_eq!(Cut::of(&body(&[(BOOT, 7)]), &seen, &forked), Some(cut(&[(BOOT, 4), (right, 7)])));
    }

    #[test]
    fn the_creators_removals_go_first_then_those_of_the_oldest_members() {
        let by = |admitted, author: u8, seq| {
            let removal = removal(seq, &[], &[]);
            Removal { admitted, author: NodeId([author; 32]), ..removal }
        };
        let mut removals = [by(7, 1, 1), by(5, 2, 1), by(5, 1, 2), by(5, 1, 1), by(0, 3, 9)];
        removals.sort_by(|a, b| if a.goes_before(b) { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater });
        let order: Vec<(u64, u8, u64)> =
            removals.iter().map(|removal| (removal.admitted, removal.author.0[0], removal.id.seq.0)).collect();
        assert_eq!(order, [(0, 3, 9), (5, 1, 1), (5, 1, 2), (5, 2, 1), (7, 1, 1)]);
    }

    #[test]
    fn the_bytes_of_a_removal_never_change() {
        // Golden bytes: a change of them breaks networks in the field.
        let body = RemovalBody { removed_ms: 5, cuts: vec![(BOOT, Seq(7))] };
        assert_eq!(data_encoding::HEXLOWER.encode(&wire::encode(&body)), format!("010501{}07", "01".repeat(16)));
    }
}
