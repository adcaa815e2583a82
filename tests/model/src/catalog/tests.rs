//! Every configuration, with all rules and with each left out.

use super::*;

const BLOB: Catalog = Catalog {
    broken: Broken::Nothing,
    links: false,
    is_linked: false,
    droppers: 0,
    writers: 0b111,
    entries: 3,
    holds: [1, 1, 0],
    crashes: 0,
    rollers: 0,
    by_entry: false,
    by_message: false,
    cut_off: true,
};

const DROPPED: Catalog = Catalog { droppers: 0b001, ..BLOB };

const LINKED: Catalog = Catalog { links: true, is_linked: true, holds: [3, 0, 0], entries: 5, writers: 0b101, ..BLOB };

/// The first node drops and may be rolled back; entries come one by one.
const ROLLED: Catalog = Catalog { writers: 0b101, rollers: 0b001, by_entry: true, cut_off: false, ..DROPPED };

#[test]
fn a_value_that_nobody_deleted_keeps_its_blob() {
    BLOB.holds("a value that nobody deleted keeps its blob");
}

#[test]
fn a_dropped_copy_is_not_the_last() {
    DROPPED.holds("a dropped copy is not the last");
}

#[test]
fn a_crash_loses_nothing() {
    Catalog { crashes: 1, writers: 0b101, ..BLOB }.holds("a crash loses nothing");
}

#[test]
fn a_rollback_loses_nothing() {
    Catalog { rollers: 0b001, ..BLOB }.holds("a rollback loses nothing");
}

#[test]
fn a_rolled_back_node_that_has_heard_everybody_loses_nothing_by_a_drop() {
    ROLLED.holds("rolled, all reachable");
}

#[test]
fn a_rolled_back_node_that_drops_before_it_has_heard_everybody_loses_a_blob() {
    Catalog { broken: Broken::DropsInReach, cut_off: true, ..ROLLED }.is_violated("rolled, cut off");
}

#[test]
fn without_an_own_copy_a_new_value_loses_its_blob() {
    Catalog { broken: Broken::OwnCopy, ..BLOB }.is_violated("own copy");
}

#[test]
fn a_touch_without_a_copy_loses_its_blob() {
    Catalog { broken: Broken::TouchNeedsCopy, ..BLOB }.is_violated("touch");
}

#[test]
fn without_the_barrier_a_rolled_back_node_purges_what_it_forgot() {
    Catalog { broken: Broken::Barrier, rollers: 0b001, ..BLOB }.is_violated("barrier, rollback");
}

#[test]
fn an_acknowledgement_from_before_a_rollback_loses_a_blob() {
    Catalog { broken: Broken::AcksOfThisBoot, rollers: 0b001, ..BLOB }.is_violated("acks, rollback");
}

#[test]
fn vectors_compared_by_number_alone_lose_a_blob() {
    Catalog { broken: Broken::Hashes, rollers: 0b001, writers: 0b001, ..BLOB }.is_violated("hashes, rollback");
}

#[test]
fn an_attempt_that_goes_on_after_an_add_loses_a_blob() {
    Catalog { broken: Broken::AddCancels, ..DROPPED }.is_violated("add cancels");
}

#[test]
fn vouching_for_a_copy_before_it_is_durable_loses_a_blob() {
    Catalog { broken: Broken::CopyPersists, crashes: 1, writers: 0, holds: [1, 0, 0], ..DROPPED }.is_violated("copy persists");
}

#[test]
fn a_delete_that_is_told_before_it_is_durable_loses_a_blob() {
    Catalog { broken: Broken::EntryPersists, crashes: 3, entries: 2, writers: 0b100, ..BLOB }.is_violated("entry persists, blob");
}

#[test]
fn a_yes_by_a_node_that_does_not_know_the_value_loses_a_blob() {
    Catalog { broken: Broken::AnswererKnows, ..DROPPED }.is_violated("answerer");
}

#[test]
fn without_the_wait_after_a_start_a_drop_loses_a_blob() {
    Catalog { broken: Broken::Start, ..ROLLED }.is_violated("start");
}

#[test]
fn a_link_fact_by_a_node_without_the_child_loses_it() {
    Catalog { broken: Broken::FactNeedsClosure, is_linked: false, holds: [3, 1, 0], entries: 3, ..LINKED }
        .is_violated("fact closure");
}

#[test]
fn a_link_fact_removed_before_convergence_loses_the_child() {
    Catalog { broken: Broken::FactBarrier, ..LINKED }.is_violated("fact barrier");
}
