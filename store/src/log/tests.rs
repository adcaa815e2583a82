//! Entries are found again by position and in the order of their arrival.

use keepwell_protocol::id::{BootId, NodeId};
use keepwell_protocol::log::exchange::ForkProof;

use super::*;
use crate::testing::{TestHome, golden};

fn chain(n: u8) -> Chain {
    Chain { node: NodeId([n; 32]), boot: BootId([n; 16]) }
}

fn head(seq: u64, hash: u8) -> Head {
    Head { seq: Seq(seq), hash: EntryHash([hash; 32]) }
}

fn state(head: Head) -> ChainState {
    let mut past = Past::default();
    past.extend(BootId([1; 16]), head.seq);
    ChainState { head, past, storage: StorageId([9; 16]) }
}

/// A log of three entries: two of chain 1 and, between them, one of chain 2. Their bytes are their hash's first byte.
fn three_entries() -> TestHome {
    let home = TestHome::new();
    for (n, head) in [(1, head(1, 11)), (2, head(1, 21)), (1, head(2, 12))] {
        home.write(|txn| {
            let arrival = txn.append_entry(&head.hash.0[..1])?;
            txn.advance_chain(&chain(n), arrival, &state(head))
        });
    }
    home
}

#[test]
fn an_empty_log_knows_nothing() {
    let home = TestHome::new();
    let snapshot = home.snapshot();
    assert_eq!((snapshot.next_arrival().unwrap(), snapshot.entry_from(0).unwrap()), (0, None));
    assert_eq!((snapshot.vector().unwrap(), snapshot.chain(&chain(1)).unwrap()), (Vector::default(), None));
    assert_eq!((snapshot.head_at(&chain(1), Seq(1)).unwrap(), snapshot.entry(&chain(1), Seq(1)).unwrap()), (None, None));
    assert_eq!((snapshot.next_after(&chain(1), 0).unwrap(), snapshot.forked().unwrap()), (None, vec![]));
}

#[test]
fn entries_are_read_in_the_order_of_their_arrival_from_any_point() {
    let home = three_entries();
    let snapshot = home.snapshot();
    let from = |arrival| snapshot.entry_from(arrival).unwrap();
    assert_eq!([from(0), from(1), from(2)], [Some((0, vec![11])), Some((1, vec![21])), Some((2, vec![12]))]);
    assert_eq!((from(3), snapshot.next_arrival().unwrap()), (None, 3));
}

#[test]
fn reading_from_an_arrival_that_is_gone_goes_on_with_the_next() {
    let home = three_entries();
    home.write(|txn| txn.entries.remove(1).map(drop).map_err(StoreError::from));
    assert_eq!(home.snapshot().entry_from(1).unwrap(), Some((2, vec![12])));
    assert_eq!(home.snapshot().next_arrival().unwrap(), 3);
}

#[test]
fn every_position_keeps_its_head_bytes_and_arrival() {
    let home = three_entries();
    let snapshot = home.snapshot();
    for (n, head, arrival) in [(1, head(1, 11), 0), (2, head(1, 21), 1), (1, head(2, 12), 2)] {
        assert_eq!(snapshot.head_at(&chain(n), head.seq).unwrap(), Some(head));
        assert_eq!(snapshot.entry(&chain(n), head.seq).unwrap(), Some(vec![head.hash.0[0]]));
        assert_eq!(snapshot.next_after(&chain(n), head.seq.0 - 1).unwrap(), Some((head.seq, arrival)));
    }
    assert_eq!(snapshot.head_at(&chain(2), Seq(2)).unwrap(), None);
    let other_boot = Chain { boot: BootId([2; 16]), ..chain(1) };
    assert_eq!(snapshot.head_at(&other_boot, Seq(1)).unwrap(), None, "a position is of one boot");
}

#[test]
fn the_vector_holds_the_newest_head_of_each_chain() {
    let home = three_entries();
    let snapshot = home.snapshot();
    let mut expected = Vector::default();
    expected.advance(chain(1), head(2, 12));
    expected.advance(chain(2), head(1, 21));
    assert_eq!(snapshot.vector().unwrap(), expected);
    assert_eq!(snapshot.chain(&chain(1)).unwrap(), Some(state(head(2, 12))));
}

#[test]
fn an_entry_and_its_position_are_written_together_or_not_at_all() {
    let home = three_entries();
    let failed = home.store.write(|txn| {
        let arrival = txn.append_entry(b"lost")?;
        txn.advance_chain(&chain(2), arrival, &state(head(2, 22)))?;
        Err::<(), _>(StoreError::NoSpace)
    });
    assert!(failed.is_err());
    assert_eq!((home.snapshot().next_arrival().unwrap(), home.snapshot().head_at(&chain(2), Seq(2)).unwrap()), (3, None));
}

#[test]
fn a_position_without_bytes_is_an_error_and_no_absence() {
    let home = three_entries();
    home.write(|txn| txn.entries.remove(1).map(drop).map_err(StoreError::from));
    assert!(matches!(home.snapshot().entry(&chain(2), Seq(1)), Err(StoreError::Inconsistent(_))));
}

#[test]
fn the_proof_of_a_fork_is_kept_by_where_it_is() {
    let home = three_entries();
    let proof = ForkProof { one: b"one".to_vec(), other: b"two".to_vec() };
    let before = EntryHash([11; 32]);
    home.write(|txn| txn.put_fork(&chain(1), Seq(2), Some(&before), &proof));
    home.write(|txn| txn.put_fork(&chain(1), Seq(1), None, &proof));
    let home = home.reopened();
    let fork = |n, seq, hash| home.snapshot().fork(&chain(n), Seq(seq), hash).unwrap();
    assert_eq!([fork(1, 2, Some(&before)), fork(1, 1, None)], [Some(proof.clone()), Some(proof.clone())]);
    assert_eq!([fork(2, 2, Some(&before)), fork(1, 3, Some(&before)), fork(1, 2, None)], [None, None, None]);
    assert_eq!(home.snapshot().forks_of(&chain(1)).unwrap(), [proof.clone(), proof]);
    assert_eq!((home.snapshot().forks_of(&chain(2)).unwrap(), home.snapshot().forked().unwrap()), (vec![], vec![chain(1)]));
}

/// Chain 1 forked after its first entry; its branches stand under the names 7 and 8, each with one entry.
fn a_fork() -> TestHome {
    let home = TestHome::new();
    let branch = Branch { root: chain(1).boot, parent: chain(1).boot, first: Seq(2) };
    for (boot, head) in [(1, head(1, 11)), (7, head(2, 72)), (8, head(2, 82))] {
        let chain = Chain { boot: BootId([boot; 16]), ..chain(1) };
        home.write(|txn| {
            let arrival = txn.append_entry(&head.hash.0[..1])?;
            txn.advance_chain(&chain, arrival, &state(head))?;
            if boot == 1 { Ok(()) } else { txn.put_branch(&chain, &branch) }
        });
    }
    home
}

#[test]
fn branches_are_found_by_node_and_all_together() {
    let home = a_fork();
    let of = |n| home.snapshot().branches(&chain(n).node).unwrap().0.into_keys().collect::<Vec<_>>();
    assert_eq!([of(1), of(2)], [vec![BootId([7; 16]), BootId([8; 16])], vec![]]);
    assert_eq!(home.snapshot().all_branches().unwrap(), home.snapshot().branches(&chain(1).node).unwrap());
}

#[test]
fn the_next_entry_of_a_branch_is_found_from_before_its_beginning() {
    let home = a_fork();
    let branch = Chain { boot: BootId([8; 16]), ..chain(1) };
    let next = |chain: &Chain, after| home.snapshot().next_after(chain, after).unwrap();
    assert_eq!([next(&branch, 0), next(&branch, 1), next(&branch, 2)], [Some((Seq(2), 2)), Some((Seq(2), 2)), None]);
    assert_eq!([next(&chain(1), 0), next(&chain(1), 1), next(&chain(1), u64::MAX)], [Some((Seq(1), 0)), None, None]);
}

#[test]
fn what_another_says_of_a_forked_boot_is_read_by_the_branch_that_it_followed() {
    let home = a_fork();
    let branch = Chain { boot: BootId([8; 16]), ..chain(1) };
    let named = |chain, head| home.snapshot().by_names_here(&Vector([(chain, head)].into())).unwrap();
    let both = Vector([(chain(1), head(1, 11)), (branch, head(2, 82))].into());
    assert_eq!(named(chain(1), head(2, 82)), both);
    assert_eq!(named(branch, head(2, 82)), both);
    let unknown = Vector([(chain(1), head(3, 99))].into());
    assert_eq!(named(chain(1), head(3, 99)), unknown);
}

#[test]
fn the_bytes_of_chain_states_and_positions_never_change() {
    // Golden bytes: a change of any of them breaks homes in the field.
    assert_eq!(
        golden(&state(head(300, 12))),
        "01fb2c010c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0101010101010101010101010101010101fb2c0109090909090909090909090909090909"
    );
    assert_eq!(
        golden(&PositionRow { arrival: 300, hash: EntryHash([1; 32]) }),
        "01fb2c010101010101010101010101010101010101010101010101010101010101010101"
    );
}
