//! Words that do not belong in the tree: stubs, skipped tests, tests that sleep, paths of one machine.

use super::assert_clean;
use super::code_view::words;
use super::tree::{Source, tree};

/// Where in the text this first stands, as `path:line: what`.
fn found(source: &Source, text: &str, needle: &str, what: &str) -> Option<String> {
    let line = text.lines().position(|line| line.contains(needle))? + 1;
    Some(format!("{}:{line}: {what}", source.path))
}

/// Written in two halves, so that this file does not break its own rules nor a plain search for them.
fn stubs(source: &Source) -> Vec<String> {
    let in_code = [concat!("to", "do!"), concat!("unimplemen", "ted!"), concat!("#[ign", "ore")];
    let in_text = concat!("FIX", "ME");
    let in_code = in_code.iter().filter_map(|stub| found(source, &source.code, stub, stub));
    let in_text = found(source, &source.text, in_text, in_text).filter(|_| source.is_rust());
    in_code.chain(in_text).collect()
}

/// A test that sleeps is slow when it passes and flaky when the machine is busy: wait for an event, or step virtual time.
fn sleeps(source: &Source) -> Option<String> {
    let is_sleep = |word| matches!(word, "sleep" | "sleep_until" | "sleep_ms" | "park_timeout");
    let called = words(source.test_code()).find(|(_, word)| is_sleep(word))?.1;
    Some(format!("{}: {called} in a test", source.path))
}

/// Folders that exist on some machine only. `~`, `$HOME` or an example such as `/data` say the same to every reader.
fn machine_paths(source: &Source) -> Vec<String> {
    let of_machine = |line: &str| ["/work", "/root", "/home"].iter().any(|top| names_path(line, top));
    let lines = source.text.lines().enumerate().filter(|(_, line)| of_machine(line));
    lines.map(|(at, line)| format!("{}:{}: {}", source.path, at + 1, line.trim())).collect()
}

/// Whether `top` stands in the line as an absolute path with something below it; below `/home`, something of one user's.
fn names_path(line: &str, top: &str) -> bool {
    line.match_indices(top).any(|(at, _)| {
        let is_within_a_path = line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "_.-".contains(c));
        let below = &line[at + top.len()..];
        let reaches_below = if top == "/home" { is_of_a_user(below) } else { below.starts_with('/') };
        !is_within_a_path && reaches_below
    })
}

/// Whether this begins as `/name/`.
fn is_of_a_user(below: &str) -> bool {
    let parts = below.strip_prefix('/').and_then(|rest| rest.split_once('/'));
    parts.is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)))
}

#[test]
fn nothing_is_a_stub_and_no_test_is_skipped() {
    assert_clean("stubs and skipped tests", tree().iter().flat_map(stubs));
}

#[test]
fn no_test_sleeps() {
    assert_clean("tests that sleep", tree().iter().filter_map(sleeps));
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    assert_clean("paths of one machine", tree().iter().filter(|source| !source.path.ends_with(".lock")).flat_map(machine_paths));
}

#[test]
fn a_stub_is_caught() {
    let caught = |text: &str| stubs(&Source::new("a.rs", text)).len();
    assert_eq!(caught(concat!("fn a() { to", "do!() }")), 1);
    assert_eq!(caught(concat!("#[test]\n#[ign", "ore = \"slow\"]\nfn a() {} // FIX", "ME")), 2);
    assert_eq!(caught(concat!("// never to", "do!() here")), 0);
}

#[test]
fn a_sleep_is_caught_in_tests_alone() {
    let caught = |path: &str, text: &str| sleeps(&Source::new(path, text)).is_some();
    let call = concat!("fn a() { thread::sl", "eep(b) }\n");
    assert!(caught("tests/tests/a.rs", call));
    assert!(caught("node/src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{call}}}\n")));
    assert!(!caught("node/src/driver.rs", call));
    assert!(!caught("tests/tests/a.rs", "// no sleep: wait\nfn asleep() {}"));
}

#[test]
fn a_machine_path_is_caught() {
    let caught = |line: &str| !machine_paths(&Source::new("a.md", line)).is_empty();
    for (top, rest) in [("/wo", "rk/main"), ("`/ro", "ot/.cargo`"), ("=/ho", "me/ada/data"), ("/ho", "me/ada/")] {
        assert!(caught(&[top, rest].concat()), "{top}{rest}");
    }
    for line in ["/work", "net/work/a", "../work/a", "/api/v1/root", "$HOME/a", "~/a", "/homes/a/b", "/home/", "/home/page"] {
        assert!(!caught(line), "{line}");
    }
}
