//! What is counted as live is what the refs reach, in whatever order refs and facts come and however little is settled at a time.

use std::collections::BTreeSet;

use keepwell_protocol::id::{BootId, Seq, ValueId};
use keepwell_protocol::log::op::LinkFact;

use super::*;
use crate::testing::{TestHome, fact};

fn blob(n: u8) -> BlobId {
    fact(n).sha1
}

/// Says that `parent` links to `children`, under the id number `seq`.
fn say(txn: &mut Transaction<'_>, seq: u64, parent: u8, children: &[u8]) -> Result<(), StoreError> {
    let id = ValueId { boot: BootId([1; 16]), seq: Seq(seq), index: 0 };
    txn.put_link_fact(&id, &LinkFact { parent: blob(parent), children: children.iter().map(|n| fact(*n)).collect() })
}

fn live<A: Access>(tables: &Tables<A>) -> BTreeSet<BlobId> {
    let mut live = Vec::new();
    tables.visit_live(|id| live.push(id)).unwrap();
    live.into_iter().collect()
}

fn live_in(home: &TestHome) -> Vec<u8> {
    assert!(home.snapshot().is_settled().unwrap());
    live(&home.snapshot()).iter().map(|id| id.as_bytes()[0]).collect()
}

/// A home with the chain 1 → 2 → 3 and 1 → 3, of which nothing is live.
fn chain() -> TestHome {
    let home = TestHome::new();
    home.write(|txn| {
        say(txn, 1, 1, &[2, 3])?;
        say(txn, 2, 2, &[3])
    });
    home
}

#[test]
fn a_ref_makes_live_what_it_reaches_and_nothing_else() {
    let home = chain();
    assert_eq!(live_in(&home), [0; 0], "a fact alone keeps nothing");
    home.write(|txn| txn.add_ref_link(&blob(2), "lab/a"));
    assert!(home.write(|txn| txn.settle(9)));
    assert_eq!(live_in(&home), [2, 3]);
    home.write(|txn| txn.remove_ref_link(&blob(2), "lab/a"));
    assert!(home.write(|txn| txn.settle(9)));
    assert_eq!(live_in(&home), [0; 0]);
    assert!(home.snapshot().reached.is_empty().unwrap(), "a blob without a reason has no row");
}

#[test]
fn a_blob_stays_live_until_its_last_reason_goes() {
    let home = chain();
    home.write(|txn| {
        txn.add_ref_link(&blob(1), "lab/a")?;
        txn.add_ref_link(&blob(2), "lab/b")?;
        txn.add_ref_link(&blob(2), "lab/b")?;
        txn.settle(9)
    });
    home.write(|txn| {
        txn.remove_ref_link(&blob(1), "lab/a")?;
        txn.remove_ref_link(&blob(2), "lab/b")?;
        txn.settle(9)
    });
    assert_eq!(live_in(&home), [2, 3]);
}

#[test]
fn a_budget_ends_between_parents_and_the_rest_is_settled_later() {
    let home = chain();
    home.write(|txn| txn.add_ref_link(&blob(1), "lab/a"));
    assert!(!home.snapshot().is_settled().unwrap());
    assert!(!home.write(|txn| txn.settle(0)));
    assert!(!home.write(|txn| txn.settle(1)), "the two mentions of 1 are counted, the one of 2 is not");
    assert!(home.snapshot().is_live(&blob(3)).unwrap());
    assert!(home.write(|txn| txn.settle(1)));
    assert_eq!(home.snapshot().reach_of(&blob(3)).unwrap(), Reach { reasons: 2, is_spread: true });
}

#[test]
fn a_blob_without_children_is_settled_at_once() {
    let home = TestHome::new();
    home.write(|txn| txn.add_ref_link(&blob(1), "lab/a"));
    assert_eq!(live_in(&home), [1]);
}

#[test]
fn a_fact_gives_reasons_at_once_if_its_parent_has_spread() {
    let home = TestHome::new();
    home.write(|txn| {
        txn.add_ref_link(&blob(1), "lab/a")?;
        say(txn, 1, 1, &[2, 2])?;
        say(txn, 2, 3, &[4])
    });
    assert_eq!(live_in(&home), [1, 2]);
    home.write(|txn| {
        txn.remove_ref_link(&blob(1), "lab/a")?;
        // Its children do not know yet, so what it says now is given and taken back with the rest.
        say(txn, 3, 1, &[5])?;
        txn.settle(9)
    });
    assert_eq!(live_in(&home), [0; 0]);
}

#[test]
fn what_was_taken_and_given_before_it_settled_need_not_be_settled() {
    let home = chain();
    home.write(|txn| txn.add_ref_link(&blob(1), "lab/a"));
    home.write(|txn| txn.remove_ref_link(&blob(1), "lab/a"));
    assert_eq!(live_in(&home), [0; 0]);
}

#[test]
fn what_became_live_is_told_once_in_its_transaction() {
    let home = chain();
    let told = home.write(|txn| {
        txn.add_ref_link(&blob(1), "lab/a")?;
        assert_eq!(txn.take_newly_live(), [blob(1)]);
        txn.add_ref_link(&blob(1), "lab/a")?;
        txn.settle(9)?;
        Ok(txn.take_newly_live())
    });
    assert_eq!(told, [blob(2), blob(3)]);
    assert_eq!(home.write(|txn| Ok(txn.take_newly_live())), []);
}

#[test]
fn what_was_named_anew_is_told_live_or_not() {
    let home = chain();
    let named = home.write(|txn| {
        assert_eq!(txn.take_newly_named(), []);
        txn.add_ref_link(&blob(1), "lab/a")?;
        txn.add_ref_link(&blob(1), "lab/b")?;
        say(txn, 3, 4, &[5])?;
        txn.remove_ref_link(&blob(1), "lab/a")?;
        Ok(txn.take_newly_named())
    });
    assert_eq!(named, [blob(1), blob(1), blob(5)]);
    let replayed = home.write(|txn| {
        txn.rederive(|txn| txn.add_ref_link(&blob(1), "lab/b"))?;
        Ok(txn.take_newly_named())
    });
    assert_eq!(replayed, []);
}

#[test]
fn parents_are_found_from_their_children() {
    let home = chain();
    home.write(|txn| say(txn, 3, 0xff, &[3, 3]));
    let parents = |n| home.snapshot().parents(&blob(n)).unwrap();
    assert_eq!([parents(1), parents(2), parents(3)], [vec![], vec![blob(1)], vec![blob(1), blob(2), blob(0xff)]]);
    assert_eq!(parents(4), []);
    home.write(|txn| say(txn, 3, 0xff, &[4]));
    assert_eq!([parents(3), parents(4)], [vec![blob(1), blob(2)], vec![blob(0xff)]], "a fact that is said anew takes the place");
}

#[test]
fn a_cycle_keeps_itself_counted_until_all_is_counted_anew() {
    let home = TestHome::new();
    home.write(|txn| {
        say(txn, 1, 1, &[2])?;
        say(txn, 2, 2, &[1])?;
        say(txn, 3, 3, &[3])?;
        say(txn, 4, 4, &[5])?;
        (1..=4).try_for_each(|n| txn.add_ref_link(&blob(n), "lab/a"))?;
        txn.settle(99)
    });
    home.write(|txn| {
        (1..=3).try_for_each(|n| txn.remove_ref_link(&blob(n), "lab/a"))?;
        txn.settle(99)
    });
    assert_eq!(live_in(&home), [1, 2, 3, 4, 5], "too much, and never too little");
    home.write(|txn| txn.recount_reach());
    assert_eq!(live_in(&home), [4, 5]);
}

#[test]
fn a_walk_upwards_finds_the_ref_whatever_is_counted_and_sees_through_cycles() {
    let home = chain();
    home.write(|txn| {
        say(txn, 3, 3, &[5])?;
        say(txn, 4, 5, &[2])?;
        txn.add_ref_link(&blob(1), "lab/a")?;
        txn.settle(99)?;
        txn.reached.retain(|_, _| false).map_err(StoreError::from)
    });
    let snapshot = home.snapshot();
    let is = |n| (snapshot.is_live(&blob(n)).unwrap(), snapshot.is_reached(&blob(n)).unwrap());
    assert_eq!([is(1), is(2), is(5), is(6)], [(false, true), (false, true), (false, true), (false, false)]);

    let home = TestHome::new();
    home.write(|txn| {
        say(txn, 1, 1, &[2])?;
        say(txn, 2, 2, &[1])?;
        txn.add_ref_link(&blob(1), "lab/a")?;
        txn.settle(99)?;
        txn.remove_ref_link(&blob(1), "lab/a")
    });
    assert_eq!(live_in(&home), [1, 2], "counted by each other");
    assert!(!home.snapshot().is_reached(&blob(1)).unwrap());
}

#[test]
fn a_replay_counts_at_its_end_what_it_has_derived() {
    let home = chain();
    home.write(|txn| txn.add_ref_link(&blob(1), "lab/a"));
    let told = home.write(|txn| {
        txn.rederive(|txn| {
            txn.add_ref_link(&blob(2), "lab/b")?;
            txn.add_ref_link(&blob(4), "lab/a")?;
            say(txn, 1, 2, &[3])?;
            say(txn, 2, 4, &[5])?;
            txn.remove_ref_link(&blob(4), "lab/a")
        })?;
        Ok(txn.take_newly_live())
    });
    assert_eq!((told, live_in(&home)), (vec![blob(2), blob(3)], vec![2, 3]));
}

#[test]
fn reasons_that_nobody_gave_cannot_be_taken() {
    let home = TestHome::new();
    home.write(|txn| txn.add_ref_link(&blob(1), "lab/a"));
    home.write(|txn| txn.reached.retain(|_, _| false).map_err(StoreError::from));
    let taken = home.store.write(|txn| txn.remove_ref_link(&blob(1), "lab/a"));
    assert!(matches!(taken, Err(StoreError::Inconsistent(_))), "{taken:?}");
}

/// A small generator, since a failing case must be found again by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)) >> 11) % sides
    }

    fn blob(&mut self, from: u8, to: u8) -> u8 {
        from + u8::try_from(self.roll(u64::from(to - from) + 1)).unwrap()
    }
}

/// Blobs of a random history; a fact links to higher numbers only, as hashes allow.
const BLOBS: u8 = 12;

/// What is known of a random history, told plainly.
#[derive(Default)]
struct Plain {
    refs: Vec<(u8, String)>,
    facts: Vec<(u8, Vec<u8>)>,
}

impl Plain {
    fn step(&mut self, dice: &mut Dice, txn: &mut Transaction<'_>) -> Result<(), StoreError> {
        match dice.roll(8) {
            0..=2 => {
                let (n, name) = (dice.blob(1, BLOBS), format!("lab/{}", dice.roll(3)));
                txn.add_ref_link(&blob(n), &name)?;
                self.refs.push((n, name));
            }
            3..=5 if !self.refs.is_empty() => {
                let gone = usize::try_from(dice.roll(self.refs.len() as u64)).unwrap();
                let (n, name) = self.refs.swap_remove(gone);
                txn.remove_ref_link(&blob(n), &name)?;
            }
            6 => {
                let parent = dice.blob(1, BLOBS - 1);
                let children: Vec<u8> = (0..dice.roll(4)).map(|_| dice.blob(parent + 1, BLOBS)).collect();
                say(txn, self.facts.len() as u64, parent, &children)?;
                self.facts.push((parent, children));
            }
            _ => drop(txn.settle(usize::try_from(dice.roll(6)).unwrap())?),
        }
        Ok(())
    }

    fn reachable(&self) -> BTreeSet<BlobId> {
        let mut reached: BTreeSet<u8> = self.refs.iter().map(|(n, _)| *n).collect();
        for parent in 1..=BLOBS {
            let facts = self.facts.iter().filter(|(of, _)| *of == parent && reached.contains(of));
            let children: Vec<u8> = facts.flat_map(|(_, children)| children.clone()).collect();
            reached.extend(children);
        }
        reached.into_iter().map(blob).collect()
    }
}

#[test]
fn after_settling_the_live_blobs_are_those_that_a_plain_walk_reaches() {
    let home = TestHome::new();
    for seed in 0..300 {
        home.write(|txn| {
            txn.rederive(|_| Ok::<_, StoreError>(()))?;
            let (mut dice, mut plain) = (Dice(seed), Plain::default());
            for round in 0..8 {
                for _ in 0..10 {
                    plain.step(&mut dice, txn)?;
                }
                while !txn.settle(3)? {}
                assert_eq!(live(txn), plain.reachable(), "seed {seed}, round {round}");
            }
            for (n, name) in &plain.refs {
                txn.remove_ref_link(&blob(*n), name)?;
            }
            assert!(txn.settle(usize::MAX)?);
            assert!(txn.reached.is_empty()?, "seed {seed}");
            Ok(())
        });
    }
}
