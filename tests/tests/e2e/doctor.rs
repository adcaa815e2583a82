//! Something does not work, and somebody asks `keepwell doctor`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use keepwell_tests::{Outcome, TempHome};
use serde_json::Value;

fn line(outcome: &Outcome, check: &str) -> Value {
    let found = outcome.json_lines().into_iter().find(|line| line["check"] == check);
    assert!(found.is_some(), "no line `{check}` in {outcome}");
    found.unwrap()
}

#[test]
fn a_home_is_looked_at_before_it_is_made_without_a_daemon_and_with_one() {
    let home = TempHome::new();
    let absent = home.run(["doctor", "--json"]).exits(2);
    assert_eq!(
        (&absent.json()["check"], &absent.json()["state"], &absent.json()["code"]),
        (&"home".into(), &"problem".into(), &"USAGE".into())
    );
    assert!(!home.path().exists(), "looking makes nothing");

    home.run(["init", "--name", "ada"]).ok();
    let alone = home.run(["doctor", "--json"]).ok();
    assert!(line(&alone, "daemon")["message"].as_str().unwrap().starts_with("not running"));

    let daemon = home.up();
    let running = home.run(["doctor", "--json"]).ok();
    assert!(line(&running, "daemon")["message"].as_str().unwrap().contains(&format!("process {} ", daemon.id())));
    assert_eq!(line(&running, "socket")["state"], "ok");
    assert_eq!(line(&running, "peers")["message"], "0 of 0 connected");
    // Plays listen on the loopback interface alone, which is worth a word to anybody else.
    assert_eq!(line(&running, "listen")["state"], "warn");
    assert!(home.run(["doctor"]).ok().text().contains("hint: name an address of this machine under `listen`"));
}

#[test]
fn what_is_wrong_is_told_with_what_to_do_and_the_exit_code_follows() {
    let home = TempHome::initialised("ada");
    fs::write(home.path().join("config.toml"), "max_sise = \"1GiB\"\n").unwrap();
    let misspelt = home.run(["doctor", "--json"]).exits(2);
    assert!(line(&misspelt, "config")["message"].as_str().unwrap().contains("unknown field `max_sise`"));
    assert_eq!(line(&misspelt, "space")["state"], "ok", "the rest is looked at all the same");
    fs::remove_file(home.path().join("config.toml")).unwrap();

    let key = home.path().join("identity.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let exposed = home.run(["doctor", "--json"]).exits(10);
    assert!(line(&exposed, "key")["hint"].as_str().unwrap().contains("chmod 600"));
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();

    let lock = fs::File::options().read(true).write(true).open(home.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let busy = home.run(["doctor", "--json"]).exits(5);
    assert_eq!((&line(&busy, "socket")["state"], &line(&busy, "socket")["code"]), (&"problem".into(), &"HOME_BUSY".into()));
}
