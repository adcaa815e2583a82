//! A mark finds what counting cannot see, and what counting got wrong.

use keepwell_protocol::id::{BootId, Seq, ValueId};
use keepwell_protocol::log::op::LinkFact;

use super::*;
use crate::store::Transaction;
use crate::testing::{TestHome, fact};

fn blob(n: u8) -> BlobId {
    fact(n).sha1
}

fn say(txn: &mut Transaction<'_>, parent: u8, children: &[u8]) -> Result<(), StoreError> {
    let id = ValueId { boot: BootId([1; 16]), seq: Seq(parent.into()), index: 0 };
    txn.put_link_fact(&id, &LinkFact { parent: blob(parent), children: children.iter().map(|n| fact(*n)).collect() })
}

/// A home where `lab/a` reaches 1 → 2 → 3, 3, and nothing reaches 7 → 8.
fn home() -> TestHome {
    let home = TestHome::new();
    home.write(|txn| {
        say(txn, 1, &[2])?;
        say(txn, 2, &[3, 3])?;
        say(txn, 7, &[8])?;
        txn.add_ref_link(&blob(1), "lab/a")
    });
    home
}

fn settled(home: &TestHome) -> Mark {
    home.write(|txn| txn.settle(99));
    home.snapshot().mark().unwrap().unwrap()
}

#[test]
fn counts_that_are_right_differ_from_the_mark_in_nothing() {
    let mark = Mark { reached_count: 3, ..Mark::default() };
    assert_eq!(settled(&home()), mark);
}

#[test]
fn there_is_no_mark_of_what_is_not_settled() {
    assert_eq!(home().snapshot().mark().unwrap(), None);
}

#[test]
fn a_cycle_that_only_keeps_itself_is_unreached_until_a_recount() {
    let home = home();
    home.write(|txn| {
        say(txn, 4, &[5])?;
        say(txn, 5, &[4, 3, 6])?;
        txn.add_ref_link(&blob(4), "lab/b")?;
        txn.settle(99)?;
        txn.remove_ref_link(&blob(4), "lab/b")
    });
    let mark = Mark { reached_count: 3, unreached: vec![blob(4), blob(5), blob(6)], undercounted: vec![] };
    assert_eq!(settled(&home), mark);
    home.write(|txn| txn.recount_reach());
    assert_eq!(settled(&home), Mark { unreached: vec![], ..mark });
}

#[test]
fn a_reason_too_few_is_a_fault_that_a_recount_mends() {
    let home = home();
    settled(&home);
    home.write(|txn| {
        txn.reached.insert(blob(3).as_bytes(), (1, true))?;
        txn.reached.remove(blob(1).as_bytes())?;
        Ok(())
    });
    let mark = Mark { reached_count: 3, unreached: vec![], undercounted: vec![blob(1), blob(3)] };
    assert_eq!(settled(&home), mark);
    assert!(!home.write(|txn| txn.settles_rightly()));
    home.write(|txn| txn.recount_reach());
    assert!(home.write(|txn| txn.settles_rightly()));
    assert_eq!(settled(&home), Mark { undercounted: vec![], ..mark });
}
