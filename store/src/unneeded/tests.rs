//! Blobs become unneeded in an order, each time anew, and only when neither a ref nor a grace keeps them.

use keepwell_protocol::id::{BlobFact, BootId, Seq, ValueId};
use keepwell_protocol::log::op::LinkFact;

use super::*;
use crate::blobs::Recorded;
use crate::testing::{GRACE_MS, TestHome, bytes_of, id_of};

/// A home with `count` small blobs in their grace.
fn home(count: u8) -> (TestHome, Vec<BlobId>) {
    let home = TestHome::new();
    let blobs = (0..count).map(|tag| bytes_of(tag, 9)).map(|bytes| home.put(&bytes).map(|_| id_of(&bytes)).unwrap()).collect();
    (home, blobs)
}

/// A home where each of `count` blobs has become unneeded under its number.
fn unneeded(count: u8) -> (TestHome, Vec<BlobId>) {
    let (home, blobs) = home(count);
    home.write(|txn| blobs.iter().try_for_each(|id| txn.add_ref_link(id, "lab/a")));
    assert!(home.write(|txn| txn.end_graces(GRACE_MS, 99)));
    home.write(|txn| blobs.iter().try_for_each(|id| txn.remove_ref_link(id, "lab/a")));
    (home, blobs)
}

fn all(home: &TestHome) -> Vec<(u64, BlobId)> {
    let all = home.snapshot().unneeded_before(u64::MAX, 99).unwrap();
    assert_eq!(home.snapshot().unneeded_count().unwrap(), all.len() as u64);
    for (number, id) in &all {
        assert_eq!(home.snapshot().is_unneeded_since(id).unwrap(), Some(*number));
    }
    all
}

fn fact_of(home: &TestHome, id: BlobId) -> BlobFact {
    home.snapshot().blob(&id).unwrap().unwrap().fact(id)
}

#[test]
fn a_blob_without_a_ref_is_unneeded_when_its_grace_is_over_and_not_before() {
    let (home, blobs) = home(1);
    assert_eq!(home.snapshot().next_grace_ms().unwrap(), Some(GRACE_MS));
    assert!(home.write(|txn| txn.end_graces(GRACE_MS - 1, 9)));
    assert_eq!(all(&home), []);
    assert!(home.write(|txn| txn.end_graces(GRACE_MS, 9)));
    assert_eq!(all(&home), [(0, blobs[0])]);
    assert_eq!(home.snapshot().next_grace_ms().unwrap(), None);
}

#[test]
fn graces_end_in_portions() {
    let (home, _) = home(3);
    assert!(!home.write(|txn| txn.end_graces(GRACE_MS, 2)));
    assert_eq!(all(&home).len(), 2);
    assert!(home.write(|txn| txn.end_graces(GRACE_MS, 1)));
    assert_eq!(all(&home).len(), 3);
}

#[test]
fn a_live_blob_is_unneeded_when_its_last_ref_goes_after_its_grace() {
    let (home, blobs) = home(2);
    home.write(|txn| blobs.iter().try_for_each(|id| txn.add_ref_link(id, "lab/a")));
    home.write(|txn| txn.remove_ref_link(&blobs[0], "lab/a"));
    assert_eq!(all(&home), [], "the grace lasts");
    home.write(|txn| txn.end_graces(GRACE_MS, 9));
    assert_eq!(all(&home), [(0, blobs[0])]);
    home.write(|txn| txn.remove_ref_link(&blobs[1], "lab/a"));
    assert_eq!(all(&home), [(0, blobs[0]), (1, blobs[1])]);
}

#[test]
fn who_is_needed_in_between_begins_again_with_a_higher_number() {
    let (home, blobs) = unneeded(3);
    assert_eq!(all(&home), [(0, blobs[0]), (1, blobs[1]), (2, blobs[2])]);
    home.write(|txn| txn.add_ref_link(&blobs[2], "lab/a"));
    assert_eq!(all(&home), [(0, blobs[0]), (1, blobs[1])]);
    assert_eq!(home.snapshot().next_unneeded_number().unwrap(), 3);
    home.write(|txn| txn.remove_ref_link(&blobs[2], "lab/a"));
    assert_eq!(all(&home), [(0, blobs[0]), (1, blobs[1]), (3, blobs[2])], "the highest number is not used again either");
    assert_eq!(home.snapshot().unneeded_before(3, 9).unwrap(), [(0, blobs[0]), (1, blobs[1])]);
    assert_eq!(home.snapshot().unneeded_before(3, 1).unwrap(), [(0, blobs[0])]);
}

#[test]
fn a_new_grace_takes_a_blob_out_until_it_is_over() {
    let (home, blobs) = unneeded(1);
    assert!(home.write(|txn| txn.renew_grace(&blobs[0], GRACE_MS + 5)));
    assert_eq!(all(&home), []);
    home.write(|txn| txn.end_graces(GRACE_MS + 4, 9));
    assert_eq!(all(&home), []);
    home.write(|txn| txn.end_graces(GRACE_MS + 5, 9));
    assert_eq!(all(&home), [(1, blobs[0])]);
}

#[test]
fn a_put_of_a_blob_that_is_here_renews_its_grace() {
    let (home, blobs) = home(1);
    let mut placed = home.take_in(&bytes_of(1, 9)).unwrap();
    placed.fact = fact_of(&home, blobs[0]);
    let placed = TestHome::new().store.place(vec![placed]).unwrap().placed.pop().unwrap();
    assert_eq!(home.write(|txn| txn.record(placed, GRACE_MS, GRACE_MS + 7)), Recorded::Existed);
    home.write(|txn| txn.end_graces(GRACE_MS + 6, 9));
    assert_eq!(all(&home), [], "the row of the first grace says nothing any more");
    home.write(|txn| txn.end_graces(GRACE_MS + 7, 9));
    assert_eq!(all(&home), [(0, blobs[0])]);
}

#[test]
fn a_grace_is_never_cut_short() {
    let (home, blobs) = home(1);
    assert!(home.write(|txn| txn.renew_grace(&blobs[0], GRACE_MS - 1)));
    home.write(|txn| txn.end_graces(GRACE_MS - 1, 9));
    assert_eq!(all(&home), []);
    assert_eq!(home.snapshot().blob(&blobs[0]).unwrap().unwrap().grace_until_ms, GRACE_MS);
    assert!(!home.write(|txn| txn.renew_grace(&BlobId([7; 20]), GRACE_MS)), "it is not held");
}

#[test]
fn a_grace_that_was_ended_is_begun_again_also_when_the_clock_was_set_back() {
    let (home, blobs) = unneeded(1);
    home.write(|txn| txn.renew_grace(&blobs[0], 5));
    assert_eq!((all(&home), home.snapshot().next_grace_ms().unwrap()), (vec![], Some(5)));
    home.write(|txn| txn.end_graces(5, 9));
    assert_eq!(all(&home), [(1, blobs[0])]);
}

#[test]
fn a_blob_that_goes_takes_its_number_along_and_its_grace_says_nothing() {
    let (home, blobs) = unneeded(2);
    home.delete(&blobs[0]).unwrap();
    assert_eq!(all(&home), [(1, blobs[1])]);
    let bytes = bytes_of(9, 9);
    home.put(&bytes).unwrap();
    home.delete(&id_of(&bytes)).unwrap();
    assert!(home.write(|txn| txn.end_graces(GRACE_MS, 9)));
    assert_eq!(all(&home), [(1, blobs[1])]);
    assert!(home.store.write(|txn| txn.add_ref_link(&BlobId([7; 20]), "lab/a")).is_ok());
    home.write(|txn| txn.remove_ref_link(&BlobId([7; 20]), "lab/a"));
    assert_eq!(all(&home), [(1, blobs[1])], "what is not held cannot be unneeded here");
}

#[test]
fn children_are_unneeded_when_it_is_settled_that_their_parent_is() {
    let (home, blobs) = home(2);
    let id = ValueId { boot: BootId([1; 16]), seq: Seq(1), index: 0 };
    let fact = LinkFact { parent: blobs[0], children: vec![fact_of(&home, blobs[1])] };
    home.write(|txn| txn.put_link_fact(&id, &fact));
    home.write(|txn| txn.add_ref_link(&blobs[0], "lab/a"));
    home.write(|txn| txn.settle(9));
    home.write(|txn| txn.end_graces(GRACE_MS, 9));
    home.write(|txn| txn.remove_ref_link(&blobs[0], "lab/a"));
    assert_eq!(all(&home), [(0, blobs[0])]);
    assert!(home.write(|txn| txn.settle(9)));
    assert_eq!(all(&home), [(0, blobs[0]), (1, blobs[1])]);
}

#[test]
fn after_a_replay_the_same_blobs_are_unneeded_under_new_numbers() {
    let (home, blobs) = unneeded(3);
    home.put(&bytes_of(9, 9)).unwrap();
    home.write(|txn| txn.rederive(|txn| txn.add_ref_link(&blobs[1], "lab/a")));
    let mut left = [blobs[0], blobs[2]];
    left.sort_unstable();
    assert_eq!(all(&home), [(3, left[0]), (4, left[1])]);
    home.write(|txn| txn.recount_reach());
    assert_eq!(all(&home), [(3, left[0]), (4, left[1])], "a recount alone changes no number");
}

#[test]
fn ending_graces_when_none_is_due_commits_nothing() {
    let (home, blobs) = home(1);
    let calls = || home.disk.calls();
    let before = calls();
    home.write(|txn| txn.end_graces(GRACE_MS - 1, 9));
    home.write(|txn| txn.renew_grace(&blobs[0], GRACE_MS));
    home.write(|txn| txn.settle(9));
    assert_eq!(calls(), before);
}

#[test]
fn what_was_just_put_lends_its_grace_to_all_that_it_links_to() {
    let (home, old) = unneeded(2);
    let parent = bytes_of(9, 9);
    home.put(&parent).unwrap();
    let link = |from: BlobId, to: BlobId, seq| {
        let id = ValueId { boot: BootId([1; 16]), seq: Seq(seq), index: 0 };
        let fact = LinkFact { parent: from, children: vec![fact_of(&home, to)] };
        home.write(|txn| txn.put_link_fact(&id, &fact));
    };
    link(id_of(&parent), old[0], 1);
    link(old[0], old[1], 2);
    for child in &old {
        assert_eq!(home.snapshot().graced_until_ms(child).unwrap(), Some(GRACE_MS));
    }
    home.write(|txn| txn.end_graces(GRACE_MS, 9));
    assert_eq!(home.snapshot().graced_until_ms(&old[1]).unwrap(), None);
}

#[test]
fn a_blob_that_is_found_whole_keeps_the_grace_it_was_given_meanwhile() {
    let (home, blobs) = home(1);
    let fact = fact_of(&home, blobs[0]);
    home.write(|txn| txn.renew_grace(&blobs[0], GRACE_MS + 5));
    home.write(|txn| txn.note_verified(&fact, 77));
    let record = home.snapshot().blob(&blobs[0]).unwrap().unwrap();
    assert_eq!((record.verified_ms, record.grace_until_ms), (Some(77), GRACE_MS + 5));
    home.delete(&blobs[0]).unwrap();
    home.write(|txn| txn.note_verified(&fact, 78));
    assert_eq!(home.snapshot().blob(&blobs[0]).unwrap(), None, "what has gone does not come back");
}
