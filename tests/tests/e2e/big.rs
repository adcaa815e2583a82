//! Much at once, from one machine to another: a file of several spans, and a tree of a thousand files, bit for bit.
//!
//! `KEEPWELL_BIG_BYTES` says how large the file is; `scripts/soak big` makes it 5 GiB.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use keepwell_store::limits::SPAN_BYTES;
use keepwell_tests::Outcome;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::network::{two_machines, until_found};
use super::noise;
use super::trees::contents;

/// One span and a bit, and no whole number of groups.
const BYTES: u64 = SPAN_BYTES as u64 + 1_234_567;

/// Writes a file that no file system can make smaller, piece by piece.
fn write_noise(path: &Path, size_bytes: u64) {
    let (mut rng, mut file) = (ChaCha8Rng::seed_from_u64(size_bytes), File::create(path).unwrap());
    let mut piece = vec![0; 1 << 20];
    let mut left = size_bytes;
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        rng.fill_bytes(&mut piece[..len]);
        file.write_all(&piece[..len]).unwrap();
        left -= len as u64;
    }
}

/// The SHA-1 of a file, as a program says that is not ours.
fn sha1sum(path: &Path) -> String {
    let outcome = Outcome::of(Command::new("sha1sum").arg(path), b"").ok();
    outcome.text().split(' ').next().unwrap_or_default().trim_start_matches('\\').to_owned()
}

#[test]
fn a_big_file_comes_out_the_same_on_another_machine() {
    let size_bytes = std::env::var("KEEPWELL_BIG_BYTES").map_or(BYTES, |text| text.parse().expect("bytes are a number"));
    let (ada, first, ben, second) = two_machines();
    let (source, copy) = (ada.scratch().join("big"), ben.scratch().join("copy"));
    write_noise(&source, size_bytes);
    let timed = |what: &str, began: Instant| println!("{what} of {size_bytes} bytes: {:.1} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let put = ada.run(["put", "big", "--ref", "lab/big", "--json"]).ok().json();
    timed("put", began);
    let sha1 = sha1sum(&source);
    assert_eq!((&put["sha1"], &put["size_bytes"]), (&sha1.as_str().into(), &size_bytes.into()));
    until_found(&ben, &["ref", "get", "lab/big"]);
    let began = Instant::now();
    let fetched = ben.run(["fetch", "lab/big", "--json"]).ok().json();
    timed("fetch", began);
    assert_eq!((&fetched["sha1"], &fetched["received_bytes"]), (&sha1.as_str().into(), &size_bytes.into()));
    ben.run(["get", "lab/big", "--to", "copy"]).ok();
    assert_eq!(fs::metadata(&copy).unwrap().len(), size_bytes);
    assert_eq!(sha1sum(&copy), sha1);
    Outcome::of(Command::new("cmp").arg(&source).arg(&copy), b"").ok();
    for daemon in [first, second] {
        daemon.terminate().ok();
    }
    ben.run(["fsck", "--verify"]).ok();
    println!("tally big: 1 passed, 0 failed");
}

#[test]
fn a_tree_of_a_thousand_files_comes_out_the_same_on_another_machine() {
    let (ada, _first, ben, _second) = two_machines();
    for number in 0..1_000_u64 {
        let len = if number % 50 == 0 { 100_000 } else { usize::try_from(number * 7 % 3_000).unwrap() };
        ada.file(format!("tree/{}/{}/{number}", number % 7, number % 11), &noise(number, len));
    }
    ada.run(["put", "-r", "tree", "--ref", "lab/tree"]).ok();
    until_found(&ben, &["ref", "get", "lab/tree"]);
    ben.run(["get", "lab/tree", "--to", "restored"]).ok();
    assert!(contents(&ben.scratch().join("restored")) == contents(&ada.scratch().join("tree")));
}
