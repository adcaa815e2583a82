//! Settings: who set what, and where a mistake is.

use std::fs;

use keepwell_tests::{Outcome, TempHome};

fn setting(outcome: Outcome, key: &str) -> (String, String) {
    let lines = outcome.ok().json_lines();
    let line = lines.into_iter().find(|line| line["key"] == key).unwrap();
    (line["value"].as_str().unwrap().to_owned(), line["origin"].as_str().unwrap().to_owned())
}

#[test]
fn every_setting_tells_who_set_it() {
    let home = TempHome::new();
    home.run(["init", "--name", "ada", "--max-size", "500GiB"]).ok();
    let show = || {
        let mut command = home.command();
        command.args(["config", "show", "--json"]);
        command
    };
    let set = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(setting(Outcome::of(&mut show(), b""), "lock_wait"), set("30s", "default"));
    let (size, origin) = setting(Outcome::of(&mut show(), b""), "max_size");
    assert_eq!((size.as_str(), origin.as_str()), ("500GiB", "config.toml:3"));
    assert_eq!(setting(Outcome::of(show().env("KEEPWELL_LOCK_WAIT", "5s"), b""), "lock_wait"), set("5s", "KEEPWELL_LOCK_WAIT"));
    assert_eq!(setting(Outcome::of(&mut show(), b""), "mdns"), set("false", "default"));
    assert_eq!(setting(Outcome::of(&mut show(), b""), "gc.grace"), set("1d", "default"));
    home.set("[gc]\nauto = false\n");
    assert_eq!(setting(Outcome::of(&mut show(), b""), "gc.auto").0, "false");
    assert_eq!(setting(Outcome::of(show().env("KEEPWELL_GC_GRACE", "2h"), b""), "gc.grace"), set("2h", "KEEPWELL_GC_GRACE"));
    assert_eq!(setting(Outcome::of(&mut show(), b""), "home").1, "KEEPWELL_HOME");
    let text = home.run(["config", "show", "--origin"]).ok();
    assert!(text.text().contains("lock_wait = \"30s\"  # default"), "{text}");
}

#[test]
fn a_mistake_is_found_by_its_line_before_it_does_harm() {
    let home = TempHome::initialised("ada");
    home.run(["config", "check"]).ok();
    fs::write(home.path().join("config.toml"), "lock_wait = \"1s\"\n\nlock_weight = \"2s\"\n").unwrap();
    for args in [&["config", "check", "--json"][..], &["ref", "ls", "--json"]] {
        let refused = home.run(args).exits(2);
        assert!(refused.json()["error"]["message"].as_str().unwrap().contains("line 3"), "{refused}");
    }
    fs::write(home.path().join("config.toml"), "[gc]\npause_threshold = 0.7\n").unwrap();
    let refused = home.run(["config", "check", "--json"]).exits(2);
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("config.toml:2: expected a number from 0 to 0.5"), "{message}");
}
