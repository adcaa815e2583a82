//! `fsck`: rot is found, told and put aside; nothing is deleted, and what a crash leaves is no problem.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keepwell_tests::TempHome;
use serde_json::Value;

use super::{blob_file, noise, sha1_of};

fn put(home: &TempHome, name: &str, len: usize) -> String {
    home.file(name, &noise(len as u64, len));
    sha1_of(&home.run(["put", name, "--json"]).ok())
}

fn flip_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[50_000] ^= 1;
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

fn last(lines: &[Value]) -> &Value {
    lines.last().unwrap()
}

#[test]
fn a_flipped_bit_is_found_told_and_put_aside() {
    let home = TempHome::initialised("ada");
    let sha1 = put(&home, "big", 200_000);
    let good = put(&home, "good", 100_000);
    home.run(["ref", "set", "lab/x", &format!("data=sha1://{sha1}")]).ok();
    flip_bit(&blob_file(&home, &sha1));
    home.run(["fsck"]).ok();
    let lines = home.run(["fsck", "--verify", "--json"]).exits(9).json_lines();
    assert_eq!(
        (&lines[0]["sha1"], &lines[0]["problem"], &lines[0]["refs"][0]),
        (&sha1.as_str().into(), &"rotten".into(), &"lab/x".into())
    );
    assert_eq!(*last(&lines), serde_json::json!({"checked": 2, "ok": false, "problems": 1, "repaired": 0}));
    assert_eq!(
        home.run(["cat", &format!("sha1://{sha1}"), "--range", "40000-60000", "--json"]).exits(9).error_code(),
        "INTEGRITY"
    );
    home.run(["get", &format!("sha1://{sha1}"), "--to", "out", "--json"]).exits(9);
    assert!(!home.scratch().join("out").exists(), "no rotten file is made");

    let repaired = home.run(["fsck", "--verify", "--repair", "--json"]).ok().json_lines();
    assert_eq!(*last(&repaired), serde_json::json!({"checked": 2, "ok": true, "problems": 1, "repaired": 1}));
    assert_eq!(fs::metadata(home.path().join("quarantine").join(&sha1)).unwrap().len(), 200_000, "nothing is deleted");
    assert_eq!(home.run(["stat", &sha1, "--json"]).ok().json()["state"], "recorded");
    assert_eq!(home.run(["cat", &sha1, "--json"]).exits(8).error_code(), "NO_PROVIDER");
    home.run(["cat", &good]).ok();
    assert_eq!(home.run(["ref", "get", "lab/x", "--json"]).ok().json()["durable"], 0);

    put(&home, "big", 200_000);
    home.run(["fsck", "--verify"]).ok();
    assert_eq!(home.run(["ref", "get", "lab/x", "--json"]).ok().json()["durable"], 1, "put again, and all is well");
}

#[test]
fn the_original_that_is_put_again_mends_a_copy_that_has_rotten_or_gone() {
    let home = TempHome::initialised("ada");
    let (rots, goes) = (put(&home, "a", 200_000), put(&home, "b", 30_000));
    let harm = || {
        flip_bit(&blob_file(&home, &rots));
        fs::remove_file(blob_file(&home, &goes)).unwrap();
        home.run(["fsck", "--verify"]).exits(9);
    };
    harm();
    let lines = home.run(["put", "a", "b", "--json"]).ok().json_lines();
    assert!(lines.iter().all(|line| line["existed"] == true), "{lines:?}");
    assert_eq!(last(&home.run(["fsck", "--verify", "--json"]).ok().json_lines())["checked"], 2);
    assert_eq!(home.run(["cat", &rots]).ok().stdout, noise(200_000, 200_000));
    assert_eq!(fs::metadata(blob_file(&home, &rots)).unwrap().permissions().mode() & 0o777, 0o444);

    harm();
    home.set("\n[scrub]\nauto = false\n");
    let daemon = home.up();
    home.run(["put", "a"]).ok();
    home.run_with_input(["put", "-"], &noise(30_000, 30_000)).ok();
    assert_eq!(home.run(["cat", &goes]).ok().stdout, noise(30_000, 30_000));
    daemon.terminate().ok();
    home.run(["fsck", "--verify"]).ok();
}

#[test]
fn a_daemon_at_work_checks_its_home_and_leaves_the_mending_to_a_put_or_to_a_stopped_one() {
    let home = TempHome::initialised("ada");
    home.set("\n[gc]\nauto = false\n\n[scrub]\nauto = false\n");
    let (rots, goes) = (put(&home, "a", 200_000), put(&home, "b", 30_000));
    home.run(["ref", "set", "lab/x", &format!("data=sha1://{rots}")]).ok();
    let daemon = home.up();
    let whole = home.run(["fsck", "--verify", "--json"]).ok().json_lines();
    let sum_of = |problems: usize, unchecked: &str| serde_json::json!({"checked": 2, "ok": problems == 0, "problems": problems, "repaired": 0, "unchecked": [unchecked]});
    let sum = |problems| sum_of(problems, "tables");
    assert_eq!(whole, [sum(0)]);
    assert!(home.run(["fsck"]).ok().stderr.contains("while the daemon is stopped"));

    flip_bit(&blob_file(&home, &rots));
    fs::remove_file(blob_file(&home, &goes)).unwrap();
    assert_eq!(*last(&home.run(["fsck", "--json"]).exits(9).json_lines()), sum_of(1, "index"), "rot is found by reading alone");
    let lines = home.run(["fsck", "--verify", "--json"]).exits(9).json_lines();
    assert_eq!(*last(&lines), sum(2));
    let rotten = lines.iter().find(|line| line["sha1"] == rots.as_str()).unwrap();
    assert_eq!((&rotten["problem"], &rotten["refs"][0], &rotten["repair"]), (&"rotten".into(), &"lab/x".into(), &Value::Null));
    assert_eq!(home.run(["fsck", "--repair", "--json"]).exits(5).error_code(), "HOME_BUSY");
    let gone = home.http("POST /api/v1/fsck", &[], b"{\"verify\":3}");
    assert_eq!(gone.status, 400);

    home.run(["put", "a", "b"]).ok();
    assert_eq!(home.run(["fsck", "--verify", "--json"]).ok().json_lines(), [sum(0)]);
    daemon.terminate().ok();
    home.run(["fsck", "--verify"]).ok();
}

#[test]
fn a_missing_or_cut_file_is_found_without_reading() {
    let home = TempHome::initialised("ada");
    let (missing, cut) = (put(&home, "a", 30_000), put(&home, "b", 40_000));
    fs::remove_file(blob_file(&home, &missing)).unwrap();
    fs::set_permissions(blob_file(&home, &cut), Permissions::from_mode(0o644)).unwrap();
    fs::OpenOptions::new().write(true).open(blob_file(&home, &cut)).unwrap().set_len(100).unwrap();
    let lines = home.run(["fsck", "--json"]).exits(9).json_lines();
    let mut problems: Vec<_> =
        lines.iter().filter_map(|line| Some((line["sha1"].as_str()?, line["problem"].as_str()?))).collect();
    problems.sort_unstable();
    let mut expected = [(missing.as_str(), "missing"), (cut.as_str(), "wrong_size")];
    expected.sort_unstable();
    assert_eq!(problems, expected);
    home.run(["fsck", "--repair"]).ok();
    assert_eq!(last(&home.run(["fsck", "--verify", "--json"]).ok().json_lines())["checked"], 0);
}

#[test]
fn a_blob_that_a_crash_left_without_its_record_is_recorded() {
    let (home, other) = (TempHome::initialised("ada"), TempHome::initialised("bob"));
    let sha1 = put(&other, "a", 30_000);
    let place = blob_file(&home, &sha1);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::copy(blob_file(&other, &sha1), &place).unwrap();
    let lines = home.run(["fsck", "--verify", "--json"]).ok().json_lines();
    assert_eq!((&lines[0]["problem"], &last(&lines)["problems"]), (&"unrecorded".into(), &0.into()));
    home.run(["cat", &sha1]).exits(8);
    home.run(["fsck", "--repair"]).ok();
    assert_eq!(home.run(["cat", &sha1]).ok().stdout, noise(30_000, 30_000));
    assert_eq!(home.run(["fsck", "--verify", "--json"]).ok().json_lines().len(), 1);
}

#[test]
fn a_file_that_is_no_blob_is_put_aside() {
    let home = TempHome::initialised("ada");
    let place = blob_file(&home, "0123456789012345678901234567890123456789");
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, noise(1, 30_000)).unwrap();
    fs::write(home.path().join("blobs/notes.txt"), b"mine").unwrap();
    let lines = home.run(["fsck", "--verify", "--json"]).exits(9).json_lines();
    assert_eq!(last(&lines)["problems"], 2);
    assert!(lines[..2].iter().all(|line| line["problem"] == "stray"));
    home.run(["fsck", "--repair"]).ok();
    assert_eq!(fs::read(home.path().join("quarantine/notes.txt")).unwrap(), b"mine");
    assert_eq!(fs::read(home.path().join("quarantine/0123456789012345678901234567890123456789")).unwrap(), noise(1, 30_000));
    home.run(["fsck", "--verify"]).ok();
}

#[test]
fn a_small_blob_in_a_file_is_recorded_and_its_file_put_aside() {
    let (home, other) = (TempHome::initialised("ada"), TempHome::initialised("bob"));
    let sha1 = put(&other, "small", 100);
    let place = blob_file(&home, &sha1);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, noise(100, 100)).unwrap();
    home.run(["fsck", "--repair"]).ok();
    assert_eq!(home.run(["cat", &sha1]).ok().stdout, noise(100, 100));
    assert!(home.path().join("quarantine").join(&sha1).exists());
    assert_eq!(home.run(["fsck", "--verify", "--json"]).ok().json_lines().len(), 1);
}

#[test]
fn a_put_that_was_killed_leaves_nothing_to_see() {
    let home = TempHome::initialised("ada");
    let kept = put(&home, "kept", 100_000);
    let mut putting = home.start(["put", "-", "--json"]);
    putting.write(&noise(3, 3_000_000));
    putting.kill();
    let lines = home.run(["fsck", "--verify", "--json"]).ok().json_lines();
    assert_eq!(*last(&lines), serde_json::json!({"checked": 1, "ok": true, "problems": 0, "repaired": 0}));
    assert_eq!(fs::read_dir(home.path().join("ingest")).unwrap().count(), 0, "the next command cleans up");
    assert_eq!(home.run(["cat", &kept]).ok().stdout, noise(100_000, 100_000));
}

#[test]
fn a_home_from_a_backup_works_where_it_was_restored() {
    let home = TempHome::initialised("ada");
    let sha1 = put(&home, "a", 100_000);
    home.run(["ref", "set", "lab/x", &format!("data=sha1://{sha1}")]).ok();
    let restored = TempHome::new();
    copy(&home.path(), &restored.path());
    fs::remove_file(restored.path().join("lock")).unwrap();
    assert_eq!(restored.run(["cat", "lab/x"]).ok().stdout, noise(100_000, 100_000));
    let first = home.run(["ref", "get", "lab/x", "--json"]).ok().json();
    let boot = |rev: &Value| rev.as_str().unwrap().split('-').next().unwrap().to_owned();
    let second = restored.run(["ref", "set", "lab/x", &format!("data=sha1://{sha1}"), "--json"]).ok().json();
    assert_ne!(boot(&first["rev"]), boot(&second["rev"]), "a copy writes under a boot of its own");
    restored.run(["fsck", "--verify"]).ok();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_bit_that_flips_in_the_index_is_found_by_reading_it_whole_and_mended_where_it_was_the_bytes_of_a_blob() {
    let home = TempHome::initialised("ada");
    let text = b"of which there is no second copy, and which is not long";
    home.file("small", text);
    home.run(["put", "small"]).ok();
    home.run(["fsck", "--verify"]).ok();
    let index = home.path().join("index.redb");
    let mut bytes = fs::read(&index).unwrap();
    let at: Vec<usize> = (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
    at.iter().for_each(|at| bytes[*at] ^= 1);
    fs::write(&index, bytes).unwrap();
    home.run(["fsck"]).ok();
    let lines = home.run(["fsck", "--verify", "--json"]).exits(9).json_lines();
    assert_eq!((&lines[0]["path"], &lines[0]["problem"]), (&"index.redb".into(), &"damaged".into()));
    assert_eq!(lines[1]["problem"], "rotten");
    home.run(["fsck", "--verify", "--repair"]).exits(9);
    home.run(["fsck", "--verify"]).ok();
}
