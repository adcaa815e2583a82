//! End-to-end plays: a user's stories, told with the real binary on real files.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are its own: what cannot be read fails it")]

mod big;
mod churn;
mod collisions;
mod config;
mod copies;
mod daemon;
mod doctor;
mod drops;
mod events;
mod expiry;
mod failures;
mod fsck;
mod full;
mod gc;
mod homes;
mod http;
mod index;
mod kills;
mod last_copy;
mod leases;
mod network;
mod pressure;
mod putting;
mod refs;
mod removal;
mod scrub;
mod trees;
mod unlinks;
mod uploads;
mod why;

/// Bytes that look random and are the same in every run.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

/// The SHA-1 in the one JSON line of a put.
fn sha1_of(put: &keepwell_tests::Outcome) -> String {
    put.json()["sha1"].as_str().unwrap_or_default().to_owned()
}

/// Where a blob's file lies below its home.
fn blob_file(home: &keepwell_tests::TempHome, sha1: &str) -> std::path::PathBuf {
    home.path().join("blobs").join(&sha1[..2]).join(&sha1[2..4]).join(sha1)
}
