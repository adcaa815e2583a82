//! Worlds that take minutes: `scripts/soak models`. Each tells how many states it has, for how long it took, and how much memory so far.

use std::time::Instant;

use super::leaving_tests::{FEW, REMOVED, REVIVED, SILENCE, SILENT, dead};
use super::tests::{BLOB, LINKED};
use super::*;
use crate::explore;

/// Counts a world as passed or failed when it ends, as `scripts/soak` adds up.
struct Tally(Instant);

impl Drop for Tally {
    fn drop(&mut self) {
        let failed = u8::from(std::thread::panicking());
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim();
        println!("tally models: {} passed, {failed} failed; {} s, at most {peak}", 1 - failed, self.0.elapsed().as_secs());
    }
}

/// Visits a world, if the environment asks for the large ones.
fn holds(what: &str, model: Catalog) {
    if std::env::var_os("KEEPWELL_LARGE_MODELS").is_none() {
        return;
    }
    let _tally = Tally(Instant::now());
    explore::holds(what, model);
}

#[test]
fn links_that_two_write_lose_nothing() {
    holds("links, two writers", Catalog { writers: 0b011, ..LINKED });
}

#[test]
fn links_and_a_rollback_lose_nothing() {
    holds("links, rolled back", Catalog { rollers: 0b001, ..LINKED });
}

#[test]
fn links_among_absent_members_lose_nothing() {
    holds("links, absent", Catalog { leaving: SILENCE, ..LINKED });
}

#[test]
fn links_whose_end_is_void_lose_nothing() {
    let leaving = Leaving { removal: Some((1, 2)), ..Leaving::NOBODY };
    holds("links, ended by who is removed", Catalog { leaving, ..LINKED });
}

#[test]
fn absent_members_and_values_of_everybody_lose_nothing() {
    holds("absent, all write", Catalog { leaving: SILENCE, ..BLOB });
}

#[test]
fn a_crash_among_absent_members_loses_nothing() {
    holds("absent, crash", Catalog { crashes: 1, droppers: 0b001, ..SILENT });
}

#[test]
fn a_dead_member_that_is_revived_with_an_old_disk_loses_nothing() {
    holds("revived, rolled back", REVIVED);
    holds("dead, rolled back", Catalog { leaving: dead(2, 0, false), rollers: 0b001, entries: 4, ..FEW });
}

#[test]
fn a_removal_among_four_entries_loses_nothing() {
    holds("removed, four entries", Catalog { entries: 4, droppers: 0b001, ..REMOVED });
}
