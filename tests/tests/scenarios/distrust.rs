//! A machine in whose index damage was found, among others: it gives nothing up, vouches for nothing, and shares what it holds as before.

use keepwell_node::engine::{Collect, Input, RefOp, Reply, RequestId, Settings};
use keepwell_protocol::gc::Missing;
use keepwell_protocol::gc::question::Why;
use keepwell_protocol::id::BlobFact;

use super::lab::{Lab, a_set};

const REQUEST: RequestId = RequestId(9);

/// Three machines that hold a blob that a ref wants one copy of, and one that nothing names; damage was found on machine 2.
fn lab() -> (Lab, BlobFact, BlobFact) {
    let mut lab = Lab::new(3);
    for machine in &mut lab.machines {
        machine.set(Settings { grace_ms: 0, ..Settings::default() });
    }
    let facts: Vec<BlobFact> = (0..3).map(|machine| lab.put(machine, &[7; 40_000], &[])).collect();
    lab.give(0, Input::WriteRefs { request: REQUEST, ops: vec![RefOp::Set(a_set("lab/a", "{}", &[facts[0].sha1]))] });
    let unneeded: Vec<BlobFact> = (0..3).map(|machine| lab.put(machine, &[8; 40_000], &[])).collect();
    lab.settle();
    lab.give(2, Input::IndexDamaged { request: REQUEST, why: "a page".into() });
    (lab, facts[0], unneeded[0])
}

/// What is missing for a drop on a machine, and what others said who would not vouch; nothing if it has gone.
fn drop_on(lab: &mut Lab, machine: usize, blob: &BlobFact) -> (Vec<Missing>, Vec<Why>) {
    let replies = lab.give(machine, Input::Drop { request: REQUEST, blobs: vec![blob.sha1] });
    let mut dropped =
        replies.into_iter().find_map(|reply| if let Reply::Dropped(dropped) = reply { Some(dropped) } else { None });
    while dropped.is_none() {
        lab.now_ms += 1_000;
        let replies = lab.give(machine, Input::Tick);
        dropped = replies.into_iter().find_map(|reply| if let Reply::Dropped(dropped) = reply { Some(dropped) } else { None });
    }
    let outcome = dropped.unwrap().outcomes.pop().unwrap();
    assert_eq!(outcome.gone.is_some(), !lab.holds(machine, &blob.sha1));
    (outcome.missing, outcome.refusals.into_iter().map(|(_, why)| why).collect())
}

fn purged(lab: &mut Lab, machine: usize) -> (usize, Vec<Missing>) {
    let how = Collect { grace_ms: Some(0), limit: 9 };
    let replies = lab.give(machine, Input::Collect { request: REQUEST, how });
    let Some(Reply::Collected(collected)) = replies.into_iter().next() else { panic!("no answer") };
    (collected.purged.len(), collected.missing)
}

#[test]
fn a_machine_whose_index_is_damaged_gives_nothing_up_and_purges_nothing() {
    let (mut lab, named, unneeded) = lab();
    let leave = Missing::Leave(Why::IndexDamaged);
    assert_eq!(drop_on(&mut lab, 2, &named).0, std::slice::from_ref(&leave));
    assert_eq!(purged(&mut lab, 2), (0, vec![leave.clone()]));
    let replies = lab.give(2, Input::GiveUp { request: REQUEST, blobs: vec![named.sha1], by: "ann".into() });
    let Some(Reply::Dropped(dropped)) = replies.into_iter().next() else { panic!("no answer") };
    assert_eq!(dropped.outcomes[0].missing, [leave]);
    assert!(lab.holds(2, &named.sha1) && lab.holds(2, &unneeded.sha1));
    // The others go on.
    assert_eq!(purged(&mut lab, 0), (1, vec![]));
}

#[test]
fn nobody_gives_up_a_copy_on_the_word_of_a_machine_whose_index_is_damaged() {
    let (mut lab, named, _) = lab();
    assert_eq!(drop_on(&mut lab, 0, &named).0, [], "on the word of machine 1");
    let (missing, refusals) = drop_on(&mut lab, 1, &named);
    assert_eq!(missing, [Missing::Copies { have: 0, need: 1 }]);
    assert_eq!(refusals, [Why::IndexDamaged]);
}

#[test]
fn an_attempt_that_was_under_way_when_the_damage_was_found_comes_to_nothing() {
    let (mut lab, named, _) = lab();
    lab.parted = vec![(0, 1), (0, 2)];
    lab.give(0, Input::Drop { request: REQUEST, blobs: vec![named.sha1] });
    lab.give(0, Input::IndexDamaged { request: REQUEST, why: "a page".into() });
    lab.parted.clear();
    for _ in 0..30 {
        lab.settle();
    }
    assert!(lab.holds(0, &named.sha1));
}
