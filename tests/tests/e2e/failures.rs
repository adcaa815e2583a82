//! What goes wrong is told by its kind, with the next step, in text and in JSON.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use keepwell_tests::{Outcome, TempHome};

fn code(outcome: Outcome, exit: i32) -> String {
    outcome.exits(exit).error_code()
}

#[test]
fn inputs_that_cannot_be_read_say_why() {
    let home = TempHome::initialised("ada");
    home.file("file", b"x");
    fs::create_dir(home.scratch().join("folder")).unwrap();
    symlink("nowhere", home.scratch().join("dangling")).unwrap();
    assert_eq!(code(home.run(["put", "missing", "--json"]), 3), "NOT_FOUND");
    assert_eq!(code(home.run(["put", "dangling", "--json"]), 3), "NOT_FOUND");
    assert_eq!(code(home.run(["put", "folder", "--json"]), 2), "USAGE");
    assert_eq!(code(home.run(["put", "file/below", "--json"]), 2), "USAGE");
    assert_eq!(code(home.run(["put", "/dev/null", "--json"]), 2), "USAGE");
    let hint = home.run(["put", "folder"]).exits(2).stderr;
    assert_eq!(hint, "error: folder is a directory\nhint: store a directory and everything in it with `keepwell put -r`\n");
}

/// The hint of a refusal, told in text as in JSON.
#[track_caller]
fn hint_of(home: &TempHome, args: &[&str], exit: i32) -> String {
    let json = home.run(args.iter().chain(&["--json"])).exits(exit).json();
    let hint = json["error"]["hint"].as_str().unwrap().to_owned();
    let text = home.run(args).exits(exit);
    assert!(text.stderr.contains(&format!("\nhint: {hint}\n")), "{hint}: {text}");
    hint
}

#[test]
fn whatever_goes_wrong_the_next_step_is_told() {
    let home = TempHome::initialised("ada");
    fs::create_dir(home.scratch().join("folder")).unwrap();
    let absent = "sha1://0123456789012345678901234567890123456789";
    let told = |args: &[&str], exit: i32, step: &str| {
        let hint = hint_of(&home, args, exit);
        assert!(hint.contains(step), "{args:?}: {hint}");
    };
    told(&["put", "missing"], 3, "check the path");
    told(&["put", "folder"], 2, "keepwell put -r");
    // It can be opened and not read.
    told(&["put", "/proc/self/mem"], 2, "check that the input can be read");
    told(&["cat", "sha1://12"], 2, "sha1://HASH");
    told(&["cat", absent], 8, "keepwell put");
    told(&["ref", "get", "lab/none"], 3, "keepwell ref ls");
    told(&["ref", "set", "lab/x", &format!("a={absent}")], 8, "--allow-missing");
    told(&["fetch", absent], 5, "keepwell up");
    told(&["invite"], 5, "keepwell up");
    let daemon = home.up();
    told(&["fetch", absent], 8, "keepwell put");
    told(&["put", "/proc/self/mem"], 2, "check that the input can be read");
    told(&["up"], 5, "stop it");
    told(&["fsck", "--repair"], 5, "stop the daemon");
    daemon.terminate().ok();
    told(&["init"], 10, "--home");
    assert_eq!(fs::read_dir(home.path().join("ingest")).map_or(0, Iterator::count), 0);
}

#[test]
fn a_file_that_its_owner_may_not_read_is_told_with_the_next_step() {
    let home = TempHome::initialised("ada");
    let secret = home.file("secret", b"x");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    // A user namespace takes even root's right to read everything; where there is none, an ordinary user has no such right.
    let command = home.command();
    let mut within = std::process::Command::new("unshare");
    within.arg("--user").arg(command.get_program()).args(["put", "secret", "--json"]).current_dir(home.scratch());
    within.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let outcome = Outcome::of(&mut within, b"").exits(6);
    assert_eq!(outcome.error_code(), "DENIED");
    assert!(outcome.json()["error"]["hint"].as_str().unwrap().contains("permissions"));
}

#[test]
fn a_missing_blob_is_told_from_a_missing_ref() {
    let home = TempHome::initialised("ada");
    let absent = "sha1://0123456789012345678901234567890123456789";
    for command in ["cat", "get"] {
        assert_eq!(code(home.run([command, absent, "--json"]), 8), "NO_PROVIDER");
        assert_eq!(code(home.run([command, "lab/nothing", "--json"]), 3), "NOT_FOUND");
        assert_eq!(code(home.run([command, "keepwell://lab/nothing/x", "--json"]), 3), "NOT_FOUND");
        for wrong in ["sha1://12", "ftp://x/y", "nogroup", "sha1dir://x"] {
            assert_eq!(code(home.run([command, wrong, "--json"]), 2), "USAGE", "{command} {wrong}");
        }
    }
    assert_eq!(code(home.run(["stat", "sha1://12", "--json"]), 2), "USAGE");
}

#[test]
fn a_mistyped_command_is_a_usage_error_in_both_tongues() {
    let home = TempHome::new();
    let text = home.run(["putt"]).exits(2);
    assert!(text.stdout.is_empty() && text.stderr.starts_with("error: unrecognized subcommand"), "{text}");
    assert_eq!(code(home.run(["putt", "--json"]), 2), "USAGE");
    assert_eq!(code(home.run(["get", "--json"]), 2), "USAGE");
    assert_eq!(code(home.run(["cat", "--json", "--nonsense"]), 2), "USAGE");
}

#[test]
fn standard_output_is_data_only() {
    let home = TempHome::initialised("ada");
    home.file("file", b"x");
    let put = home.run(["put", "file", "missing"]).exits(4);
    assert_eq!(put.text().lines().count(), 1);
    assert!(put.stderr.contains("error: missing does not exist"));
    let quiet = TempHome::new().run(["init", "-q", "--name", "ada"]).ok();
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let home = TempHome::initialised("ada");
    home.file("big", &vec![7; 8 << 20]);
    let uri = home.run(["put", "big"]).ok().text().to_owned();
    let mut running = home.start(["cat", &uri]);
    drop(running.take_stdout());
    let outcome = running.finish().ok();
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_full_disk_on_standard_output_is_told() {
    let home = TempHome::initialised("ada");
    home.file("file", b"x");
    let uri = home.run(["put", "file"]).ok().text().to_owned();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = home.command().args(["cat", &uri]).stdout(full).stderr(std::process::Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(7));
}

#[test]
fn every_line_of_every_command_is_json() {
    let home = TempHome::new();
    home.file("file", b"x");
    home.file("d/a", b"a");
    let uri = "sha1://11f6ad8ec52a2984abaafd7c3b516503785c2072";
    for args in [
        &["init", "--name", "ada"][..],
        &["init"],
        &["put", "file", "missing"],
        &["put", "-r", "d"],
        &["get", uri],
        &["get", uri],
        &["stat", uri, "sha1://1"],
        &["ref", "set", "lab/x", "a=11f6ad8ec52a2984abaafd7c3b516503785c2072"],
        &["ref", "get", "lab/x"],
        &["ref", "ls", "--limit", "0"],
        &["ref", "touch", "lab/x"],
        &["ref", "rm", "lab/x"],
        &["ref", "rm", "lab/x"],
        &["fsck", "--verify"],
        &["config", "show", "--origin"],
        &["config", "check"],
    ] {
        let outcome = home.run(args.iter().chain(&["--json"]));
        assert!(outcome.json_lines().iter().all(serde_json::Value::is_object), "{outcome}");
        assert!(!outcome.stdout.is_empty(), "{outcome}");
    }
}
