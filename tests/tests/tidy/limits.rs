//! Every limit is tested: one that no test names is one that nobody has seen hold.

use std::collections::BTreeSet;

use super::assert_clean;
use super::code_view::words;
use super::tree::{Source, tree};

/// The places where limits live, one a crate.
const LIMIT_FILES: [&str; 3] = ["protocol/src/limits.rs", "store/src/limits.rs", "node/src/limits.rs"];

/// The names of `pub const NAME: …`.
fn limits(code: &str) -> impl Iterator<Item = &str> {
    let rests = code.lines().filter_map(|line| line.trim().strip_prefix("pub const "));
    rests.filter_map(|rest| words(rest).next()).map(|(_, name)| name).filter(|name| *name != "fn")
}

fn untested_limits(sources: &[Source]) -> Vec<String> {
    let tested: BTreeSet<&str> = sources.iter().flat_map(|source| words(source.test_code())).map(|(_, word)| word).collect();
    let files = sources.iter().filter(|source| LIMIT_FILES.contains(&source.path.as_str()));
    let untested = files.flat_map(|file| limits(&file.code).filter(|name| !tested.contains(name)).map(|name| (&file.path, name)));
    untested.map(|(path, name)| format!("{path}: {name}")).collect()
}

#[test]
fn every_limit_is_named_in_a_test() {
    assert_clean("limits that no test names (test at the edge and past it)", untested_limits(&tree()));
}

#[test]
fn an_untested_limit_is_caught() {
    let sources = [
        Source::new(
            "protocol/src/limits.rs",
            "pub const A: u8 = 1;\n/// B.\npub const B: u8 = 2;\npub const C: u8 = A;\npub const fn d() {}\n",
        ),
        Source::new("protocol/src/log.rs", "use B;\n#[cfg(test)]\nmod tests {\n    fn edge() { a(A) }\n}\n"),
        Source::new("tests/tests/edges.rs", "fn edge() { a(\"B\"); /* C */ }\n"),
    ];
    assert_eq!(untested_limits(&sources), ["protocol/src/limits.rs: B", "protocol/src/limits.rs: C"]);
}
