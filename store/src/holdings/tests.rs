//! Who says that it holds what, and takes it back.

use keepwell_protocol::id::BootId;

use super::*;
use crate::testing::{TestHome, fact, golden};

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

/// A boot of a node.
fn chain(n: u8, boot: u8) -> Chain {
    Chain { node: node(n), boot: BootId([boot; 16]) }
}

/// A past that contains the first so many entries of some boots.
fn past(parts: &[(u8, u64)]) -> Past {
    Past(parts.iter().map(|(boot, seq)| (BootId([*boot; 16]), Seq(*seq))).collect())
}

fn held(n: u8, blob: u8) -> Holding {
    Holding { node: node(n), fact: fact(blob) }
}

/// Entry `seq` of a boot of node `n` says that it holds a blob.
fn add(home: &TestHome, n: u8, boot: u8, seq: u64, blob: u8) -> bool {
    home.write(|txn| {
        let speaker = txn.speaker(&chain(n, boot))?;
        txn.add_holding(&speaker, Seq(seq), &fact(blob))
    })
}

fn remove(home: &TestHome, n: u8, past: &Past, blob: u8) -> Option<u64> {
    home.write(|txn| {
        let (first, _) = past.0.iter().next().unwrap();
        let speaker = txn.speaker(&Chain { node: node(n), boot: *first })?;
        txn.remove_holding(&speaker, past, &fact(blob).sha1)
    })
}

fn is_held(home: &TestHome, n: u8, blob: u8) -> bool {
    home.snapshot().is_held_by(&fact(blob).sha1, &node(n)).unwrap()
}

#[test]
fn a_holding_is_news_once_and_gone_once() {
    let home = TestHome::new();
    assert_eq!([add(&home, 1, 1, 3, 5), add(&home, 1, 1, 4, 5)], [true, false]);
    let after = past(&[(1, 4)]);
    assert_eq!([remove(&home, 1, &after, 5), remove(&home, 1, &after, 5)], [Some(5), None]);
    assert!(add(&home, 1, 1, 5, 5));
}

#[test]
fn what_is_taken_back_is_what_was_known_in_whatever_order_it_is_heard() {
    // Boot 2 of the node removes the copy that its boot 1 told of in entry 3, and knows nothing of entry 4, which tells of it again.
    for concurrent_first in [true, false] {
        let home = TestHome::new();
        add(&home, 1, 1, 3, 5);
        let known = past(&[(1, 3), (2, 1)]);
        if concurrent_first {
            add(&home, 1, 1, 4, 5);
            assert_eq!(remove(&home, 1, &known, 5), None);
        } else {
            assert_eq!(remove(&home, 1, &known, 5), Some(5));
            assert!(add(&home, 1, 1, 4, 5));
        }
        assert!(is_held(&home, 1, 5));
    }
}

#[test]
fn a_copy_that_two_boots_told_of_is_one_holding_and_gone_when_both_are_taken_back() {
    let home = TestHome::new();
    assert_eq!([add(&home, 1, 1, 3, 5), add(&home, 1, 2, 1, 5)], [true, false]);
    assert_eq!(home.snapshot().holders(&fact(5).sha1).unwrap(), [held(1, 5)]);
    assert_eq!((remove(&home, 1, &past(&[(1, 3)]), 5), is_held(&home, 1, 5)), (None, true));
    assert_eq!((remove(&home, 1, &past(&[(1, 3), (2, 2)]), 5), is_held(&home, 1, 5)), (Some(5), false));
}

#[test]
fn the_holders_of_a_blob_are_told_with_what_they_hold() {
    let home = TestHome::new();
    for (n, blob) in [(9, 5), (3, 5), (3, 4), (3, 6)] {
        add(&home, n, n, 1, blob);
    }
    assert_eq!(home.snapshot().holders(&fact(5).sha1).unwrap(), [held(3, 5), held(9, 5)]);
    assert_eq!(home.snapshot().holders(&fact(7).sha1).unwrap(), []);
    assert_eq!([is_held(&home, 3, 4), is_held(&home, 9, 4), is_held(&home, 8, 4)], [true, false, false]);
}

#[test]
fn a_chain_keeps_its_number_when_it_holds_nothing_any_more() {
    let home = TestHome::new();
    for n in [9, 3, 7] {
        add(&home, n, n, 1, 1);
        remove(&home, n, &past(&[(n, 1)]), 1);
    }
    add(&home, 3, 3, 2, 1);
    let number = |n| {
        let chain = chain(n, n);
        let row = home.snapshot().chain_numbers.get((chain.node.as_bytes(), chain.boot.as_bytes())).unwrap();
        row.map(|row| row.value())
    };
    assert_eq!([number(9), number(3), number(7), number(1)], [Some(0), Some(1), Some(2), None]);
    assert_eq!(home.snapshot().holders(&fact(1).sha1).unwrap(), [held(3, 1)]);
}

#[test]
fn a_holding_of_a_number_that_no_chain_has_is_an_error() {
    let home = TestHome::new();
    add(&home, 1, 1, 1, 5);
    home.write(|txn| txn.chain_numbers.remove((&[1; 32], &[1; 16])).map(drop).map_err(StoreError::from));
    assert!(matches!(home.snapshot().holders(&fact(5).sha1), Err(StoreError::Inconsistent(_))));
}

#[test]
fn the_bytes_of_a_holding_never_change() {
    // Golden bytes: a change of them breaks homes in the field.
    assert_eq!(
        golden(&HoldingRow { b3: B3([2; 32]), size_bytes: 70_000, since: Seq(300) }),
        "010202020202020202020202020202020202020202020202020202020202020202fc70110100fb2c01"
    );
}
