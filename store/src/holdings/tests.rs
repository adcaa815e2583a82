//! Who says that it holds what, and takes it back.

use super::*;
use crate::testing::{TestHome, fact, golden};

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

fn held(n: u8, blob: u8) -> Holding {
    Holding { node: node(n), fact: fact(blob) }
}

fn add(home: &TestHome, n: u8, blob: u8) -> bool {
    home.write(|txn| txn.add_holding(&node(n), &fact(blob)))
}

fn remove(home: &TestHome, n: u8, blob: u8) -> Option<u64> {
    home.write(|txn| txn.remove_holding(&node(n), &fact(blob).sha1))
}

#[test]
fn a_holding_is_news_once_and_gone_once() {
    let home = TestHome::new();
    assert_eq!([add(&home, 1, 5), add(&home, 1, 5)], [true, false]);
    assert_eq!([remove(&home, 1, 5), remove(&home, 1, 5)], [Some(5), None]);
    assert!(add(&home, 1, 5));
}

#[test]
fn the_holders_of_a_blob_are_told_with_what_they_hold() {
    let home = TestHome::new();
    for (n, blob) in [(9, 5), (3, 5), (3, 4), (3, 6)] {
        add(&home, n, blob);
    }
    assert_eq!(home.snapshot().holders(&fact(5).sha1).unwrap(), [held(9, 5), held(3, 5)], "in the order in which they were met");
    assert_eq!(home.snapshot().holders(&fact(7).sha1).unwrap(), []);
    let is_held = |n, blob| home.snapshot().is_held_by(&fact(blob).sha1, &node(n)).unwrap();
    assert_eq!([is_held(3, 4), is_held(9, 4), is_held(8, 4)], [true, false, false]);
}

#[test]
fn a_node_keeps_its_number_when_it_holds_nothing_any_more() {
    let home = TestHome::new();
    for n in [9, 3, 7] {
        add(&home, n, 1);
        remove(&home, n, 1);
    }
    add(&home, 3, 1);
    add(&home, 9, 1);
    let number = |n| home.snapshot().node_numbers.get(node(n).as_bytes()).unwrap().map(|row| row.value());
    assert_eq!([number(9), number(3), number(7), number(1)], [Some(0), Some(1), Some(2), None]);
    assert_eq!(home.snapshot().holders(&fact(1).sha1).unwrap(), [held(9, 1), held(3, 1)]);
}

#[test]
fn a_holding_of_a_number_that_no_node_has_is_an_error() {
    let home = TestHome::new();
    add(&home, 1, 5);
    home.write(|txn| txn.node_numbers.remove(node(1).as_bytes()).map(drop).map_err(StoreError::from));
    assert!(matches!(home.snapshot().holders(&fact(5).sha1), Err(StoreError::Inconsistent(_))));
}

#[test]
fn the_bytes_of_a_holding_never_change() {
    // Golden bytes: a change of them breaks homes in the field.
    assert_eq!(
        golden(&HoldingRow { b3: B3([2; 32]), size_bytes: 70_000 }),
        "010202020202020202020202020202020202020202020202020202020202020202fc70110100"
    );
}
