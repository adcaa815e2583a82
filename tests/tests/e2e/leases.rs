//! Leases: what somebody works with stays while they do, without a name, and goes when they are done.

use std::time::{SystemTime, UNIX_EPOCH};

use keepwell_node::limits::LEASE_TTL_MS;
use keepwell_tests::{Outcome, TempHome};
use serde_json::{Value, json};

use super::{noise, sha1_of};

const RUN: [&str; 5] = ["gc", "--run", "--grace", "0s", "--json"];
const PREVIEW: [&str; 4] = ["gc", "--grace", "0s", "--json"];

fn put(home: &TempHome, name: &str, bytes: &[u8], args: &[&str]) -> String {
    home.file(name, bytes);
    sha1_of(&home.run([&["put", name, "--json"], args].concat()).ok())
}

fn uri(sha1: &str) -> String {
    format!("sha1://{sha1}")
}

/// Takes a lease; what is told of it.
fn lease(home: &TempHome, args: &[&str]) -> Value {
    home.run([&["lease", "add", "--json"], args].concat()).ok().json()
}

fn id_of(lease: &Value) -> String {
    lease["id"].as_str().unwrap_or_default().to_owned()
}

fn leases(home: &TempHome) -> Vec<Value> {
    home.run(["lease", "ls", "--json"]).ok().json_lines()
}

/// The blobs that a collection names, in order, and what it kept for which reason.
fn collected(outcome: &Outcome) -> (Vec<String>, Value) {
    let mut lines = outcome.json_lines();
    let summary = lines.pop().unwrap_or_default();
    let mut named: Vec<String> = lines.iter().map(|line| line["sha1"].as_str().unwrap_or_default().to_owned()).collect();
    named.sort();
    (named, summary["kept"].clone())
}

fn sorted(names: &[&String]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| (*name).clone()).collect();
    names.sort();
    names
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Plays a story on a home that commands work on by themselves, and on one with a daemon. It deletes nothing unasked: the stories look at
/// what a command deletes.
pub(super) fn both(story: impl Fn(&TempHome)) {
    story(&TempHome::initialised("ada"));
    let home = TempHome::initialised("ada");
    home.set("\n[gc]\nauto = false\n");
    let _daemon = home.up();
    story(&home);
}

#[test]
fn what_is_leased_stays_whatever_grace_is_asked_for_and_goes_when_the_lease_ends() {
    both(|home| {
        let child = put(home, "child", &noise(1, 50_000), &[]);
        let parent = put(home, "parent", b"parent", &["--link", &uri(&child)]);
        let garbage = put(home, "garbage", b"garbage", &[]);
        let taken = lease(home, &["--ttl", "1h", "--owner", "ann", &uri(&parent)]);
        assert_eq!((&taken["owner"], &taken["flat"], &taken["blobs"]), (&json!("ann"), &json!(false), &json!(1)));
        assert_eq!(leases(home), std::slice::from_ref(&taken));

        let (named, kept) = collected(&home.run(PREVIEW).ok());
        assert_eq!((named, kept), (vec![garbage.clone()], json!({"lease": 2})));
        let (named, kept) = collected(&home.run(["gc", "--json"]).ok());
        assert_eq!((named, kept), (vec![], json!({"grace": 1, "lease": 2})));
        for expected in [vec![garbage.clone()], vec![]] {
            assert_eq!(collected(&home.run(RUN).ok()), (expected, json!({"lease": 2})));
        }
        assert_eq!(home.run(["cat", &uri(&child)]).ok().stdout, noise(1, 50_000));

        home.run(["lease", "rm", &id_of(&taken), "--owner", "ann"]).ok();
        assert_eq!(leases(home), [] as [Value; 0]);
        assert_eq!(collected(&home.run(RUN).ok()), (sorted(&[&child, &parent]), json!({})));
        home.run(["cat", &uri(&parent)]).exits(8);
    });
}

#[test]
fn a_lease_ends_by_itself() {
    both(|home| {
        let blob = put(home, "a", b"a", &[]);
        let taken = lease(home, &["--ttl", "1ms", &uri(&blob)]);
        home.run(["gc", "--json"]).ok();
        assert_eq!(leases(home), [] as [Value; 0]);
        assert_eq!(home.run(["lease", "renew", &id_of(&taken), "--json"]).exits(3).error_code(), "NOT_FOUND");
        assert_eq!(home.run(["lease", "rm", &id_of(&taken), "--json"]).exits(3).error_code(), "NOT_FOUND");
        assert_eq!(collected(&home.run(RUN).ok()).0, [blob]);
    });
}

#[test]
fn a_flat_lease_keeps_the_blob_and_not_what_it_links_to() {
    both(|home| {
        home.file("tree/a", b"a");
        home.file("tree/b", b"b");
        let tree = sha1_of(&home.run(["put", "-r", "tree", "--json"]).ok());
        let before_ms = now_ms();
        let taken = lease(home, &["--flat", &uri(&tree)]);
        assert_eq!(taken["flat"], json!(true));
        assert!(taken["owner"].as_str().is_some_and(|owner| owner.contains('@')));
        let lasts_ms = taken["expires_ms"].as_u64().unwrap_or_default().saturating_sub(before_ms);
        assert!((LEASE_TTL_MS..LEASE_TTL_MS + 60_000).contains(&lasts_ms), "{lasts_ms}");
        let (named, kept) = collected(&home.run(RUN).ok());
        assert_eq!((named.len(), named.contains(&tree), kept), (2, false, json!({"lease": 1})));
    });
}

#[test]
fn a_put_under_a_lease_is_kept_also_when_it_was_stored_already_and_in_use_after_its_end_it_stays() {
    both(|home| {
        let here = put(home, "here", b"here", &[]);
        let id = id_of(&lease(home, &["--ttl", "1h"]));
        assert_eq!(put(home, "here", b"here", &["--lease", &id]), here);
        let large = put(home, "large", &noise(2, 200_000), &["--lease", &id]);
        let piped = sha1_of(&home.run_with_input(["put", "-", "--lease", &id, "--json"], b"piped").ok());
        home.file("tree/a", b"in a tree");
        home.run(["put", "-r", "tree", "--lease", &id]).ok();
        assert_eq!(leases(home)[0]["blobs"], json!(5));
        assert_eq!(collected(&home.run(RUN).ok()), (vec![], json!({"lease": 5})));

        home.run(["ref", "set", "lab/large", &format!("data={}", uri(&large))]).ok();
        home.run(["lease", "rm", &id]).ok();
        let (named, kept) = collected(&home.run(RUN).ok());
        assert_eq!((named.len(), named.contains(&here), named.contains(&piped), kept), (4, true, true, json!({"ref": 1})));
        assert_eq!(home.run(["cat", "keepwell://lab/large/data"]).ok().stdout, noise(2, 200_000));
    });
}

#[test]
fn a_put_under_a_lease_that_has_ended_or_is_anothers_stores_nothing() {
    both(|home| {
        let ended = id_of(&lease(home, &["--ttl", "1ms"]));
        let anns = id_of(&lease(home, &["--owner", "ann"]));
        home.file("large", &noise(3, 100_000));
        for (id, exit, code) in [(&ended, 3, "NOT_FOUND"), (&anns, 10, "UNSAFE")] {
            let refused = home.run(["put", "large", "--lease", id, "--json"]).exits(exit);
            assert_eq!(refused.error_code(), code);
            let refused = home.run_with_input(["put", "-", "--lease", id, "--json"], b"piped").exits(exit);
            assert_eq!(refused.error_code(), code);
        }
        assert_eq!(home.run(["status", "--json"]).ok().json()["blobs"], 0);
        assert_eq!(std::fs::read_dir(home.path().join("ingest")).map_or(0, Iterator::count), 0);
        home.run(["put", "large", "--lease", &anns, "--owner", "ann"]).ok();
        assert_eq!(home.run(["put", "large", "--owner", "ann"]).code, Some(2), "an owner of no lease makes no sense");
    });
}

#[test]
fn nobody_else_ends_or_renews_a_live_lease_and_is_told_whose_it_is() {
    both(|home| {
        let taken = lease(home, &["--ttl", "1h", "--owner", "ann@gpu"]);
        let id = id_of(&taken);
        for args in [["lease", "rm", &id, "--json"], ["lease", "renew", &id, "--json"]] {
            let refused = home.run(args).exits(10);
            assert_eq!(refused.error_code(), "UNSAFE");
            let error = &refused.json()["error"];
            assert_eq!((&error["details"]["owner"], &error["details"]["expires_ms"]), (&json!("ann@gpu"), &taken["expires_ms"]));
            assert!(error["message"].as_str().unwrap_or_default().contains("ann@gpu"));
        }
        let renewed = home.run(["lease", "renew", &id, "--ttl", "2h", "--owner", "ann@gpu", "--json"]).ok().json();
        assert!(renewed["expires_ms"].as_u64() > taken["expires_ms"].as_u64());
        let not_sooner = home.run(["lease", "renew", &id, "--ttl", "1s", "--owner", "ann@gpu", "--json"]).ok().json();
        assert_eq!(not_sooner, renewed);
    });
}

#[test]
fn a_lease_on_what_is_not_stored_here_is_refused_whole() {
    both(|home| {
        let here = put(home, "here", b"here", &[]);
        let missing = "0123456789012345678901234567890123456789";
        let refused = home.run(["lease", "add", &uri(&here), &uri(missing), "--json"]).exits(8);
        assert_eq!(refused.error_code(), "NO_PROVIDER");
        assert_eq!(refused.json()["error"]["details"]["missing"], json!([missing]));
        assert_eq!(leases(home), [] as [Value; 0]);
        for ttl in ["0s", "367d"] {
            assert_eq!(home.run(["lease", "add", "--ttl", ttl, "--json"]).exits(2).error_code(), "USAGE");
        }
    });
}

#[test]
fn a_lease_that_lasts_is_given_more_blobs() {
    both(|home| {
        let (first, second) = (put(home, "a", b"a", &[]), put(home, "b", b"b", &[]));
        let id = id_of(&lease(home, &["--owner", "ann", &uri(&first)]));
        let given = lease(home, &["--lease", &id, "--owner", "ann", &uri(&second), &uri(&first)]);
        assert_eq!((&given["id"], &given["blobs"]), (&json!(id), &json!(2)));
        assert_eq!(collected(&home.run(RUN).ok()), (vec![], json!({"lease": 2})));
        let foreign = home.run(["lease", "add", "--lease", &id, &uri(&first), "--json"]).exits(10);
        assert_eq!(foreign.error_code(), "UNSAFE");
        for wrong in
            [&["--lease", &id][..], &["--lease", &id, "--ttl", "1h", &uri(&first)], &["--lease", &id, "--flat", &uri(&first)]]
        {
            home.run([&["lease", "add"], wrong].concat()).exits(2);
        }
    });
}

#[test]
fn a_lease_outlives_the_daemon_that_gave_it() {
    let home = TempHome::initialised("ada");
    let daemon = home.up();
    let blob = put(&home, "a", b"a", &[]);
    let taken = lease(&home, &[&uri(&blob)]);
    daemon.kill();
    assert_eq!(leases(&home), [taken]);
    assert_eq!(collected(&home.run(RUN).ok()), (vec![], json!({"lease": 1})));
}

#[test]
fn leases_over_http() {
    let home = TempHome::initialised("ada");
    let _daemon = home.up();
    let ask = |line: &str, body: &Value| home.http(line, &[], body.to_string().as_bytes());
    let blob = put(&home, "a", b"a", &[]);

    let taken = ask("POST /api/v1/leases", &json!({"ttl_ms": 60_000, "owner": "ann", "flat": true, "blobs": [blob]}));
    assert_eq!((taken.status, &taken.json()["blobs"], &taken.json()["flat"]), (201, &json!(1), &json!(true)));
    let id = id_of(&taken.json());
    let put = home.http(&format!("POST /api/v1/blobs?lease={id}&owner=ann"), &[], b"b");
    assert_eq!(put.status, 201);
    let given = ask(&format!("POST /api/v1/leases/{id}/blobs"), &json!({"owner": "ann", "blobs": [blob]}));
    assert_eq!((given.status, &given.json()["blobs"]), (200, &json!(2)));
    let items = json!({"items": [{"base64": "Yw=="}], "lease": id, "owner": "ann"});
    assert_eq!(ask("POST /api/v1/ingests/commit", &items).json()["blobs"][0]["existed"], json!(false));
    let renewed = ask(&format!("POST /api/v1/leases/{id}/renew"), &json!({"owner": "ann", "ttl_ms": 120_000}));
    assert_eq!((renewed.status, &renewed.json()["blobs"]), (200, &json!(3)));
    assert_eq!(home.http("GET /api/v1/leases", &[], b"").json(), json!({"leases": [renewed.json()], "next": null}));

    let foreign = home.http(&format!("DELETE /api/v1/leases/{id}"), &[], b"");
    assert_eq!((foreign.status, foreign.error_code()), (409, "UNSAFE".to_owned()));
    let refused = home.http(&format!("POST /api/v1/blobs?lease={id}"), &[], b"d");
    assert_eq!((refused.status, refused.error_code()), (409, "UNSAFE".to_owned()));
    assert_eq!(home.http(&format!("DELETE /api/v1/leases/{id}?owner=ann"), &[], b"").status, 200);
    let refused = home.http(&format!("POST /api/v1/blobs?lease={id}&owner=ann"), &[], b"d");
    assert_eq!((refused.status, refused.error_code()), (404, "NOT_FOUND".to_owned()));
    assert_eq!(home.http("GET /api/v1/status", &[], b"").json()["blobs"], 3);

    let wrong = |line: &str, body: Value| (ask(line, &body).status, ask(line, &body).error_code());
    assert_eq!(wrong("POST /api/v1/leases", json!({"ttl": 1})), (400, "USAGE".to_owned()));
    assert_eq!(wrong("POST /api/v1/leases/x/renew", json!({})), (400, "USAGE".to_owned()));
    assert_eq!(wrong("POST /api/v1/leases", json!({"owner": "a b"})), (400, "USAGE".to_owned()));
    assert_eq!(wrong("POST /api/v1/blobs?owner=ann", json!({})), (400, "USAGE".to_owned()));
    assert_eq!(wrong(&format!("POST /api/v1/leases/{id}/renew"), json!({"flat": true})), (400, "USAGE".to_owned()));
}
