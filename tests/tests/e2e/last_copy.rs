//! The last copy by command: `drop --allow-last-copy` gives up what nobody proves another of, and says what it costs.

use keepwell_tests::{Outcome, TempHome};
use serde_json::{Value, json};

use super::network::{two_machines_with, until};
use super::{noise, sha1_of};

/// No grace keeps what was just put, and nothing goes by itself.
const SETTINGS: &str = "\n[gc]\nauto = false\ngrace = \"0s\"\n";

fn put(home: &TempHome, name: &str, bytes: &[u8], args: &[&str]) -> String {
    home.file(name, bytes);
    format!("sha1://{}", sha1_of(&home.run([&["put", name, "--json"], args].concat()).ok()))
}

fn state(home: &TempHome, uri: &str) -> Value {
    home.run(["stat", uri, "--json"]).ok().json()["state"].clone()
}

/// Plays a story on a home that commands work on by themselves, and on one with a daemon.
fn both(story: impl Fn(&TempHome)) {
    let home = TempHome::initialised("ada");
    home.set(SETTINGS);
    story(&home);
    let home = TempHome::initialised("ada");
    home.set(SETTINGS);
    let _daemon = home.up();
    story(&home);
}

#[test]
fn the_last_copy_goes_by_command_with_a_word_on_who_misses_it_and_comes_back_from_the_trash() {
    both(|home| {
        let child = put(home, "child", &noise(1, 50_000), &[]);
        put(home, "parent", b"parent", &["--link", &child, "--ref", "lab/day1"]);
        home.run(["drop", &child, "--json"]).exits(10);
        let gone = home.run(["drop", &child, "--allow-last-copy"]).ok();
        assert!(gone.stderr.contains("lab/day1 now miss"), "{gone:?}");
        assert_eq!(state(home, &child), "trashed");
        let events = home.run(["events", "--json"]).ok().json_lines();
        let noted = events.iter().find(|event| event["event"] == "given_up").unwrap();
        assert!(noted["why"].as_str().unwrap().starts_with("user "), "{noted}");
        assert_eq!(
            home.run(["drop", &child, "--allow-last-copy", "--json"]).exits(10).json()["missing"][0]["need"],
            "a copy here"
        );

        home.run(["undrop", &child]).ok();
        assert_eq!(home.run(["cat", &child]).ok().stdout, noise(1, 50_000));
        let line = until(home, &["drop", &child, "--allow-last-copy", "--json"], |line| line.code == Some(0)).json();
        assert_eq!((&line["dropped"], &line["freed_bytes"], &line["refs"]), (&json!(true), &json!(50_000), &json!(["lab/day1"])));
        home.run(["undrop", &child]).ok();
    });
}

#[test]
fn a_lease_and_a_grace_keep_the_last_copy_also_from_a_command() {
    both(|home| {
        let leased = put(home, "leased", b"leased", &["--ref", "lab/leased"]);
        let lease = home.run(["lease", "add", "--json", &leased]).ok().json();
        let kept = home.run(["drop", &leased, "--allow-last-copy", "--json"]).exits(10).json();
        assert_eq!(kept["missing"][0]["need"], "no lease on it", "{kept}");
        home.run(["lease", "rm", lease["id"].as_str().unwrap()]).ok();
        until(home, &["drop", &leased, "--allow-last-copy"], |line| line.code == Some(0));
    });
    let home = TempHome::initialised("ada");
    let graced = put(&home, "graced", b"graced", &["--ref", "lab/graced"]);
    let kept = home.run(["drop", &graced, "--allow-last-copy", "--json"]).exits(10).json();
    assert_eq!(kept["missing"][0]["need"], "that its grace is over", "{kept}");
}

#[test]
fn only_the_command_line_of_the_machine_itself_gives_up_a_last_copy() {
    let (ada, first, ben, _second) = two_machines_with(SETTINGS);
    let uri = put(&ada, "recording", b"recording", &["--ref", "lab/day1"]);
    let sha1 = uri.trim_start_matches("sha1://");
    assert_eq!(ada.run(["drop", &uri, "--allow-last-copy", "--from", "ben", "--json"]).exits(2).error_code(), "USAGE");
    let refused = ada.http(&format!("DELETE /api/v1/blobs/{sha1}?allow_last_copy=1"), &[], b"");
    assert_eq!(refused.status, 400);
    assert_ne!(state(&ada, &uri), "trashed");
    let missed = |outcome: &Outcome| outcome.code == Some(0) && outcome.json()["dropped"] == true;
    until(&ada, &["drop", &uri, "--allow-last-copy", "--json"], missed);
    // The others hear that it is gone, and of the ref that misses it.
    until(&ben, &["where", "lab/day1", "--json"], |outcome| outcome.code == Some(0) && outcome.json()["holders"] == json!([]));
    ada.run(["undrop", &uri]).ok();
    first.terminate().ok();
    assert_eq!(ada.run(["drop", &uri, "--allow-last-copy", "--json"]).exits(5).error_code(), "UNREACHABLE");
}
