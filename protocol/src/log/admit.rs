//! What to do with an entry whose signature is good: apply it now, wait, ignore it, or prove that its author forked.

use super::entry::Entry;
use super::vector::{Chain, Head, Vector};
use crate::id::Seq;

/// The verdict on an entry that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It is next in its chain and everything it builds on is applied.
    Apply,
    /// It was applied before.
    Known,
    /// It builds on entries not applied here yet: up to these positions.
    Wait(Vec<(Chain, Seq)>),
    /// Its author signed another entry at this position, or it continues such a one.
    Fork {
        /// The first position at which the two chains are known to differ.
        seq: Seq,
    },
    /// It builds on an entry of another chain that this node knows to be on the other branch of a fork.
    ForkedPast(Chain),
}

/// Judges `entry` against what is applied here. `stored` is the hash of the applied entry at a position, if there is one.
pub fn admit<E>(
    entry: &Entry,
    applied: &Vector,
    mut stored: impl FnMut(&Chain, Seq) -> Result<Option<Head>, E>,
) -> Result<Admission, E> {
    let Head { seq, hash } = entry.head;
    let known = applied.seq(&entry.chain);
    if seq.0 <= known {
        let same = stored(&entry.chain, seq)?.is_some_and(|head| head.hash == hash);
        return Ok(if same { Admission::Known } else { Admission::Fork { seq } });
    }
    if seq.0 == known + 1 && entry.prev_hash != applied.head(&entry.chain).map(|head| head.hash) {
        return Ok(Admission::Fork { seq: Seq(known) });
    }
    let mut missing = Vec::new();
    if seq.0 > known + 1 {
        missing.push((entry.chain, Seq(seq.0 - 1)));
    }
    for (chain, dep) in &entry.deps {
        if dep.seq.0 > applied.seq(chain) {
            missing.push((*chain, dep.seq));
        } else if stored(chain, dep.seq)?.is_none_or(|head| head.hash != dep.hash) {
            return Ok(Admission::ForkedPast(*chain));
        }
    }
    Ok(if missing.is_empty() { Admission::Apply } else { Admission::Wait(missing) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{BootId, EntryHash, NodeId};
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    fn chain(n: u8) -> Chain {
        Chain { node: NodeId([n; 32]), boot: BootId([n; 16]) }
    }

    fn head(seq: u64, hash: u8) -> Head {
        Head { seq: Seq(seq), hash: EntryHash([hash; 32]) }
    }

    fn entry(head: Head, prev: Option<u8>, deps: Vec<(Chain, Head)>) -> Entry {
        Entry { chain: chain(1), head, prev_hash: prev.map(|p| EntryHash([p; 32])), deps, ops: vec![] }
    }

    /// Chain 1 applied up to 2 (hashes 11, 12); chain 2 up to 1 (hash 21).
    fn judge(entry: &Entry) -> Admission {
        let stored: BTreeMap<_, _> = [(1, 1, 11), (1, 2, 12), (2, 1, 21)]
            .into_iter()
            .map(|(c, seq, hash)| ((chain(c), Seq(seq)), head(seq, hash)))
            .collect();
        let mut applied = Vector::default();
        for ((chain, _), head) in &stored {
            applied.advance(*chain, *head);
        }
        admit(entry, &applied, |chain, seq| Ok::<_, Infallible>(stored.get(&(*chain, seq)).copied())).unwrap()
    }

    #[test]
    fn the_next_entry_of_a_chain_is_applied_once() {
        assert_eq!(judge(&entry(head(3, 13), Some(12), vec![(chain(2), head(1, 21))])), Admission::Apply);
        assert_eq!(judge(&entry(head(2, 12), Some(11), vec![])), Admission::Known);
    }

    #[test]
    fn a_gap_and_an_unknown_dependency_are_waited_for() {
        assert_eq!(judge(&entry(head(5, 15), Some(14), vec![])), Admission::Wait(vec![(chain(1), Seq(4))]));
        let ahead = entry(head(3, 13), Some(12), vec![(chain(2), head(4, 24))]);
        assert_eq!(judge(&ahead), Admission::Wait(vec![(chain(2), Seq(4))]));
    }

    #[test]
    fn two_entries_at_one_position_are_a_fork() {
        assert_eq!(judge(&entry(head(2, 99), Some(11), vec![])), Admission::Fork { seq: Seq(2) });
        assert_eq!(judge(&entry(head(3, 13), Some(99), vec![])), Admission::Fork { seq: Seq(2) });
    }

    #[test]
    fn a_dependency_on_the_other_branch_of_a_fork_is_told_apart() {
        let entry = entry(head(3, 13), Some(12), vec![(chain(2), head(1, 99))]);
        assert_eq!(judge(&entry), Admission::ForkedPast(chain(2)));
    }
}
