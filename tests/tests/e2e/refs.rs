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
