//! Surplus copies: given up when others prove theirs, and never the last one, over real sockets.

use std::collections::BTreeSet;

use keepwell_node::limits::MAX_CONFIRM_WAIT_MS;
use keepwell_tests::{Outcome, TempHome};
use serde_json::json;

use super::network::{two_machines, until, until_found};
use super::{noise, sha1_of};

/// Whether the machine holds the blob, by its records.
fn holds(home: &TempHome, sha1: &str) -> bool {
    let state = home.run(["stat", &format!("sha1://{sha1}"), "--json"]).ok().json()["state"].clone();
    state == "here" || state == "verified"
}

fn is_given_up(outcome: &Outcome) -> bool {
    outcome.code == Some(0) && outcome.json()["dropped"] == true
}

#[test]
fn a_copy_that_another_machine_proves_is_given_up_and_the_last_one_is_not() {
    let (ada, first, ben, second) = two_machines();
    let bytes = noise(1, 300_000);
    ada.file("recording", &bytes);
    let sha1 = sha1_of(&ada.run(["put", "recording", "--json", "--ref", "lab/day1"]).ok());
    let uri = format!("sha1://{sha1}");
    let refused = ada.run(["drop", &uri, "--json"]).exits(10).json();
    assert_eq!(
        (&refused["dropped"], &refused["missing"][0]["why"]),
        (&false.into(), &"0 of 1 other copies can be proven".into())
    );

    until_found(&ben, &["fetch", "lab/day1"]);
    let line = until(&ada, &["drop", &uri, "--json"], is_given_up).json();
    assert_eq!((&line["freed_bytes"], &line["missing"]), (&300_000.into(), &json!([])));
    assert!(!holds(&ada, &sha1) && holds(&ben, &sha1));
    let refused = ben.run(["drop", &uri]).exits(10);
    assert!(refused.text().contains("0 of 1 other copies can be proven"), "{refused:?}");

    ada.run(["undrop", &uri]).ok();
    let gone = until_status(&ada, &format!("DELETE /api/v1/blobs/{sha1}"), 200);
    assert_eq!((&gone["dropped"], &gone["freed_bytes"]), (&true.into(), &300_000.into()));

    // It comes back from the trash, or from whoever kept it.
    ada.run(["undrop", &uri]).ok();
    until(&ada, &["drop", &uri, "--json"], is_given_up);
    assert_eq!(ada.run(["cat", &uri]).ok().stdout, bytes);

    ben.run(["ref", "set", "lab/day1", &format!("data={uri}"), "--copies", "2"]).ok();
    let refused =
        until(&ada, &["drop", &uri, "--json"], |outcome| outcome.code == Some(10) && outcome.text().contains("of 2")).json();
    assert_eq!(
        refused["missing"],
        json!([{"need": "2 proven on other disks", "why": "1 of 2 other copies can be proven", "node": null}])
    );
    second.terminate().ok();
    let refused = ada.run(["drop", &uri, "--json"]).exits(10).json();
    assert_eq!(refused["missing"][1]["node"], "ben", "{refused}");
    assert_eq!(ben.run(["drop", &uri, "--json"]).exits(5).error_code(), "UNREACHABLE");
    first.terminate().ok();
    for home in [&ada, &ben] {
        home.run(["fsck", "--verify"]).ok();
    }
}

#[test]
fn another_machine_gives_up_its_copy_when_it_is_asked_to_and_keeps_the_last_one() {
    let (ada, first, ben, second) = two_machines();
    ada.file("recording", &noise(1, 300_000));
    let sha1 = sha1_of(&ada.run(["put", "recording", "--json", "--ref", "lab/day1"]).ok());
    let uri = format!("sha1://{sha1}");
    until_found(&ben, &["fetch", "lab/day1"]);
    let from_ben = ["drop", &uri, "--from", "ben", "--json"];
    let line = until(&ada, &from_ben, is_given_up).json();
    assert_eq!((&line["sha1"], &line["freed_bytes"], &line["missing"]), (&sha1.as_str().into(), &300_000.into(), &json!([])));
    assert!(holds(&ada, &sha1) && !holds(&ben, &sha1));
    let none = ada.run(from_ben).exits(10).json();
    assert_eq!(none["missing"], json!([{"need": "a copy there", "why": "that node has none", "node": null}]));
    let last = ben.run(["drop", &uri, "--from", "ada", "--json"]).exits(10).json();
    assert_eq!(last["missing"][0]["why"], "0 of 1 other copies can be proven");
    assert_eq!(ada.run(["drop", &uri, "--from", "cleo", "--json"]).exits(3).error_code(), "NOT_FOUND");
    let itself = ada.run(["drop", &uri, "--from", "ada", "--json"]).exits(10).json();
    assert_eq!(itself["missing"][0]["why"], "0 of 1 other copies can be proven");

    // The same over HTTP.
    let asks = |home: &TempHome, line: &str| home.http(line, &[], b"");
    assert_eq!(asks(&ada, &format!("DELETE /api/v1/blobs/{sha1}?from=ben")).status, 404);
    let kept = asks(&ben, &format!("DELETE /api/v1/blobs/{sha1}?from=ada"));
    assert_eq!((kept.status, kept.error_code().as_str()), (409, "UNSAFE"));
    until_found(&ben, &["fetch", "lab/day1"]);
    until(&ada, &["where", &uri, "--json"], |outcome| outcome.json()["holders"].as_array().unwrap().len() == 2);
    let body = json!({"sha1": [sha1], "from": "ben"}).to_string();
    let gone = ada.http("POST /api/v1/blobs/drop", &[], body.as_bytes()).json();
    assert_eq!((&gone["blobs"][0]["dropped"], holds(&ada, &sha1)), (&true.into(), true), "{gone}");

    second.terminate().ok();
    let gone = until(&ada, &from_ben, |outcome| outcome.code == Some(5));
    assert!(gone.error_code() == "UNREACHABLE" && gone.text().contains("ben is not connected"), "{gone:?}");
    first.terminate().ok();
    assert_eq!(ada.run(from_ben).exits(5).error_code(), "UNREACHABLE");
    assert_eq!(ada.run(["drop", &uri, "--from", "cleo", "--json"]).exits(3).error_code(), "NOT_FOUND");
}

/// Asks until the answer has this status; its body.
fn until_status(home: &TempHome, line: &str, status: u16) -> serde_json::Value {
    let began = std::time::Instant::now();
    loop {
        let answer = home.http(line, &[], b"");
        if answer.status == status {
            return answer.json();
        }
        assert!(began.elapsed().as_secs() < 60, "{line}: {} {}", answer.status, answer.json());
    }
}

#[test]
fn what_no_ref_needs_and_what_is_not_there_is_told_apart() {
    let home = TempHome::initialised("ada");
    home.file("garbage", b"garbage");
    let sha1 = sha1_of(&home.run(["put", "garbage", "--json"]).ok());
    let line = home.run(["drop", &format!("sha1://{sha1}"), "--json"]).exits(10).json();
    assert_eq!(line["missing"][0]["need"], "a ref that reaches it");
    let line = home.run(["drop", "sha1://0123456789012345678901234567890123456789", "--json"]).exits(10).json();
    assert_eq!(line["missing"][0]["why"], "this node has none");

    let daemon = home.up();
    let kept = home.http(&format!("DELETE /api/v1/blobs/{sha1}"), &[], b"");
    assert_eq!((kept.status, kept.json()["error"]["code"].as_str()), (409, Some("UNSAFE")));
    assert_eq!(kept.json()["error"]["details"]["missing"][0]["need"], "a ref that reaches it");
    let none = home.http("DELETE /api/v1/blobs/0123456789012345678901234567890123456789", &[], b"");
    assert_eq!(none.status, 404);
    daemon.terminate().ok();
}

#[test]
fn a_ref_is_waited_for_until_as_many_copies_are_proven_as_it_asks_for() {
    let (ada, first, ben, second) = two_machines();
    ada.file("recording", &noise(1, 300_000));
    let sha1 = sha1_of(&ada.run(["put", "recording", "--json"]).ok());
    let set = ["ref", "set", "lab/day1", &format!("data=sha1://{sha1}"), "--copies", "2"];
    second.terminate().ok();
    let late = ada.run(set.iter().chain(&["--wait", "--timeout", "1s", "--json"])).exits(8);
    let lines = late.json_lines();
    assert_eq!((&lines[0]["durable"], &lines[0]["copies"]), (&1.into(), &2.into()));
    assert_eq!(lines[1]["error"]["code"], "TIMEOUT");

    let mut waiting = ada.start(set.iter().chain(&["--wait", "--timeout", "60s", "--json"]));
    let second = ben.up();
    assert_eq!(waiting.next_json()["durable"], 2);
    waiting.finish().ok();
    assert_eq!(ben.run(["ref", "get", "lab/day1", "--confirm", "--json"]).ok().json()["durable"], 2);
    second.terminate().ok();
    let line = ada.run(["ref", "get", "lab/day1", "--confirm", "--json"]).ok().json();
    assert_eq!((&line["durable"], &line["unproven"]), (&1.into(), &json!(["ben"])));
    assert_eq!(ada.run(["ref", "get", "lab/day1", "--json"]).ok().json().get("unproven"), None, "nobody was asked");
    assert_eq!(ben.run(["ref", "get", "lab/day1", "--confirm", "--json"]).exits(5).error_code(), "UNREACHABLE");
    let asks = |wait_ms: u64| ada.http(&format!("GET /api/v1/refs/lab/day1?confirm=1&wait_ms={wait_ms}"), &[], b"").status;
    assert_eq!(asks(MAX_CONFIRM_WAIT_MS + 1), 400);
    ada.run(["ref", "set", "lab/day1", &format!("data=sha1://{sha1}")]).ok();
    assert_eq!(asks(MAX_CONFIRM_WAIT_MS), 200, "there is nothing to wait for");
    first.terminate().ok();

    let alone = TempHome::initialised("cleo");
    alone.file("note", b"note");
    let sha1 = sha1_of(&alone.run(["put", "note", "--json"]).ok());
    let line = alone.run(["ref", "set", "lab/note", &format!("data=sha1://{sha1}"), "--wait", "--json"]).ok().json();
    assert_eq!(line["durable"], 1);
}

/// Blobs that two machines give up at once: `KEEPWELL_BLOBS`, or a few.
fn blobs() -> usize {
    std::env::var("KEEPWELL_BLOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(600)
}

#[test]
fn two_machines_that_give_up_everything_at_once_keep_one_copy_of_each() {
    let (ada, first, ben, second) = two_machines();
    for number in 0..blobs() {
        ada.file(format!("tree/{}/{number}", number % 10), &noise(number as u64, 2_000 + 20_000 * usize::from(number % 7 == 0)));
    }
    ada.run(["put", "-r", "tree", "--ref", "lab/tree"]).ok();
    until_found(&ben, &["fetch", "lab/tree"]);
    let all: Vec<String> = all_files(&ada);
    assert_eq!(all.len(), blobs());
    let mut daemons = (first, second);
    for round in 0..3 {
        until(&ada, &["status", "--json"], |outcome| outcome.json()["converged"] == true);
        let drop_all = ["drop", "--json"].into_iter().map(str::to_owned).chain(all.iter().map(|sha1| format!("sha1://{sha1}")));
        let args: Vec<String> = drop_all.collect();
        let (one, other) = (ada.start(&args), ben.start(&args));
        if round == 1 {
            daemons.1.kill();
            daemons.1 = ben.up();
        }
        for outcome in [one.finish(), other.finish()] {
            assert!(matches!(outcome.code, Some(0 | 4 | 5 | 10)), "{outcome:?}");
        }
        let (at_ada, at_ben) = (held(&ada, &all), held(&ben, &all));
        assert!(all.iter().all(|sha1| at_ada.contains(sha1) || at_ben.contains(sha1)), "a blob is at zero copies");
        if round == 2 {
            assert!(at_ada.is_disjoint(&at_ben), "{} are on both", at_ada.intersection(&at_ben).count());
        }
        println!("tally copies: {} passed, 0 failed", all.len());
        if round < 2 {
            until_found(&ada, &["fetch", "lab/tree"]);
            until_found(&ben, &["fetch", "lab/tree"]);
        }
    }
    daemons.0.terminate().ok();
    daemons.1.terminate().ok();
    for home in [&ada, &ben] {
        home.run(["fsck", "--verify"]).ok();
    }
}

/// The SHA-1s of the files of the tree.
fn all_files(home: &TempHome) -> Vec<String> {
    let lines = home.run(["put", "-r", "tree", "--json"]).ok().json_lines();
    let directory = lines.last().unwrap()["uri"].as_str().unwrap().to_owned();
    let object = home.run(["cat", &directory.replace("sha1dir://", "sha1://")]).ok().json();
    let mut found = Vec::new();
    for (_, folder) in object["dirs"].as_object().unwrap() {
        found.extend(folder["files"].as_object().unwrap().values().map(|file| file["sha1"].as_str().unwrap().to_owned()));
    }
    found
}

/// Those of `all` that the machine holds.
fn held(home: &TempHome, all: &[String]) -> BTreeSet<String> {
    let args: Vec<String> =
        ["stat", "--json"].into_iter().map(str::to_owned).chain(all.iter().map(|sha1| format!("sha1://{sha1}"))).collect();
    let lines = home.run(&args).ok().json_lines();
    let is_held = |line: &serde_json::Value| line["state"] == "here" || line["state"] == "verified";
    lines.into_iter().filter(is_held).map(|line| line["sha1"].as_str().unwrap().to_owned()).collect()
}
