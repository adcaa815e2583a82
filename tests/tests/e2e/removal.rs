//! An admin removes a machine from the network: over real sockets, with what everybody sees of it.

use serde_json::json;

use super::network::{one_more, two_machines, until, until_found};
use super::sha1_of;

#[test]
fn a_removed_machine_is_cut_off_and_told_so_and_its_data_is_copied_anew() {
    let (ada, first, ben, second) = two_machines();
    let (cleo, third) = one_more(&ada, "cleo");
    ada.file("recording", b"recording");
    let sha1 = sha1_of(&ada.run(["put", "recording", "--json", "--ref", "lab/day1"]).ok());
    until_found(&ben, &["fetch", "lab/day1"]);
    until(&cleo, &["ref", "get", "lab/day1", "--json"], |outcome| outcome.code == Some(0));
    ada.run(["ref", "set", "lab/day1", &format!("data=sha1://{sha1}"), "--copies", "2"]).ok();

    assert_eq!(ben.run(["node", "remove", "cleo", "--json"]).exits(6).error_code(), "DENIED");
    assert_eq!(ada.run(["node", "remove", "ada", "--json"]).exits(2).error_code(), "USAGE");
    assert_eq!(ada.run(["node", "remove", "dan", "--json"]).exits(3).error_code(), "NOT_FOUND");
    let gone = ada.run(["node", "remove", "ben", "--json"]).ok().json();
    assert_eq!((&gone["name"], &gone["state"]), (&json!("ben"), &json!("removed")));
    assert_eq!(ada.run(["node", "remove", "ben", "--json"]).exits(3).error_code(), "NOT_FOUND");

    // Everybody hears of it, and nobody counts on its copy: another one is made.
    for home in [&ada, &cleo] {
        let names = |outcome: &keepwell_tests::Outcome| -> Vec<String> {
            outcome.json_lines().iter().map(|line| line["name"].as_str().unwrap().to_owned()).collect()
        };
        until(home, &["node", "ls", "--json"], |outcome| names(outcome) == ["ada", "cleo"]);
        until(home, &["where", "lab/day1", "--json"], |outcome| {
            outcome.code == Some(0) && outcome.json()["holders"].as_array().is_some_and(|holders| holders.len() == 2)
        });
    }
    let events = ada.run(["events", "--json"]).ok().json_lines();
    assert!(events.iter().any(|event| event["event"] == "removed" && event["node"] == "ben"), "{events:?}");
    until(&ada, &["status", "--json"], |outcome| outcome.json()["unacknowledged"] == json!([]));

    // The machine itself is told, cannot talk to anybody any more, and writes nothing.
    until(&ben, &["status", "--json"], |outcome| outcome.json()["standing"] == "removed");
    assert!(ben.run(["status"]).ok().text().contains("to come back, ask an admin for an invitation"));
    assert_eq!(ben.run(["ref", "rm", "lab/day1", "--json"]).exits(6).error_code(), "DENIED");
    until(&ben, &["status", "--json"], |outcome| {
        outcome.json()["peers"].as_array().is_some_and(|peers| peers.iter().all(|peer| peer["connected"] == false))
    });
    second.terminate().ok();
    let again = ben.up();
    ben.run(["status", "--json"]).ok();
    assert_eq!(ada.run(["ref", "get", "lab/day1", "--json"]).ok().json()["copies"], 2);
    for daemon in [again, third, first] {
        daemon.terminate().ok();
    }
    for home in [&ada, &cleo] {
        home.run(["fsck", "--verify"]).ok();
    }
}

#[test]
fn a_machine_that_knows_that_it_was_declared_dead_says_what_to_do() {
    let (ada, _first, ben, _second) = two_machines();
    assert_eq!(ben.run(["status", "--json"]).ok().json()["standing"], "member");
    ada.run(["node", "dead", "ben"]).ok();
    let told = until(&ben, &["status", "--json"], |outcome| outcome.json()["standing"] == "dead");
    assert_eq!(told.json()["standing"], "dead");
    assert!(ben.run(["status"]).ok().text().contains("keepwell node revive"));
    let doctor = ben.run(["doctor", "--json"]);
    let line = doctor.json_lines().into_iter().find(|line| line["check"] == "standing").unwrap();
    assert_eq!((&line["state"], &line["code"]), (&json!("problem"), &json!("DENIED")));
    ada.run(["node", "revive", "ben"]).ok();
    until(&ben, &["status", "--json"], |outcome| outcome.json()["standing"] == "member");
}
