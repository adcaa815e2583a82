//! No file is forgotten: each is named by a `mod`, so that it compiles and its tests run.

use std::collections::{BTreeMap, BTreeSet};

use super::assert_clean;
use super::tree::tree;

/// Files that no chain of `mod` reaches from a crate root, by path → code view.
fn unreached(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<String> = files.keys().filter(|path| is_root(path)).cloned().collect();
    while let Some(path) = open.pop() {
        let children = declared(&files[&path]).flat_map(|name| places_of(&path, name));
        open.extend(children.filter(|child| files.contains_key(child) && !reached.contains(child)));
        reached.insert(path);
    }
    files.keys().filter(|path| is_in_a_crate(path) && !reached.contains(*path)).cloned().collect()
}

fn is_in_a_crate(path: &str) -> bool {
    path.ends_with(".rs") && (path.contains("/src/") || path.starts_with("tests/tests/"))
}

fn is_root(path: &str) -> bool {
    let is_bin = path.split_once("/src/bin/").is_some_and(|(_, rest)| !rest.contains('/') || rest.ends_with("/main.rs"));
    let is_src_root = path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
    path.ends_with(".rs") && (is_bin || is_src_root || path == "tests/tests/main.rs")
}

/// The names in `mod name;`, whatever its visibility.
fn declared(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter_map(|line| {
        let (before, name) = line.trim().strip_suffix(';')?.rsplit_once("mod ")?;
        let before = before.trim_end();
        (before.is_empty() || before.starts_with("pub")).then(|| name.trim())
    })
}

/// The two places where the compiler looks for a module's file.
fn places_of(parent: &str, name: &str) -> [String; 2] {
    let (folder, file) = parent.rsplit_once('/').unwrap_or(("", parent));
    let stem = file.trim_end_matches(".rs");
    let folder = if is_root(parent) || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
    [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]
}

#[test]
fn every_file_is_named_by_a_mod() {
    let files = tree().into_iter().filter(|source| source.is_rust()).map(|source| (source.path, source.code));
    assert_clean("files that no `mod` reaches from a crate root", unreached(&files.collect()));
}

#[test]
fn a_forgotten_file_is_caught() {
    let files = [
        ("a/src/lib.rs", "pub mod b;\npub(crate) mod c;\nmod inline {\n}\n"),
        ("a/src/b.rs", "mod d;\n"),
        ("a/src/b/d.rs", ""),
        ("a/src/c/mod.rs", "mod e;\n"),
        ("a/src/c/e.rs", ""),
        ("a/src/d.rs", ""),
        ("a/src/b/f.rs", "mod g;\n"),
        ("a/src/b/f/g.rs", ""),
        ("a/src/bin/tool.rs", "mod h;\n"),
        ("a/src/bin/h.rs", ""),
        ("tests/tests/main.rs", "mod i;\n"),
        ("tests/tests/i.rs", ""),
        ("tests/tests/j.rs", ""),
        ("a/build.rs", ""),
    ];
    let files = files.map(|(path, code)| (path.to_owned(), code.to_owned())).into();
    assert_eq!(unreached(&files), ["a/src/b/f.rs", "a/src/b/f/g.rs", "a/src/d.rs", "tests/tests/j.rs"]);
}
