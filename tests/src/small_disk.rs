//! A disk of a few megabytes that belongs to one test alone, and goes with it.

use std::path::Path;
use std::process::Command;

use crate::{Outcome, keepwell_binary};

const FOLDER: &str = "KEEPWELL_SMALL_DISK";

/// Plays `test` with a folder on a disk of `size_bytes` that nothing else writes to.
///
/// The test runs once more, as a process of its own that may mount such a disk where only it sees it. Nothing is left to unmount,
/// however it ends. `test` is the full name of the test that calls this.
///
/// # Panics
/// When the play fails, or when this machine lets nobody mount a disk: then the test is not run, and it must not look as if it were.
/// `KEEPWELL_NO_MOUNTS=1` says that this is known, and lets it be skipped.
pub fn on_a_small_disk(test: &str, size_bytes: u64, play: impl FnOnce(&Path)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return play(Path::new(&folder));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mount = format!("mount -t tmpfs -o size={size_bytes},mode=0700 keepwell \"${FOLDER}\"");
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).env(FOLDER, folder.path());
        command
    };
    let tried = inside(&mount).output();
    if !tried.as_ref().is_ok_and(|tried| tried.status.success()) {
        assert!(std::env::var_os("KEEPWELL_NO_MOUNTS").is_some(), "{test}: no small disk can be mounted here: {tried:?}");
        println!("SKIPPED {test}: no small disk can be mounted here, and KEEPWELL_NO_MOUNTS says that this is known");
        return;
    }
    let mut again = inside(&format!("{mount} && exec \"$@\""));
    again.arg(std::env::current_exe().expect("a running test has a path")).args(["--exact", test, "--nocapture"]);
    let outcome = Outcome::of(again.env("KEEPWELL_BIN", keepwell_binary()), b"").ok();
    assert!(outcome.text().contains("1 passed"), "no test is named {test}: {outcome}");
}
