//! HTTP by hand: what a client that is not ours sends, and what it gets.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

/// An answer, read to its end.
#[derive(Debug)]
pub struct HttpAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers, with their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// Asks, and reads until the other side closes.
    ///
    /// # Panics
    /// When what comes back is no HTTP.
    pub fn to(stream: &mut UnixStream, line: &str, headers: &[(&str, &str)], body: &[u8]) -> HttpAnswer {
        let mut head = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "content-length") {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        // A server that has seen enough may answer and close before it has read all.
        stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(body)).ok();
        HttpAnswer::read(stream)
    }

    /// Reads an answer.
    ///
    /// # Panics
    /// When what comes is no HTTP.
    pub fn read(stream: &mut UnixStream) -> HttpAnswer {
        let mut bytes = Vec::new();
        // A server that closes on what it has not read ends this with an error after its answer.
        stream.read_to_end(&mut bytes).ok();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("an answer has a status");
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        HttpAnswer { status, headers: headers.collect(), body: bytes.split_off(end + 4) }
    }

    /// A header; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn json(&self) -> Value {
        let json = serde_json::from_slice(&self.body);
        assert!(json.is_ok(), "expected JSON: {self:?}");
        json.unwrap_or_default()
    }

    /// The code word of the failure that it tells of; empty if it tells of none.
    #[track_caller]
    pub fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}
