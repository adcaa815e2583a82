//! The borders between the crates: what each may depend on, and where a library may be named.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use keepwell_tests::repository;
use serde_json::Value;

use super::assert_clean;
use super::code_view::words;
use super::tree::{Source, tree};

/// What a crate's normal dependencies must not contain, at any depth. A name stands for its family: `tokio` for `tokio-util` too.
const ABSENT: [(&str, &[&str]); 2] = [
    ("keepwell-protocol", &["tokio", "libp2p", "redb", "mio", "socket2", "axum", "hyper"]),
    ("keepwell-store", &["tokio", "libp2p", "mio", "socket2", "axum", "hyper"]),
];

/// Which crates of ours a crate of ours may name, in any kind of dependency. A crate that is not listed is refused.
const ARROWS: [(&str, &[&str]); 5] = [
    ("keepwell-protocol", &[]),
    ("keepwell-store", &["keepwell-protocol"]),
    ("keepwell-node", &["keepwell-protocol", "keepwell-store"]),
    ("keepwell-model", &["keepwell-protocol"]),
    ("keepwell-tests", &["keepwell-protocol", "keepwell-store", "keepwell-node"]),
];

/// A library and the only places (files, or folders with their `/`) whose code names it.
const NAMED_ONLY_IN: [(&str, &[&str]); 3] = [
    ("automerge", &["protocol/src/catalog/doc.rs"]),
    ("libp2p", &["node/src/net.rs", "node/src/net/", "tests/"]),
    ("redb", &["store/", "tests/"]),
];

/// `cargo metadata` for this machine: elsewhere-only packages are not downloaded, and asking for them would need the network.
fn metadata() -> Value {
    let host = output_of(Command::new("rustc").arg("-vV"));
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["metadata", "--format-version", "1", "--offline", "--filter-platform", host];
    serde_json::from_str(&output_of(Command::new(cargo).args(args))).expect("cargo prints JSON")
}

fn output_of(command: &mut Command) -> String {
    let output = command.current_dir(repository()).output().expect("the toolchain that built this test is here");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("tools print text")
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Every package that building this one brings in, by name, with the way it comes: `a > b > c`.
fn normal_dependencies(metadata: &Value, of: &str) -> BTreeMap<String, String> {
    let names: BTreeMap<&str, &str> =
        items(metadata, "packages").map(|package| (text(package, "id"), text(package, "name"))).collect();
    let nodes: BTreeMap<&str, &Value> = items(&metadata["resolve"], "nodes").map(|node| (text(node, "id"), node)).collect();
    let mut ways = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut open: Vec<(&str, String)> =
        names.iter().filter(|(_, name)| **name == of).map(|(id, _)| (*id, of.to_owned())).collect();
    while let Some((id, way)) = open.pop() {
        let deps = items(nodes[id], "deps").filter(|dep| items(dep, "dep_kinds").any(|kind| kind["kind"].is_null()));
        for dep in deps.map(|dep| text(dep, "pkg")).filter(|dep| seen.insert(*dep)) {
            let way = format!("{way} > {}", names[dep]);
            ways.insert(names[dep].to_owned(), way.clone());
            open.push((dep, way));
        }
    }
    ways
}

/// Dependencies that bring the making of permits into what is shipped. Tests alone may mint.
fn minting_dependencies(metadata: &Value) -> Vec<String> {
    let packages = items(metadata, "packages");
    let minting = packages.flat_map(|package| {
        let normal = items(package, "dependencies").filter(|dependency| dependency["kind"].is_null());
        let minting = normal.filter(|dependency| items(dependency, "features").any(|feature| feature == "mint"));
        minting.map(|dependency| format!("{} > {}", text(package, "name"), text(dependency, "name")))
    });
    minting.collect()
}

fn is_of_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

fn impure_dependencies(metadata: &Value, of: &str, absent: &[&str]) -> Vec<String> {
    let dependencies = normal_dependencies(metadata, of);
    assert!(!dependencies.is_empty(), "{of} has no dependencies at all: is it still called so?");
    let impure = dependencies.into_iter().filter(|(name, _)| absent.iter().any(|family| is_of_family(name, family)));
    impure.map(|(_, way)| way).collect()
}

/// Dependencies between crates of ours that point the wrong way.
fn wrong_arrows(metadata: &Value) -> Vec<String> {
    let is_ours = |name: &str| name.starts_with("keepwell-");
    let packages = items(metadata, "packages").filter(|package| is_ours(text(package, "name")));
    let arrows = packages.flat_map(|package| {
        let from = text(package, "name");
        items(package, "dependencies").map(move |dependency| (from, text(dependency, "name")))
    });
    let is_allowed = |from: &str, to: &str| ARROWS.iter().any(|(name, allowed)| *name == from && allowed.contains(&to));
    arrows.filter(|(from, to)| is_ours(to) && !is_allowed(from, to)).map(|(from, to)| format!("{from} > {to}")).collect()
}

/// Whether the code uses a library: `name::…` or `use name…`, or a companion of it such as `name_stream::…`.
fn names_library(code: &str, library: &str) -> bool {
    words(code).filter(|(_, word)| is_of_family(word, library)).any(|(at, word)| {
        let (before, after) = (code[..at].trim_end(), code[at + word.len()..].trim_start());
        after.starts_with("::") && !before.ends_with("::") || before.ends_with("use") || before.ends_with("extern crate")
    })
}

fn misplaced_names(source: &Source) -> Vec<String> {
    let is_at = |place: &&str| source.path == *place || place.ends_with('/') && source.path.starts_with(*place);
    let elsewhere = NAMED_ONLY_IN.iter().filter(|(_, places)| !places.iter().any(is_at));
    let misplaced = elsewhere.filter(|(library, _)| names_library(&source.code, library));
    misplaced.map(|(library, places)| format!("{} names {library}, known only in {}", source.path, places.join(", "))).collect()
}

#[test]
fn no_border_crate_depends_on_what_is_absent_from_it() {
    let metadata = metadata();
    for (of, absent) in ABSENT {
        assert_clean("dependencies that DESIGN keeps out", impure_dependencies(&metadata, of, absent));
    }
}

#[test]
fn arrows_between_the_crates_point_one_way() {
    assert_clean("dependencies against the arrows", wrong_arrows(&metadata()));
}

#[test]
fn nothing_that_is_shipped_can_mint_a_permit() {
    assert_clean("dependencies with the feature `mint`", minting_dependencies(&metadata()));
}

#[test]
fn a_minting_dependency_is_caught_unless_it_is_for_tests() {
    let dependency = |kind: Value| serde_json::json!({"name": "keepwell-protocol", "kind": kind, "features": ["mint"]});
    let package = |kind: Value| serde_json::json!({"packages": [{"name": "a", "dependencies": [dependency(kind)]}]});
    assert_eq!(minting_dependencies(&package(Value::Null)), ["a > keepwell-protocol"]);
    assert_eq!(minting_dependencies(&package("dev".into())), Vec::<String>::new());
}

#[test]
fn libraries_are_named_only_behind_their_border() {
    assert_clean("libraries named outside their place", tree().iter().flat_map(misplaced_names));
}

/// Package `a` depends on `b`, which depends on `c-d` normally and on `e` for its tests.
fn small_metadata() -> Value {
    let packages = ["a", "b", "c-d", "e"].map(|name| serde_json::json!({"id": name, "name": name}));
    let dep = |name: &str, kind: Value| serde_json::json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
    serde_json::json!({
        "packages": packages,
        "resolve": {"nodes": [
            {"id": "a", "deps": [dep("b", Value::Null)]},
            {"id": "b", "deps": [dep("c-d", Value::Null), dep("e", "dev".into()), dep("b", Value::Null)]},
            {"id": "c-d", "deps": []},
            {"id": "e", "deps": []},
        ]},
    })
}

#[test]
fn an_impure_dependency_is_caught_at_any_depth() {
    let metadata = small_metadata();
    assert_eq!(impure_dependencies(&metadata, "a", &["c"]), ["a > b > c-d"]);
    assert_eq!(impure_dependencies(&metadata, "a", &["e", "d", "c-"]), Vec::<String>::new());
}

#[test]
fn a_wrong_arrow_is_caught() {
    let package = |from: &str, to: &str| serde_json::json!({"name": from, "dependencies": [{"name": to}, {"name": "serde"}]});
    let metadata = serde_json::json!({"packages": [
        package("keepwell-store", "keepwell-protocol"),
        package("keepwell-protocol", "keepwell-store"),
        package("keepwell-new", "keepwell-protocol"),
        package("serde", "serde"),
    ]});
    assert_eq!(wrong_arrows(&metadata), ["keepwell-protocol > keepwell-store", "keepwell-new > keepwell-protocol"]);
}

#[test]
fn a_library_out_of_place_is_caught() {
    let named = |path: &str, text: &str| misplaced_names(&Source::new(path, text)).len();
    assert_eq!(named("node/src/engine.rs", "fn a(b: redb::Table) {}"), 1);
    assert_eq!(named("node/src/engine.rs", "use libp2p_stream as s;\nuse automerge;"), 2);
    assert_eq!(named("store/src/tables.rs", "use redb::Table;"), 0);
    assert_eq!(named("node/src/net/swarm.rs", "use libp2p::Swarm;"), 0);
    assert_eq!(named("node/src/network.rs", "use libp2p::Swarm;"), 1);
    assert_eq!(named("protocol/src/id.rs", concat!("// as auto", "merge::Automerge does\nlet automerge = 1;")), 0);
}
