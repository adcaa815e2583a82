//! Two files with one SHA-1: the first keeps its name, the second is refused. See `data/README.md` for where they come from.

use keepwell_tests::{Outcome, TempHome};

use super::network::{two_machines, until_found};

const FIRST: &[u8] = include_bytes!("../../data/sha-mbles-1.bin");
const SECOND: &[u8] = include_bytes!("../../data/sha-mbles-2.bin");

/// Tells the story of a pair; `put` puts the file of that name.
fn play(home: &TempHome, first: &[u8], second: &[u8]) {
    assert_ne!(first, second);
    home.file("first", first);
    home.file("second", second);
    let put = |name: &str| home.run(["put", name, "--json"]);
    let kept = put("first").ok().json();
    let refused = put("second").exits(9);
    assert_eq!(refused.error_code(), "COLLISION");
    let details = refused.json()["error"]["details"].clone();
    assert_eq!((&details["sha1"], &details["kept_b3"]), (&kept["sha1"], &kept["b3"]));
    assert_ne!(details["refused_b3"], kept["b3"]);
    assert_eq!(home.run(["cat", kept["sha1"].as_str().unwrap()]).ok().stdout, first);
    assert_eq!(put("first").ok().json()["existed"], true);
    let both: Outcome = home.run(["put", "first", "second", "--json"]).exits(4);
    assert_eq!(both.json_lines()[1]["error"]["code"], "COLLISION");
    home.run(["fsck", "--verify"]).ok();
}

/// A common suffix keeps the collision: after the colliding blocks, SHA-1 is in one state for both.
fn extended(bytes: &[u8], len: usize) -> Vec<u8> {
    [bytes, &vec![7; len]].concat()
}

#[test]
fn the_second_of_a_small_pair_is_refused() {
    play(&TempHome::initialised("ada"), FIRST, SECOND);
}

#[test]
fn the_second_of_a_pair_in_files_is_refused() {
    let home = TempHome::initialised("ada");
    play(&home, &extended(FIRST, 20_000), &extended(SECOND, 20_000));
}

#[test]
fn a_pair_of_several_groups_is_told_apart() {
    play(&TempHome::initialised("ada"), &extended(FIRST, 300_000), &extended(SECOND, 300_000));
}

#[test]
fn of_a_pair_in_one_command_the_first_is_kept() {
    for len in [0, 20_000] {
        let home = TempHome::initialised("ada");
        home.file("first", &extended(FIRST, len));
        home.file("second", &extended(SECOND, len));
        let lines = home.run(["put", "first", "second", "--json"]).exits(4).json_lines();
        assert_eq!((&lines[0]["path"], &lines[1]["error"]["code"]), (&"first".into(), &"COLLISION".into()));
        assert_eq!(home.run(["cat", lines[0]["sha1"].as_str().unwrap()]).ok().stdout, extended(FIRST, len));
    }
}

#[test]
fn a_uri_that_names_the_other_one_is_not_answered_with_this_one() {
    let home = TempHome::initialised("ada");
    home.file("first", FIRST);
    let put = home.run(["put", "first", "--json"]).ok().json();
    let sha1 = put["sha1"].as_str().unwrap();
    home.run(["cat", &format!("sha1://{sha1}?b3={}", put["b3"].as_str().unwrap())]).ok();
    let other = format!("sha1://{sha1}?b3={}", "0".repeat(64));
    assert_eq!(home.run(["cat", &other, "--json"]).exits(9).error_code(), "INTEGRITY");
}

#[test]
fn a_node_that_knows_the_first_by_a_ref_refuses_the_second() {
    for len in [0, 300_000] {
        let (first, second) = (extended(FIRST, len), extended(SECOND, len));
        let (ada, _up_ada, ben, _up_ben) = two_machines();
        ada.file("first", &first);
        ben.file("second", &second);
        let kept = ada.run(["put", "first", "--ref", "lab/x#data", "--json"]).ok().json();
        until_found(&ben, &["ref", "get", "lab/x"]);
        let refused = ben.run(["put", "second", "--json"]).exits(9);
        assert_eq!(refused.error_code(), "COLLISION");
        assert_eq!(refused.json()["error"]["details"]["kept_b3"], kept["b3"]);
        ben.run(["fetch", "lab/x"]).ok();
        assert!(ben.run(["cat", "lab/x"]).ok().stdout == first);
        assert_eq!(ben.run(["put", "second", "--json"]).exits(9).error_code(), "COLLISION");
    }
}

#[test]
fn nodes_that_each_took_another_one_are_told_and_never_given_the_wrong_one() {
    for len in [0, 300_000] {
        let (first, second) = (extended(FIRST, len), extended(SECOND, len));
        let (ada, up_ada, ben, up_ben) = two_machines();
        // They do not hear from each other while each takes another one of the pair.
        up_ben.terminate().ok();
        ada.file("first", &first);
        ben.file("second", &second);
        let uri = ada.run(["put", "first", "--ref", "lab/x#data"]).ok().text().replace("?label=first", "");
        ben.run(["put", "second"]).ok();
        let up_ben = ben.up();
        let refused = |home: &TempHome, name: &str| {
            let line = until_found(home, &["ref", "get", name, "--json"]).json();
            assert_eq!((&line["links"][0]["here"], &line["durable"]), (&false.into(), &0.into()));
            assert_eq!(home.run(["fetch", name, "--json"]).exits(9).error_code(), "COLLISION");
            assert_eq!(home.run(["cat", name, "--json"]).exits(9).error_code(), "INTEGRITY");
            home.run(["get", name, "--to", "out", "--json"]).exits(9);
            assert!(!home.scratch().join("out").exists());
        };
        refused(&ben, "lab/x");
        ben.run(["ref", "set", "lab/y", &format!("data={uri}")]).ok();
        refused(&ada, "lab/y");
        assert!(ada.run(["cat", "lab/x"]).ok().stdout == first);
        assert!(ben.run(["cat", "lab/y"]).ok().stdout == second);
        for (home, daemon) in [(&ada, up_ada), (&ben, up_ben)] {
            daemon.terminate().ok();
            home.run(["fsck", "--verify"]).ok();
        }
    }
}
