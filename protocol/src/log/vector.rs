//! How far each chain of entries is known: the highest position and the hash of the entry there.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use crate::id::{BootId, EntryHash, NodeId, Seq};

/// The chain of one writing life of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Chain {
    /// Who writes it.
    pub node: NodeId,
    /// In which boot.
    pub boot: BootId,
}

/// The last entry known of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Head {
    /// Its position.
    pub seq: Seq,
    /// Its hash: two vectors agree on a chain only if their hashes do.
    pub hash: EntryHash,
}

/// The heads of all chains that somebody has applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Vector(pub BTreeMap<Chain, Head>);

impl Vector {
    /// The head known of `chain`.
    pub fn head(&self, chain: &Chain) -> Option<&Head> {
        self.0.get(chain)
    }

    /// The position known of `chain`; 0 when nothing is known of it.
    pub fn seq(&self, chain: &Chain) -> u64 {
        self.head(chain).map_or(0, |head| head.seq.0)
    }

    /// Notes that `chain` is now known as far as `head`.
    pub fn advance(&mut self, chain: Chain, head: Head) {
        self.0.insert(chain, head);
    }

    /// The heads of `self` that are further than in `older`, in order.
    pub fn news_since(&self, older: &Vector) -> Vec<(Chain, Head)> {
        self.0.iter().filter(|(chain, head)| head.seq.0 > older.seq(chain)).map(|(c, h)| (*c, *h)).collect()
    }
}

/// What an entry's author had applied when it wrote: positions by boot, without hashes.
///
/// A boot id belongs to one node, so the boot alone names the chain. The past of a chain only grows; every claim that an entry makes about
/// earlier writes is judged against it, and so alike on every node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Past(pub BTreeMap<BootId, Seq>);

impl Past {
    /// Whether the entry at `seq` of `boot` is in this past.
    pub fn includes(&self, boot: &BootId, seq: Seq) -> bool {
        self.0.get(boot).is_some_and(|known| *known >= seq)
    }

    /// Adds the chain of `boot` up to `seq`, and never takes anything away.
    pub fn extend(&mut self, boot: BootId, seq: Seq) {
        let known = self.0.entry(boot).or_insert(seq);
        *known = (*known).max(seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(n: u8) -> Chain {
        Chain { node: NodeId([n; 32]), boot: BootId([n; 16]) }
    }

    fn head(seq: u64) -> Head {
        Head { seq: Seq(seq), hash: EntryHash([7; 32]) }
    }

    #[test]
    fn news_are_the_chains_that_went_on() {
        let mut old = Vector::default();
        old.advance(chain(1), head(3));
        old.advance(chain(2), head(5));
        let mut new = old.clone();
        new.advance(chain(2), head(6));
        new.advance(chain(3), head(1));
        assert_eq!(new.news_since(&old), vec![(chain(2), head(6)), (chain(3), head(1))]);
        assert!(old.news_since(&new).is_empty());
    }

    #[test]
    fn a_past_never_shrinks() {
        let mut past = Past::default();
        past.extend(BootId([1; 16]), Seq(4));
        past.extend(BootId([1; 16]), Seq(2));
        assert!(past.includes(&BootId([1; 16]), Seq(4)));
        assert!(!past.includes(&BootId([1; 16]), Seq(5)));
        assert!(!past.includes(&BootId([2; 16]), Seq(1)));
    }
}
