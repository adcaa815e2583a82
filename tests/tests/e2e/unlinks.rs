//! Files of deleted blobs that cannot be moved away: told everywhere, tried again, and in nobody's way.

use std::fs;

use keepwell_tests::{Outcome, TempHome};
use serde_json::json;

use super::network::until;
use super::{noise, sha1_of};

fn put(home: &TempHome, name: &str, seed: u64) -> String {
    home.file(name, &noise(seed, 30_000));
    sha1_of(&home.run(["put", name, "--json"]).ok())
}

fn says(event: &str) -> impl Fn(&Outcome) -> bool + '_ {
    move |outcome| outcome.json_lines().iter().any(|line| line["event"] == event)
}

#[test]
fn a_file_that_cannot_be_moved_away_is_told_retried_and_holds_up_nothing() {
    let home = TempHome::initialised("ada");
    home.set("\n[gc]\nauto = false\n");
    let daemon = home.up();
    let (stuck, free) = (put(&home, "stuck", 1), put(&home, "free", 2));
    let in_the_way = home.path().join("trash").join(&stuck);
    fs::create_dir_all(in_the_way.join("x")).unwrap();

    let lines = home.run(["gc", "--run", "--grace", "0s", "--json"]).ok().json_lines();
    assert_eq!(lines.last().unwrap()["unlinks_failed"], 1);
    assert!(home.path().join("trash").join(&free).is_file(), "the other one went");
    assert_eq!(home.run(["status", "--json"]).ok().json()["unlinks_failed"], 1);
    assert!(home.run(["status"]).ok().text().contains("could not be moved away"));

    let lines = home.run(["doctor", "--json"]).exits(9).json_lines();
    let line = lines.iter().find(|line| line["check"] == "unlinks").unwrap();
    let message = line["message"].as_str().unwrap();
    assert!(message.contains(in_the_way.to_str().unwrap()) && message.contains(" directory"), "{line}");
    assert_ne!(line["hint"], "");
    let told = until(&home, &["events", "--json"], says("unlink_failed")).json_lines();
    assert!(told.iter().any(|line| line["blobs"] == json!([stuck])));

    // It is tried again by itself, and what was mended is told too.
    fs::remove_dir_all(&in_the_way).unwrap();
    until(&home, &["events", "--json"], says("unlinked"));
    assert_eq!(home.run(["status", "--json"]).ok().json()["unlinks_failed"], 0);
    home.run(["doctor"]).ok();
    assert!(in_the_way.is_file());
    home.run(["undrop", &format!("sha1://{stuck}")]).ok();
    daemon.terminate().ok();
    home.run(["fsck", "--verify"]).ok();
}

#[test]
fn what_a_stopped_daemon_left_is_taken_up_by_the_next() {
    let home = TempHome::initialised("ada");
    let stuck = put(&home, "stuck", 1);
    let in_the_way = home.path().join("trash").join(&stuck);
    fs::create_dir_all(&in_the_way).unwrap();
    let lines = home.run(["gc", "--run", "--grace", "0s", "--json"]).ok().json_lines();
    assert_eq!(lines.last().unwrap()["unlinks_failed"], 1);
    home.run(["doctor"]).exits(9);
    fs::remove_dir(&in_the_way).unwrap();
    let _daemon = home.up();
    until(&home, &["status", "--json"], |status| status.json()["unlinks_failed"] == 0);
    assert!(in_the_way.is_file());
}
