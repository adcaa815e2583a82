//! Purging what nothing reaches: a sweep waits until the catalog has converged.
//!
//! Life of a sweep: it begins with what this node has applied when it finds blobs unreached; members acknowledge that they know as much;
//! when every one that is waited for has, and everything they had written by then is applied here, what was unreached all the while
//! may go. Acknowledgements are those of this run of the process: what was heard before a restart does not count.
//!
//! Waiting alone would not be safe: a member may write a ref after it has acknowledged. It holds a copy of its own then (R7).

use std::collections::BTreeMap;

use super::Missing;
use super::permit::{Ground, Permit};
use super::question::Why;
use crate::id::{BlobId, NodeId};
use crate::log::admit::Applied;
use crate::log::compare::includes;
use crate::log::exchange::Ack;
use crate::log::vector::Vector;

/// A sweep that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sweep {
    seen: Vector,
    acknowledged: BTreeMap<NodeId, Vector>,
}

/// The catalog has converged on what the sweep began with. Made and used within one transaction.
#[derive(Debug)]
pub struct Converged<'s> {
    sweep: &'s Sweep,
}

/// What a decision to purge looks at, in the deleting transaction.
#[derive(Debug, Clone, Copy)]
pub struct PurgeFacts {
    /// Why this node may delete nothing now, if so.
    pub refuses: Option<Why>,
    /// Whether all that reaches blobs has been computed.
    pub is_settled: bool,
    /// Whether a ref reaches it.
    pub is_live: bool,
    /// Whether it has been unreached ever since the sweep began.
    pub was_unreached: bool,
    /// Whether something here protects it: a lease, an ingest, a reader.
    pub is_pinned: bool,
    /// Whether all entries of kinds that protect are understood.
    pub understands_all: bool,
}

impl PurgeFacts {
    /// Everything that stands in the way of a purge, once the catalog has converged.
    pub fn missing(&self) -> Vec<Missing> {
        let checks = [
            (self.is_settled, Missing::Settled),
            (self.understands_all, Missing::Knowledge),
            (!self.is_live, Missing::Dead),
            (self.was_unreached, Missing::Sweep),
            (!self.is_pinned, Missing::Unpinned),
        ];
        let missing = checks.into_iter().filter(|(holds, _)| !holds).map(|(_, missing)| missing);
        self.refuses.map(Missing::Leave).into_iter().chain(missing).collect()
    }
}

impl Sweep {
    /// Begins with what is applied here now, `seen`.
    pub fn begin(seen: Vector) -> Sweep {
        Sweep { seen, acknowledged: BTreeMap::new() }
    }

    /// Takes the word of a member on how far it has come. Only its latest counts.
    pub fn hear(&mut self, ack: &Ack) {
        self.acknowledged.insert(ack.node, ack.persisted.clone());
    }

    /// Whether the catalog has converged: everybody in `waited_for` has acknowledged, and what they had by then is applied here.
    ///
    /// # Errors
    /// Those who have not, inside; outside, that of the log.
    pub fn converged<A: Applied>(&self, waited_for: &[NodeId], log: &A) -> Result<Result<Converged<'_>, Vec<Missing>>, A::Error> {
        let mut missing = Vec::new();
        for node in waited_for {
            let has = match self.acknowledged.get(node) {
                Some(persisted) => includes(log, persisted, &self.seen)?,
                None => false,
            };
            if !has {
                missing.push(Missing::Acknowledgement(*node));
            }
        }
        Ok(if missing.is_empty() { Ok(Converged { sweep: self }) } else { Err(missing) })
    }
}

impl Converged<'_> {
    /// What was applied here when the sweep began: what every other member has acknowledged.
    pub fn seen(&self) -> &Vector {
        &self.sweep.seen
    }

    /// Whether `blob` may go now.
    ///
    /// # Errors
    /// Everything that is missing.
    pub fn purge(&self, blob: &BlobId, facts: &PurgeFacts) -> Result<Permit, Vec<Missing>> {
        let missing = facts.missing();
        if missing.is_empty() { Ok(Permit::mint(*blob, Ground::Purge)) } else { Err(missing) }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::id::{BootId, EntryHash, NetworkId, Seq};
    use crate::log::branch::Branches;
    use crate::log::vector::{Chain, Head};

    const BLOB: BlobId = BlobId([1; 20]);
    const FACTS: PurgeFacts = PurgeFacts {
        refuses: None,
        is_settled: true,
        is_live: false,
        was_unreached: true,
        is_pinned: false,
        understands_all: true,
    };

    /// A log in which every node has one chain, and every chain has as many entries.
    struct Log(u64);

    impl Applied for Log {
        type Error = Infallible;
        fn head_at(&self, _: &Chain, seq: Seq) -> Result<Option<Head>, Infallible> {
            Ok((seq.0 <= self.0).then_some(head(seq.0)))
        }
        fn branches(&self, _: &NodeId) -> Result<Branches, Infallible> {
            Ok(Branches::default())
        }
        fn forked_after(&self, _: &Chain, _: Seq, _: Option<&EntryHash>) -> Result<bool, Infallible> {
            Ok(false)
        }
    }

    fn head(seq: u64) -> Head {
        Head { seq: Seq(seq), hash: EntryHash([u8::try_from(seq).unwrap(); 32]) }
    }

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn vector(seqs: &[(u8, u64)]) -> Vector {
        Vector(seqs.iter().map(|(n, seq)| (Chain { node: node(*n), boot: BootId([*n; 16]) }, head(*seq))).collect())
    }

    fn ack(of: u8, seqs: &[(u8, u64)]) -> Ack {
        Ack { network: NetworkId([9; 32]), node: node(of), boot: BootId([of; 16]), seq: 0, persisted: vector(seqs) }
    }

    fn missing(sweep: &Sweep, log: u64) -> Vec<Missing> {
        let outcome = sweep.converged(&[node(2), node(3)], &Log(log)).unwrap();
        outcome.err().unwrap_or_default()
    }

    #[test]
    fn it_converges_when_all_that_are_waited_for_know_as_much_and_we_know_what_they_knew() {
        let mut sweep = Sweep::begin(vector(&[(1, 3), (2, 2)]));
        assert_eq!(missing(&sweep, 9), [2, 3].map(|n| Missing::Acknowledgement(node(n))));
        sweep.hear(&ack(2, &[(1, 3), (2, 4)]));
        sweep.hear(&ack(3, &[(1, 2), (2, 2)]));
        assert_eq!(missing(&sweep, 9), [Missing::Acknowledgement(node(3))]);
        sweep.hear(&ack(3, &[(1, 3), (2, 2), (3, 1)]));
        assert_eq!(missing(&sweep, 3), [Missing::Acknowledgement(node(2))], "its entry 4 is not applied here");
        assert_eq!(missing(&sweep, 4), []);
    }

    #[test]
    fn with_nobody_to_wait_for_it_has_converged() {
        assert!(Sweep::begin(vector(&[(1, 3)])).converged(&[], &Log(9)).unwrap().is_ok());
    }

    #[test]
    fn everything_is_looked_at_anew_when_it_is_decided() {
        let sweep = Sweep::begin(Vector::default());
        let converged = sweep.converged(&[], &Log(9)).unwrap().unwrap();
        assert_eq!(converged.purge(&BLOB, &FACTS).unwrap().ground(), Ground::Purge);
        for (facts, missing) in [
            (PurgeFacts { refuses: Some(Why::RolledBack), ..FACTS }, Missing::Leave(Why::RolledBack)),
            (PurgeFacts { is_settled: false, ..FACTS }, Missing::Settled),
            (PurgeFacts { is_live: true, ..FACTS }, Missing::Dead),
            (PurgeFacts { was_unreached: false, ..FACTS }, Missing::Sweep),
            (PurgeFacts { is_pinned: true, ..FACTS }, Missing::Unpinned),
            (PurgeFacts { understands_all: false, ..FACTS }, Missing::Knowledge),
        ] {
            assert_eq!(converged.purge(&BLOB, &facts).unwrap_err(), [missing]);
        }
    }
}
