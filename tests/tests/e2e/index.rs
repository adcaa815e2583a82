//! Damage in the index of a daemon at work: it is found, told, and nothing is deleted until it is mended.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use keepwell_tests::{Outcome, TempHome};
use serde_json::{Value, json};

use super::network::until;
use super::sha1_of;

const TEXT: &[u8] = b"of which there is no second copy, and which is not long";

/// A home that does nothing by itself, with a small blob that a ref names and one that nothing does; the name of the latter.
fn home() -> (TempHome, String) {
    let home = TempHome::initialised("ada");
    home.set("\n[gc]\nauto = false\n\n[scrub]\nauto = false\n");
    home.file("small", TEXT);
    home.run(["put", "small", "--ref", "lab/x"]).ok();
    home.file("garbage", b"nobody needs this");
    let garbage = sha1_of(&home.run(["put", "garbage", "--json"]).ok());
    (home, garbage)
}

/// Flips a bit in the page where the small blob lies, in place: the daemon, if there is one, has the file open.
fn flip(home: &TempHome) {
    let path = home.path().join("index.redb");
    let bytes = fs::read(&path).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for at in (0..bytes.len() - TEXT.len()).filter(|at| bytes[*at..].starts_with(TEXT)) {
        file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
    }
}

fn check(outcome: &Outcome) -> Value {
    outcome.json_lines().into_iter().find(|line| line["check"] == "index").unwrap()
}

fn is_damaged(home: &TempHome) -> bool {
    home.run(["status", "--json"]).ok().json()["index_damaged"] == json!(true)
}

/// That nothing is deleted, and that everybody who asks is told why.
fn refuses(home: &TempHome, garbage: &str) {
    let lines = home.run(["gc", "--run", "--grace", "0s", "--json"]).exits(10).json_lines();
    assert_eq!((&lines[0]["sha1"], &lines.last().unwrap()["freed_bytes"]), (&json!(garbage), &json!(0)));
    assert!(lines[0]["blocked_by"].as_str().unwrap().contains("index"), "{}", lines[0]);
    let dropped = home.run(["drop", &format!("sha1://{garbage}"), "--allow-last-copy", "--json"]).exits(10).json();
    assert!(dropped.to_string().contains("index"), "{dropped}");
    assert_eq!(home.run(["cat", &format!("sha1://{garbage}")]).ok().stdout, b"nobody needs this");
    assert!(is_damaged(home) && home.run(["status"]).ok().text().contains("fsck --verify"));
    let told = check(&home.run(["doctor", "--json"]).exits(9));
    assert!(told["state"] == "problem" && told["hint"].as_str().unwrap().contains("fsck --verify"), "{told}");
    let events = home.run(["events", "--json"]).ok().json_lines();
    assert_eq!(events.iter().filter(|line| line["event"] == "index_damaged").count(), 1);
}

#[test]
fn a_bit_that_flips_under_a_daemon_is_found_and_nothing_is_deleted_until_it_is_mended() {
    let (home, garbage) = home();
    let daemon = home.up();
    let whole = home.run(["fsck", "--verify", "--json"]).ok().json_lines();
    assert_eq!(whole, [json!({"checked": 2, "ok": true, "problems": 0, "repaired": 0, "unchecked": ["tables"]})]);
    assert!(!is_damaged(&home) && check(&home.run(["doctor", "--json"]).ok())["state"] == "ok");
    flip(&home);
    let lines = home.run(["fsck", "--verify", "--json"]).exits(9).json_lines();
    assert_eq!((&lines[0]["path"], &lines[0]["problem"]), (&json!("index.redb"), &json!("damaged")));
    refuses(&home, &garbage);
    // It still does all else.
    home.run(["ref", "set", "lab/y", &format!("data=sha1://{garbage}")]).ok();
    home.run(["ref", "rm", "lab/y"]).ok();
    daemon.terminate().ok();

    // A restart forgets nothing, and a command without a daemon knows it, too.
    refuses(&home, &garbage);
    let daemon = home.up();
    refuses(&home, &garbage);
    daemon.terminate().ok();
    home.run(["fsck", "--verify", "--repair"]).exits(9);
    refuses(&home, &garbage);
    home.run(["fsck", "--verify"]).ok();
    assert!(!is_damaged(&home));
    let _daemon = home.up();
    let events = home.run(["events", "--json"]).ok().json_lines();
    assert!(events.iter().any(|line| line["event"] == "index_whole"), "{events:?}");
    let lines = home.run(["gc", "--run", "--grace", "0s", "--json"]).ok().json_lines();
    assert_eq!((&lines[0]["sha1"], &lines[0]["action"]), (&json!(garbage), &json!("purge")));
}

#[test]
fn a_daemon_finds_by_itself_what_flipped_while_it_was_stopped() {
    let (home, garbage) = home();
    flip(&home);
    let daemon = home.up();
    until(&home, &["status", "--json"], |status| status.json()["index_damaged"] == json!(true));
    refuses(&home, &garbage);
    let ended = daemon.terminate().ok();
    assert!(ended.stderr.contains("damage was found in the index"), "{}", ended.stderr);
}

#[test]
fn an_index_that_cannot_even_be_opened_is_told_with_the_next_step_and_nothing_hangs() {
    let (home, _) = home();
    let path = home.path().join("index.redb");
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    // The byte that says what kind of page it is, in each page behind the header.
    for at in (4_096..file.metadata().unwrap().len()).step_by(4_096) {
        let mut kind = [0];
        file.read_exact_at(&mut kind, at).unwrap();
        file.write_all_at(&[kind[0] ^ 1], at).unwrap();
    }
    for words in [&["status", "--json"][..], &["up", "--json"], &["fsck", "--verify", "--json"]] {
        let refused = home.run(words).exits(9);
        assert_eq!(refused.error_code(), "INTEGRITY");
        assert!(refused.json()["error"]["hint"].as_str().unwrap().contains("new home"));
    }
    let told = check(&home.run(["doctor", "--json"]).exits(9));
    assert_eq!(told["state"], "problem");
}
