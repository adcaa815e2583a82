//! Cycles end when nothing they hang on is left, whatever else hangs together with them, and never before.

use std::collections::BTreeSet;

use keepwell_protocol::id::{BootId, Seq, ValueId};
use keepwell_protocol::log::op::LinkFact;

use super::*;
use crate::testing::{TestHome, fact};

fn blob(n: u8) -> BlobId {
    fact(n).sha1
}

/// Says that `parent` links to `children`, under an id of its own.
fn say(txn: &mut Transaction<'_>, parent: u8, children: &[u8]) -> Result<(), StoreError> {
    let id = ValueId { boot: BootId([parent; 16]), seq: Seq(1), index: 0 };
    txn.put_link_fact(&id, &LinkFact { parent: blob(parent), children: children.iter().map(|n| fact(*n)).collect() })
}

fn live(home: &TestHome) -> Vec<u8> {
    let mut live = Vec::new();
    home.snapshot().visit_live(|id| live.push(id.as_bytes()[0])).unwrap();
    live
}

/// Settles everything and ends cycles, a little at a time, until nothing is left to do; then the counts are those of a mark.
fn come_to_rest(home: &TestHome) {
    for _ in 0..1_000 {
        home.write(|txn| {
            txn.settle(1)?;
            txn.end_cycles(1)
        });
        if home.snapshot().is_settled().unwrap() && !home.snapshot().has_doubtful().unwrap() {
            let mark = home.snapshot().mark().unwrap().unwrap();
            assert_eq!((mark.unreached, mark.undercounted), (vec![], vec![]));
            return;
        }
    }
    panic!("it does not come to rest");
}

/// A home with these links, with the blobs `named` by refs, of which those in `gone` are deleted again.
fn home(links: &[(u8, &[u8])], named: &[u8], gone: &[u8]) -> TestHome {
    let home = TestHome::new();
    home.write(|txn| {
        links.iter().try_for_each(|(parent, children)| say(txn, *parent, children))?;
        named.iter().try_for_each(|n| txn.add_ref_link(&blob(*n), "lab/a"))?;
        txn.settle(99)
    });
    home.write(|txn| gone.iter().try_for_each(|n| txn.remove_ref_link(&blob(*n), "lab/a")));
    come_to_rest(&home);
    home
}

#[test]
fn a_cycle_ends_with_its_last_ref_and_so_does_what_hangs_on_it() {
    for (links, named, gone, left) in [
        (&[(1, &[1][..])][..], &[1][..], &[1][..], &[][..]),
        (&[(1, &[2]), (2, &[1, 3])], &[1], &[1], &[]),
        (&[(1, &[2]), (2, &[1, 3])], &[1, 2], &[1], &[1, 2, 3]),
        (&[(1, &[2]), (2, &[1, 3])], &[1, 3], &[1], &[3]),
        (&[(9, &[1]), (1, &[2]), (2, &[1])], &[9], &[9], &[]),
        (&[(9, &[1]), (8, &[2]), (1, &[2]), (2, &[1])], &[8, 9], &[9], &[1, 2, 8]),
        // Two cycles through one blob, and one that hangs on another.
        (&[(1, &[2, 3]), (2, &[1]), (3, &[1])], &[2], &[2], &[]),
        (&[(1, &[2]), (2, &[1, 3]), (3, &[4]), (4, &[3, 5])], &[1, 3], &[1, 3], &[]),
        (&[(1, &[2]), (2, &[1, 3]), (3, &[4]), (4, &[3, 5])], &[1, 3], &[3], &[1, 2, 3, 4, 5]),
        (&[(1, &[2]), (2, &[1, 3]), (3, &[4]), (4, &[3, 5])], &[1, 3], &[1], &[3, 4, 5]),
    ] {
        assert_eq!(live(&home(links, named, gone)), left, "{links:?} {named:?} {gone:?}");
    }
}

#[test]
fn a_blob_on_no_cycle_is_never_doubtful() {
    let home = home(&[(1, &[2]), (2, &[3]), (4, &[2])], &[1, 4], &[]);
    home.write(|txn| txn.add_ref_link(&blob(1), "lab/b"));
    home.write(|txn| {
        txn.remove_ref_link(&blob(1), "lab/b")?;
        txn.add_ref_link(&blob(3), "lab/b")?;
        txn.remove_ref_link(&blob(3), "lab/b")
    });
    assert!(!home.snapshot().has_doubtful().unwrap(), "one has no links to it, the other none from it");
}

#[test]
fn a_cycle_with_max_cycle_blobs_above_it_ends_and_with_one_more_it_waits_for_fsck() {
    let big = |n: usize| {
        let mut id = [0xee; BlobId::LEN];
        id[..8].copy_from_slice(&n.to_be_bytes());
        BlobId(id)
    };
    for (above, is_left) in [(MAX_CYCLE_BLOBS, false), (MAX_CYCLE_BLOBS + 1, true)] {
        let home = TestHome::new();
        // Nothing needs them, and each of them links to the cycle. The blob itself counts as above itself.
        home.write(|txn| {
            say(txn, 1, &[1])?;
            for n in 1..above {
                txn.parents.insert((blob(1).as_bytes(), big(n).as_bytes()), 1)?;
            }
            txn.add_ref_link(&blob(1), "lab/a")?;
            txn.settle(99)?;
            txn.remove_ref_link(&blob(1), "lab/a")?;
            txn.end_cycles(1)
        });
        assert_eq!((live(&home).len(), home.snapshot().has_doubtful().unwrap()), (usize::from(is_left), false));
    }
}

#[test]
fn whatever_links_and_refs_come_and_go_the_counts_come_to_those_of_a_mark() {
    for seed in 1..=150_u64 {
        let (home, mut state, mut named) = (TestHome::new(), seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), BTreeSet::new());
        let mut draw = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u8::try_from((state >> 33) % bound).unwrap()
        };
        for _ in 0..60 {
            let (n, act) = (1 + draw(8), draw(6));
            let children: Vec<u8> = (0..draw(4)).map(|_| 1 + draw(8)).collect();
            let budget = usize::from(draw(5));
            home.write(|txn| {
                match act {
                    0 | 1 => say(txn, n, &children)?,
                    2 | 3 if named.insert(n) => txn.add_ref_link(&blob(n), "lab/a")?,
                    _ if named.remove(&n) => txn.remove_ref_link(&blob(n), "lab/a")?,
                    _ => {}
                }
                txn.settle(budget)?;
                txn.end_cycles(budget)
            });
        }
        come_to_rest(&home);
    }
}
