//! A lease keeps what is not live while it lasts, and only its owner changes it.

use std::collections::BTreeMap;

use keepwell_protocol::id::{BootId, Seq, ValueId};
use keepwell_protocol::log::op::LinkFact;

use super::*;
use crate::testing::{NOW_MS, TestHome, bytes_of, fact, golden, id_of};

const A: LeaseId = LeaseId([0; 16]);
const B: LeaseId = LeaseId([0xff; 16]);
const END_MS: u64 = NOW_MS + 1_000;

fn blob(n: u8) -> BlobId {
    fact(n).sha1
}

fn ids(numbers: &[u8]) -> Vec<BlobId> {
    numbers.iter().map(|n| blob(*n)).collect()
}

/// A home with a lease of `ann` on these blobs.
fn leased(is_flat: bool, blobs: &[u8]) -> TestHome {
    let home = TestHome::new();
    give(&home, A, is_flat, blobs);
    home
}

fn give(home: &TestHome, lease: LeaseId, is_flat: bool, blobs: &[u8]) {
    change(home, |txn| {
        txn.add_lease(&lease, "ann", NOW_MS, END_MS, is_flat)?;
        txn.add_to_lease(&lease, "ann", NOW_MS, &ids(blobs))
    })
    .unwrap();
}

fn change(home: &TestHome, act: impl FnOnce(&mut Tables<Writing<'_>>) -> Result<(), LeaseError>) -> Result<(), LeaseError> {
    home.store.write(|txn| act(txn))
}

/// Links each pair's first to its second, and settles.
fn link(home: &TestHome, links: &[(u8, u8)]) {
    home.write(|txn| {
        for ((parent, child), seq) in links.iter().zip(1..) {
            let id = ValueId { boot: BootId([1; 16]), seq: Seq(seq), index: 0 };
            txn.put_link_fact(&id, &LinkFact { parent: blob(*parent), children: vec![fact(*child)] })?;
        }
        txn.settle(usize::MAX).map(drop)
    });
}

fn name(home: &TestHome, n: u8) {
    home.write(|txn| {
        txn.add_ref_link(&blob(n), "lab/raw")?;
        txn.settle(usize::MAX).map(drop)
    });
}

fn kept(home: &TestHome, now_ms: u64) -> Vec<BlobId> {
    home.snapshot().covered_by_leases(now_ms).unwrap().into_iter().collect()
}

fn covering(home: &TestHome, n: u8, now_ms: u64) -> Option<LeaseId> {
    home.snapshot().covering_lease(&blob(n), now_ms).unwrap().map(|(id, _)| id)
}

fn roots_of(home: &TestHome, n: u8) -> Vec<Keeping> {
    home.snapshot().lease_roots_of(&blob(n), NOW_MS).unwrap()
}

fn by(lease: LeaseId, root: u8) -> Keeping {
    Keeping::Lease { lease, root: blob(root) }
}

#[test]
fn a_lease_is_told_with_the_number_of_its_blobs_each_counted_once() {
    let home = leased(false, &[1, 2]);
    change(&home, |txn| txn.add_to_lease(&A, "ann", NOW_MS, &ids(&[2, 3, 3]))).unwrap();
    let lease = Lease { owner: "ann".into(), created_ms: NOW_MS, expires_ms: END_MS, is_flat: false, blobs: 3 };
    let snapshot = home.snapshot();
    assert_eq!(snapshot.lease(&A).unwrap(), Some(lease.clone()));
    assert_eq!(snapshot.all_leases().unwrap(), [(A, lease)]);
    assert_eq!(snapshot.lease(&B).unwrap(), None);
    let blobs = |from, limit| snapshot.leased_blobs(&A, &blob(from), limit).unwrap();
    assert_eq!([blobs(0, 9), blobs(2, 9), blobs(0, 1)], [ids(&[1, 2, 3]), ids(&[2, 3]), ids(&[1])]);
}

#[test]
fn an_id_is_taken_once() {
    let home = leased(false, &[1]);
    let again = change(&home, |txn| txn.add_lease(&A, "ann", NOW_MS, END_MS, true));
    assert!(matches!(again, Err(LeaseError::Exists(A))));
    assert_eq!(home.snapshot().lease(&A).unwrap().map(|lease| lease.is_flat), Some(false));
}

type Act = fn(&mut Tables<Writing<'_>>, LeaseId, &str, u64) -> Result<(), LeaseError>;

const ACTS: [Act; 3] = [
    |txn, lease, owner, now_ms| txn.renew_lease(&lease, owner, now_ms, now_ms + 5_000),
    |txn, lease, owner, now_ms| txn.add_to_lease(&lease, owner, now_ms, &[blob(9)]),
    |txn, lease, owner, now_ms| txn.remove_lease(&lease, owner, now_ms),
];

#[test]
fn only_its_owner_changes_a_lease() {
    let home = leased(false, &[1]);
    let before = home.snapshot().all_leases().unwrap();
    for act in ACTS {
        let refused = change(&home, |txn| act(txn, A, "bob", NOW_MS));
        assert!(matches!(&refused, Err(LeaseError::NotOwner { lease: A, owner }) if owner == "ann"), "{refused:?}");
        assert!(matches!(change(&home, |txn| act(txn, B, "ann", NOW_MS)), Err(LeaseError::NotFound(B))));
    }
    assert_eq!(home.snapshot().all_leases().unwrap(), before);
    for act in ACTS {
        change(&home, |txn| act(txn, A, "ann", END_MS - 1)).unwrap();
    }
}

#[test]
fn an_owner_who_comes_too_late_is_refused_and_anybody_may_clear_up() {
    let home = leased(false, &[1]);
    for act in &ACTS[..2] {
        assert!(matches!(change(&home, |txn| act(txn, A, "ann", END_MS)), Err(LeaseError::Expired(A))));
    }
    change(&home, |txn| txn.remove_lease(&A, "bob", END_MS)).unwrap();
    assert!(home.write(|txn| txn.end_leases(END_MS, 9)));
    assert_eq!(home.snapshot().lease(&A).unwrap(), None);
    assert!(matches!(change(&home, |txn| txn.remove_lease(&A, "ann", END_MS)), Err(LeaseError::NotFound(A))));
}

#[test]
fn what_its_owner_removes_protects_nothing_any_more_whatever_the_clock_says() {
    let home = leased(false, &[1]);
    change(&home, |txn| txn.remove_lease(&A, "ann", NOW_MS)).unwrap();
    assert_eq!((kept(&home, 0), covering(&home, 1, 0)), (vec![], None));
    assert!(matches!(change(&home, |txn| txn.renew_lease(&A, "ann", 0, END_MS)), Err(LeaseError::Expired(A))));
    assert!(home.write(|txn| txn.end_leases(0, 9)));
    assert_eq!(home.snapshot().lease_count().unwrap(), 0);
}

#[test]
fn what_has_expired_is_ended_and_leaves_nothing_behind() {
    let home = leased(false, &[1, 2]);
    give(&home, B, true, &[2]);
    assert_eq!(home.snapshot().next_lease_expiry_ms().unwrap(), Some(END_MS));
    change(&home, |txn| txn.renew_lease(&B, "ann", NOW_MS, END_MS + 1)).unwrap();
    assert!(home.write(|txn| txn.end_leases(END_MS - 1, 9)));
    assert_eq!(home.snapshot().lease_count().unwrap(), 2);
    assert!(home.write(|txn| txn.end_leases(END_MS, 9)));
    let snapshot = home.snapshot();
    assert_eq!(snapshot.next_lease_expiry_ms().unwrap(), Some(END_MS + 1));
    assert_eq!(snapshot.leased_blobs(&A, &blob(0), 9).unwrap(), []);
    assert_eq!((roots_of(&home, 1), roots_of(&home, 2)), (vec![], vec![by(B, 2)]));
    assert_eq!(snapshot.lease(&A).unwrap(), None);
    assert!(home.write(|txn| txn.end_leases(END_MS + 1, 9)));
    let rows = [&snapshot, &home.snapshot()].map(|tables| redb::ReadableTableMetadata::len(&tables.leased_by).unwrap());
    assert_eq!((rows, home.snapshot().next_lease_expiry_ms().unwrap()), ([1, 0], None));
}

#[test]
fn what_has_expired_is_ended_in_portions() {
    for limit in 1..9 {
        let home = leased(false, &[1, 2, 3]);
        give(&home, B, true, &[3, 4]);
        home.write(|txn| [1, 2, 7].iter().try_for_each(|n| txn.wait_for_lease(&blob(*n), &A)));
        let mut portions = 1;
        while !home.write(|txn| txn.end_leases(END_MS, limit)) {
            portions += 1;
            assert_eq!((kept(&home, END_MS), covering(&home, 1, END_MS)), (vec![], None));
        }
        assert!(portions >= 8_usize.div_ceil(limit) && portions <= 8 / limit + 3, "{portions} of {limit}");
        let snapshot = home.snapshot();
        assert!(snapshot.leased_by.is_empty().unwrap() && snapshot.lease_blobs.is_empty().unwrap());
        assert_eq!(snapshot.waiting_for_leases().unwrap(), []);
        assert_eq!(snapshot.lease_count().unwrap(), 0);
    }
}

#[test]
fn what_waits_for_a_lease_is_numbered_when_it_ends_if_it_is_held_and_not_live() {
    let home = TestHome::new();
    let ids: Vec<BlobId> =
        (0..2).map(|tag| bytes_of(tag, 5)).map(|bytes| home.put(&bytes).map(|_| id_of(&bytes)).unwrap()).collect();
    give(&home, A, false, &[]);
    home.write(|txn| txn.end_graces(u64::MAX, 9));
    home.write(|txn| ids.iter().try_for_each(|id| txn.wait_for_lease(id, &A)));
    let unneeded = || home.snapshot().unneeded_before(u64::MAX, 9).unwrap();
    assert_eq!(unneeded(), []);
    let mut waiting: Vec<BlobId> = home.snapshot().waiting_for_leases().unwrap().into_iter().map(|(_, id)| id).collect();
    waiting.sort_unstable();
    let mut both = ids.clone();
    both.sort_unstable();
    assert_eq!(waiting, both);
    home.write(|txn| txn.add_ref_link(&ids[0], "lab/a"));
    home.write(|txn| txn.end_leases(END_MS, 9));
    assert_eq!(unneeded().into_iter().map(|(_, id)| id).collect::<Vec<_>>(), [ids[1]]);
    home.write(|txn| txn.remove_ref_link(&ids[0], "lab/a"));
    assert_eq!(unneeded().len(), 2, "what was live when the lease ended gets its number when its last ref goes");
}

#[test]
fn the_lease_that_covers_a_blob_for_longest_is_looked_for_above_what_is_live_too() {
    let home = leased(false, &[1]);
    link(&home, &[(1, 2), (2, 3), (3, 1)]);
    name(&home, 2);
    change(&home, |txn| {
        txn.add_lease(&B, "bob", NOW_MS, END_MS + 5, true)?;
        txn.add_to_lease(&B, "bob", NOW_MS, &ids(&[2]))
    })
    .unwrap();
    assert_eq!([1, 2, 3, 4].map(|n| covering(&home, n, NOW_MS)), [Some(A), Some(B), Some(A), None]);
    assert_eq!([1, 2, 3].map(|n| covering(&home, n, END_MS)), [None, Some(B), None]);
    assert_eq!(covering(&home, 2, END_MS + 5), None);
}

#[test]
fn a_lease_keeps_what_links_reach_and_a_flat_one_its_blobs_alone() {
    for (is_flat, expected) in [(false, &[1, 2, 3][..]), (true, &[1])] {
        let home = leased(is_flat, &[1]);
        link(&home, &[(1, 2), (2, 3), (4, 3)]);
        assert_eq!(kept(&home, END_MS - 1), ids(expected));
        assert_eq!(kept(&home, END_MS), []);
    }
}

#[test]
fn what_a_flat_lease_names_is_walked_for_another_that_is_not() {
    let home = leased(true, &[1, 2]);
    give(&home, B, false, &[2]);
    link(&home, &[(1, 4), (2, 3)]);
    assert_eq!(kept(&home, NOW_MS), ids(&[1, 2, 3]));
}

#[test]
fn what_is_live_needs_no_lease_and_is_not_told() {
    let home = leased(false, &[1, 5]);
    link(&home, &[(1, 2), (2, 3)]);
    name(&home, 2);
    name(&home, 5);
    assert_eq!(kept(&home, NOW_MS), ids(&[1]));
}

#[test]
fn links_that_go_in_a_circle_are_walked_once() {
    let home = leased(false, &[1]);
    link(&home, &[(1, 2), (2, 3), (3, 1), (3, 3)]);
    assert_eq!(kept(&home, NOW_MS), ids(&[1, 2, 3]));
    assert_eq!(roots_of(&home, 3), [by(A, 1)]);
}

#[test]
fn a_grace_keeps_what_links_reach_until_it_is_ended() {
    let home = TestHome::new();
    let bytes = bytes_of(1, 5);
    home.put(&bytes).unwrap();
    let put = id_of(&bytes);
    let until_ms = home.snapshot().blob(&put).unwrap().unwrap().grace_until_ms;
    let id = ValueId { boot: BootId([1; 16]), seq: Seq(1), index: 0 };
    home.write(|txn| txn.put_link_fact(&id, &LinkFact { parent: put, children: vec![fact(2)] }));
    let graced = |id: &BlobId| home.snapshot().graced_until_ms(id).unwrap();
    assert_eq!([graced(&put), graced(&blob(2)), graced(&blob(3))], [Some(until_ms), Some(until_ms), None]);
    assert_eq!(kept(&home, NOW_MS), []);
    assert_eq!(roots_of(&home, 2), [Keeping::Grace { root: put, until_ms }]);
    home.write(|txn| txn.end_graces(until_ms, 9).map(drop));
    assert_eq!((graced(&blob(2)), roots_of(&home, 2)), (None, vec![]));
}

#[test]
fn the_grace_of_a_blob_that_is_gone_keeps_nothing() {
    let home = TestHome::new();
    let bytes = bytes_of(1, 5);
    home.put(&bytes).unwrap();
    home.delete(&id_of(&bytes)).unwrap();
    assert_eq!(home.snapshot().graced_until_ms(&id_of(&bytes)).unwrap(), None);
}

#[test]
fn the_roots_of_a_blob_are_its_leases_and_those_above_it_that_are_not_flat_nor_expired() {
    let home = leased(false, &[1]);
    give(&home, B, true, &[1, 3]);
    link(&home, &[(1, 2), (2, 3)]);
    assert_eq!(roots_of(&home, 1), [by(A, 1), by(B, 1)]);
    assert_eq!(roots_of(&home, 2), [by(A, 1)]);
    assert_eq!(roots_of(&home, 3), [by(A, 1), by(B, 3)]);
    assert_eq!(home.snapshot().lease_roots_of(&blob(3), END_MS).unwrap(), []);
}

#[test]
fn a_lease_is_not_looked_for_above_what_is_live() {
    let home = leased(false, &[1]);
    link(&home, &[(1, 2), (2, 3)]);
    name(&home, 2);
    assert_eq!(roots_of(&home, 3), []);
    assert_eq!(roots_of(&home, 2), [by(A, 1)], "what is asked for is told of, live or not");
}

#[test]
fn what_leases_keep_is_what_has_a_root_for_any_links() {
    // Every way to link four blobs downwards, with a lease of either kind on the first and the second.
    let pairs = [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)];
    for choice in 0..1_u32 << pairs.len() {
        let links: Vec<(u8, u8)> =
            pairs.iter().zip(0..).filter(|(_, bit)| choice >> bit & 1 == 1).map(|(pair, _)| *pair).collect();
        let home = leased(choice % 3 == 0, &[1]);
        give(&home, B, choice % 2 == 0, &[2]);
        link(&home, &links);
        let has_root: BTreeMap<BlobId, bool> = (1..=4).map(|n| (blob(n), !roots_of(&home, n).is_empty())).collect();
        let kept: BTreeSet<BlobId> = kept(&home, NOW_MS).into_iter().collect();
        assert!(has_root.iter().all(|(id, has)| kept.contains(id) == *has), "{links:?}");
    }
}

#[test]
fn leases_outlast_a_crash_and_a_rebuild() {
    let home = leased(false, &[1]);
    let home = home.reopened();
    home.write(|txn| txn.rederive(|_| Ok::<_, StoreError>(())));
    assert_eq!(kept(&home, NOW_MS), ids(&[1]));
}

#[test]
fn the_bytes_of_a_lease_never_change() {
    // Golden bytes: a change of them breaks homes in the field.
    let lease = Lease { owner: "ann".into(), created_ms: 1, expires_ms: 300, is_flat: true, blobs: 2 };
    assert_eq!(golden(&lease), "0103616e6e01fb2c010102");
}
