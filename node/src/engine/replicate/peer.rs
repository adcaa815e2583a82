//! What is known of one connected member, and what to ask it for.

use std::collections::BTreeMap;

use keepwell_protocol::limits::MAX_WANTS;
use keepwell_protocol::log::admit::Missing;
use keepwell_protocol::log::exchange::Want;
use keepwell_protocol::log::vector::{Chain, Vector};

/// How far back the first question goes when it is not known where two chains part; each further one goes twice as far.
const FIRST_STEP_BACK: u64 = 16;
/// Stands for: everything has been asked for.
const ALL_THE_WAY: u64 = u64::MAX;

/// A connected member.
#[derive(Default)]
pub(super) struct Peer {
    /// Until when an answer to a pull is expected; no second pull is sent meanwhile.
    pub pulling_until_ms: Option<u64>,
    /// What it was last told that we have.
    pub told: Vector,
    /// What its entries build on and we lack.
    lacking: BTreeMap<Chain, Lack>,
    /// How far back to ask next in a chain that parts from ours somewhere.
    steps_back: BTreeMap<Chain, u64>,
    /// What was asked for and may not have come: how far we had come in a chain when we asked.
    asked: BTreeMap<Chain, u64>,
}

/// What is lacking of a chain.
#[derive(Default)]
struct Lack {
    /// Up to which position.
    up_to: u64,
    /// The last position that is not wanted, where it is not the last that we have.
    after: Option<u64>,
}

impl Peer {
    /// Notes that an entry of its builds on something that we lack, if not too much is lacking already: what is left out will show again.
    pub(super) fn lack(&mut self, missing: &Missing) {
        let is_new = !self.lacking.contains_key(&missing.chain);
        if is_new && self.lacking.len() + self.asked.len().max(self.steps_back.len()) >= MAX_WANTS {
            return;
        }
        let mut after = None;
        if missing.differs {
            let back = *self.steps_back.entry(missing.chain).or_insert(FIRST_STEP_BACK);
            if back == ALL_THE_WAY {
                return;
            }
            after = Some(missing.seq.0.saturating_sub(1).saturating_sub(back));
        }
        let lack = self.lacking.entry(missing.chain).or_default();
        lack.up_to = lack.up_to.max(missing.seq.0);
        lack.after = lack.after.into_iter().chain(after).min();
    }

    /// Whether an entry of its built on something that we lacked then.
    pub(super) fn may_lack(&self) -> bool {
        !self.lacking.is_empty()
    }

    /// Whether there is something to ask it for that its own word does not tell, having come as far as `mine`. What it was asked for and
    /// did not have is not asked for again before it has news.
    pub(super) fn is_lacking(&mut self, mine: &Vector) -> bool {
        let asked = &self.asked;
        self.lacking.retain(|chain, lack| {
            let known = mine.seq(chain);
            lack.after.is_some() || (known < lack.up_to && asked.get(chain) != Some(&known))
        });
        !self.lacking.is_empty()
    }

    /// What to pull, having come as far as `mine`: `news`, and what is lacking, each chain once.
    pub(super) fn wants(&mut self, news: Vec<Want>, mine: &Vector) -> Vec<Want> {
        let mut wanted: BTreeMap<Chain, u64> = news.into_iter().map(|want| (want.chain, want.after)).collect();
        self.is_lacking(mine);
        for (chain, lack) in std::mem::take(&mut self.lacking) {
            let after = lack.after.map_or(mine.seq(&chain), |after| after.min(mine.seq(&chain)));
            match self.steps_back.get_mut(&chain).filter(|_| lack.after.is_some()) {
                Some(back) => *back = if after == 0 { ALL_THE_WAY } else { back.saturating_mul(2) },
                None => drop(self.asked.insert(chain, after)),
            }
            wanted.entry(chain).and_modify(|known| *known = after.min(*known)).or_insert(after);
        }
        wanted.into_iter().map(|(chain, after)| Want { chain, after }).take(MAX_WANTS).collect()
    }

    /// It has news: what it could not help with before, it may now.
    pub(super) fn may_ask_again(&mut self) {
        self.steps_back.retain(|_, back| *back != ALL_THE_WAY);
        if self.steps_back.len() >= MAX_WANTS / 2 {
            self.steps_back.clear();
        }
        self.asked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepwell_protocol::id::{BootId, EntryHash, NodeId, Seq};
    use keepwell_protocol::log::vector::Head;

    const CHAIN: Chain = Chain { node: NodeId([1; 32]), boot: BootId([1; 16]) };

    fn having(seq: u64) -> Vector {
        Vector([(CHAIN, Head { seq: Seq(seq), hash: EntryHash([0; 32]) })].into())
    }

    fn missing(seq: u64, differs: bool) -> Missing {
        Missing { chain: CHAIN, seq: Seq(seq), differs }
    }

    fn asks(peer: &mut Peer, missing: Missing, mine: &Vector) -> Vec<u64> {
        peer.lack(&missing);
        peer.wants(vec![], mine).into_iter().map(|want| want.after).collect()
    }

    #[test]
    fn each_question_goes_twice_as_far_back_and_the_last_asks_for_all() {
        let mut peer = Peer::default();
        let after: Vec<u64> = (0..5).flat_map(|_| asks(&mut peer, missing(100, true), &having(100))).collect();
        assert_eq!(after, [83, 67, 35, 0]);
        peer.may_ask_again();
        assert_eq!(asks(&mut peer, missing(100, true), &having(100)), [83]);
    }

    #[test]
    fn what_is_lacking_is_asked_for_once_and_no_longer_when_it_has_come() {
        let mut peer = Peer::default();
        assert_eq!(asks(&mut peer, missing(9, false), &having(4)), [4]);
        assert!(peer.wants(vec![], &having(4)).is_empty());
        assert!(asks(&mut peer, missing(9, false), &having(9)).is_empty());
    }

    #[test]
    fn what_it_did_not_have_is_not_asked_for_again_before_it_has_news() {
        let mut peer = Peer::default();
        assert_eq!(asks(&mut peer, missing(9, false), &having(4)), [4]);
        peer.lack(&missing(9, false));
        assert!(!peer.is_lacking(&having(4)));
        assert_eq!(asks(&mut peer, missing(9, false), &having(6)), [6], "there is progress");
        peer.may_ask_again();
        assert_eq!(asks(&mut peer, missing(9, false), &having(6)), [6]);
    }

    #[test]
    fn what_is_lacking_is_remembered_up_to_max_wants() {
        let mut peer = Peer::default();
        for round in 0..3_u8 {
            for number in 0..=MAX_WANTS {
                let mut boot = [round; 16];
                boot[..8].copy_from_slice(&number.to_be_bytes());
                let chain = Chain { boot: BootId(boot), ..CHAIN };
                peer.lack(&Missing { chain, seq: Seq(9), differs: number % 2 == 0 });
            }
            assert!(peer.lacking.len() <= MAX_WANTS);
            peer.wants(vec![], &Vector::default());
            assert!(peer.asked.len().max(peer.steps_back.len()) <= MAX_WANTS);
        }
    }

    #[test]
    fn a_chain_is_asked_for_once_from_the_furthest_back() {
        let mut peer = Peer::default();
        peer.lack(&missing(30, true));
        let news = vec![Want { chain: CHAIN, after: 29 }];
        assert_eq!(peer.wants(news, &having(29)), [Want { chain: CHAIN, after: 13 }]);
    }
}
