//! Two machines: one invites, the other joins, and what is named on one is fetched on the other.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keepwell_node::limits::{INVITE_LASTS_MS, MAX_INVITE_USES};
use keepwell_tests::{Outcome, Running, TempHome};
use serde_json::Value;

use super::{noise, sha1_of};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn up(home: &TempHome) -> Running {
    let mut daemon = home.start(["up", "--json"]);
    assert_eq!(daemon.next_json()["event"], "ready");
    daemon
}

/// A first machine that is up, and a second that has joined and is up. Each knows, also after a restart, where the other is.
pub(super) fn two_machines() -> (TempHome, Running, TempHome, Running) {
    two_machines_with("")
}

/// The same, with these lines at the end of the settings of both.
pub(super) fn two_machines_with(settings: &str) -> (TempHome, Running, TempHome, Running) {
    let (ada, ben) = (TempHome::initialised("ada"), TempHome::new());
    ada.set(settings);
    let first = up(&ada);
    let ticket = ada.run(["invite"]).ok().text().to_owned();
    let joined = ben.run(["join", &ticket, "--name", "ben", "--json"]).ok().json();
    assert_eq!((&joined["name"], &joined["via"]), (&"ben".into(), &"ada".into()));
    ben.set(settings);
    let second = up(&ben);
    // Here a daemon has another port after each start. Killed before it knew where its peer is, neither would find the other again.
    let is_found = |line: &Value| line["name"] == "ben" && !line["addresses"].as_array().unwrap().is_empty();
    until(&ada, &["node", "ls", "--json"], |outcome| outcome.json_lines().iter().any(is_found));
    (ada, first, ben, second)
}

/// One more machine that has joined `host` and is up.
pub(super) fn one_more(host: &TempHome, name: &str) -> (TempHome, Running) {
    let (home, ticket) = (TempHome::new(), host.run(["invite"]).ok().text().to_owned());
    home.run(["join", &ticket, "--name", name]).ok();
    let daemon = up(&home);
    (home, daemon)
}

/// Asks again until the answer is as it should be. Each asking is a process: there is no event to wait for from outside.
pub(super) fn until(home: &TempHome, args: &[&str], is_so: impl Fn(&Outcome) -> bool) -> Outcome {
    let began = Instant::now();
    loop {
        let outcome = home.run(args);
        if is_so(&outcome) {
            return outcome;
        }
        assert!(began.elapsed() < PATIENCE, "{args:?} did not come to be so: {outcome:?}");
    }
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

pub(super) fn until_found(home: &TempHome, args: &[&str]) -> Outcome {
    until(home, args, |outcome| outcome.code == Some(0))
}

#[test]
fn what_is_named_on_one_machine_is_fetched_on_the_other() {
    let began_ms = now_ms();
    let (ada, first, ben, second) = two_machines();
    let bytes = noise(1, 3_000_000);
    ada.file("recording.dat", &bytes);
    let sha1 = sha1_of(&ada.run(["put", "recording.dat", "--json", "--ref", "lab/day1"]).ok());
    until_found(&ben, &["ref", "get", "lab/day1"]);
    let stat = ben.run(["stat", &format!("sha1://{sha1}"), "--json"]).ok().json();
    assert_eq!(stat["state"], "recorded");

    let fetched = ben.run(["fetch", "lab/day1", "--json"]).ok().json();
    assert_eq!((&fetched["sha1"], &fetched["received_bytes"]), (&sha1.as_str().into(), &bytes.len().into()));
    assert_eq!(fetched["from"], serde_json::json!(["ada"]));
    assert_eq!(ben.run(["cat", &format!("sha1://{sha1}")]).ok().stdout, bytes);
    assert_eq!(ben.run(["fetch", "lab/day1", "--json"]).ok().json()["existed"], true);
    let holders =
        until(&ada, &["where", "lab/day1", "--json"], |outcome| outcome.json()["holders"].as_array().unwrap().len() == 2);
    let names: Vec<_> = holders.json()["holders"].as_array().unwrap().iter().map(|holder| holder["name"].clone()).collect();
    assert!(names.contains(&"ada".into()) && names.contains(&"ben".into()));

    let status = until(&ada, &["status", "--json"], |outcome| outcome.json()["converged"] == true).json();
    assert_eq!((&status["peers"][0]["name"], &status["peers"][0]["connected"]), (&"ben".into(), &true.into()));
    let peer =
        until(&ada, &["status", "--json"], |outcome| outcome.json()["peers"][0]["rtt_ms"].is_u64()).json()["peers"][0].clone();
    assert!(peer["last_seen_ms"].as_u64().unwrap() > began_ms, "{peer}");
    let checks = ben.run(["doctor", "--json"]).ok().json_lines();
    assert!(checks.iter().any(|line| line["message"] == "1 of 1 connected"), "{checks:?}");
    let nodes = ben.run(["node", "ls", "--json"]).ok().json_lines();
    assert_eq!(nodes.iter().map(|line| line["state"].as_str().unwrap()).collect::<Vec<_>>(), ["connected", "self"]);
    for daemon in [first, second] {
        daemon.terminate().ok();
    }
}

#[test]
fn a_tree_is_fetched_when_it_is_wanted_and_a_ref_set_brings_what_it_names() {
    let (ada, _first, ben, _second) = two_machines();
    for number in 0..50 {
        ada.file(format!("tree/{}/{number}", number % 5), &noise(number, 20_000));
    }
    let uri = ada.run(["put", "-r", "tree", "--ref", "lab/tree"]).ok().text().to_owned();
    until_found(&ben, &["ref", "get", "lab/tree"]);
    ben.run(["ref", "set", "lab/mine", &format!("data={uri}")]).ok();
    ben.run(["get", &uri, "--to", "restored"]).ok();
    for number in 0..50 {
        let file = ben.scratch().join(format!("restored/{}/{number}", number % 5));
        assert_eq!(std::fs::read(file).unwrap(), noise(number, 20_000));
    }
    let line = until_found(&ada, &["ref", "get", "lab/mine", "--json"]).json();
    assert_eq!((&line["set_by"], &line["state"]), (&"ben".into(), &"backed".into()));
}

#[test]
fn of_a_directory_only_the_path_that_is_wanted_is_fetched() {
    let (ada, _first, ben, _second) = two_machines();
    for (seed, name) in (0..).zip(["day1/a", "day1/b", "day2/c", "day2/deep/d"]) {
        ada.file(format!("tree/{name}"), &noise(seed, 100_000));
        ada.file(format!("tree/{name}.txt"), name.as_bytes());
    }
    let uri = ada.run(["put", "-r", "tree", "--ref", "lab/tree"]).ok().text().to_owned();
    let directory = uri.split('?').next().unwrap().to_owned();
    until(&ben, &["where", "lab/tree", "--json"], |outcome| {
        outcome.code == Some(0) && outcome.json()["holders"][0]["name"] == "ada"
    });
    let blobs = || ben.run(["status", "--json"]).ok().json()["blobs"].as_u64().unwrap();

    assert_eq!(ben.run(["cat", &format!("{directory}/day1/a.txt")]).ok().text(), "day1/a");
    assert_eq!(blobs(), 2, "the directory object, and the file");
    ben.run(["get", &format!("{directory}/day2"), "--to", "day2"]).ok();
    assert_eq!(std::fs::read(ben.scratch().join("day2/deep/d")).unwrap(), noise(3, 100_000));
    assert_eq!(blobs(), 6, "and the four files of that folder");
    ben.run(["cat", &format!("{directory}/day3")]).exits(3);
    let fetched = ben.run(["fetch", &format!("{directory}/day1/b.txt"), "--json"]).ok().json();
    assert_eq!((&fetched["size_bytes"], blobs()), (&6.into(), 7));
    ben.run(["get", &directory, "--to", "tree"]).ok();
    assert_eq!(blobs(), 9, "what is asked for whole comes whole");
}

#[test]
fn a_program_that_asks_for_a_blob_over_http_gets_it_wherever_it_is() {
    let (ada, _first, ben, _second) = two_machines();
    let bytes = noise(7, 300_000);
    ada.file("recording.dat", &bytes);
    let sha1 = sha1_of(&ada.run(["put", "recording.dat", "--json", "--ref", "lab/day1"]).ok());
    until(&ben, &["where", "lab/day1", "--json"], |outcome| {
        outcome.code == Some(0) && outcome.json()["holders"][0]["name"] == "ada"
    });
    let path = format!("/api/v1/blobs/{sha1}");

    let local = ben.http(&format!("GET {path}?local=1"), &[], b"");
    assert_eq!((local.status, local.error_code()), (404, "NO_PROVIDER".to_owned()));
    let head = ben.http(&format!("HEAD {path}"), &[], b"");
    assert_eq!((head.status, head.header("content-length"), head.header("keepwell-state")), (200, "300000", "recorded"));
    assert_eq!(ben.http(&format!("GET {path}"), &[("if-none-match", head.header("etag"))], b"").status, 304);
    assert_eq!(ben.http(&format!("GET {path}"), &[("range", "bytes=300000-")], b"").status, 416);
    let stat = ben.run(["stat", &format!("sha1://{sha1}"), "--json"]).ok().json();
    assert_eq!(stat["state"], "recorded", "none of these needed its bytes");

    let part = ben.http(&format!("GET {path}"), &[("range", "bytes=100000-100009")], b"");
    assert_eq!((part.status, part.body.as_slice()), (206, &bytes[100_000..100_010]));
    let whole = ben.http(&format!("GET {path}?local=1"), &[], b"");
    assert_eq!((whole.status, whole.header("keepwell-state"), whole.body == bytes), (200, "here", true));

    let nowhere = format!("/api/v1/blobs/{}", "01".repeat(20));
    let nobody = ben.http(&format!("GET {nowhere}"), &[], b"");
    assert_eq!((nobody.status, nobody.error_code()), (404, "NO_PROVIDER".to_owned()));
    assert_eq!(ben.http(&format!("HEAD {nowhere}"), &[], b"").status, 404);
    assert_eq!(ben.http(&format!("GET {nowhere}?local=yes"), &[], b"").status, 400);
}

#[test]
fn a_daemon_that_was_killed_goes_on_with_all_that_it_had_said() {
    let (ada, first, ben, second) = two_machines();
    ada.file("a", b"before the kill");
    ada.run(["put", "a", "--ref", "lab/a"]).ok();
    first.kill();
    let _first = up(&ada);
    until_found(&ben, &["fetch", "lab/a"]);
    second.kill();
    let _second = up(&ben);
    assert_eq!(ben.run(["cat", "keepwell://lab/a/a"]).ok().stdout, b"before the kill");
    ada.run(["ref", "set", "lab/b", "--obj", "{}"]).ok();
    until_found(&ben, &["ref", "get", "lab/b"]);
}

#[test]
fn a_ticket_that_is_used_forged_or_cut_is_refused() {
    let ada = TempHome::initialised("ada");
    let first = up(&ada);
    let ticket = ada.run(["invite"]).ok().text().to_owned();
    let (ben, eve) = (TempHome::new(), TempHome::new());
    ben.run(["join", &ticket, "--name", "ben"]).ok();
    assert_eq!(eve.run(["join", &ticket, "--name", "eve", "--json"]).exits(6).error_code(), "DENIED");
    eve.run(["join", &ticket[..ticket.len() - 3], "--name", "eve"]).exits(2);
    let lapsed = ada.run(["invite", "--expires", "1ms"]).ok().text().to_owned();
    assert_eq!(TempHome::new().run(["join", &lapsed, "--name", "eve", "--json"]).exits(6).error_code(), "DENIED");
    let unused = ada.run(["invite"]).ok().text().to_owned();
    first.terminate().ok();
    assert_eq!(TempHome::new().run(["join", &unused, "--name", "eve", "--json"]).exits(5).error_code(), "UNREACHABLE");
}

#[test]
fn what_needs_the_daemon_says_so() {
    let ada = TempHome::initialised("ada");
    let absent = "sha1://0123456789012345678901234567890123456789";
    assert_eq!(ada.run(["invite", "--json"]).exits(5).error_code(), "UNREACHABLE");
    assert_eq!(ada.run(["fetch", absent, "--json"]).exits(5).error_code(), "UNREACHABLE");
    let _daemon = up(&ada);
    assert_eq!(ada.run(["fetch", absent, "--json"]).exits(8).error_code(), "NO_PROVIDER");
    assert_eq!(ada.run(["get", absent, "--json"]).exits(8).error_code(), "NO_PROVIDER");
    for (uses, code) in [(0, 2), (1, 0), (MAX_INVITE_USES, 0), (MAX_INVITE_USES + 1, 2)] {
        ada.run(["invite", "--uses", &uses.to_string()]).exits(code);
    }
    let before = now_ms();
    let expires_ms = ada.run(["invite", "--json"]).ok().json()["expires_ms"].as_u64().unwrap();
    assert!((before + INVITE_LASTS_MS..=now_ms() + INVITE_LASTS_MS).contains(&expires_ms));
}

#[test]
fn what_a_new_link_leads_to_is_fetched_before_it_is_put() {
    let (ada, _first, ben, _second) = two_machines();
    let json = |uri: &str| format!("{{\"part\":\"{uri}\"}}");
    let store = |name: &str, bytes: &[u8]| {
        ada.file(name, bytes);
        ada.run(["put", "--scan", "json", name]).ok().text().to_owned()
    };
    let deep = store("deep", b"{}");
    let top = store("top", json(&deep).as_bytes());
    ada.run(["ref", "set", "lab/top", &format!("top={top}")]).ok();
    until_found(&ben, &["ref", "get", "lab/top"]);
    let put = ben.run_with_input(["put", "-", "--link", &top, "--json"], b"made of it");
    assert_eq!(put.ok().json()["existed"], false);
    assert_eq!(ben.run(["stat", &deep, "--json"]).ok().json()["state"], "verified");
    let nobody = ben.run_with_input(["put", "-", "--link", "sha1://0123456789012345678901234567890123456789", "--json"], b"x");
    assert_eq!(nobody.exits(8).error_code(), "NO_PROVIDER");
}
