//! Uploads over HTTP: a blob in pieces, which goes on where it was cut off.

use std::io::Write;
use std::net::Shutdown;

use keepwell_tests::{HttpAnswer, TempHome};

use super::noise;

const EXAMPLE: &str = "d9e989f651cdd269d7f9bb8a215d024d8d283688";

/// Files in `ingest/`.
fn ingests(home: &TempHome) -> usize {
    std::fs::read_dir(home.path().join("ingest")).map_or(0, Iterator::count)
}

fn offset(answer: &HttpAnswer) -> u64 {
    answer.json()["offset_bytes"].as_u64().unwrap()
}

#[test]
fn an_upload_goes_on_after_a_broken_connection_and_after_a_kill() {
    let home = TempHome::initialised("ada");
    let bytes = noise(4, 3_000_000);
    let daemon = home.up();
    let begun = home.http("PUT /api/v1/uploads/run-7?size_bytes=3000000", &[], b"");
    assert_eq!((begun.status, offset(&begun)), (201, 0));
    // A client that breaks off in the middle of its body.
    let mut stream = home.connect();
    write!(stream, "POST /api/v1/uploads/run-7?offset=0 HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", bytes.len()).unwrap();
    stream.write_all(&bytes[..1_500_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    HttpAnswer::read(&mut stream);
    let there = home.http("PUT /api/v1/uploads/run-7?size_bytes=3000000", &[], b"");
    assert_eq!((there.status, offset(&there)), (200, 1_500_000), "what had come is there");
    let wrong = home.http("POST /api/v1/uploads/run-7?offset=0", &[], &bytes);
    assert_eq!((wrong.status, wrong.error_code()), (409, "REV_MISMATCH".to_owned()));
    assert_eq!(wrong.json()["error"]["details"]["offset_bytes"], 1_500_000);
    let more = home.http("POST /api/v1/uploads/run-7?offset=1500000", &[], &bytes[1_500_000..2_000_000]);
    assert_eq!(offset(&more), 2_000_000);
    let early = home.http("POST /api/v1/uploads/run-7/commit", &[], b"");
    assert_eq!((early.status, early.error_code()), (400, "USAGE".to_owned()));
    daemon.kill();
    let _daemon = home.up();
    let listed = home.http("GET /api/v1/uploads", &[], b"").json()["uploads"][0].clone();
    assert_eq!((listed["name"].as_str(), listed["offset_bytes"].as_u64()), (Some("run-7"), Some(2_000_000)));
    let last = home.http("POST /api/v1/uploads/run-7?offset=2000000", &[], &bytes[2_000_000..]);
    assert_eq!(offset(&last), 3_000_000);
    let done = home.http("POST /api/v1/uploads/run-7/commit?label=run.dat&ref=lab/run%23data", &[], b"");
    assert_eq!((done.status, done.json()["size_bytes"].as_u64()), (201, Some(3_000_000)), "{done:?}");
    let sha1 = done.json()["sha1"].as_str().unwrap().to_owned();
    assert_eq!(home.http(&format!("GET /api/v1/blobs/{sha1}"), &[], b"").body, bytes);
    assert_eq!(home.run(["ref", "get", "lab/run"]).ok().text().trim(), format!(r#"{{"data":"sha1://{sha1}?label=run.dat"}}"#));
    assert_eq!(home.http("GET /api/v1/uploads/run-7", &[], b"").status, 404);
    assert_eq!(home.http("POST /api/v1/uploads/run-7/commit", &[], b"").status, 404, "it has ended");
}

#[test]
fn an_upload_must_become_what_was_said_and_is_given_up_by_name() {
    let home = TempHome::initialised("ada");
    let _daemon = home.up();
    let ask = |line: &str, body: &[u8]| {
        let answer = home.http(line, &[], body);
        (answer.status, if answer.status < 300 { String::new() } else { answer.error_code() })
    };
    let is = |status: u16, code: &str| (status, code.to_owned());
    let begin = format!("PUT /api/v1/uploads/note?sha1={EXAMPLE}");
    assert_eq!(ask(&begin, b""), is(201, ""));
    assert_eq!(ask("PUT /api/v1/uploads/note?size_bytes=3", b""), is(409, "EXISTS"));
    assert_eq!(ask("POST /api/v1/uploads/note?offset=0", b"something else"), is(200, ""));
    // A mistake of the client costs nothing of what it has sent.
    assert_eq!(ask(&format!("POST /api/v1/uploads/note/commit?link={}", "1".repeat(40)), b""), is(422, "INTEGRITY"));
    assert_eq!(ask("POST /api/v1/uploads/note/commit", b""), is(404, "NOT_FOUND"), "other bytes are of no use");
    assert_eq!(ask(&begin, b""), is(201, ""));
    assert_eq!(ask("POST /api/v1/uploads/note?offset=0", b"example text"), is(200, ""));
    let unknown = format!("POST /api/v1/uploads/note/commit?link={}", "1".repeat(40));
    assert_eq!(ask(&unknown, b""), is(404, "NO_PROVIDER"));
    assert_eq!(ask("POST /api/v1/uploads/note/commit", b""), is(201, ""), "it was there as before");
    assert_eq!(ask("PUT /api/v1/uploads/a%20b", b""), is(400, "USAGE"));
    assert_eq!(ask("POST /api/v1/uploads/note", b"x"), is(400, "USAGE"));
    assert_eq!(ask("PUT /api/v1/uploads/other?size_bytes=3", b""), is(201, ""));
    assert_eq!(ask("POST /api/v1/uploads/other?offset=0", b"abcd"), is(400, "USAGE"), "more than was said");
    assert_eq!(home.run(["upload", "ls"]).ok().text().split(' ').next(), Some("other"));
    home.run(["upload", "rm", "other"]).ok();
    assert_eq!(home.run(["upload", "ls"]).ok().text(), "");
    home.run(["upload", "rm", "other"]).exits(3);
    let is_empty = || ingests(&home) == 0;
    assert!((0..5_000).any(|_| home.http("GET /health", &[], b"").status == 200 && is_empty()), "something is left in ingest/");
}

#[test]
fn what_an_upload_is_to_become_is_kept_while_it_is_under_way() {
    let home = TempHome::initialised("ada");
    let daemon = home.up();
    home.http("POST /api/v1/blobs", &[], b"example text");
    home.http(&format!("PUT /api/v1/uploads/again?sha1={EXAMPLE}"), &[], b"");
    let collect = |home: &TempHome| {
        let lines = home.run(["gc", "--run", "--grace", "0s", "--json"]).ok();
        lines.text().lines().filter(|line| line.contains(EXAMPLE) && line.contains("\"blocked_by\":null")).count()
    };
    assert_eq!(collect(&home), 0);
    let why = home.run(["why", EXAMPLE, "--json"]).ok().json();
    let roots: Vec<_> = why["roots"].as_array().unwrap().iter().map(|root| root["name"].as_str().unwrap()).collect();
    assert!(roots.contains(&"again"), "{why}");
    daemon.terminate().ok();
    // Without a daemon it can be seen and given up as well.
    assert_eq!(home.run(["upload", "ls"]).ok().text().split(' ').next(), Some("again"));
    home.run(["upload", "rm", "again"]).ok();
    assert_eq!(collect(&home), 1);
}
