//! Refs that lapse: what they named goes, what is used stays, and all machines agree.

use std::time::{SystemTime, UNIX_EPOCH};

use keepwell_tests::TempHome;

use super::network::{two_machines_with, until, until_found};
use super::{noise, sha1_of};

/// What was put is soon garbage when nothing needs it, and not before it is named.
const SHORT_GRACE: &str = "\n[gc]\ngrace = \"2s\"\n";

fn put(home: &TempHome, name: &str, bytes: &[u8]) -> String {
    home.file(name, bytes);
    sha1_of(&home.run(["put", name, "--json"]).ok())
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn until_gone(home: &TempHome, name: &str) {
    until(home, &["ref", "get", name], |outcome| outcome.code == Some(3));
}

fn until_trashed(home: &TempHome, sha1: &str) {
    until(home, &["stat", &format!("sha1://{sha1}"), "--json"], |outcome| outcome.json()["state"] == "trashed");
}

#[test]
fn a_ref_that_lapses_goes_by_itself_on_all_machines_and_what_it_named_with_it() {
    let (ada, first, ben, second) = two_machines_with(SHORT_GRACE);
    let sha1 = put(&ada, "data", &noise(1, 100_000));
    ada.run(["ref", "set", "lab/day1", &format!("data=sha1://{sha1}")]).ok();
    until_found(&ben, &["fetch", "lab/day1"]);
    let obj = ada.run(["ref", "get", "lab/day1"]).ok().text().to_owned();
    let set = ada.run(["ref", "set", "lab/day1", "--obj", &obj, "--expires", "3s", "--json"]).ok().json();
    for home in [&ada, &ben] {
        until_gone(home, "lab/day1");
        assert!(now_ms() >= set["expires_ms"].as_u64().unwrap(), "it has gone too early");
        until_trashed(home, &sha1);
        let status = home.run(["status", "--json"]).ok().json();
        assert_eq!(status["clock"], serde_json::json!({"suspended": false, "reason": null}));
    }
    for daemon in [first, second] {
        daemon.terminate().ok();
    }
}

#[test]
fn a_ref_that_is_used_outlives_one_that_is_not() {
    let home = TempHome::initialised("ada");
    let daemon = home.up();
    let sha1 = put(&home, "file", b"used");
    for name in ["lab/used", "lab/unused"] {
        home.run(["ref", "set", name, &format!("data=sha1://{sha1}"), "--ttl-access", "6s"]).ok();
    }
    // Each look at the one that nobody uses is followed by a use of the other.
    until(&home, &["ref", "ls", "--json"], |listed| {
        home.run(["ref", "touch", "lab/used"]).ok();
        listed.json_lines().len() == 1
    });
    assert_eq!(home.run(["cat", "keepwell://lab/used/data"]).ok().stdout, b"used");
    until_gone(&home, "lab/used");
    daemon.terminate().ok();
}

#[test]
fn without_a_daemon_a_collection_ends_what_has_lapsed() {
    let home = TempHome::initialised("ada");
    let sha1 = put(&home, "file", b"file");
    home.run(["ref", "set", "lab/x", &format!("data=sha1://{sha1}"), "--expires", "1ms"]).ok();
    home.run(["ref", "get", "lab/x"]).ok();
    home.run(["gc", "--grace", "0s"]).ok();
    home.run(["ref", "get", "lab/x"]).ok();
    home.run(["gc", "--run", "--grace", "0s"]).ok();
    home.run(["ref", "get", "lab/x"]).exits(3);
    until_trashed(&home, &sha1);
}

#[test]
fn a_use_that_changes_nothing_writes_nothing() {
    let home = TempHome::initialised("ada");
    let set = home.run(["ref", "set", "lab/x", "--obj", "{}", "--ttl-access", "7d", "--json"]).ok().json();
    assert_eq!(home.run(["ref", "touch", "lab/x", "--json"]).ok().json()["rev"], set["rev"]);
    let plain = home.run(["ref", "set", "lab/y", "--obj", "{}", "--json"]).ok().json();
    assert_eq!(home.run(["ref", "touch", "lab/y", "--json"]).ok().json()["rev"], plain["rev"]);
}

#[test]
fn reading_what_a_ref_names_is_a_use_of_it() {
    let home = TempHome::initialised("ada");
    let sha1 = put(&home, "file", b"file");
    let uri = format!("data=sha1://{sha1}");
    for read in [&["cat", "keepwell://lab/x/data"][..], &["get", "lab/x", "--to", "out", "--force"], &["ref", "touch", "lab/x"]] {
        let set = home.run(["ref", "set", "lab/x", &uri, "--ttl-access", "1s", "--json"]).ok().json();
        let found = until(&home, &["ref", "get", "lab/x", "--json"], |found| {
            home.run(read).ok();
            found.json()["rev"] != set["rev"]
        });
        assert!(found.json()["expires_ms"].as_u64() > set["expires_ms"].as_u64(), "{read:?}");
    }
    let set = home.run(["ref", "set", "lab/x", &uri, "--expires", "1d", "--json"]).ok().json();
    home.run(["cat", "keepwell://lab/x/data"]).ok();
    assert_eq!(home.run(["ref", "get", "lab/x", "--json"]).ok().json()["rev"], set["rev"], "an end is an end");
}

#[test]
fn a_use_where_the_data_is_not_is_written_by_a_holder_and_nothing_is_fetched_for_it() {
    let (ada, first, ben, second) = two_machines_with("");
    let sha1 = put(&ada, "data", &noise(1, 100_000));
    let uri = format!("data=sha1://{sha1}");
    let set = ada.run(["ref", "set", "lab/x", &uri, "--ttl-access", "20s", "--json"]).ok().json();
    until_found(&ben, &["ref", "get", "lab/x"]);
    let touched = until(&ben, &["ref", "touch", "lab/x", "--json"], |touched| touched.json()["rev"] != set["rev"]).json();
    assert_eq!((&touched["set_by"], &touched["links"][0]["here"]), (&"ada".into(), &false.into()));
    assert!(touched["expires_ms"].as_u64() > set["expires_ms"].as_u64());
    first.terminate().ok();
    let soon = touched["expires_ms"].as_u64().unwrap() - 20_000 + 2_000;
    until(&ben, &["ref", "get", "lab/x"], |_| now_ms() > soon);
    ben.run(["ref", "touch", "lab/x"]).exits(8);
    second.terminate().ok();
}

#[test]
fn a_machine_that_has_heard_nobody_since_its_start_ends_no_ref() {
    let (ada, first, _ben, second) = two_machines_with("");
    let set = ada.run(["ref", "set", "lab/x", "--obj", "{}", "--expires", "5s", "--json"]).ok().json();
    let expires_ms = set["expires_ms"].as_u64().unwrap();
    for daemon in [second, first] {
        daemon.terminate().ok();
    }
    let first = ada.up();
    let clock = |suspended: bool| {
        let told = until(&ada, &["status", "--json"], |told| told.json()["clock"]["suspended"] == suspended);
        told.json()["clock"]["reason"].clone()
    };
    assert_eq!(clock(true), "no other member has told the time lately");
    until(&ada, &["ref", "get", "lab/x"], |_| now_ms() > expires_ms + 2_000);
    ada.run(["ref", "get", "lab/x"]).ok();
    assert!(ada.run(["status"]).ok().text().contains("no ref expires by it"));
    let checks = ada.run(["doctor", "--json"]).ok().json_lines();
    let told =
        |line: &serde_json::Value| line["message"].as_str().is_some_and(|message| message.contains("no ref expires by it"));
    assert!(checks.iter().any(|line| line["check"] == "clock" && line["state"] == "ok" && told(line)), "{checks:?}");

    // There is nobody else any more who could tell the time.
    ada.run(["node", "dead", "ben"]).ok();
    until_gone(&ada, "lab/x");
    assert_eq!(clock(false), serde_json::Value::Null);
    first.terminate().ok();
}
