//! `why`: what keeps a blob, over which links, and what its going waits for.

use keepwell_tests::TempHome;
use serde_json::{Value, json};

use super::leases::both;
use super::network::{two_machines_with, until};
use super::sha1_of;

fn put(home: &TempHome, name: &str, args: &[&str]) -> String {
    home.file(name, name.as_bytes());
    sha1_of(&home.run([&["put", name, "--json"], args].concat()).ok())
}

fn why(home: &TempHome, sha1: &str) -> Value {
    home.run(["why", &format!("sha1://{sha1}"), "--json"]).ok().json()
}

fn set_ref(home: &TempHome, name: &str, sha1: &str, args: &[&str]) {
    home.run([&["ref", "set", name, &format!("data=sha1://{sha1}")], args].concat()).ok();
}

#[test]
fn what_keeps_a_blob_is_told_with_the_path_and_what_it_waits_for() {
    both(|home| {
        let child = put(home, "child", &[]);
        let parent = put(home, "parent", &["--link", &format!("sha1://{child}")]);
        let told = why(home, &child);
        assert_eq!(
            (&told["state"], &told["live"], &told["roots"][0]["kind"]),
            (&json!("verified"), &json!(false), &json!("ingest"))
        );
        assert_eq!(told["roots"][1]["path"], json!([parent, child]), "the grace of its parent keeps it too");

        set_ref(home, "lab/x", &parent, &["--expires", "30d"]);
        home.run(["lease", "add", "--flat", &format!("sha1://{child}")]).ok();
        let told = why(home, &child);
        let roots = told["roots"].as_array().unwrap();
        let root = |kind: &str| roots.iter().find(|root| root["kind"] == kind).unwrap();
        assert_eq!((&root("ref")["name"], &root("ref")["path"]), (&json!("lab/x"), &json!([parent, child])));
        assert!(root("ref")["until_ms"].is_u64() && root("ref")["rev"].is_string());
        assert_eq!(root("lease")["path"], json!([child]));
        assert_eq!((&told["live"], &told["copies_wanted"], &told["lots"]), (&json!(true), &json!(1), &json!(["default"])));
        assert_eq!(told["holders"][0]["name"], "ada");
        let missing: Vec<&Value> = told["missing"].as_array().unwrap().iter().map(|missing| &missing["why"]).collect();
        assert!(missing.contains(&&json!("a ref reaches it now")), "{missing:?}");
        let text = home.run(["why", &format!("sha1://{child}")]).ok().text().to_owned();
        assert!(text.contains("ref lab/x until ") && text.contains(&format!("> {parent}")), "{text}");
    });
}

#[test]
fn of_what_nothing_needs_and_of_what_nobody_knows_it_is_told_as_well() {
    both(|home| {
        let unknown = "0123456789012345678901234567890123456789";
        let told = why(home, unknown);
        assert_eq!((&told["state"], &told["live"]), (&json!("unknown"), &json!(false)));
        for list in ["roots", "lots", "holders", "missing"] {
            assert_eq!(told[list], json!([]), "{list}");
        }
        let sha1 = put(home, "garbage", &[]);
        home.run(["gc", "--run", "--grace", "0s"]).ok();
        let told = why(home, &sha1);
        assert_eq!((&told["state"], &told["missing"][0]["why"]), (&json!("trashed"), &json!("this node has none")));
        assert_eq!(home.run(["why", "sha1://12"]).code, Some(2));
    });
}

#[test]
fn values_in_conflict_each_show_and_who_has_not_acknowledged_is_named() {
    let (ada, _first, ben, second) = two_machines_with("\n[gc]\nauto = false\ngrace = \"0s\"\n");
    let (ours, theirs) = (put(&ada, "ours", &[]), put(&ben, "theirs", &[]));
    second.terminate();
    set_ref(&ada, "lab/x", &ours, &["--copies", "3"]);
    let garbage = put(&ada, "garbage", &[]);
    let told = until(&ada, &["why", &format!("sha1://{garbage}"), "--json"], |told| told.json()["roots"] == json!([])).json();
    assert_eq!((&told["missing"][0]["node"], &told["live"]), (&json!("ben"), &json!(false)), "{told}");
    set_ref(&ben, "lab/x", &theirs, &[]);
    let _again = ben.up();
    for (home, sha1, copies) in [(&ada, &theirs, 1), (&ada, &ours, 3)] {
        let named = |told: &keepwell_tests::Outcome| told.json()["roots"][0]["name"] == "lab/x";
        let told = until(home, &["why", &format!("sha1://{sha1}"), "--json"], named).json();
        assert_eq!((&told["live"], &told["copies_wanted"]), (&json!(true), &json!(copies)));
    }
}
