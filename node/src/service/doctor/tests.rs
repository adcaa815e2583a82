//! A home that something is wrong with, and what is said of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::home::config::{Config, Origin};
use crate::home::lock::HomeLock;
use crate::limits::{CLOCK_SKEW_MS, STALE_INGEST_MS};
use crate::local::Local;
use crate::service::Node;
use crate::service::refs::{self, SetRef};

struct Patient {
    _folder: tempfile::TempDir,
    location: Location,
}

impl Patient {
    fn new() -> Patient {
        let folder = tempfile::tempdir().unwrap();
        let location = Location { path: folder.path().join("home"), origin: Origin::Default };
        Patient { _folder: folder, location }
    }

    fn made() -> Patient {
        let patient = Patient::new();
        drop(Local::init(patient.path(), DurationMs(0), None, "lab".parse().unwrap(), "ada".parse().unwrap()).unwrap());
        patient
    }

    fn path(&self) -> &PathBuf {
        &self.location.path
    }

    fn lines_at(&self, now_ms: u64) -> Vec<CheckLine> {
        let config = Config::load(&home::config_file(self.path()), &|_| None);
        let config = config.map_err(|error| Failure::from(home::HomeError::from(error)));
        examine(&self.location, config, now_ms, || Ok(None))
    }

    /// What is not in order, by check.
    fn found(&self) -> Vec<(String, CheckState)> {
        // The clock of the machine: the disk writes the time on files by it too.
        let now_ms = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        bad(self.lines_at(now_ms))
    }
}

/// How much space there is depends on the machine that runs the test.
fn bad(lines: Vec<CheckLine>) -> Vec<(String, CheckState)> {
    lines
        .into_iter()
        .filter(|line| line.state != CheckState::Ok && !["space", "pressure"].contains(&line.check.as_str()))
        .map(|line| (line.check, line.state))
        .collect()
}

fn one(check: &str, state: CheckState) -> Vec<(String, CheckState)> {
    vec![(check.to_owned(), state)]
}

#[test]
fn a_new_home_is_in_order_and_everything_was_looked_at() {
    let lines = Patient::made().lines_at(0);
    assert_eq!(bad(lines.clone()), []);
    let checks: Vec<&str> = lines.iter().map(|line| line.check.as_str()).collect();
    let all = [
        "home",
        "key",
        "filesystem",
        "config",
        "daemon",
        "space",
        "index",
        "standing",
        "clock",
        "forks",
        "unlinks",
        "scrub",
        "quarantine",
        "ingest",
        "pressure",
    ];
    assert_eq!(checks, all);
}

#[test]
fn no_home_is_the_only_thing_that_is_told() {
    let patient = Patient::new();
    assert_eq!(patient.found(), one("home", CheckState::Problem));
    let hint = &patient.lines_at(0)[0].hint;
    assert!(hint.contains("keepwell init") && hint.contains("keepwell join"), "{hint}");
    fs::write(patient.path(), "a file").unwrap();
    assert_eq!(patient.found(), one("home", CheckState::Problem));
}

#[test]
fn each_thing_that_is_wrong_is_told_once_and_the_rest_is_looked_at() {
    let patient = Patient::made();
    let key = patient.path().join("identity.key");
    fs::write(home::config_file(patient.path()), "max_sise = \"1GiB\"\n").unwrap();
    assert_eq!(patient.found(), one("config", CheckState::Problem));
    fs::write(home::config_file(patient.path()), "").unwrap();
    fs::create_dir(patient.path().join("quarantine")).unwrap();
    fs::write(patient.path().join("quarantine/x"), "x").unwrap();
    assert_eq!(patient.found(), one("quarantine", CheckState::Warn));
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(patient.found()[0], ("key".to_owned(), CheckState::Problem));
}

#[test]
fn the_key_of_another_node_is_a_problem() {
    let patient = Patient::made();
    fs::write(patient.path().join("identity.key"), [9; 32]).unwrap();
    assert_eq!(patient.found(), one("index", CheckState::Problem));
}

#[test]
fn a_home_that_somebody_holds_without_answering_is_a_problem() {
    let patient = Patient::made();
    let _held = HomeLock::acquire(patient.path(), DurationMs(0)).unwrap();
    let lines = patient.lines_at(0);
    let line = lines.last().unwrap();
    assert_eq!((line.check.as_str(), line.code.as_deref()), ("socket", Some("HOME_BUSY")));
    assert!(line.message.contains(&format!("process {}", std::process::id())), "{line:?}");
}

#[test]
fn a_daemon_adds_what_it_found_in_itself() {
    let patient = Patient::made();
    let _held = HomeLock::acquire(patient.path(), DurationMs(0)).unwrap();
    let config = Config::load(&home::config_file(patient.path()), &|_| None).map_err(|error| Failure::usage(error.to_string()));
    let lines = examine(&patient.location, config, 0, || Ok(Some(vec![warn("peers", "0 of 1 connected")])));
    assert_eq!(bad(lines), one("peers", CheckState::Warn));
}

#[test]
fn a_ref_past_clock_skew_ms_in_the_future_is_told() {
    let patient = Patient::made();
    let local = Local::open(patient.path(), DurationMs(0)).unwrap();
    let set_at_ms = refs::set(&local, SetRef::new("lab/a".parse().unwrap(), "{}".into())).unwrap().set_at_ms;
    let snapshot = local.store().snapshot().unwrap();
    drop(local);
    drop(snapshot);
    assert_eq!(bad(patient.lines_at(set_at_ms - CLOCK_SKEW_MS)), []);
    assert_eq!(bad(patient.lines_at(set_at_ms - CLOCK_SKEW_MS - 1)), one("clock", CheckState::Warn));
}

#[test]
fn a_file_that_a_put_left_is_told_after_stale_ingest_ms() {
    let patient = Patient::made();
    let local = Local::open(patient.path(), DurationMs(0)).unwrap();
    let folder = patient.path().join("ingest");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(local.new_ingest().to_string());
    fs::write(&file, "x").unwrap();
    let written = file.metadata().unwrap().modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    let written_ms = u64::try_from(written.as_millis()).unwrap();
    let at = |now_ms| bad(checks(&Inside { store: local.store(), home: patient.path(), max_size_bytes: None, now_ms }, None));
    assert_eq!(at(written_ms + STALE_INGEST_MS), []);
    assert_eq!(at(written_ms + STALE_INGEST_MS + 1), one("ingest", CheckState::Warn));
}
