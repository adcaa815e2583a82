//! Homes: made once, used by one process at a time, each on its own.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use keepwell_tests::{Outcome, TempHome};

#[test]
fn a_home_is_made_once() {
    let home = TempHome::new();
    let made = home.run(["init", "--name", "ada", "--network", "lab", "--max-size", "2TiB", "--json"]).ok().json();
    assert_eq!((&made["name"], &made["network_name"]), (&"ada".into(), &"lab".into()));
    assert_eq!(made["home"], home.path().to_str().unwrap());
    assert_eq!(made["node"].as_str().map(str::len), Some(64));
    assert_eq!(home.run(["init", "--json"]).exits(10).error_code(), "EXISTS");
    for (name, mode) in [("identity.key", 0o600), ("index.redb", 0o600), ("", 0o700)] {
        assert_eq!(fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn a_home_that_is_not_there_or_not_whole_is_told() {
    let home = TempHome::new();
    let absent = home.run(["ref", "ls", "--json"]).exits(2);
    assert_eq!(absent.error_code(), "USAGE");
    assert!(absent.text().contains("keepwell init"));
    home.run(["init", "--name", "ada"]).ok();
    fs::remove_file(home.path().join("index.redb")).unwrap();
    let half = home.run(["ref", "ls", "--json"]).exits(2);
    assert!(half.text().contains("was not made to its end"), "{half}");
    assert!(!home.path().join("index.redb").exists(), "looking makes nothing");
    home.run(["init", "--name", "ada"]).ok();
    home.run(["ref", "ls"]).ok();
}

#[test]
fn a_folder_with_something_else_in_it_is_no_place_for_a_home() {
    let home = TempHome::new();
    fs::create_dir(home.path()).unwrap();
    fs::write(home.path().join("thesis.tex"), b"years of work").unwrap();
    assert_eq!(home.run(["init", "--name", "ada", "--json"]).exits(10).error_code(), "EXISTS");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    let file = home.file("file", b"x");
    home.run([file.as_os_str()]).exits(2);
    let inside = home.command().arg("--home").arg(file.join("home")).args(["init", "--name", "ada", "--json"]).output().unwrap();
    assert_eq!(inside.status.code(), Some(2));
}

#[test]
fn a_home_in_use_is_waited_for_and_its_holder_named() {
    let home = TempHome::initialised("ada");
    let mut lock = File::options().read(true).write(true).open(home.path().join("lock")).unwrap();
    lock.lock().unwrap();
    lock.set_len(0).unwrap();
    lock.write_all(b"process 1 (keepwell play)\n").unwrap();
    let run = |wait: &str, args: &[&str]| Outcome::of(home.command().env("KEEPWELL_LOCK_WAIT", wait).args(args), b"");
    let busy = run("0s", &["ref", "ls", "--json"]).exits(5);
    assert_eq!(busy.error_code(), "HOME_BUSY");
    assert_eq!(busy.json()["error"]["details"]["holder"], "process 1 (keepwell play)");
    assert_eq!(busy.json()["error"]["retryable"], true);
    assert_eq!(run("10ms", &["init", "--json"]).exits(5).error_code(), "HOME_BUSY");
    let mut waiting = home.start(["ref", "ls", "--json"]);
    drop(lock);
    assert_eq!(waiting.next_line(), None);
    waiting.finish().ok();
}

#[test]
fn two_homes_know_nothing_of_each_other() {
    let (ada, bob) = (TempHome::initialised("ada"), TempHome::initialised("bob"));
    ada.file("note", b"note");
    let uri = ada.run(["put", "note", "--ref", "lab/x"]).ok().text().to_owned();
    assert_eq!(bob.run(["cat", &uri, "--json"]).exits(8).error_code(), "NO_PROVIDER");
    bob.run(["ref", "get", "lab/x"]).exits(3);
    let through_flag = bob.command().arg("--home").arg(ada.path()).args(["cat", &uri]).output().unwrap();
    assert_eq!(through_flag.stdout, b"note", "the flag wins over the environment");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let home = TempHome::initialised("ada");
    fs::set_permissions(home.path().join("identity.key"), Permissions::from_mode(0o644)).unwrap();
    let refused = home.run(["ref", "ls", "--json"]).exits(10);
    assert_eq!(refused.error_code(), "UNSAFE");
    assert!(refused.text().contains("chmod 600"));
}

#[test]
fn a_key_of_another_home_is_refused() {
    let (ada, bob) = (TempHome::initialised("ada"), TempHome::initialised("bob"));
    fs::copy(bob.path().join("identity.key"), ada.path().join("identity.key")).unwrap();
    assert_eq!(ada.run(["ref", "ls", "--json"]).exits(9).error_code(), "INTEGRITY");
}
