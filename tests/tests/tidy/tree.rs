//! The text files of the repository, as the rules read them.

use std::path::{Path, PathBuf};
use std::process::Command;

use keepwell_tests::repository;

use super::code_view::code_of;

/// One text file: its path from the root of the repository, its text, and its text without comments and literals.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
    /// As `text`, same lines and columns, with comments and literals blanked. Empty unless the file is Rust.
    pub(super) code: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { code_of(text) } else { String::new() };
        Source { path: path.to_owned(), text: text.to_owned(), code }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The code that only tests compile: all of a test file, else what follows the `#[cfg(test)]` of the module at the end.
    pub(super) fn test_code(&self) -> &str {
        let is_test_file = self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs");
        if is_test_file {
            return &self.code;
        }
        let marks = self.code.match_indices("#[cfg(test)]");
        let mut rests = marks.map(|(at, mark)| &self.code[at + mark.len()..]);
        rests.find(|rest| opens_inline_module(rest)).unwrap_or_default()
    }
}

/// Whether the next line is `mod name {`, and not, say, `use …;` or `mod tests;`.
fn opens_inline_module(rest: &str) -> bool {
    let line = rest.trim_start().lines().next().unwrap_or_default();
    line.split_whitespace().any(|word| word == "mod") && line.trim_end().ends_with('{')
}

/// Every text file that is, or is about to be, tracked.
pub(super) fn tree() -> Vec<Source> {
    let mut paths = tracked().unwrap_or_else(|| below(&repository()));
    paths.sort();
    // What is not text, or was deleted and not yet committed, has nothing to say to these rules.
    paths.iter().filter_map(|path| Some(Source::new(path, &std::fs::read_to_string(repository().join(path)).ok()?))).collect()
}

/// What git tracks, and what it would if it were added. None where there is no repository, as in an unpacked archive.
fn tracked() -> Option<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(repository());
    let listed = git.output().ok().filter(|output| output.status.success())?;
    let names = String::from_utf8(listed.stdout).ok()?;
    Some(names.split_terminator('\0').map(str::to_owned).collect())
}

/// Every file below a folder, as paths from the root, without build products and hidden folders.
fn below(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the repository can be read");
    let paths = entries.map(|entry| entry.expect("the repository can be read").path());
    paths.filter(|path| !is_skipped(path)).flat_map(|path| if path.is_dir() { below(&path) } else { relative(path) }).collect()
}

fn is_skipped(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "target" || name.as_encoded_bytes().starts_with(b"."))
}

fn relative(path: PathBuf) -> Vec<String> {
    path.strip_prefix(repository()).ok().and_then(Path::to_str).map(str::to_owned).into_iter().collect()
}

#[test]
fn the_tree_holds_this_file() {
    for paths in [tracked().unwrap_or_else(|| below(&repository())), below(&repository())] {
        assert!(paths.iter().any(|path| path == "tests/tests/tidy/tree.rs"), "{paths:?}");
    }
}

#[test]
fn test_code_is_a_test_file_or_the_module_at_the_end() {
    let text = "#[cfg(test)]\nuse a;\nfn b() {}\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n";
    assert_eq!(Source::new("store/src/x.rs", text).test_code().trim(), "mod tests {\n    fn c() {}\n}");
    assert_eq!(Source::new("store/src/x/tests.rs", text).test_code(), text);
    assert_eq!(Source::new("tests/src/x.rs", text).test_code(), text);
    assert_eq!(Source::new("store/src/x.rs", "fn b() {}\n").test_code(), "");
}
