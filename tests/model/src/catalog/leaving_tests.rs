//! Members that leave, with all rules and with each left out.
//!
//! The first node and the second hold the blob. Without a disk that is put back nothing depends on who is waited for: a node purges what
//! it has a copy of for itself, and a value rests on its author's copy, or on those of nodes that know it (R7, R4). What a node has forgotten
//! it must be told before it purges, and who is dead, absent or removed tells nothing; so those worlds are about rollbacks.

use super::leaving::Silence;
use super::tests::BLOB;
use super::*;
use crate::explore::{holds, violated};

/// The first names the blob, and the third deletes what it knows.
pub(super) const FEW: Catalog = Catalog { writers: 0b101, shares: true, ..BLOB };

pub(super) const SILENT: Catalog = Catalog { leaving: SILENCE, ..FEW };

pub(super) const SILENCE: Leaving = Leaving { silence: Silence::Always, ..Leaving::NOBODY };

/// The third says that the first is alive after all, which comes back with an old disk and is the only one to hold the blob.
pub(super) const REVIVED: Catalog = Catalog { leaving: dead(2, 0, true), rollers: 0b001, entries: 5, holds: [1, 0, 0], ..FEW };

/// The third removes the second, which deletes what it knows.
pub(super) const REMOVED: Catalog =
    Catalog { leaving: Leaving { removal: Some((2, 1)), keeps_what_comes_back: true, ..Leaving::NOBODY }, writers: 0b011, ..FEW };

pub(super) const fn dead(admin: usize, of: usize, is_dead: bool) -> Leaving {
    Leaving { deaths: Some((admin, of)), is_dead, ..Leaving::NOBODY }
}

#[test]
fn while_no_disk_is_put_back_whoever_is_taken_for_absent_nothing_is_lost() {
    holds("absent, purges", SILENT);
}

#[test]
fn while_no_disk_is_put_back_the_word_of_who_was_absent_loses_nothing() {
    holds("absent, drops", Catalog { droppers: 0b001, ..SILENT });
}

#[test]
fn rolled_back_while_whoever_knows_is_taken_for_absent_a_blob_is_lost() {
    violated("absent, rolled back", Catalog { rollers: 0b001, ..SILENT });
}

#[test]
fn who_was_rolled_back_and_has_heard_the_absent_since_loses_nothing() {
    let leaving = Leaving { silence: Silence::OnceHeard, ..Leaving::NOBODY };
    holds("absent, rolled back, heard", Catalog { rollers: 0b001, leaving, ..FEW });
}

/// The first was out of reach of the others when its old disk was new.
const LONELY: Catalog = Catalog { leaving: Leaving { absent: [0b110, 0, 0], ..Leaving::NOBODY }, rollers: 0b001, ..FEW };

#[test]
fn silence_of_before_a_start_counts_for_nothing_after_it() {
    holds("silence, rolled back", LONELY);
}

#[test]
fn silence_that_a_rollback_brings_back_loses_a_blob() {
    violated("silence outlives a start", Catalog { broken: Broken::AbsenceOutlivesStart, ..LONELY });
}

#[test]
fn a_dead_member_that_is_revived_loses_nothing() {
    holds("dead, revived", Catalog { leaving: dead(2, 1, true), entries: 5, ..FEW });
    holds("dead, drops", Catalog { leaving: dead(2, 1, false), droppers: 0b001, ..FEW });
}

#[test]
fn that_the_dead_delete_nothing_is_a_second_line() {
    holds("the dead delete", Catalog { leaving: dead(2, 1, true), entries: 5, broken: Broken::DeadDelete, ..FEW });
}

#[test]
fn a_dead_member_that_is_revived_with_an_old_disk_and_not_brought_up_to_date_loses_a_blob() {
    violated("revived, no sync", Catalog { broken: Broken::Resync, ..REVIVED });
}

#[test]
fn rolled_back_while_whoever_knows_is_dead_a_blob_is_lost() {
    let few = Catalog { writers: 0b011, rollers: 0b001, entries: 4, ..FEW };
    violated("rolled back, who knows has died", Catalog { leaving: dead(1, 2, false), ..few.clone() });
    violated("rolled back to when who knows was dead", Catalog { leaving: dead(1, 2, true), ..few });
}

#[test]
fn a_removal_loses_nothing_and_what_it_gives_back_is_there_while_everybody_is_waited_for() {
    holds("removed, purges", REMOVED);
    holds("removed, drops", Catalog { droppers: 0b001, ..REMOVED });
}

#[test]
fn rolled_back_while_whoever_knows_is_removed_a_blob_is_lost() {
    violated("rolled back, who knows was removed", Catalog { rollers: 0b001, entries: 4, ..REMOVED });
}

#[test]
fn a_removal_beside_absent_members_loses_nothing_but_what_it_gives_back() {
    let leaving = |keeps_what_comes_back| Leaving { removal: Some((2, 1)), keeps_what_comes_back, ..SILENCE };
    violated("removed, absent, given back", Catalog { leaving: leaving(true), ..REMOVED });
    holds("removed, absent", Catalog { leaving: leaving(false), ..REMOVED });
}

#[test]
fn what_was_given_up_on_the_word_of_who_is_removed_later_is_gone_with_it() {
    let leaving = Leaving { keeps_what_was_left: true, ..REMOVED.leaving };
    violated("removed after its word", Catalog { leaving, droppers: 0b001, ..REMOVED });
}

#[test]
fn when_the_word_of_who_is_known_to_be_removed_counts_a_blob_is_lost() {
    violated("the removed vouch", Catalog { broken: Broken::RemovedVouch, droppers: 0b001, ..REMOVED });
}

#[test]
fn without_the_barrier_a_removal_gives_back_what_is_gone() {
    violated("barrier, removed", Catalog { broken: Broken::Barrier, ..REMOVED });
}

#[test]
fn when_what_lies_past_a_cut_counts_a_value_loses_its_blob() {
    violated("cut", Catalog { broken: Broken::Cut, ..REMOVED });
}

#[test]
fn a_sweep_that_goes_on_when_a_removal_is_heard_loses_what_it_gives_back() {
    violated("sweep, removed", Catalog { broken: Broken::SweepOutlivesRemoval, ..REMOVED });
}
