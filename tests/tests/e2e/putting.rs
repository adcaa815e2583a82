//! Bytes go in and come out: golden values, sizes around every edge, standard input, ranges, links.

use std::fs;

use keepwell_tests::TempHome;

use super::{noise, sha1_of};

const KIB: usize = 1024;

#[test]
fn golden_values_are_those_of_every_kachery() {
    let home = TempHome::initialised("ada");
    home.file("note.txt", b"example text");
    let put = home.run(["put", "note.txt"]).ok();
    assert_eq!(put.text(), "sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688?label=note.txt");
    let json = home.run_with_input(["put", "-", "--json"], b"{\"example\":\"dict\"}").ok();
    assert_eq!(sha1_of(&json), "d0d9555e376ff13a08c6d56072808e27ca32d54a");
    assert_eq!(json.json()["uri"], "sha1://d0d9555e376ff13a08c6d56072808e27ca32d54a");
    let zeros = home.run_with_input(["put", "-", "--json"], &vec![0; 60_000_000]).ok().json();
    assert_eq!(zeros["sha1"], "e3bc2c90a6129e7f3646c42a8258f8ee73b48a81");
    assert_eq!(zeros["size_bytes"], 60_000_000);
}

#[test]
fn what_was_put_comes_out_at_every_size() {
    let home = TempHome::initialised("ada");
    let sizes = [0, 1, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 5_000_000];
    for size in sizes {
        let bytes = noise(size as u64, size);
        home.file("in", &bytes);
        let put = home.run(["put", "in", "--json"]).ok().json();
        assert_eq!((&put["size_bytes"], &put["existed"]), (&size.into(), &false.into()));
        let uri = put["uri"].as_str().unwrap().to_owned();
        assert_eq!(home.run(["cat", &uri]).ok().stdout, bytes, "{size}");
        let to = format!("out-{size}");
        home.run(["get", &uri, "--to", &to]).ok();
        assert_eq!(fs::read(home.scratch().join(to)).unwrap(), bytes, "{size}");
        let stat = home.run(["stat", &uri, "--json"]).ok().json();
        assert_eq!((&stat["state"], &stat["size_bytes"], &stat["label"]), (&"verified".into(), &size.into(), &"in".into()));
        assert_eq!(home.run(["put", "in", "--json"]).ok().json()["existed"], true);
    }
    home.run(["fsck", "--verify"]).ok();
}

#[test]
fn a_range_has_its_start_and_not_its_end() {
    let home = TempHome::initialised("ada");
    let bytes = noise(7, 300 * KIB);
    home.file("in", &bytes);
    let uri = home.run(["put", "in"]).ok().text().to_owned();
    let range = |range: &str| home.run(["cat", &uri, "--range", range]).ok().stdout;
    assert_eq!(range("0-10"), &bytes[..10]);
    assert_eq!(range("65530-131080"), &bytes[65_530..131_080]);
    assert_eq!(range("300000-"), &bytes[300_000..]);
    assert_eq!(range("5-5"), b"");
    assert_eq!(range("307199-9999999"), &bytes[307_199..]);
    home.run(["cat", &uri, "--range", "307201-", "--json"]).exits(2);
    home.run(["cat", &uri, "--range", "9-5", "--json"]).exits(2);
}

#[test]
fn a_label_names_the_file_and_never_leads_out_of_the_folder() {
    let home = TempHome::initialised("ada");
    home.file("in", b"bytes");
    let uri = home.run(["put", "in", "--label", "../../etc/passwd"]).ok().text().to_owned();
    assert_eq!(home.run(["get", &uri]).ok().text(), "./passwd");
    assert_eq!(fs::read(home.scratch().join("passwd")).unwrap(), b"bytes");
    let dots = home.run(["put", "in", "--label", ".."]).ok().text().to_owned();
    let path = home.run(["get", &dots]).ok().text().to_owned();
    assert_eq!(path, format!("./{}", &dots["sha1://".len()..][..40]));
}

#[test]
fn nothing_is_overwritten_unasked() {
    let home = TempHome::initialised("ada");
    home.file("in", b"new");
    home.file("out", b"old");
    let uri = home.run(["put", "in"]).ok().text().to_owned();
    let refused = home.run(["get", &uri, "--to", "out", "--json"]).exits(10);
    assert_eq!(refused.error_code(), "EXISTS");
    assert_eq!(fs::read(home.scratch().join("out")).unwrap(), b"old");
    home.run(["get", &uri, "--to", "out", "--force"]).ok();
    assert_eq!(fs::read(home.scratch().join("out")).unwrap(), b"new");
    fs::create_dir(home.scratch().join("folder")).unwrap();
    assert_eq!(home.run(["get", &uri, "--to", "folder"]).ok().text(), "folder/in");
}

#[test]
fn many_paths_have_a_line_each_and_some_may_fail() {
    let home = TempHome::initialised("ada");
    home.file("a", b"a");
    home.file("b", &noise(1, 100_000));
    home.file("a again", b"a");
    let lines = home.run(["put", "a", "b", "a again", "--json"]).ok().json_lines();
    let existed: Vec<_> = lines.iter().map(|line| line["existed"].as_bool()).collect();
    assert_eq!(existed, [Some(false), Some(false), Some(true)]);
    let some = home.run(["put", "a", "missing", "b", "--json"]).exits(4).json_lines();
    assert_eq!(some[0]["path"], "a");
    assert_eq!((&some[1]["error"]["code"], &some[1]["error"]["details"]["path"]), (&"NOT_FOUND".into(), &"missing".into()));
    assert_eq!(some[2]["path"], "b");
    home.run(["put", "missing", ".", "--json"]).exits(10);
}

#[test]
fn a_parent_is_stored_only_beside_its_children() {
    let home = TempHome::initialised("ada");
    home.file("child", b"child");
    home.file("parent", b"parent");
    let missing = "sha1://0123456789012345678901234567890123456789";
    let refused = home.run(["put", "parent", "--link", missing, "--json"]).exits(8);
    assert_eq!(refused.error_code(), "NO_PROVIDER");
    let child = home.run(["put", "child"]).ok().text().to_owned();
    let parent = home.run(["put", "parent", "--link", &child]).ok().text().to_owned();
    assert_eq!(home.run(["stat", &parent, "--json"]).ok().json()["links"], 1);
}

#[test]
fn a_json_file_is_read_for_its_links() {
    let home = TempHome::initialised("ada");
    home.file("child", b"child");
    let child = home.run(["put", "child"]).ok().text().to_owned();
    home.file("doc.json", format!("{{\"a\":[\"{child}\"]}}").as_bytes());
    let uri = home.run(["put", "doc.json", "--scan", "json"]).ok().text().to_owned();
    assert_eq!(home.run(["stat", &uri, "--json"]).ok().json()["links"], 1);
    home.run_with_input(["put", "-", "--scan", "json", "--json"], b"no json").exits(2);
}

#[test]
fn stat_answers_for_ten_thousand_at_once() {
    let home = TempHome::initialised("ada");
    home.file("in", b"bytes");
    let uri = home.run(["put", "in"]).ok().text().to_owned();
    let mut asked: Vec<String> = (0..9_999).map(|n| format!("sha1://{n:040x}")).collect();
    asked.push(uri);
    let lines = home.run_with_input(["stat", "-", "--json"], asked.join("\n").as_bytes()).ok().json_lines();
    assert_eq!(lines.len(), 10_000);
    assert!(lines[..9_999].iter().all(|line| line["state"] == "unknown" && line["size_bytes"].is_null()));
    assert_eq!(lines[9_999]["state"], "verified");
}
