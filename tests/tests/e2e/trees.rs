//! Directories go in as one object and come out as the same tree.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use keepwell_tests::TempHome;

use super::{noise, sha1_of};

/// Every file below a folder with its bytes, and every folder with none.
pub(super) fn contents(top: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut due = vec![top.to_owned()];
    while let Some(folder) = due.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                found.insert(name, None);
                due.push(path);
            } else {
                found.insert(name, Some(fs::read(path).unwrap()));
            }
        }
    }
    found
}

fn odd_tree(home: &TempHome) {
    let names = ["plain", "with space", "-leading", "größe", "line\nbreak", ".hidden", "quote\"'", "日本語", "%41", "a#b?c"];
    for n in 0..200 {
        let name = format!("tree/d{}/{}{n}", n % 7, names[n % names.len()]);
        home.file(name, &noise(n as u64, n * 331));
    }
    fs::create_dir_all(home.scratch().join("tree/empty/inner")).unwrap();
}

#[test]
fn a_tree_of_odd_names_is_restored_as_it_was() {
    let home = TempHome::initialised("ada");
    odd_tree(&home);
    let put = home.run(["put", "-r", "tree", "--json"]).ok();
    assert_eq!((&put.json()["files"], &put.json()["path"]), (&200.into(), &"tree".into()));
    let uri = put.json()["uri"].as_str().unwrap().to_owned();
    assert_eq!(uri, format!("sha1dir://{}?label=tree", sha1_of(&put)));
    let got = home.run(["get", &uri, "--to", "out", "--json"]).ok().json();
    assert_eq!((&got["path"], &got["files"]), (&"out".into(), &200.into()));
    assert_eq!(contents(&home.scratch().join("out")), contents(&home.scratch().join("tree")));
    assert_eq!(home.run(["put", "-r", "out", "--json"]).ok().json()["sha1"], put.json()["sha1"], "the same tree, the same hash");
    home.run(["fsck", "--verify"]).ok();
}

#[test]
fn what_is_in_a_directory_has_a_uri_of_its_own() {
    let home = TempHome::initialised("ada");
    home.file("d/e/a b.txt", b"deep");
    home.file("d/top", b"top");
    let uri = home.run(["put", "-r", "d"]).ok().text().replace("?label=d", "");
    assert_eq!(home.run(["cat", &format!("{uri}/e/a%20b.txt")]).ok().stdout, b"deep");
    assert_eq!(home.run(["get", &format!("{uri}/e")]).ok().text(), "./e");
    assert_eq!(fs::read(home.scratch().join("e/a b.txt")).unwrap(), b"deep");
    assert_eq!(home.run(["get", &format!("{uri}/nothing"), "--json"]).exits(3).error_code(), "NOT_FOUND");
    assert_eq!(home.run(["cat", &uri, "--json"]).exits(2).error_code(), "USAGE");
    let directory = uri.replace("sha1dir", "sha1");
    assert!(home.run(["cat", &directory]).ok().text().starts_with("{\"dirs\":{\"e\":{"), "sorted keys, compact");
    assert_eq!(home.run(["stat", &uri, "--json"]).ok().json()["links"], 2);
}

#[test]
fn an_existing_folder_is_filled_only_by_force() {
    let home = TempHome::initialised("ada");
    home.file("d/a", b"new");
    home.file("d/sub/b", b"b");
    home.file("out/a", b"old");
    home.file("out/mine", b"mine");
    let uri = home.run(["put", "-r", "d"]).ok().text().to_owned();
    assert_eq!(home.run(["get", &uri, "--to", "out", "--json"]).exits(10).error_code(), "EXISTS");
    assert_eq!(fs::read(home.scratch().join("out/a")).unwrap(), b"old");
    home.run(["get", &uri, "--to", "out", "--force"]).ok();
    assert_eq!(fs::read(home.scratch().join("out/a")).unwrap(), b"new");
    assert_eq!(fs::read(home.scratch().join("out/mine")).unwrap(), b"mine");
    fs::create_dir(home.scratch().join("elsewhere")).unwrap();
    fs::remove_dir_all(home.scratch().join("out/sub")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", home.scratch().join("out/sub")).unwrap();
    home.run(["get", &uri, "--to", "out", "--force", "--json"]).exits(10);
    assert!(contents(&home.scratch().join("elsewhere")).is_empty(), "a link does not lead what is written out of the folder");
}

#[test]
fn a_tree_that_cannot_be_read_whole_is_not_stored() {
    let home = TempHome::initialised("ada");
    home.file("d/a", b"a");
    std::os::unix::fs::symlink("nowhere", home.scratch().join("d/dangling")).unwrap();
    let refused = home.run(["put", "-r", "d", "--json"]).exits(3);
    assert_eq!(refused.json()["error"]["details"]["path"], "d/dangling");
    home.run(["put", "-r", "d/a", "--json"]).exits(2);
}

#[test]
fn kacherys_form_leaves_our_hash_out() {
    let home = TempHome::initialised("ada");
    home.file("d/a", b"a");
    let uri = home.run(["put", "-r", "d", "--compat", "kachery"]).ok().text().replace("?label=d", "");
    let json = home.run(["cat", &uri.replace("sha1dir", "sha1")]).ok().text().to_owned();
    assert_eq!(json, r#"{"dirs":{},"files":{"a":{"sha1":"86f7e437faa5a7fce15d1ddcb9eaeaea377667b8","size":1}}}"#);
    assert_eq!(home.run(["cat", &format!("{uri}/a")]).ok().stdout, b"a");
}
