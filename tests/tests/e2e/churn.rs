//! Refs that are made, moved and renamed while garbage is collected back to back, with almost no grace: nothing that is named is ever lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keepwell_tests::TempHome;
use serde_json::{Value, json};

use super::noise;

/// Blobs that are named: `KEEPWELL_BLOBS`, or a few.
fn blobs() -> u64 {
    std::env::var("KEEPWELL_BLOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// A user who renames some of the blobs, one after the other, and remembers what each is called now.
struct User<'a> {
    home: &'a TempHome,
    seed: u64,
    names: Vec<(u64, String, String)>,
    refused: u64,
}

fn bytes_of(blob: u64) -> Vec<u8> {
    // Some live in the index, some in files.
    noise(blob, if blob.is_multiple_of(5) { 20_000 } else { 200 })
}

fn post(home: &TempHome, path: &str, body: &Value) -> (u16, Value) {
    let answer = home.http(&format!("POST /api/v1{path}"), &[("content-type", "application/json")], body.to_string().as_bytes());
    (answer.status, answer.json())
}

impl User<'_> {
    fn draw(&mut self, bound: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.seed >> 33).unwrap() % bound
    }

    fn batch(&self, ops: &[Value]) -> u16 {
        post(self.home, "/refs/batch", &json!({ "ops": ops })).0
    }

    /// Stores the blob and names it, again if it was collected in between: it had no name then.
    fn put_and_name(&mut self, blob: u64, name: &str) -> String {
        loop {
            let put = self.home.http("POST /api/v1/blobs", &[], &bytes_of(blob));
            assert_eq!(put.status, 201);
            let sha1 = put.json()["sha1"].as_str().unwrap().to_owned();
            if self.batch(&[set(name, &sha1)]) == 200 {
                return sha1;
            }
            self.refused += 1;
        }
    }

    fn rename_one(&mut self, number: u64) {
        let (at, how) = (self.draw(self.names.len()), self.draw(8));
        let (blob, sha1, old) = self.names[at].clone();
        let new = format!("lab/{blob}-{number}");
        let (set, delete) = (set(&new, &sha1), json!({ "op": "delete", "ref": old }));
        match how {
            0..=2 => assert_eq!(self.batch(&[set, delete]), 200, "moved in one go"),
            3..=5 => assert_eq!((self.batch(&[set]), self.batch(&[delete])), (200, 200), "named before the old name goes"),
            // For a moment nothing names it.
            _ => {
                assert_eq!(self.batch(&[delete]), 200);
                self.put_and_name(blob, &new);
            }
        }
        self.names[at].2 = new;
    }
}

fn set(name: &str, sha1: &str) -> Value {
    json!({ "op": "set", "ref": name, "obj": { "data": format!("sha1://{sha1}") } })
}

#[test]
fn nothing_named_is_lost_while_refs_move_and_garbage_is_collected_back_to_back() {
    let home = TempHome::initialised("ada");
    let daemon = home.up();
    let moves = blobs() * 2;
    let (is_over, runs, purged) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let users: Vec<User<'_>> = std::thread::scope(|scope| {
        let users = (0..2).map(|number| {
            let home = &home;
            scope.spawn(move || {
                let mut user = User { home, seed: number, names: Vec::new(), refused: 0 };
                for blob in (0..blobs()).filter(|blob| blob % 2 == number) {
                    let name = format!("lab/{blob}");
                    let sha1 = user.put_and_name(blob, &name);
                    user.names.push((blob, sha1, name));
                }
                (0..moves / 2).for_each(|number| user.rename_one(number));
                user
            })
        });
        let users: Vec<_> = users.collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let (status, report) = post(&home, "/gc", &json!({ "run": true, "grace_ms": 100 }));
                assert_eq!(status, 200, "{report}");
                purged.fetch_add(report["blobs"].as_array().map_or(0, Vec::len) as u64, Ordering::Relaxed);
                runs.fetch_add(1, Ordering::Relaxed);
            }
        });
        let users: Vec<_> = users.into_iter().map(|user| user.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        users.into_iter().map(Result::unwrap).collect()
    });
    let refused: u64 = users.iter().map(|user| user.refused).sum();
    let (runs, purged) = (runs.into_inner(), purged.into_inner());
    println!("{moves} moves of {} blobs beside {runs} collections; {purged} purged, {refused} puts came again", blobs());
    assert!(runs > 5 && purged > 0, "the collector had nothing to do");
    for (blob, sha1, name) in users.iter().flat_map(|user| &user.names) {
        let line = home.http(&format!("GET /api/v1/refs/{name}"), &[], b"").json();
        assert_eq!(line["durable"], 1, "{name}");
        assert_eq!(home.http(&format!("GET /api/v1/blobs/{sha1}"), &[], b"").body, bytes_of(*blob), "{name}");
    }
    println!("tally churn: {moves} passed, 0 failed");
    daemon.terminate().ok();
    home.run(["fsck", "--verify"]).ok();
    assert_eq!(home.run(["status", "--json"]).ok().json()["refs"], blobs());
}
