//! Rot: a daemon finds it by itself, counts the copy no more, and fetches another one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keepwell_tests::{Outcome, TempHome};
use serde_json::{Value, json};

use super::network::{two_machines_with, until, until_found};
use super::{blob_file, noise, sha1_of};

/// A pass each second or so, and no collections.
const OFTEN: &str = "\n[gc]\nauto = false\n\n[scrub]\nperiod = \"1s\"\n";

fn put(home: &TempHome, name: &str, len: usize) -> String {
    home.file(name, &noise(len as u64, len));
    sha1_of(&home.run(["put", name, "--json", "--ref", &format!("lab/{name}")]).ok())
}

fn flip_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[50_000] ^= 1;
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

fn event(outcome: &Outcome, word: &str) -> Option<Value> {
    outcome.json_lines().into_iter().find(|line| line["event"] == word)
}

fn check<'a>(lines: &'a [Value], name: &str) -> &'a Value {
    lines.iter().find(|line| line["check"] == name).unwrap()
}

#[test]
fn a_rotten_copy_is_put_aside_and_fetched_again_from_another_machine() {
    let (ada, _first, ben, _second) = two_machines_with(OFTEN);
    let (rots, vanishes) = (put(&ada, "rots", 200_000), put(&ada, "vanishes", 100_000));
    for name in ["lab/rots", "lab/vanishes"] {
        until_found(&ben, &["fetch", name]);
    }
    for sha1 in [&rots, &vanishes] {
        let at_both = |outcome: &Outcome| outcome.json()["holders"].as_array().unwrap().len() == 2;
        until(&ada, &["where", &format!("sha1://{sha1}"), "--json"], at_both);
    }
    flip_bit(&blob_file(&ben, &rots));
    fs::remove_file(blob_file(&ben, &vanishes)).unwrap();
    let repaired = |outcome: &Outcome| {
        let lines = outcome.json_lines();
        [&rots, &vanishes]
            .iter()
            .all(|sha1| lines.iter().any(|line| line["event"] == "repaired" && line["blobs"] == json!([sha1])))
    };
    let told = until(&ben, &["events", "--json"], repaired);
    let found: Vec<Value> = told.json_lines().into_iter().filter(|line| line["event"] == "rot").collect();
    assert_eq!(found.len(), 2);
    assert!(event(&told, "repaired").unwrap()["why"].as_str().unwrap().contains("ada"));
    assert_eq!(ben.run(["cat", "lab/rots"]).ok().stdout, noise(200_000, 200_000));
    assert_eq!(ben.run(["cat", "lab/vanishes"]).ok().stdout, noise(100_000, 100_000));
    assert_eq!(fs::metadata(ben.path().join("quarantine").join(&rots)).unwrap().len(), 200_000, "nothing is deleted");
    assert_eq!(ben.run(["ref", "get", "lab/rots", "--json"]).ok().json()["durable"], 1);
}

#[test]
fn a_rotten_copy_that_nobody_else_has_is_told_and_its_ref_shows_it_missing() {
    let home = TempHome::initialised("ada");
    home.set(OFTEN);
    let (sha1, small) = (put(&home, "rots", 200_000), put(&home, "good", 90_000));
    let daemon = home.up();
    let passed = |outcome: &Outcome| outcome.json()["last_scrub_ms"].is_u64();
    until(&home, &["status", "--json"], passed);
    assert_eq!(check(&home.run(["doctor", "--json"]).json_lines(), "scrub")["state"], "ok");
    flip_bit(&blob_file(&home, &sha1));
    let told = until(&home, &["events", "--json"], |outcome| event(outcome, "rot").is_some());
    assert_eq!(event(&told, "rot").unwrap()["blobs"], json!([sha1]));
    assert_eq!(home.run(["ref", "get", "lab/rots", "--json"]).ok().json()["durable"], 0);
    assert_eq!(home.run(["where", &format!("sha1://{sha1}"), "--json"]).ok().json()["holders"], json!([]));
    assert_eq!(home.run(["ref", "get", "lab/good", "--json"]).ok().json()["durable"], 1);
    assert_eq!(home.run(["stat", &format!("sha1://{small}"), "--json"]).ok().json()["state"], "verified");
    let lines = home.run(["doctor", "--json"]).exits(9).json_lines();
    let line = check(&lines, "scrub");
    assert!(line["message"].as_str().unwrap().contains(&sha1) && line["hint"] != "", "{line}");
    // Counted at the end of the portion in which it was found.
    until(&home, &["status", "--json"], |status| status.json()["rotten"].as_u64().unwrap() >= 1);

    // Put again, and all is well.
    home.run(["put", "rots"]).ok();
    assert_eq!(home.run(["ref", "get", "lab/rots", "--json"]).ok().json()["durable"], 1);
    home.run(["doctor"]).ok();
    daemon.terminate().ok();
    home.run(["fsck", "--verify"]).ok();
}

#[test]
fn what_fsck_gave_up_is_fetched_again_when_the_daemon_starts() {
    let (ada, _first, ben, second) = two_machines_with("\n[gc]\nauto = false\n");
    let sha1 = put(&ada, "rots", 200_000);
    until_found(&ben, &["fetch", "lab/rots"]);
    second.terminate().ok();
    flip_bit(&blob_file(&ben, &sha1));
    ben.run(["fsck", "--verify", "--repair"]).ok();
    assert_eq!(ben.run(["ref", "get", "lab/rots", "--json"]).ok().json()["durable"], 0);
    let _again = ben.up();
    until(&ben, &["events", "--json"], |outcome| event(outcome, "repaired").is_some());
    assert_eq!(ben.run(["ref", "get", "lab/rots", "--json"]).ok().json()["durable"], 1);
}

#[test]
fn nothing_is_read_when_it_is_switched_off() {
    let home = TempHome::initialised("ada");
    home.set("\n[scrub]\nauto = false\nperiod = \"1s\"\n");
    let sha1 = put(&home, "rots", 200_000);
    flip_bit(&blob_file(&home, &sha1));
    let _daemon = home.up();
    assert_eq!(home.run(["status", "--json"]).ok().json()["last_scrub_ms"], json!(null));
    assert_eq!(check(&home.run(["doctor", "--json"]).json_lines(), "scrub")["state"], "ok");
}
