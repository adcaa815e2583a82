//! Refs: set, read, listed, removed, and refused for good reasons.

use std::fs;

use keepwell_tests::TempHome;

const ABSENT: &str = "sha1://0123456789012345678901234567890123456789";

fn home_with_note() -> (TempHome, String) {
    let home = TempHome::initialised("ada");
    home.file("note", b"note");
    let uri = home.run(["put", "note"]).ok().text().to_owned();
    (home, uri)
}

#[test]
fn a_ref_is_set_read_and_removed() {
    let (home, uri) = home_with_note();
    let set =
        home.run(["ref", "set", "lab/run 7/out", &format!("data={uri}"), "--meta", "{\"who\":\"me\"}", "--json"]).ok().json();
    assert_eq!((&set["group"], &set["key"], &set["set_by"]), (&"lab/run 7".into(), &"out".into(), &"ada".into()));
    assert_eq!((&set["durable"], &set["copies"], &set["state"]), (&1.into(), &1.into(), &"backed".into()));
    assert_eq!(set["conflicts"], serde_json::json!([]));
    assert_eq!((&set["links"][0]["here"], &set["links"][0]["size_bytes"]), (&true.into(), &4.into()));
    let get = home.run(["ref", "get", "lab/run 7/out", "--json"]).ok().json();
    assert_eq!(get, set);
    assert_eq!(home.run(["ref", "get", "lab/run 7/out"]).ok().text(), format!("{{\"data\":\"{uri}\"}}"));
    assert_eq!(home.run(["cat", "keepwell://lab/run%207/out/data"]).ok().stdout, b"note");
    let gone = home.run(["ref", "rm", "lab/run 7/out", "--json"]).ok().json();
    assert_eq!((&gone["rev"], &gone["obj"]), (&set["rev"], &set["obj"]));
    assert_eq!(home.run(["ref", "get", "lab/run 7/out", "--json"]).exits(3).error_code(), "NOT_FOUND");
    home.run(["ref", "rm", "lab/run 7/out"]).exits(3);
}

#[test]
fn the_text_of_a_set_says_how_well_it_is_kept() {
    let (home, uri) = home_with_note();
    let text = home.run(["ref", "set", "lab/x", &format!("data={uri}"), "--copies", "2"]).ok().text().to_owned();
    let words: Vec<&str> = text.split(' ').collect();
    assert_eq!((words[0], &words[2..]), ("lab/x", &["durable", "1", "of", "2"][..]));
    assert_eq!(home.run(["ref", "get", "lab/x", "--json"]).ok().json()["rev"], words[1]);
}

#[test]
fn a_value_that_changed_meanwhile_is_not_overwritten() {
    let (home, uri) = home_with_note();
    let field = format!("data={uri}");
    let set = |rev: &str| home.run(["ref", "set", "lab/x", &field, "--if-rev", rev, "--json"]);
    let first = set("none").ok().json()["rev"].as_str().unwrap().to_owned();
    assert_eq!(set("none").exits(10).error_code(), "REV_MISMATCH");
    let second = set(&first).ok().json()["rev"].as_str().unwrap().to_owned();
    let refused = set(&first).exits(10).json();
    assert_eq!(refused["error"]["details"]["found"], second);
    home.run(["ref", "rm", "lab/x", "--if-rev", &first, "--json"]).exits(10);
    home.run(["ref", "rm", "lab/x", "--if-rev", &second]).ok();
}

#[test]
fn what_is_not_here_cannot_be_promised() {
    let (home, _) = home_with_note();
    let field = format!("data={ABSENT}");
    let refused = home.run(["ref", "set", "lab/x", &field, "--json"]).exits(8);
    assert_eq!(refused.error_code(), "NO_PROVIDER");
    assert_eq!(refused.json()["error"]["details"]["missing"][0], ABSENT["sha1://".len()..]);
    home.run(["ref", "get", "lab/x"]).exits(3);
    let set = home.run(["ref", "set", "lab/x", &field, "--allow-missing", "--json"]).ok().json();
    assert_eq!((&set["state"], &set["durable"]), (&"unbacked".into(), &0.into()));
    assert_eq!(home.run(["cat", "lab/x", "--json"]).exits(8).error_code(), "NO_PROVIDER");
    assert_eq!(home.run(["stat", ABSENT, "--json"]).ok().json()["state"], "recorded");
}

#[test]
fn an_object_is_taken_as_json_or_from_a_file() {
    let (home, uri) = home_with_note();
    let obj = format!("{{\"z\": 1.50, \"a\": {{\"deep\": [\"{uri}\"]}}}}");
    home.file("obj.json", obj.as_bytes());
    for argument in [obj.as_str(), "@obj.json"] {
        let set = home.run(["ref", "set", "lab/x", "--obj", argument, "--json"]).ok();
        assert!(set.text().contains(&format!("\"obj\":{{\"a\":{{\"deep\":[\"{uri}\"]}},\"z\":1.50}}")), "{set}");
        assert_eq!(set.json()["links"].as_array().map(Vec::len), Some(1));
    }
    for wrong in ["[1]", "{", "{\"a\":1,\"a\":2}", "{\"a\":\"sha1://12\"}", "@missing"] {
        home.run(["ref", "set", "lab/x", "--obj", wrong, "--json"]).exits(2);
    }
    home.run(["ref", "set", "key", &format!("a={uri}")]).exits(2);
    home.run(["ref", "set", "lab/x"]).exits(2);
}

#[test]
fn a_ref_of_several_fields_is_got_as_one_file_a_field() {
    let (home, uri) = home_with_note();
    home.file("d/a", b"a");
    let dir = home.run(["put", "-r", "d"]).ok().text().to_owned();
    home.run(["ref", "set", "lab/x", &format!("one={uri}"), &format!("two={uri}"), &format!("dir={dir}")]).ok();
    assert_eq!(home.run(["get", "lab/x"]).ok().text(), "./x");
    let read = |name: &str| fs::read(home.scratch().join(name)).unwrap();
    assert_eq!((read("x/one"), read("x/two"), read("x/dir/a")), (b"note".to_vec(), b"note".to_vec(), b"a".to_vec()));
    home.run(["get", "keepwell://lab/x/one", "--to", "single"]).ok();
    assert_eq!(read("single"), b"note");
    home.run(["cat", "lab/x", "--json"]).exits(2);
    home.run(["get", "keepwell://lab/x/nothing", "--json"]).exits(3);
    home.run(["ref", "set", "lab/evil", "--obj", &format!("{{\"..\":\"{uri}\",\"a\":\"{uri}\"}}")]).ok();
    home.run(["get", "lab/evil", "--json"]).exits(2);
}

#[test]
fn refs_are_listed_by_name_content_meta_and_expiry() {
    let (home, uri) = home_with_note();
    home.file("other", b"other");
    let other = home.run(["put", "other"]).ok().text().to_owned();
    for (name, uri, extra) in [
        ("lab/a", &uri, ["--meta", "{\"n\":1,\"who\":\"me\"}"]),
        ("lab/b", &other, ["--expires", "30d"]),
        ("lab/sub/c", &uri, ["--ttl-access", "7d"]),
        ("zoo/d", &uri, ["--copies", "1"]),
    ] {
        home.run(["ref", "set", name, &format!("x={uri}"), extra[0], extra[1]]).ok();
    }
    let ls =
        |args: &[&str]| home.run(["ref", "ls"].iter().chain(args)).ok().text().lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(ls(&[]), ["lab/a", "lab/b", "lab/sub/c", "zoo/d"]);
    assert_eq!(ls(&["lab/*"]), ["lab/a", "lab/b"]);
    assert_eq!(ls(&["lab/**"]), ["lab/a", "lab/b", "lab/sub/c"]);
    assert_eq!(ls(&["--contains", &uri]), ["lab/a", "lab/sub/c", "zoo/d"]);
    assert_eq!(ls(&["--meta", "who=me", "--meta", "n=1"]), ["lab/a"]);
    assert_eq!(ls(&["--expires-before", "8d"]), ["lab/sub/c"]);
    assert_eq!(ls(&["--expires-before", "31d"]), ["lab/b", "lab/sub/c"]);
    assert!(ls(&["--long", "zoo/d"])[0].starts_with("zoo/d\t"));
    let cut = home.run(["ref", "ls", "--limit", "3", "--json"]).ok().json_lines();
    assert_eq!((cut.len(), &cut[2]["key"]), (4, &"c".into()));
    assert!(cut[0].get("conflicts").is_none());
    let next = cut[3]["next"].as_str().unwrap();
    let rest = home.run(["ref", "ls", "--cursor", next, "--json"]).ok().json_lines();
    assert_eq!((rest.len(), &rest[0]["key"]), (1, &"d".into()));
    assert_eq!(home.run(["ref", "ls", "--limit", "4", "--json"]).ok().json_lines().len(), 4, "not cut, no next");
}

#[test]
fn a_touch_puts_off_the_expiry() {
    let (home, uri) = home_with_note();
    let set = home.run(["ref", "set", "lab/x", &format!("x={uri}"), "--ttl-access", "7d", "--json"]).ok().json();
    let touched = home.run(["ref", "touch", "lab/x", "--json"]).ok().json();
    assert!(touched["expires_ms"].as_u64() >= set["expires_ms"].as_u64());
    assert_eq!(touched["obj"], set["obj"]);
    home.run(["ref", "touch", "lab/nothing"]).exits(3);
}

#[test]
fn a_put_names_what_it_stores() {
    let (home, uri) = home_with_note();
    home.file("more", b"more");
    home.run(["put", "note", "more", "--ref", "lab/x"]).ok();
    let obj = |name: &str| home.run(["ref", "get", name, "--json"]).ok().json()["obj"].clone();
    assert_eq!(obj("lab/x")["note"], uri);
    assert_eq!(obj("lab/x").as_object().map(serde_json::Map::len), Some(2));
    home.run(["put", "more", "--ref", "lab/x#third"]).ok();
    assert_eq!(obj("lab/x").as_object().map(serde_json::Map::len), Some(3));
    home.run(["put", "more", "missing", "--ref", "lab/y"]).exits(4);
    home.run(["ref", "get", "lab/y"]).exits(3);
    home.run(["put", "note", "more", "--ref", "lab/x#one"]).exits(2);
}

#[test]
fn refs_are_found_by_what_their_meta_says_and_by_what_they_lack() {
    let (home, uri) = home_with_note();
    let set = |name: &str, value: &str, meta: &str, more: &[&str]| {
        let field = format!("data={value}");
        home.run([&["ref", "set", name, &field, "--meta", meta], more].concat()).ok();
    };
    set("lab/a", &uri, r#"{"age":9,"subject":{"id":"m 7"},"day":"2026-11-02"}"#, &[]);
    set("lab/b", &uri, r#"{"age":10.5,"day":"2026-11-10","a=b":"x"}"#, &["--copies", "3"]);
    set("lab/c", ABSENT, r#"{"age":"old"}"#, &["--allow-missing"]);
    let names = |args: &[&str]| {
        let lines = home.run([&["ref", "ls", "--json"], args].concat()).ok().json_lines();
        lines.iter().map(|line| line["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>().concat()
    };
    for (condition, expected) in [
        ("age", "abc"),
        ("age>9", "bc"), // a string is compared as one
        ("age>=9", "abc"),
        ("age<10.50", "a"),
        ("age=10.50", "b"),
        ("age=old", "c"),
        ("/subject/id=m 7", "a"),
        ("day<2026-11-10", "a"),
        ("\"a=b\"=x", "b"),
        ("a=b", ""),
    ] {
        assert_eq!(names(&["--meta", condition]), expected, "{condition}");
    }
    assert_eq!(
        (names(&["--missing"]), names(&["--under-copies"]), names(&["--under-copies=1"])),
        ("c".into(), "bc".into(), "c".into())
    );
    assert_eq!((names(&["--set-by", "ada"]), names(&["--set-by", "ben"])), ("abc".into(), String::new()));
    let sizes = home.run(["ref", "ls", "lab/?", "--sizes", "--json"]).ok().json_lines();
    assert_eq!(sizes[0]["reach"], serde_json::json!({ "blobs": 1, "size_bytes": 4, "here": 1, "copies": 1 }));
    assert_eq!(sizes[2]["reach"], serde_json::json!({ "blobs": 1, "size_bytes": 0, "here": 0, "copies": 0 }));
    let text = home.run(["ref", "ls", "lab/b", "--sizes"]).ok();
    assert_eq!(text.text(), "lab/b\t4 B\t1 of 1 blobs here\t1 of 3 copies");
    assert_eq!(home.run(["ref", "ls", "--meta", "=1", "--json"]).exits(2).error_code(), "USAGE");

    // Over HTTP a condition is a parameter, whose `=` may be part of `<=` and `>=`.
    let _daemon = home.up();
    for (query, expected) in [
        ("meta.age=9", "a"),
        ("meta.age%3C=9", "a"),
        ("meta.age%3E9", "bc"),
        ("meta.a%3Db=x", "b"),
        ("meta.%2Fsubject", "a"),
        ("missing=1", "c"),
    ] {
        let found = home.http(&format!("GET /api/v1/refs?{query}"), &[], b"").json();
        let keys: Vec<&str> = found["refs"].as_array().unwrap().iter().map(|line| line["key"].as_str().unwrap()).collect();
        assert_eq!(keys.concat(), expected, "{query}");
    }
}

#[test]
fn refs_that_reach_a_blob_over_a_directory_are_found_by_it() {
    let home = TempHome::initialised("ada");
    home.file("tree/sub/deep", b"deep");
    home.run(["put", "-r", "tree", "--ref", "lab/tree"]).ok();
    home.file("other", b"other");
    home.run(["put", "other", "--ref", "lab/other"]).ok();
    let deep = home.run(["put", "tree/sub/deep"]).ok().text().to_owned();
    assert_eq!(home.run(["ref", "ls", "--contains", &deep]).ok().text(), "lab/tree");
}

#[test]
fn refs_are_removed_by_a_pattern_after_a_look_at_them() {
    let (home, uri) = home_with_note();
    let field = format!("data={uri}");
    for name in ["lab/tmp_1", "lab/tmp_2", "lab/tmpX1", "lab/keep", "lab/TMP_1"] {
        home.run(["ref", "set", name, &field]).ok();
    }
    let look = home.run(["ref", "rm", "--glob", "lab/tmp_*"]).ok();
    assert_eq!((look.text(), look.stderr.as_str()), ("lab/tmp_1\nlab/tmp_2", "2 refs would be removed; --run removes them\n"));
    assert_eq!(home.run(["ref", "ls"]).ok().text().lines().count(), 5, "nothing has changed");
    let gone = home.run(["ref", "rm", "--glob", "lab/tmp_*", "--run", "--json"]).ok().json_lines();
    assert_eq!(gone.iter().map(|line| line["key"].as_str().unwrap()).collect::<Vec<_>>(), ["tmp_1", "tmp_2"]);
    assert_eq!(gone[0]["obj"]["data"], uri, "what they were is told");
    assert_eq!(home.run(["ref", "ls"]).ok().text(), "lab/TMP_1\nlab/keep\nlab/tmpX1");
    home.run(["ref", "rm", "--run", "lab/keep"]).exits(2);
    home.run(["ref", "get", "lab/keep"]).ok();
    home.run(["ref", "rm"]).exits(2);
}
