//! Every configuration, with all rules and with each left out.

use super::*;
use crate::explore::{holds, violated};

pub(super) const BLOB: Catalog = Catalog {
    broken: Broken::Nothing,
    links: false,
    linkers: 0,
    is_linked: false,
    droppers: 0,
    writers: 0b111,
    shares: false,
    entries: 3,
    co_pins: false,
    holds: [1, 1, 0],
    crashes: 0,
    rollers: 0,
    by_entry: false,
    by_message: false,
    cut_off: true,
    leaving: Leaving::NOBODY,
};

const DROPPED: Catalog = Catalog { droppers: 0b001, ..BLOB };

pub(super) const LINKED: Catalog =
    Catalog { links: true, linkers: 0b100, is_linked: true, holds: [3, 0, 0], entries: 5, writers: 0b001, ..BLOB };

/// The first node holds the parent and the second the child.
const SHARED: Catalog = Catalog { co_pins: true, linkers: 0, holds: [1, 2, 0], entries: 4, ..LINKED };

/// The first node drops and may be rolled back; entries come one by one.
const ROLLED: Catalog = Catalog { writers: 0b101, rollers: 0b001, by_entry: true, cut_off: false, ..DROPPED };

#[test]
fn a_value_that_nobody_deleted_keeps_its_blob() {
    holds("a value that nobody deleted keeps its blob", BLOB);
}

#[test]
fn a_dropped_copy_is_not_the_last() {
    holds("a dropped copy is not the last", DROPPED);
}

#[test]
fn a_crash_loses_nothing() {
    holds("a crash loses nothing", Catalog { crashes: 1, writers: 0b101, ..BLOB });
}

#[test]
fn a_rollback_loses_nothing() {
    holds("a rollback loses nothing", Catalog { rollers: 0b001, ..BLOB });
}

#[test]
fn a_rolled_back_node_that_has_heard_everybody_loses_nothing_by_a_drop() {
    holds("rolled, all reachable", ROLLED);
}

#[test]
fn a_rolled_back_node_that_drops_before_it_has_heard_everybody_loses_a_blob() {
    violated("rolled, cut off", Catalog { broken: Broken::DropsInReach, cut_off: true, ..ROLLED });
}

#[test]
fn without_an_own_copy_a_new_value_loses_its_blob() {
    violated("own copy", Catalog { broken: Broken::OwnCopy, ..BLOB });
}

#[test]
fn a_touch_without_a_copy_loses_its_blob() {
    violated("touch", Catalog { broken: Broken::TouchNeedsCopy, ..BLOB });
}

#[test]
fn without_the_barrier_a_rolled_back_node_purges_what_it_forgot() {
    violated("barrier, rollback", Catalog { broken: Broken::Barrier, rollers: 0b001, ..BLOB });
}

#[test]
fn an_acknowledgement_from_before_a_rollback_loses_a_blob() {
    violated("acks, rollback", Catalog { broken: Broken::AcksOfThisBoot, rollers: 0b001, ..BLOB });
}

#[test]
fn vectors_compared_by_number_alone_lose_a_blob() {
    violated("hashes, rollback", Catalog { broken: Broken::Hashes, rollers: 0b001, writers: 0b001, ..BLOB });
}

#[test]
fn an_attempt_that_goes_on_after_an_add_loses_a_blob() {
    violated("add cancels", Catalog { broken: Broken::AddCancels, ..DROPPED });
}

#[test]
fn vouching_for_a_copy_before_it_is_durable_loses_a_blob() {
    violated("copy persists", Catalog { broken: Broken::CopyPersists, crashes: 1, writers: 0, holds: [1, 0, 0], ..DROPPED });
}

#[test]
fn a_delete_that_is_told_before_it_is_durable_loses_a_blob() {
    violated("entry persists, blob", Catalog { broken: Broken::EntryPersists, crashes: 3, entries: 2, writers: 0b100, ..BLOB });
}

#[test]
fn a_yes_by_a_node_that_does_not_know_the_value_loses_a_blob() {
    violated("answerer", Catalog { broken: Broken::AnswererKnows, ..DROPPED });
}

#[test]
fn without_the_wait_after_a_start_a_drop_loses_a_blob() {
    violated("start", Catalog { broken: Broken::Start, ..ROLLED });
}

#[test]
fn a_link_fact_by_a_node_without_the_child_loses_it() {
    violated(
        "fact closure",
        Catalog { broken: Broken::FactNeedsClosure, linkers: 0b001, is_linked: false, holds: [3, 1, 0], entries: 3, ..LINKED },
    );
}

#[test]
fn a_link_fact_removed_before_convergence_loses_the_child() {
    violated("fact barrier", Catalog { broken: Broken::FactBarrierAndHolders, ..LINKED });
}

#[test]
fn when_who_holds_the_parent_lets_its_links_end_the_child_is_lost() {
    violated("holder says again", Catalog { broken: Broken::HolderSaysAgain, ..LINKED });
}

#[test]
fn links_that_end_while_others_write_lose_nothing() {
    holds("links", LINKED);
}

#[test]
fn two_rules_of_links_are_a_second_line_where_holders_say_them_again() {
    holds("links, not said anew by values", Catalog { broken: Broken::FactsAnew, ..LINKED });
    holds("links, ended at once", Catalog { broken: Broken::FactBarrier, ..LINKED });
}

#[test]
fn co_pins_keep_what_no_single_node_holds_while_nobody_is_rolled_back() {
    holds("co-pins", SHARED);
}

#[test]
fn a_rollback_of_who_promised_loses_what_no_single_node_holds() {
    violated("co-pins, rollback", Catalog { rollers: 0b010, ..SHARED });
}

#[test]
fn an_attempt_that_is_forgotten_to_be_ended_finds_other_values_and_loses_nothing() {
    holds("add cancels, but compared", Catalog { broken: Broken::AddCancelsAlone, ..DROPPED });
}
