//! Every configuration, with all rules and with each left out.

use super::*;

const BLOB: Catalog = Catalog {
    broken: Broken::Nothing,
    links: false,
    droppers: 0,
    writers: 0b111,
    entries: 3,
    holds: [1, 1, 0],
    crashes: 0,
    rollbacks: 0,
    by_message: false,
    cut_off: true,
};

const LINKED: Catalog = Catalog { links: true, holds: [3, 3, 0], entries: 4, droppers: 0, ..BLOB };

#[test]
fn a_value_that_nobody_deleted_keeps_its_blob() {
    BLOB.holds("a value that nobody deleted keeps its blob");
}

#[test]
fn without_an_own_copy_a_new_value_loses_its_blob() {
    Catalog { broken: Broken::OwnCopy, ..BLOB }.is_violated("own copy");
}

#[test]
fn a_dropped_copy_is_not_the_last() {
    Catalog { droppers: 0b001, ..BLOB }.holds("a dropped copy is not the last");
}

#[test]
fn linked() {
    LINKED.holds("linked");
}
