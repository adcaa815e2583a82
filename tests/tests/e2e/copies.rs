//! Copies come about by themselves: on real machines, over real sockets.

use keepwell_tests::TempHome;

use super::network::{one_more, two_machines, until};
use super::{noise, sha1_of};

#[test]
fn what_a_ref_asks_two_copies_of_comes_to_have_them_and_has_them_again_when_a_machine_is_lost() {
    let (ada, first, ben, second) = two_machines();
    ada.file("tree/large", &noise(1, 300_000));
    ada.file("tree/deep/small", b"small");
    let uri = format!("sha1://{}", sha1_of(&ada.run(["put", "-r", "tree", "--json"]).ok()));
    let line = ada.run(["ref", "set", "lab/tree", &format!("data={uri}"), "--copies", "2", "--wait", "--json"]).ok().json();
    assert_eq!((&line["durable"], &line["copies"]), (&2.into(), &2.into()));
    assert_eq!(ben.run(["status", "--json"]).ok().json()["blobs"], 3, "nobody has asked it for them");
    assert_eq!(ada.run(["status", "--json"]).ok().json()["under_replicated"], 0);

    // A third machine is not needed, until one of the two is lost.
    let (cleo, third) = one_more(&ada, "cleo");
    until(&cleo, &["status", "--json"], |outcome| outcome.json()["refs"] == 1);
    second.kill();
    let blobs = |home: &TempHome| home.run(["status", "--json"]).ok().json()["blobs"].clone();
    assert_eq!(blobs(&cleo), 0);
    ada.run(["node", "dead", "ben"]).ok();
    assert_eq!(ada.run(["status", "--json"]).ok().json()["under_replicated"], 3);
    until(&ada, &["ref", "get", "lab/tree", "--confirm", "--json"], |outcome| outcome.json()["durable"] == 2);
    assert_eq!(blobs(&cleo), 3);
    until(&ada, &["status", "--json"], |outcome| outcome.json()["under_replicated"] == 0);
    first.terminate().ok();
    third.terminate().ok();
    cleo.run(["fsck", "--verify"]).ok();
}
