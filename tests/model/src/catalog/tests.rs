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
fn a_value_keeps_what_its_object_links_to() {
    LINKED.holds("a value keeps what its object links to");
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
fn y_rolled() {
    ROLLED.holds("rolled, all reachable");
}

#[test]
fn y_rolled_cut_off() {
    Catalog { cut_off: true, ..ROLLED }.is_violated("rolled, cut off");
}

#[test]
fn y_rolled_linked() {
    Catalog { rollers: 0b001, ..LINKED }.is_violated("rolled, linked");
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
fn x_barrier_roll() {
    Catalog { broken: Broken::Barrier, rollers: 0b001, ..BLOB }.is_violated("barrier, rollback");
}

#[test]
fn x_acks_roll() {
    Catalog { broken: Broken::AcksOfThisBoot, rollers: 0b001, ..BLOB }.is_violated("acks, rollback");
}

#[test]
fn x_hashes() {
    Catalog { broken: Broken::Hashes, rollers: 0b001, writers: 0b001, ..BLOB }.is_violated("hashes, rollback");
}

#[test]
fn x_add_cancels() {
    Catalog { broken: Broken::AddCancels, ..DROPPED }.is_violated("add cancels");
}

#[test]
fn x_copy_persists() {
    Catalog { broken: Broken::CopyPersists, crashes: 1, writers: 0, holds: [1, 0, 0], ..DROPPED }.is_violated("copy persists");
}

#[test]
fn x_entry_persists() {
    Catalog { broken: Broken::EntryPersists, crashes: 3, entries: 2, writers: 0b100, ..BLOB }.is_violated("entry persists, blob");
}

#[test]
fn x_answerer() {
    Catalog { broken: Broken::AnswererKnows, ..DROPPED }.is_violated("answerer");
}

#[test]
fn x_start() {
    Catalog { broken: Broken::Start, ..ROLLED }.is_violated("start");
}

#[test]
fn x_fact_closure() {
    Catalog { broken: Broken::FactNeedsClosure, is_linked: false, holds: [3, 1, 0], entries: 3, ..LINKED }.is_violated("fact closure");
}

#[test]
fn x_fact_barrier() {
    Catalog { broken: Broken::FactBarrier, ..LINKED }.is_violated("fact barrier");
}

#[test]
fn x_facts_anew() {
    Catalog { broken: Broken::FactsAnew, ..LINKED }.is_violated("facts anew");
}
