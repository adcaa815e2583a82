//! HTTP on the socket of a home, by hand: what is asked wrongly is refused, and a client that goes away leaves nothing.

use std::io::Write;
use std::net::Shutdown;

use keepwell_node::limits::{MAX_JSON_BODY_BYTES, STOP_GRACE};
use keepwell_tests::{HttpAnswer, TempHome};

use super::noise;

const EXAMPLE: &str = "d9e989f651cdd269d7f9bb8a215d024d8d283688";

#[test]
fn a_blob_is_put_and_read_whole_and_in_part() {
    let home = TempHome::initialised("ada");
    let _daemon = home.up();
    let put = home.http("POST /api/v1/blobs?label=note.txt&ref=g/note", &[], b"example text");
    assert_eq!((put.status, put.json()["sha1"].as_str().unwrap()), (201, EXAMPLE));
    assert_eq!(put.json()["ref"]["obj"]["note.txt"], format!("sha1://{EXAMPLE}?label=note.txt"));
    let get = |headers: &[(&str, &str)]| home.http(&format!("GET /api/v1/blobs/{EXAMPLE}"), headers, b"");
    let whole = get(&[]);
    assert_eq!(
        (whole.status, whole.body.as_slice(), whole.header("etag")),
        (200, &b"example text"[..], &*format!("\"{EXAMPLE}\""))
    );
    let part = get(&[("range", "bytes=2-5")]);
    assert_eq!((part.status, part.body.as_slice(), part.header("content-range")), (206, &b"ampl"[..], "bytes 2-5/12"));
    let past = get(&[("range", "bytes=12-")]);
    assert_eq!((past.status, past.header("content-range"), past.error_code()), (416, "bytes */12", "USAGE".to_owned()));
    assert_eq!(get(&[("if-none-match", whole.header("etag"))]).status, 304);
    assert_eq!(get(&[("range", "bytes=2-5"), ("if-range", "\"another\"")]).status, 200);
    let head = home.http(&format!("HEAD /api/v1/blobs/{EXAMPLE}"), &[], b"");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "12", 0));
}

#[test]
fn bytes_under_a_wrong_name_are_not_kept() {
    let home = TempHome::initialised("ada");
    let _daemon = home.up();
    let wrong = home.http(&format!("PUT /api/v1/blobs/{EXAMPLE}"), &[], &noise(1, 100_000));
    assert_eq!((wrong.status, wrong.error_code()), (422, "INTEGRITY".to_owned()));
    assert_eq!(home.http("GET /api/v1/status", &[], b"").json()["blobs"], 0);
    assert_eq!(std::fs::read_dir(home.path().join("ingest")).unwrap().count(), 0);
    assert_eq!(home.http(&format!("PUT /api/v1/blobs/{EXAMPLE}"), &[], b"example text").status, 201);
}

#[test]
fn a_ref_is_written_only_at_the_rev_that_is_meant() {
    let home = TempHome::initialised("ada");
    let _daemon = home.up();
    let put = |headers: &[(&str, &str)], n: u8| {
        home.http("PUT /api/v1/refs/g/k", headers, format!(r#"{{"obj":{{"n":{n}}}}}"#).as_bytes())
    };
    let first = put(&[("if-none-match", "*")], 1);
    assert_eq!(first.status, 200);
    let again = put(&[("if-none-match", "*")], 2);
    assert_eq!((again.status, again.error_code()), (409, "REV_MISMATCH".to_owned()));
    let rev = first.json()["rev"].as_str().unwrap().to_owned();
    assert_eq!(put(&[("if-match", &rev)], 3).status, 200);
    assert_eq!(put(&[("if-match", &rev)], 4).status, 409);
    assert_eq!(home.http("GET /api/v1/refs/g/k", &[], b"").json()["obj"]["n"], 3);
    assert_eq!(home.http("DELETE /api/v1/refs/g/k", &[("if-match", &rev)], b"").status, 409);
    assert_eq!(home.http("DELETE /api/v1/refs/g/k", &[], b"").json()["obj"]["n"], 3);
    assert_eq!(home.http("GET /api/v1/refs/g/k", &[], b"").status, 404);
}

#[test]
fn what_makes_no_sense_is_refused_in_json() {
    let home = TempHome::initialised("ada");
    let _daemon = home.up();
    let ask = |line: &str, body: &[u8]| {
        let answer = home.http(line, &[], body);
        (answer.status, answer.error_code())
    };
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(ask("GET /api/v1/nothing", b""), is(404, "NOT_FOUND"));
    assert_eq!(ask("DELETE /api/v1/status", b""), is(405, "USAGE"));
    assert_eq!(ask("GET /api/v1/blobs/xyz", b""), is(400, "USAGE"));
    assert_eq!(ask(&format!("GET /api/v1/blobs/{EXAMPLE}"), b""), is(404, "NO_PROVIDER"));
    assert_eq!(ask("POST /api/v1/blobs?lable=x", b""), is(400, "USAGE"));
    assert_eq!(ask("POST /api/v1/blobs/stat", b"{"), is(400, "USAGE"));
    assert_eq!(ask("POST /api/v1/refs/batch", br#"{"ops":[{"op":"set","ref":"x","obj":{}}]}"#), is(400, "USAGE"));
    assert_eq!(ask("PUT /api/v1/refs/g/k", br#"{"obj":{"a":1,"a":2}}"#), is(400, "USAGE"));
    assert_eq!(home.http("GET /health", &[], b"").json()["ok"], true);
}

#[test]
fn more_json_than_is_read_is_refused_before_it_is_sent() {
    let home = TempHome::initialised("ada");
    let _daemon = home.up();
    let length = (MAX_JSON_BODY_BYTES + 1).to_string();
    let answer = home.http("POST /api/v1/blobs/stat", &[("content-length", &length)], b"{");
    assert_eq!((answer.status, answer.error_code()), (413, "USAGE".to_owned()));
}

/// The head of an upload, and the first half of its body.
fn half_an_upload(home: &TempHome) -> std::os::unix::net::UnixStream {
    let mut stream = home.connect();
    let bytes = noise(2, 4 << 20);
    write!(stream, "POST /api/v1/blobs HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 2 * bytes.len()).unwrap();
    stream.write_all(&bytes).unwrap();
    stream
}

#[test]
fn a_client_that_goes_away_leaves_nothing() {
    let home = TempHome::initialised("ada");
    let _daemon = home.up();
    drop(half_an_upload(&home));
    let closed_half = half_an_upload(&home);
    closed_half.shutdown(Shutdown::Write).unwrap();
    let is_empty = || std::fs::read_dir(home.path().join("ingest")).map_or(0, Iterator::count) == 0;
    // Each round is a request: the daemon has had its chance to notice long before the last.
    let noticed = (0..5_000).any(|_| home.http("GET /health", &[], b"").status == 200 && is_empty());
    assert!(noticed, "something is left in ingest/");
    assert_eq!(home.http("GET /api/v1/status", &[], b"").json()["blobs"], 0);
    home.run(["put", "-", "--json"]).ok();
}

/// A client that sends no more holds a daemon up for [`STOP_GRACE`], and not for ever.
#[test]
fn a_daemon_stops_although_a_client_is_not_done() {
    let home = TempHome::initialised("ada");
    let daemon = home.up();
    let mut stuck = half_an_upload(&home);
    // Answered after the head of the other was taken in.
    assert_eq!(home.http("GET /health", &[], b"").status, 200);
    daemon.terminate().ok();
    assert!(!home.path().join("api.sock").exists(), "it took at most {STOP_GRACE:?} and a little");
    assert_eq!(std::fs::read_dir(home.path().join("ingest")).map_or(0, Iterator::count), 0);
    assert!(stuck.write_all(&noise(3, 1 << 20)).is_err() || stuck.write_all(&noise(3, 4 << 20)).is_err());
}

#[test]
fn requests_on_one_connection_are_answered_in_turn() {
    let home = TempHome::initialised("ada");
    let _daemon = home.up();
    let mut stream = home.connect();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let last = HttpAnswer::to(&mut stream, "GET /api/v1/status", &[], b"");
    let text = String::from_utf8_lossy(&last.body).into_owned();
    assert!(text.contains("\"daemon\":true"), "{text}");
}
