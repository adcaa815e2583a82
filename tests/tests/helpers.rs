//! The shared helpers keep their word: the real binary runs, and processes are read, stopped and killed by their own handle.

use std::process::Command;

use keepwell_tests::{Outcome, Running, TempHome};

#[test]
fn the_binary_of_this_tree_is_found_and_runs() {
    TempHome::new().run(["--help"]).exits(0);
}

#[test]
fn an_outcome_tells_data_from_notes() {
    let outcome = Outcome::of(Command::new("sh").args(["-c", "cat; echo note >&2; exit 3"]), b"{\"a\":1}\n").exits(3);
    assert_eq!(outcome.json()["a"], 1);
    assert_eq!(outcome.stderr, "note\n");
}

#[test]
fn an_error_line_yields_its_code() {
    let script = r#"echo '{"error":{"code":"NOT_FOUND","message":"m"}}'; exit 3"#;
    assert_eq!(Outcome::of(Command::new("sh").args(["-c", script]), b"").exits(3).error_code(), "NOT_FOUND");
}

#[test]
fn input_and_output_larger_than_a_pipe_do_not_wait_for_each_other() {
    let bytes = vec![7; 1 << 20];
    assert_eq!(Outcome::of(&mut Command::new("cat"), &bytes).ok().stdout, bytes);
}

#[test]
fn a_running_process_is_read_line_by_line_and_finished() {
    let mut cat = Running::start(&mut Command::new("cat"));
    cat.write(b"{\"event\":\"ready\"}\nlast\n");
    assert_eq!(cat.next_json()["event"], "ready");
    assert_eq!(cat.finish().ok().text(), "last");
}

#[test]
fn a_running_process_is_asked_to_stop() {
    let script = "trap 'echo bye >&2; exit 4' TERM; echo up; read line";
    let mut shell = Running::start(Command::new("sh").args(["-c", script]));
    assert_eq!(shell.next_line().as_deref(), Some("up"));
    assert_eq!(shell.terminate().exits(4).stderr, "bye\n");
}

#[test]
fn a_killed_process_has_no_exit_code() {
    let cat = Running::start(&mut Command::new("cat"));
    assert_eq!(cat.kill().code, None);
}
