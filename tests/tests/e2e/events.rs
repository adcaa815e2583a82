//! Events: what was deleted and on what that rested is told afterwards, also to who comes later or listens.

use keepwell_tests::{Outcome, TempHome};
use serde_json::{Value, json};

use super::leases::both;
use super::network::{two_machines, two_machines_with, until, until_found};
use super::{noise, sha1_of};

fn put(home: &TempHome, name: &str, bytes: &[u8]) -> String {
    home.file(name, bytes);
    sha1_of(&home.run(["put", name, "--json"]).ok())
}

fn events(home: &TempHome) -> Vec<Value> {
    home.run(["events", "--json"]).ok().json_lines()
}

fn find<'a>(events: &'a [Value], word: &str) -> Option<&'a Value> {
    events.iter().find(|event| event["event"] == word)
}

#[test]
fn what_was_purged_and_brought_back_is_told_with_why() {
    both(|home| {
        assert!(events(home).is_empty());
        let sha1 = put(home, "garbage", &noise(1, 30_000));
        home.run(["gc", "--run", "--grace", "0s"]).ok();
        home.run(["undrop", &format!("sha1://{sha1}")]).ok();
        let told = events(home);
        assert_eq!(told.iter().map(|event| &event["event"]).collect::<Vec<_>>(), ["purged", "restored"]);
        assert_eq!((&told[0]["blobs"], &told[0]["size_bytes"], &told[0]["id"]), (&json!([sha1]), &json!(30_000), &json!(1)));
        assert!(told[0]["why"].as_str().unwrap().contains("no ref reaches it"), "{told:?}");
        assert_eq!(home.run(["events", "--since", "1h", "--json"]).ok().json_lines().len(), 2);
        assert_eq!(home.run(["events", "--since", "2999-01-01T00:00:00Z", "--json"]).ok().text(), "");
        assert!(home.run(["events"]).ok().text().contains(&format!("purged {sha1}: ")));
        home.run(["events", "--since", "soon"]).exits(2);
    });
    TempHome::initialised("ada").run(["events", "--follow"]).exits(5);
}

#[test]
fn a_drop_is_told_with_its_proof_and_a_purge_with_who_acknowledged() {
    let (ada, _first, ben, _second) = two_machines_with("\n[gc]\nauto = false\n");
    let sha1 = put(&ada, "recording", &noise(1, 100_000));
    let uri = format!("sha1://{sha1}");
    ada.run(["ref", "set", "lab/day1", &format!("data={uri}")]).ok();
    until_found(&ben, &["fetch", "lab/day1"]);
    until(&ada, &["drop", &uri, "--json"], |outcome| outcome.code == Some(0));
    let told = events(&ada);
    let dropped = find(&told, "dropped").unwrap();
    assert_eq!((&dropped["blobs"], &dropped["proof"][0]["node"]), (&json!([sha1]), &json!("ben")));
    assert!(dropped["proof"][0]["storage"].is_string());

    let garbage = put(&ada, "garbage", b"garbage");
    let run = ["gc", "--run", "--grace", "0s", "--json"];
    until(&ada, &run, |outcome| outcome.code == Some(0));
    until(&ada, &["events", "--json"], |outcome| find(&outcome.json_lines(), "purged").is_some());
    let told = events(&ada);
    let purged = find(&told, "purged").unwrap();
    assert_eq!((&purged["blobs"], &purged["proof"][0]["node"]), (&json!([garbage]), &json!("ben")));
    assert!(purged["proof"][0]["acknowledged"].is_u64());
}

#[test]
fn who_was_declared_dead_or_alive_is_told_on_every_machine() {
    let (ada, _first, ben, second) = two_machines();
    second.terminate().ok();
    ada.run(["node", "dead", "ben"]).ok();
    ada.run(["node", "revive", "ben"]).ok();
    let _again = ben.up();
    let has_heard = |outcome: &Outcome| find(&outcome.json_lines(), "revived").is_some();
    for home in [&ada, &ben] {
        let told = until(home, &["events", "--json"], has_heard).json_lines();
        let dead = find(&told, "dead").unwrap();
        assert_eq!((&dead["node"], &dead["why"]), (&json!("ben"), &json!("ada says so")));
    }
}

#[test]
fn a_listener_hears_what_comes_and_goes_on_behind_what_it_heard_last() {
    let home = TempHome::initialised("ada");
    home.set("\n[gc]\nauto = false\n");
    let daemon = home.up();
    let run = ["gc", "--run", "--grace", "0s"];
    let mut following = home.start(["events", "--follow", "--json"]);
    let first = put(&home, "first", b"first");
    home.run(run).ok();
    assert_eq!(following.next_json()["blobs"], json!([first]));
    let second = put(&home, "second", b"second");
    home.run(run).ok();
    let heard = following.next_json();
    assert_eq!(heard["blobs"], json!([second]));

    let page = home.http("GET /api/v1/events?limit=1", &[], b"").json();
    assert_eq!((&page["events"][0]["blobs"], &page["next"]), (&json!([first]), &json!("1")));
    let rest = home.http("GET /api/v1/events?cursor=1", &[], b"").json();
    assert_eq!((&rest["events"][0]["blobs"], &rest["next"]), (&json!([second]), &json!(null)));
    assert_eq!(home.http("GET /api/v1/events?limit=0", &[], b"").status, 400);
    let accept = ("accept", "text/event-stream");
    assert_eq!(home.http("GET /api/v1/events", &[accept, ("last-event-id", "x")], b"").status, 400);

    // A stream has no end of its own: the daemon's end is one.
    let mut stream = home.connect();
    let asking = std::thread::spawn(move || {
        keepwell_tests::HttpAnswer::to(&mut stream, "GET /api/v1/events", &[accept, ("last-event-id", "1")], b"")
    });
    let third = put(&home, "third", b"third");
    home.run(run).ok();
    assert_eq!(following.next_json()["blobs"], json!([third]));
    daemon.terminate().ok();
    let body = String::from_utf8_lossy(&asking.join().unwrap().body).into_owned();
    assert!(body.contains("id: 2\nevent: purged\ndata: {") && !body.contains("id: 1\n"), "{body}");
    assert!(body.ends_with("0\r\n\r\n"), "it ends, and is not broken off: {body}");
    assert!(!body.contains(&first) && body.contains(&second), "{body}");
}
