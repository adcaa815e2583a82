//! Garbage: what nothing names goes, what is named stays, and what went by mistake comes back.

use std::io::{Read, Write};

use keepwell_tests::{Outcome, TempHome};
use serde_json::Value;

use super::network::{two_machines, two_machines_with, until, until_found};
use super::{noise, sha1_of};

const RUN: [&str; 5] = ["gc", "--run", "--grace", "0s", "--json"];
const PREVIEW: [&str; 4] = ["gc", "--grace", "0s", "--json"];

fn put(home: &TempHome, name: &str, bytes: &[u8]) -> String {
    home.file(name, bytes);
    sha1_of(&home.run(["put", name, "--json"]).ok())
}

fn state(home: &TempHome, sha1: &str) -> Value {
    home.run(["stat", &format!("sha1://{sha1}"), "--json"]).ok().json()["state"].clone()
}

/// The blobs that a collection names, and its last line.
fn collected(outcome: &Outcome) -> (Vec<String>, Value) {
    let mut lines = outcome.json_lines();
    let summary = lines.pop().unwrap_or_default();
    let named = lines.iter().map(|line| line["sha1"].as_str().unwrap_or_default().to_owned()).collect();
    (named, summary)
}

#[test]
fn what_nothing_names_goes_and_what_is_named_stays() {
    let home = TempHome::initialised("ada");
    let (small, large) = (put(&home, "small", b"garbage"), put(&home, "large", &noise(1, 100_000)));
    let kept = put(&home, "kept", b"kept");
    home.run(["ref", "set", "lab/kept", &format!("data=sha1://{kept}")]).ok();

    let (named, summary) = collected(&home.run(["gc", "--run", "--json"]).ok());
    assert!(named.is_empty(), "what was just put has a grace");
    assert_eq!(summary["kept"], serde_json::json!({"grace": 2, "ref": 1}));

    let (mut previewed, summary) = collected(&home.run(PREVIEW).ok());
    assert_eq!((&summary["run"], &summary["candidates"], &summary["freed_bytes"]), (&false.into(), &2.into(), &0.into()));
    let (mut purged, summary) = collected(&home.run(RUN).ok());
    assert_eq!((&summary["run"], &summary["freed_bytes"]), (&true.into(), &100_007.into()));
    previewed.sort();
    purged.sort();
    let mut garbage = vec![small.clone(), large.clone()];
    garbage.sort();
    assert_eq!((&previewed, &purged), (&garbage, &garbage));
    for sha1 in [&small, &large] {
        assert_eq!(state(&home, sha1), "trashed");
        home.run(["cat", &format!("sha1://{sha1}")]).exits(8);
    }
    assert_eq!(home.run(["cat", "keepwell://lab/kept/data"]).ok().stdout, b"kept");
    home.run(["fsck", "--verify"]).ok();

    home.run(["undrop", &format!("sha1://{small}"), &format!("sha1://{large}")]).ok();
    assert_eq!(home.run(["cat", &format!("sha1://{large}")]).ok().stdout, noise(1, 100_000));
    assert_eq!(home.run(["cat", &format!("sha1://{small}")]).ok().stdout, b"garbage");
    home.run(["fsck", "--verify"]).ok();

    home.run(["ref", "rm", "lab/kept"]).ok();
    let (purged, _) = collected(&home.run(RUN).ok());
    assert_eq!(purged.len(), 3, "the ref is gone, and with it the need");
    assert_eq!(
        home.run(["undrop", "sha1://0123456789012345678901234567890123456789", "--json"]).exits(3).error_code(),
        "NOT_FOUND"
    );
}

#[test]
fn what_a_directory_links_to_lives_and_goes_with_it() {
    let home = TempHome::initialised("ada");
    home.file("tree/a", b"a");
    home.file("tree/deep/b", &noise(2, 50_000));
    home.run(["put", "-r", "tree", "--ref", "lab/tree"]).ok();
    let (named, _) = collected(&home.run(RUN).ok());
    assert!(named.is_empty());
    home.run(["ref", "rm", "lab/tree"]).ok();
    let (named, summary) = collected(&home.run(RUN).ok());
    assert_eq!((named.len(), &summary["kept"]), (3, &serde_json::json!({})));
}

#[test]
fn a_circle_of_links_goes_with_its_last_name() {
    let home = TempHome::initialised("ada");
    let uri = |sha1: &str| format!("sha1://{sha1}");
    let one = put(&home, "one", b"one");
    home.file("two", b"two");
    let two = sha1_of(&home.run(["put", "two", "--link", &uri(&one), "--json"]).ok());
    home.run(["put", "one", "--link", &uri(&two)]).ok();
    home.run(["ref", "set", "lab/circle", &format!("data={}", uri(&one))]).ok();
    assert!(collected(&home.run(RUN).ok()).0.is_empty());
    home.run(["ref", "rm", "lab/circle"]).ok();
    let mut purged = collected(&home.run(RUN).ok()).0;
    purged.sort();
    let mut both = vec![one, two];
    both.sort();
    assert_eq!(purged, both);
    home.run(["fsck", "--verify"]).ok();
}

#[test]
fn nothing_goes_before_every_machine_knows_that_it_may() {
    let (ada, first, ben, second) = two_machines();
    let sha1 = put(&ada, "recording", &noise(3, 200_000));
    ada.run(["ref", "set", "lab/day1", &format!("data=sha1://{sha1}")]).ok();
    until_found(&ben, &["fetch", "lab/day1"]);
    let (named, _) = collected(&ben.run(RUN).ok());
    assert!(named.is_empty(), "a ref of another machine protects it here too");

    second.terminate().ok();
    ada.run(["ref", "rm", "lab/day1"]).ok();
    let refused = ada.run(RUN).exits(10);
    let blocked = refused.json_lines()[0]["blocked_by"].as_str().unwrap_or_default().to_owned();
    assert!(blocked.contains("ben"), "{blocked}");
    assert_eq!(ben.run(RUN).exits(5).error_code(), "UNREACHABLE", "without its daemon it cannot know what others wrote");

    let second = ben.up();
    // Whoever comes first: the command, or the daemon by itself, now that the grace is over.
    for home in [&ada, &ben] {
        until(home, &RUN, |_| state(home, &sha1) == "trashed");
    }
    first.terminate().ok();
    second.terminate().ok();
}

#[test]
fn a_machine_that_is_declared_dead_is_not_waited_for() {
    let (ada, first, ben, second) = two_machines();
    let sha1 = put(&ada, "garbage", b"garbage");
    second.terminate().ok();
    put(&ada, "more", b"more garbage");
    assert!(ada.run(RUN).exits(10).json_lines()[0]["blocked_by"].as_str().unwrap_or_default().contains("ben"));
    assert_eq!(ben.run(["node", "dead", "ada", "--json"]).exits(6).error_code(), "DENIED", "ben is no admin");
    assert_eq!(ada.run(["node", "dead", "cleo", "--json"]).exits(3).error_code(), "NOT_FOUND");
    assert_eq!(ada.run(["node", "dead", "ada", "--json"]).exits(2).error_code(), "USAGE");

    let line = ada.run(["node", "dead", "ben", "--json"]).ok().json();
    assert_eq!((&line["name"], &line["state"]), (&"ben".into(), &"dead".into()));
    assert_eq!(ada.run(["status", "--json"]).ok().json()["converged"], true);
    // Whoever comes first: the command, or the daemon by itself, which no longer waits for ben.
    until(&ada, &RUN, |_| state(&ada, &sha1) == "trashed");
    assert_eq!(ada.run(["node", "revive", "ben", "--json"]).ok().json()["state"], "absent");
    put(&ada, "still more", b"still more garbage");
    ada.run(RUN).exits(10);
    first.terminate().ok();
}

#[test]
fn what_was_just_put_keeps_what_it_links_to() {
    let home = TempHome::initialised("ada");
    let child = put(&home, "child", b"child");
    home.run(["ref", "set", "lab/child", &format!("data=sha1://{child}")]).ok();
    home.run(RUN).ok();
    home.run(["ref", "rm", "lab/child"]).ok();
    // Its own grace is over and no ref names it; a parent is put that needs it.
    home.file("parent", b"parent");
    home.run(["put", "parent", "--link", &format!("sha1://{child}")]).ok();
    for args in [&["gc", "--json"][..], &["gc", "--run", "--json"]] {
        let (named, summary) = collected(&home.run(args).ok());
        assert_eq!((named.len(), &summary["kept"]), (0, &serde_json::json!({"grace": 2})));
    }
    assert_eq!(state(&home, &child), "verified");
    assert_eq!(collected(&home.run(RUN).ok()).0.len(), 2);
}

#[test]
fn what_another_machine_names_again_comes_back_from_the_trash_by_itself() {
    let (ada, first, ben, second) = two_machines();
    let sha1 = put(&ada, "recording", &noise(4, 200_000));
    ada.run(["ref", "set", "lab/day1", &format!("data=sha1://{sha1}")]).ok();
    until_found(&ben, &["fetch", "lab/day1"]);
    ada.run(["ref", "rm", "lab/day1"]).ok();
    until(&ada, &RUN, |_| state(&ada, &sha1) == "trashed");

    // Ben still holds it, and finds that it is needed after all.
    ben.run(["ref", "set", "lab/again", &format!("data=sha1://{sha1}")]).ok();
    until(&ada, &["stat", &format!("sha1://{sha1}"), "--json"], |outcome| outcome.json()["state"] == "verified");
    second.terminate().ok();
    assert_eq!(ada.run(["cat", "keepwell://lab/again/data"]).ok().stdout, noise(4, 200_000));
    first.terminate().ok();
    ada.run(["fsck", "--verify"]).ok();
}

#[test]
fn a_daemon_deletes_by_itself_what_nothing_needs_when_its_grace_is_over() {
    let home = TempHome::initialised("ada");
    home.set("[gc]\ngrace = \"3s\"\n");
    let daemon = home.up();
    let before = home.http("GET /api/v1/gc", &[], b"").json();
    assert_eq!((&before["auto"], &before["last"], &before["blocked_by"]), (&true.into(), &Value::Null, &Value::Null));
    home.file("kept", b"kept");
    let kept = sha1_of(&home.run(["put", "kept", "--ref", "lab/kept", "--json"]).ok());
    let (small, large) = (put(&home, "small", b"garbage"), put(&home, "large", &noise(5, 100_000)));
    for sha1 in [&small, &large] {
        until(&home, &["stat", &format!("sha1://{sha1}"), "--json"], |outcome| outcome.json()["state"] == "trashed");
    }
    assert_eq!(state(&home, &kept), "verified");
    let after = home.http("GET /api/v1/gc", &[], b"").json();
    assert_eq!((&after["last"]["by_itself"], &after["unneeded"]), (&true.into(), &0.into()), "{after}");
    assert!(after["last"]["scanned"].as_u64() >= after["last"]["blobs"].as_u64() && after["last"]["longest_step_us"].is_u64());
    assert_eq!((&after["last"]["errors"], &after["last"]["kept"]), (&0.into(), &serde_json::json!({})), "{after}");
    assert_eq!(home.run(["status", "--json"]).ok().json()["last_gc_ms"], after["last"]["at_ms"]);
    home.run(["undrop", &format!("sha1://{large}")]).ok();
    daemon.terminate().ok();
    home.run(["fsck", "--verify"]).ok();
}

#[test]
fn when_the_last_name_goes_every_machine_deletes_by_itself() {
    let (ada, first, ben, second) = two_machines_with("[gc]\ngrace = \"5s\"\n");
    ada.file("recording", &noise(6, 200_000));
    let sha1 = sha1_of(&ada.run(["put", "recording", "--ref", "lab/day1", "--json"]).ok());
    until_found(&ben, &["fetch", "lab/day1"]);
    assert_eq!((state(&ada, &sha1), state(&ben, &sha1)), ("verified".into(), "verified".into()));
    ben.run(["ref", "rm", "lab/day1"]).ok();
    for home in [&ada, &ben] {
        until(home, &["stat", &format!("sha1://{sha1}"), "--json"], |outcome| outcome.json()["state"] == "trashed");
    }
    first.terminate().ok();
    second.terminate().ok();
}

#[test]
fn what_is_being_read_is_read_to_its_end_although_it_goes_for_good_meanwhile() {
    let home = TempHome::initialised("ada");
    home.set("[gc]\nauto = false\n");
    let _daemon = home.up();
    // More than fits in all buffers between the two.
    let bytes = noise(7, 24 << 20);
    let sha1 = put(&home, "large", &bytes);
    let mut reader = home.connect();
    write!(reader, "GET /api/v1/blobs/{sha1} HTTP/1.1\r\nHost: keepwell\r\nConnection: close\r\n\r\n").unwrap();
    let mut read = vec![0; 1_000];
    reader.read_exact(&mut read).unwrap();
    let (named, _) = collected(&home.run(["gc", "--run", "--grace", "0s", "--to-free", "24MiB", "--json"]).ok());
    assert_eq!((named, state(&home, &sha1)), (vec![sha1.clone()], "unknown".into()));
    assert_eq!(std::fs::read_dir(home.path().join("trash")).unwrap().count(), 0);
    reader.read_to_end(&mut read).unwrap();
    assert!(read.starts_with(b"HTTP/1.1 200") && read.ends_with(&bytes));
}

#[test]
fn so_much_is_freed_as_is_asked_for_and_its_space_with_it() {
    let home = TempHome::initialised("ada");
    let blobs: Vec<String> = (0..4).map(|number| put(&home, &format!("b{number}"), &noise(10 + number, 100_000))).collect();
    let free = |size: &str| home.run(["gc", "--run", "--grace", "0s", "--to-free", size, "--json"]);
    let held = || blobs.iter().filter(|sha1| state(&home, sha1) == "verified").count();
    let (named, summary) = collected(&free("150kB").ok());
    assert_eq!((&summary["freed_bytes"], held()), (&200_000.into(), 2), "no more than it takes: {named:?}");
    assert!(blobs.iter().all(|sha1| state(&home, sha1) != "trashed"), "and its space is free");
    assert_eq!(std::fs::read_dir(home.path().join("trash")).unwrap().count(), 0);

    home.run([
        "ref",
        "set",
        "lab/kept",
        &format!("data=sha1://{}", blobs.iter().find(|sha1| state(&home, sha1) == "verified").unwrap()),
    ])
    .ok();
    let refused = free("1MB").exits(10);
    assert_eq!(refused.error_code(), "UNSAFE", "{refused:?}");
    assert_eq!(held(), 1);
    home.run(["fsck", "--verify"]).ok();
}
