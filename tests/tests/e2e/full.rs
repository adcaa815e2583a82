//! A full disk: what does not fit is refused and leaves nothing behind, all else goes on, and so does this when there is space again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use keepwell_store::limits::INDEX_RESERVE_BYTES;
use keepwell_tests::{Outcome, TempHome, on_a_small_disk};

use super::{noise, sha1_of};

const DISK_BYTES: u64 = INDEX_RESERVE_BYTES + (24 << 20);
/// Fits on the empty disk, and not beside [`Ballast::most`].
const LARGE_BYTES: usize = 12 << 20;

/// A file of somebody else's that takes space on the disk.
struct Ballast(PathBuf);

impl Ballast {
    /// Leaves too little for a large blob.
    fn most(disk: &Path) -> Ballast {
        Ballast::of(disk, 16 << 20)
    }

    /// Leaves nothing at all.
    fn all(disk: &Path) -> Ballast {
        Ballast::of(disk, u64::MAX)
    }

    fn of(disk: &Path, bytes: u64) -> Ballast {
        let path = disk.join("ballast");
        let mut file = File::create(&path).unwrap();
        let piece = vec![0; 1 << 16];
        let mut written = 0;
        while written < bytes && file.write_all(&piece).is_ok() {
            written += piece.len() as u64;
        }
        // Down to the last byte: a short write at the end has taken what there was.
        assert!(written >= bytes || bytes == u64::MAX);
        Ballast(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

fn large(seed: u8) -> Vec<u8> {
    (0..LARGE_BYTES / 4096).flat_map(|page| [[seed; 4088].as_slice(), &(page as u64).to_le_bytes()].concat()).collect()
}

#[track_caller]
fn no_space(outcome: Outcome) {
    assert_eq!(outcome.exits(7).error_code(), "NO_SPACE");
}

/// Nothing of a refused blob can be seen, and nothing of it takes space.
fn nothing_is_left(home: &TempHome, kept_files: usize) {
    assert_eq!(fs::read_dir(home.path().join("ingest")).map_or(0, Iterator::count), 0);
    let mut due = vec![home.path().join("blobs")];
    let mut files = 0;
    while let Some(folder) = due.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { due.push(path) } else { files += 1 }
        }
    }
    assert_eq!(files, kept_files);
}

/// Puts and sets on a disk that fills and has space again. `outside` has room for the files that are put.
fn play(home: &TempHome, disk: &Path, outside: &TempHome) {
    let source = outside.file("large", &large(1)).display().to_string();
    let small = outside.file("small", b"example text").display().to_string();
    let kept = outside.file("kept", &noise(1, 300_000)).display().to_string();
    let kept = home.run(["put", &kept, "--ref", "lab/kept"]).ok().text().to_owned();
    let read_kept = || assert_eq!(home.run(["cat", &kept]).ok().stdout, noise(1, 300_000));

    let ballast = Ballast::most(disk);
    no_space(home.run(["put", &source, "--json"]));
    no_space(home.run_with_input(["put", "-", "--json"], &large(1)));
    nothing_is_left(home, 1);
    home.run(["ref", "set", "lab/meanwhile", "--obj", "{}"]).ok();
    read_kept();
    drop(ballast);

    let ballast = Ballast::all(disk);
    no_space(home.run(["put", &small, "--json"]));
    let acknowledged = (0..200).take_while(|n| {
        let set =
            home.run(["ref", "set", &format!("full/{n}"), "--obj", &format!("{{\"n\":\"{}\"}}", "x".repeat(60_000)), "--json"]);
        if set.code != Some(0) {
            no_space(set.clone());
        }
        set.code == Some(0)
    });
    let acknowledged = acknowledged.count();
    assert!(acknowledged < 200, "the index has come to its end");
    read_kept();
    home.run(["status", "--json"]).ok();
    home.run(["ref", "get", "lab/kept"]).ok();
    drop(ballast);

    home.run(["put", &source, "--ref", "lab/large"]).ok();
    home.run(["put", &small]).ok();
    home.run(["ref", "set", &format!("full/{acknowledged}"), "--obj", "{}"]).ok();
    assert!(home.run(["cat", "lab/large"]).ok().stdout == large(1));
    assert_eq!(home.run(["ref", "ls", "full/*"]).ok().text().lines().count(), acknowledged + 1);
}

#[test]
fn commands_on_a_full_disk_say_so_and_work_again_when_there_is_space() {
    on_a_small_disk("e2e::full::commands_on_a_full_disk_say_so_and_work_again_when_there_is_space", DISK_BYTES, |disk| {
        let (home, outside) = (TempHome::within(disk), TempHome::new());
        home.run(["init", "--name", "ada"]).ok();
        play(&home, disk, &outside);
        home.run(["fsck", "--verify"]).ok();
    });
}

#[test]
fn a_daemon_on_a_full_disk_goes_on_and_takes_more_when_there_is_space() {
    on_a_small_disk("e2e::full::a_daemon_on_a_full_disk_goes_on_and_takes_more_when_there_is_space", DISK_BYTES, |disk| {
        let (home, outside) = (TempHome::within(disk), TempHome::new());
        home.run(["init", "--name", "ada"]).ok();
        let daemon = home.up();
        let ballast = Ballast::most(disk);
        let answer = home.http("POST /api/v1/blobs", &[], &large(2));
        assert_eq!((answer.status, answer.error_code().as_str()), (507, "NO_SPACE"));
        drop(ballast);
        play(&home, disk, &outside);
        let ballast = Ballast::all(disk);
        let refs: Vec<u16> = (0..200)
            .map(|n| {
                let body = format!("{{\"obj\":{{\"n\":\"{}\"}}}}", "y".repeat(60_000));
                home.http(&format!("PUT /api/v1/refs/http/{n}"), &[], body.as_bytes()).status
            })
            .collect();
        assert_eq!(refs.last(), Some(&507), "{refs:?}");
        drop(ballast);
        daemon.terminate().ok();
        home.run(["fsck", "--verify"]).ok();
    });
}

#[test]
fn a_fetch_that_does_not_fit_is_refused_and_made_when_there_is_space() {
    on_a_small_disk("e2e::full::a_fetch_that_does_not_fit_is_refused_and_made_when_there_is_space", DISK_BYTES, |disk| {
        let (ada, ben) = (TempHome::initialised("ada"), TempHome::within(disk));
        let _first = ada.up();
        let ticket = ada.run(["invite"]).ok().text().to_owned();
        ben.run(["join", &ticket, "--name", "ben"]).ok();
        let second = ben.up();
        ada.file("large", &large(3));
        let sha1 = sha1_of(&ada.run(["put", "large", "--ref", "lab/large", "--json"]).ok());
        super::network::until_found(&ben, &["ref", "get", "lab/large"]);
        for ballast in [Ballast::most, Ballast::all] {
            let ballast = ballast(disk);
            no_space(ben.run(["fetch", "lab/large", "--json"]));
            no_space(ben.run(["get", "lab/large", "--to", "out", "--json"]));
            assert_eq!(ben.run(["stat", &sha1, "--json"]).ok().json()["state"], "recorded");
            assert_eq!(ben.http(&format!("GET /api/v1/blobs/{sha1}?local=1"), &[], b"").status, 404);
            assert!(!ben.scratch().join("out").exists());
            drop(ballast);
        }
        ben.run(["fetch", "lab/large"]).ok();
        assert!(ben.run(["cat", "lab/large"]).ok().stdout == large(3));
        second.terminate().ok();
        nothing_is_left(&ben, 1);
        ben.run(["fsck", "--verify"]).ok();
    });
}
