//! One node on a disk that fails: a story is told, the disk fails at one call, and everything acknowledged is there afterwards.
//!
//! With `KEEPWELL_SEEDS=N` each of N stories is broken at every call (`scripts/soak`), else a few stories at some. A failure prints
//! its case; `KEEPWELL_CASE` runs that one alone.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use keepwell_node::sim::one_node::workload::Scale;
use keepwell_node::sim::one_node::{Case, Failure, Fault, Hands, Ran, run};
use keepwell_protocol::gc::permit::{Ground, Permit};
use keepwell_protocol::id::BlobId;
use keepwell_store::error::StoreError;
use keepwell_store::fs::sim::Lies;
use keepwell_store::layout::{blob_file, trash_file, trash_folder};
use keepwell_store::store::Store;
use keepwell_store::unlink::Unlinked;

const SHORT_SEEDS: u64 = 3;
/// A prime, so that over the seeds every kind of call is met.
const SHORT_STRIDE: usize = 43;
/// Seeds within which each broken variant must be caught.
const MUTANT_SEEDS: u64 = 4;
const MUTANT_STRIDE: usize = 7;

/// Makes the fault that strikes at a call.
type At = fn(u64) -> Fault;

const CRASH: At = |call| Fault::Crash { call, again: None };

fn permit(blob: BlobId) -> Permit {
    Permit::mint_for_test(blob, Ground::Purge)
}

fn honest() -> Hands {
    Hands::honest(permit)
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// The calls at which the story of `seed` is broken.
fn calls_of(seed: u64, stride: usize) -> impl Iterator<Item = u64> {
    let ran = run(Case::short(seed, Fault::None), &honest()).unwrap_or_else(|failure| panic!("{failure}"));
    let first = 1 + seed % stride as u64;
    (first..=ran.calls).step_by(stride)
}

/// Breaks stories with faults of one kind, tells how many cases passed, and fails with the first that did not.
#[track_caller]
fn sweep(kind: &str, at: At) {
    let (seeds, stride) = number("KEEPWELL_SEEDS").map_or((SHORT_SEEDS, SHORT_STRIDE), |seeds| (seeds, 1));
    let from = number("KEEPWELL_FROM").unwrap_or(0);
    let (mut passed, mut failures) = (0, Vec::new());
    for seed in from..from + seeds {
        for call in calls_of(seed, stride) {
            match run(Case::short(seed, at(call)), &honest()) {
                Ok(_) => passed += 1,
                Err(failure) => failures.push(failure),
            }
        }
    }
    println!("tally {kind}: {passed} passed, {} failed", failures.len());
    assert!(failures.is_empty(), "{}", failures[0]);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_crash_at_any_call() {
    sweep("crash", CRASH);
}

#[test]
fn nothing_acknowledged_is_lost_by_crashes_during_the_start_after_a_crash() {
    sweep("crash-again", |call| Fault::Crash { call, again: Some(call * 7 % 61 + 1) });
}

#[test]
fn nothing_acknowledged_is_lost_by_an_input_output_error_at_any_call() {
    sweep("io", |call| Fault::Io { call });
}

#[test]
fn nothing_acknowledged_is_lost_when_the_disk_fills_at_any_call() {
    sweep("full", |call| Fault::Full { call });
}

#[test]
fn without_faults_a_node_is_what_its_oracle_says() {
    for seed in 100..108 {
        let case = Case { check_each: true, ..Case::short(seed, Fault::None) };
        run(case, &honest()).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn a_long_story_whose_epochs_roll_goes_as_its_oracle_says() {
    let case = Case { scale: Scale::LONG, ..Case::short(1, Fault::None) };
    let ran = run(case, &honest()).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(ran.epoch > 0, "{ran:?}");
}

#[test]
fn equal_cases_go_equally() {
    let case = Case::short(5, CRASH(400));
    assert_eq!(run(case, &honest()).unwrap(), run(case, &honest()).unwrap());
    let careless = || found(&Hands { unlink: unlink_without_looking, ..honest() }, CRASH).to_string();
    assert_eq!(careless(), careless());
}

/// `KEEPWELL_CASE='12 crash 345'` runs that case alone.
#[test]
fn the_case_of_the_environment_passes() {
    let Ok(text) = env::var("KEEPWELL_CASE") else { return };
    let (seed, fault) = text.split_once(' ').expect("KEEPWELL_CASE is `SEED FAULT`");
    let case = Case::short(seed.parse().expect("a seed is a number"), fault.parse().expect("a legal fault"));
    match run(case, &honest()) {
        Ok(ran) => println!("{text}: {ran:?}"),
        Err(failure) => panic!("{failure}"),
    }
}

/// One case of a broken variant. A disk that breaks its word may leave an index on which the database itself gives up.
fn attempt(case: Case, hands: &Hands) -> Result<Ran, String> {
    match catch_unwind(AssertUnwindSafe(|| run(case, hands))) {
        Ok(outcome) => outcome.map_err(|failure: Box<Failure>| failure.to_string()),
        Err(_) => Err(format!("{case:?}: docs/SAFETY.md S3 is broken: the index is past reading")),
    }
}

/// The first case, within the stated seeds, in which a broken variant is caught.
#[track_caller]
fn found(hands: &Hands, at: At) -> String {
    let mut cases = 0;
    for seed in 0..MUTANT_SEEDS {
        for call in calls_of(seed, MUTANT_STRIDE) {
            cases += 1;
            if let Err(failure) = attempt(Case::short(seed, at(call)), hands) {
                println!("caught in case {cases}, seed {seed}, call {call}");
                return failure;
            }
        }
    }
    panic!("not caught in {cases} cases of {MUTANT_SEEDS} seeds");
}

#[track_caller]
fn assert_breaks(failure: &str, invariants: &[&str]) {
    let names = |number: &&&str| failure.contains(&format!("docs/SAFETY.md {number} is broken"));
    assert!(invariants.iter().any(|number| names(&number)), "expected one of {invariants:?}: {failure}");
}

#[test]
fn a_disk_that_ignores_file_syncs_is_caught() {
    let lies = Lies { file_syncs: true, ..Lies::default() };
    assert_breaks(&found(&Hands { lies, ..honest() }, CRASH), &["S1", "S5"]);
}

#[test]
fn a_disk_that_ignores_folder_syncs_is_caught() {
    let lies = Lies { folder_syncs: true, ..Lies::default() };
    assert_breaks(&found(&Hands { lies, ..honest() }, CRASH), &["S1", "S5"]);
}

#[test]
fn a_database_that_ignores_syncs_is_caught() {
    let lies = Lies { database_syncs: true, ..Lies::default() };
    assert_breaks(&found(&Hands { lies, ..honest() }, CRASH), &["S2", "S3"]);
}

#[test]
fn a_reply_before_the_commit_is_caught() {
    assert_breaks(&found(&Hands { is_hasty: true, ..honest() }, CRASH), &["S3"]);
}

#[test]
fn a_copied_home_that_keeps_its_boot_is_caught() {
    let hands = Hands { copies_unseen: true, ..honest() };
    assert_breaks(&attempt(Case::short(0, Fault::None), &hands).expect_err("one position, two entries"), &["S14"]);
}

/// A worker that does as it was told, without reading the queue again under the blob's lock.
fn unlink_without_looking(store: &Store, id: &BlobId, _now_ms: u64) -> Result<Unlinked, StoreError> {
    let moved = store.fs().create_folders(&[trash_folder()]).and_then(|()| store.fs().rename(&blob_file(id), &trash_file(id)));
    Ok(moved.map_or_else(|error| Unlinked::Failed(error.to_string()), |()| Unlinked::Done))
}

#[test]
fn a_worker_that_unlinks_what_was_put_again_is_caught() {
    let hands = Hands { unlink: unlink_without_looking, ..honest() };
    // Looked at after each request: a later put of the same bytes would mend it.
    let case = Case { check_each: true, ..Case::short(0, Fault::None) };
    assert_breaks(&attempt(case, &hands).expect_err("a blob put again is gone"), &["S3", "S5"]);
}
