//! Comparing how far two nodes have come: whether one has applied whatever the other had.
//!
//! Numbers alone do not tell: a node that was rolled back may have another entry at the same position. Every head is looked up in the log
//! by its hash, and since entries are chained by hash, whoever has the entry has all before it.

use super::admit::{Applied, known_as};
use super::vector::{Chain, Vector};
use crate::id::Seq;

/// Whether everything in `vector`, which another node said of itself, is applied here.
pub fn contains<A: Applied>(log: &A, vector: &Vector) -> Result<bool, A::Error> {
    for (chain, head) in &vector.0 {
        if known_as(log, chain, head)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a node that has applied `theirs` has applied everything in `ours`, which is our own vector of now or earlier.
///
/// What `theirs` names and we have not applied tells nothing about our chains; so the answer is no until we have, and asking again
/// later may give yes.
pub fn includes<A: Applied>(log: &A, theirs: &Vector, ours: &Vector) -> Result<bool, A::Error> {
    if !contains(log, theirs)? {
        return Ok(false);
    }
    let theirs = by_names_here(log, theirs)?;
    Ok(ours.0.iter().all(|(chain, head)| theirs.seq(chain) >= head.seq.0))
}

/// `vector`, which another node said of itself, by the names that its chains have here.
pub fn by_names_here<A: Applied>(log: &A, vector: &Vector) -> Result<Vector, A::Error> {
    let mut named = Vector::default();
    for (chain, head) in &vector.0 {
        let branches = log.branches(&chain.node)?;
        let Some(boot) = known_as(log, chain, head)? else {
            named.advance(*chain, *head);
            continue;
        };
        let parts = std::iter::once((boot, head.seq)).chain(branches.ancestors(&boot));
        for (boot, seq) in parts {
            advance(log, &mut named, Chain { boot, ..*chain }, seq)?;
        }
    }
    Ok(named)
}

fn advance<A: Applied>(log: &A, named: &mut Vector, chain: Chain, seq: Seq) -> Result<(), A::Error> {
    if let Some(head) = log.head_at(&chain, seq)?.filter(|head| head.seq.0 > named.seq(&chain)) {
        named.advance(chain, head);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;
    use crate::id::{BootId, EntryHash, NodeId};
    use crate::log::branch::{Branch, Branches};
    use crate::log::vector::Head;

    const ONE: Chain = Chain { node: NodeId([1; 32]), boot: BootId([1; 16]) };
    const TWO: Chain = Chain { node: NodeId([2; 32]), boot: BootId([2; 16]) };

    /// A log by its positions; the hash of an entry is that of its chain's tag and position.
    #[derive(Default)]
    struct Log {
        heads: BTreeMap<(Chain, Seq), Head>,
        branches: Branches,
    }

    impl Applied for Log {
        type Error = Infallible;
        fn head_at(&self, chain: &Chain, seq: Seq) -> Result<Option<Head>, Infallible> {
            Ok(self.heads.get(&(*chain, seq)).copied())
        }
        fn branches(&self, node: &NodeId) -> Result<Branches, Infallible> {
            Ok(if *node == ONE.node { self.branches.clone() } else { Branches::default() })
        }
        fn forked_after(&self, _: &Chain, _: Seq, _: Option<&EntryHash>) -> Result<bool, Infallible> {
            Ok(false)
        }
    }

    fn head(tag: u8, seq: u64) -> Head {
        Head { seq: Seq(seq), hash: EntryHash([tag.wrapping_mul(16).wrapping_add(u8::try_from(seq).unwrap()); 32]) }
    }

    fn vector(heads: &[(Chain, u8, u64)]) -> Vector {
        Vector(heads.iter().map(|(chain, tag, seq)| (*chain, head(*tag, *seq))).collect())
    }

    fn log(chains: &[(Chain, u8, u64)]) -> Log {
        let entries = chains.iter().flat_map(|(chain, tag, last)| (1..=*last).map(|seq| ((*chain, Seq(seq)), head(*tag, seq))));
        Log { heads: entries.collect(), ..Log::default() }
    }

    #[test]
    fn who_has_come_as_far_includes_us_and_who_is_behind_does_not() {
        let log = log(&[(ONE, 1, 4), (TWO, 2, 3)]);
        let ours = vector(&[(ONE, 1, 4), (TWO, 2, 2)]);
        assert_eq!(includes(&log, &vector(&[(ONE, 1, 4), (TWO, 2, 3)]), &ours), Ok(true));
        assert_eq!(includes(&log, &vector(&[(ONE, 1, 3), (TWO, 2, 3)]), &ours), Ok(false));
        assert_eq!(includes(&log, &vector(&[(ONE, 1, 4)]), &ours), Ok(false));
    }

    #[test]
    fn the_same_number_with_another_hash_includes_nothing() {
        let log = log(&[(ONE, 1, 4)]);
        assert_eq!(includes(&log, &vector(&[(ONE, 9, 4)]), &vector(&[(ONE, 1, 4)])), Ok(false));
        assert_eq!(includes(&log, &vector(&[(ONE, 9, 7)]), &vector(&[(ONE, 1, 4)])), Ok(false));
    }

    #[test]
    fn what_we_have_not_applied_ourselves_tells_nothing() {
        let log = log(&[(ONE, 1, 4)]);
        assert_eq!(contains(&log, &vector(&[(ONE, 1, 5)])), Ok(false));
        assert_eq!(includes(&log, &vector(&[(ONE, 1, 5)]), &vector(&[(ONE, 1, 4)])), Ok(false));
    }

    #[test]
    fn a_branch_that_its_author_names_as_the_boot_is_found_by_its_hash() {
        let branch = Chain { boot: BootId([7; 16]), ..ONE };
        let mut log = log(&[(ONE, 1, 2)]);
        log.branches.0.insert(branch.boot, Branch { root: ONE.boot, parent: ONE.boot, first: Seq(3) });
        log.heads.insert((branch, Seq(3)), head(7, 3));
        let theirs = vector(&[(ONE, 7, 3)]);
        assert_eq!(includes(&log, &theirs, &vector(&[(ONE, 1, 2), (branch, 7, 3)])), Ok(true));
    }
}
