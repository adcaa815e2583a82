//! A home that nears its limit frees space by itself: what was deleted goes sooner, and what is named stays.

use keepwell_tests::{Outcome, TempHome};
use serde_json::Value;

use super::network::{two_machines_with, until, until_found};
use super::{noise, sha1_of};

/// Of a home of 1 MB: high from 970 kB on, low at 400 kB, an emergency from 980 kB on. The disk of the machine is hardly as full.
const SETTINGS: &str = "[gc]\ngrace = \"1s\"\n[disk]\nhigh = \"97%\"\nlow = \"40%\"\nreserve = \"2%\"\n";

fn put(home: &TempHome, seed: u64, len: usize) -> String {
    home.file("file", &noise(seed, len));
    sha1_of(&home.run(["put", "file", "--json"]).ok())
}

fn until_state(home: &TempHome, sha1: &str, state: &str) {
    until(home, &["stat", &format!("sha1://{sha1}"), "--json"], |outcome| outcome.json()["state"] == state);
}

fn status(home: &TempHome) -> Value {
    home.run(["status", "--json"]).ok().json()
}

#[test]
fn a_home_that_nears_its_limit_empties_its_trash_and_keeps_what_is_named() {
    let home = TempHome::new();
    home.run(["init", "--name", "ada", "--max-size", "1MB"]).ok();
    home.set(SETTINGS);
    let daemon = home.up();
    let kept = put(&home, 1, 300_000);
    home.run(["ref", "set", "lab/kept", &format!("data=sha1://{kept}")]).ok();
    let first = put(&home, 2, 200_000);
    until_state(&home, &first, "trashed");
    let (line, gc) = (status(&home), home.http("GET /api/v1/gc", &[], b"").json());
    for line in [&line, &gc] {
        assert_eq!(
            (&line["trash_bytes"], &line["pressure"], &line["to_free_bytes"]),
            (&200_000.into(), &"none".into(), &0.into())
        );
    }

    // The reserve is touched: what was deleted goes, however young it is, and what was put last keeps its grace.
    let second = put(&home, 3, 490_000);
    until_state(&home, &first, "unknown");
    until_state(&home, &second, "trashed");
    // No longer: then what is young in the trash stays, though the low mark is not reached.
    let young = |line: &Value| line["waiting_for"].to_string().contains("brought back");
    let line = until(&home, &["status", "--json"], |outcome| young(&outcome.json())).json();
    assert_eq!(
        (&line["pressure"], &line["trash_bytes"], &line["to_free_bytes"]),
        (&"high".into(), &490_000.into(), &390_000.into())
    );
    home.run(["undrop", &format!("sha1://{second}")]).ok();
    until_state(&home, &second, "trashed");

    // What nobody may free is told.
    let more = put(&home, 4, 200_000);
    home.run(["ref", "set", "lab/more", &format!("data=sha1://{more}")]).ok();
    until_state(&home, &second, "unknown");
    let needed = |line: &Value| line["waiting_for"].to_string().contains("needed here");
    // It is an emergency until the trash has gone, which takes a moment.
    let is_stuck = |line: &Value| needed(line) && line["pressure"] == "high";
    let stuck = until(&home, &["status", "--json"], |outcome| is_stuck(&outcome.json())).json();
    assert_eq!(stuck["to_free_bytes"], 100_000);
    assert_eq!((&stuck["trash_bytes"], &stuck["size_bytes"]), (&0.into(), &500_000.into()));
    let told = home.run(["doctor", "--json"]).json_lines();
    let check = told.iter().find(|line| line["check"] == "pressure").unwrap();
    assert_eq!((&check["state"], needed(&home.http("GET /api/v1/gc", &[], b"").json())), (&"warn".into(), true));
    daemon.terminate().ok();
    assert_eq!(home.run(["cat", "keepwell://lab/kept/data"]).ok().stdout, noise(1, 300_000));
    assert_eq!(home.run(["cat", "keepwell://lab/more/data"]).ok().stdout, noise(4, 200_000));
    home.run(["ref", "rm", "lab/more"]).ok();
    let daemon = home.up();
    until_state(&home, &more, "trashed");
    assert_eq!(
        (&status(&home)["pressure"], &status(&home)["trash_bytes"]),
        (&"none".into(), &200_000.into()),
        "it is left alone"
    );
    daemon.terminate().ok();
    home.run(["fsck", "--verify"]).ok();
}

#[test]
fn a_machine_that_is_full_gives_up_what_another_proves_and_loses_nothing() {
    // Of all that is on any disk, both would give up as much as they may.
    let (ada, first, ben, second) = two_machines_with("[gc]\ngrace = \"1s\"\n[disk]\nhigh = \"0%\"\nreserve = \"100%\"\n");
    let bytes: Vec<Vec<u8>> = (0..6).map(|seed| noise(seed, 30_000)).collect();
    for (seed, bytes) in bytes.iter().enumerate() {
        ada.file(format!("tree/{seed}"), bytes);
    }
    ada.run(["put", "-r", "tree", "--ref", "lab/tree"]).ok();
    let garbage = put(&ada, 9, 40_000);
    let object = ada.run(["ref", "get", "lab/tree", "--json"]).ok().json()["links"][0]["sha1"].as_str().unwrap().to_owned();
    until_found(&ben, &["fetch", "lab/tree"]);
    let holders = |outcome: &Outcome| outcome.json()["holders"].as_array().map_or(0, Vec::len);
    until(&ada, &["where", &format!("sha1://{object}"), "--json"], |outcome| holders(outcome) == 1);
    until(&ben, &["where", &format!("sha1://{object}"), "--json"], |outcome| holders(outcome) == 1);
    until_state(&ada, &garbage, "unknown");
    let total = |home: &TempHome| status(home)["blobs"].as_u64().unwrap();
    until(&ada, &["status", "--json"], |_| total(&ada) + total(&ben) == 7);
    // On a machine that is full no more, so that what it fetches stays, all of it comes together.
    second.terminate().ok();
    let path = ben.path().join("config.toml");
    let calm =
        std::fs::read_to_string(&path).unwrap().replace("reserve = \"100%\"", "reserve = \"0\"").replace("\"0%\"", "\"100%\"");
    std::fs::write(&path, calm).unwrap();
    let second = ben.up();
    until_found(&ben, &["get", "lab/tree", "--to", "whole", "--force"]);
    for (seed, bytes) in bytes.iter().enumerate() {
        assert!(std::fs::read(ben.scratch().join(format!("whole/{seed}"))).unwrap() == *bytes);
    }
    first.terminate().ok();
    second.terminate().ok();
    for home in [&ada, &ben] {
        home.run(["fsck", "--verify"]).ok();
    }
}

#[test]
fn a_home_takes_as_much_as_it_may_hold_and_not_a_byte_more() {
    let (ada, first, ben, second) = two_machines_with("[gc]\nauto = false\n");
    let whole = put(&ada, 1, 100_000);
    second.terminate().ok();
    let limit = |size: &str| {
        std::fs::write(ben.path().join("config.toml"), format!("max_size = \"{size}\"\n[gc]\nauto = false\n")).unwrap();
    };
    limit("99999B");
    let second = ben.up();
    let uri = format!("sha1://{whole}");
    // A fetch and a put are refused before anything of them is here.
    until(&ben, &["fetch", &uri], |outcome| outcome.code == Some(7));
    ben.file("file", &noise(2, 100_000));
    let refused = ben.run(["put", "file", "--json"]).exits(7);
    assert_eq!(refused.error_code(), "NO_SPACE");
    assert_eq!(refused.json()["error"]["details"]["max_size_bytes"], 99_999);
    let refused = ben.http("PUT /api/v1/uploads/x?size_bytes=100000", &[], b"");
    assert_eq!((refused.status, refused.error_code()), (507, "NO_SPACE".to_owned()));
    second.terminate().ok();
    // Without a daemon too.
    ben.run(["put", "file"]).exits(7);
    limit("100000B");
    let second = ben.up();
    until_found(&ben, &["fetch", &uri]);
    ben.run(["put", "file"]).exits(7);
    // What is here already takes no more room.
    ben.file("again", &noise(1, 100_000));
    ben.run(["put", "again"]).ok();
    assert_eq!(status(&ben)["size_bytes"], 100_000);
    for daemon in [first, second] {
        daemon.terminate().ok();
    }
}
