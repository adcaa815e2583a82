//! What a home has acknowledged, and whether all of it is there.

use std::collections::BTreeMap;

use keepwell_store::hash::hash_bytes;
use keepwell_tests::TempHome;
use serde_json::Value;

use super::Story;
use crate::e2e::noise;

/// Sizes around every border: in the index, in one group, in several, in several pieces of a fetch.
const SIZES: [u64; 6] = [100, 16_384, 16_385, 300_000, 2_000_000, 8_000_000];

/// A blob that may be asked for.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) sha1: String,
    pub(super) bytes: Vec<u8>,
}

impl Blob {
    pub(super) fn drawn(story: &mut Story, len: u64) -> Blob {
        let bytes = noise(story.below(u64::MAX), usize::try_from(len).unwrap());
        Blob { sha1: hash_bytes(&bytes).fact.sha1.to_string(), bytes }
    }

    /// One of any of the interesting sizes.
    pub(super) fn any(story: &mut Story) -> Blob {
        let at = usize::try_from(story.below(SIZES.len() as u64)).unwrap();
        Blob::drawn(story, SIZES[at])
    }
}

/// What was said of one home, and what was under way when it was killed.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    acknowledged: BTreeMap<String, Blob>,
    under_way: BTreeMap<String, Blob>,
    /// The objects that a ref may have: the last acknowledged one, and those that were being set since.
    refs: BTreeMap<String, Vec<Option<String>>>,
}

impl Ledger {
    /// Notes that a blob is being put or fetched.
    pub(super) fn begin(&mut self, blob: Blob) {
        self.under_way.insert(blob.sha1.clone(), blob);
    }

    /// Notes that a blob was said to be held.
    #[track_caller]
    pub(super) fn acknowledge(&mut self, sha1: &str) {
        let blob = self.under_way.remove(sha1).or_else(|| self.acknowledged.get(sha1).cloned());
        self.acknowledged.insert(sha1.to_owned(), blob.expect("what is acknowledged was asked for, by this name"));
    }

    /// Takes the lines of `put --json` as acknowledgements; how many there were.
    #[track_caller]
    pub(super) fn acknowledge_lines(&mut self, lines: &[String]) -> usize {
        let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let held: Vec<String> = lines.filter_map(|line| Some(line["sha1"].as_str()?.to_owned())).collect();
        held.iter().for_each(|sha1| self.acknowledge(sha1));
        held.len()
    }

    /// Whether a blob was said to be held.
    pub(super) fn holds(&self, sha1: &str) -> bool {
        self.acknowledged.contains_key(sha1)
    }

    /// Notes that a ref is being set.
    pub(super) fn begin_ref(&mut self, name: &str, obj: &str) {
        self.refs.entry(name.to_owned()).or_insert_with(|| vec![None]).push(Some(obj.to_owned()));
    }

    /// Notes that a ref was said to be set.
    pub(super) fn acknowledge_ref(&mut self, name: &str, obj: &str) {
        self.refs.insert(name.to_owned(), vec![Some(obj.to_owned())]);
    }

    /// Some blob that was acknowledged.
    pub(super) fn any_acknowledged(&self, story: &mut Story) -> Option<&Blob> {
        let at = story.below(self.acknowledged.len() as u64);
        self.acknowledged.values().nth(usize::try_from(at).ok()?)
    }

    /// Looks at a home on which nobody works: its index, its files, and all that was said of it, once more through a daemon.
    ///
    /// `partials` is how many blobs may be on their way in.
    #[track_caller]
    pub(super) fn check(&mut self, home: &TempHome, partials: usize) {
        check_disk(home, partials);
        let daemon = home.up();
        self.check_served(home);
        daemon.terminate().ok();
    }

    /// Looks at what a running daemon says of its home.
    #[track_caller]
    pub(super) fn check_served(&mut self, home: &TempHome) {
        for blob in self.acknowledged.values() {
            assert!(read(home, &blob.sha1).as_ref() == Some(&blob.bytes), "blob {} was acknowledged", blob.sha1);
        }
        for (sha1, blob) in std::mem::take(&mut self.under_way) {
            // Kept without having been told, or not there at all; never a part of it.
            if let Some(found) = read(home, &sha1) {
                assert!(found == blob.bytes, "blob {sha1} was under way");
                self.acknowledged.insert(sha1, blob);
            }
        }
        for (name, possible) in &mut self.refs {
            let found = home.http(&format!("GET /api/v1/refs/{name}"), &[], b"");
            let obj = (found.status == 200).then(|| found.json()["obj"].to_string());
            assert!(found.status == 200 || found.status == 404, "ref {name}: {found:?}");
            assert!(possible.contains(&obj), "ref {name} is {obj:?}, and can be one of {possible:?}");
            *possible = vec![obj];
        }
    }
}

/// The bytes of a blob that this node itself holds.
fn read(home: &TempHome, sha1: &str) -> Option<Vec<u8>> {
    let answer = home.http(&format!("GET /api/v1/blobs/{sha1}?local=1"), &[], b"");
    let is_told = answer.status == 200 || answer.status == 404;
    assert!(is_told, "blob {sha1}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    (answer.status == 200).then_some(answer.body)
}

/// Records and disk agree, a rebuild of what is derived changes nothing, and what an interrupted ingest left is gone.
#[track_caller]
pub(super) fn check_disk(home: &TempHome, partials: usize) {
    let lines = home.run(["fsck", "--verify", "--json"]).ok().json_lines();
    let sum = lines.last().unwrap();
    assert_eq!((&sum["ok"], &sum["problems"]), (&true.into(), &0.into()), "{lines:?}");
    // A whole blob whose record was not written yet is no problem: nobody was told of it.
    assert!(lines[..lines.len() - 1].iter().all(|line| line["problem"] == "unrecorded"), "{lines:?}");
    let left = std::fs::read_dir(home.path().join("ingest")).map_or(0, Iterator::count);
    assert!(left <= partials, "{left} files in ingest/");
}
