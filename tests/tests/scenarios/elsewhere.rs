//! Asking another machine to give up its copies: it does so by its own round, or says what is missing.

use keepwell_node::engine::{Dropped, Effect, Input, RefOp, Reply, RequestId};
use keepwell_node::limits::{DROP_FROM_TIMEOUT_MS, MAX_ROUNDS_OF_OTHERS};
use keepwell_protocol::gc::Missing;
use keepwell_protocol::gc::question::Why;
use keepwell_protocol::gc::request::{DropReport, DropRequest};
use keepwell_protocol::id::{BlobFact, BlobId, NodeId, Nonce};
use keepwell_protocol::log::exchange::Message;

use super::lab::{Lab, a_set};

const REQUEST: RequestId = RequestId(9);

/// A lab in which every machine holds the blob, and a ref names it that wants so many copies.
fn lab_with_copies(machines: u8, copies: u32) -> (Lab, BlobFact) {
    let mut lab = Lab::new(machines);
    let facts: Vec<BlobFact> = (0..machines.into()).map(|machine| lab.put(machine, &[7; 40_000], &[])).collect();
    let mut set = a_set("lab/a", "{}", &[facts[0].sha1]);
    set.copies = copies;
    lab.give(0, Input::WriteRefs { request: REQUEST, ops: vec![RefOp::Set(set)] });
    lab.settle();
    (lab, facts[0])
}

fn drop_from(lab: &mut Lab, machine: usize, from: usize, blob: BlobId) -> Option<Reply> {
    let node = lab.machines[from].id();
    lab.give(machine, Input::DropFrom { request: REQUEST, node, blobs: vec![blob] }).pop()
}

fn dropped(reply: Option<Reply>) -> Dropped {
    let Some(Reply::Dropped(dropped)) = reply else { panic!("{reply:?}") };
    dropped
}

fn is_held(lab: &Lab, machine: usize, blob: &BlobId) -> bool {
    lab.machines[machine].engine().store().snapshot().unwrap().blob(blob).unwrap().is_some()
}

/// What a machine tells another in answer to this, at once.
fn reported(lab: &mut Lab, machine: usize, from: NodeId, asked: &DropRequest) -> Vec<DropReport> {
    let bytes = Message::DropRequest(asked.clone()).encode();
    let sent = lab.effects_of(machine, Input::Received { from, bytes }).into_iter().filter_map(|effect| match effect {
        Effect::Send { bytes, .. } => Message::decode(&bytes).ok(),
        _ => None,
    });
    let reports = sent.filter_map(|message| match message {
        Message::DropReport(report) => Some(report),
        _ => None,
    });
    reports.collect()
}

#[test]
fn who_is_asked_gives_its_copy_up_by_its_own_round_and_keeps_the_last_one_wanted() {
    let (mut lab, blob) = lab_with_copies(3, 2);
    let outcome = dropped(drop_from(&mut lab, 0, 2, blob.sha1)).outcomes.pop().unwrap();
    assert_eq!((outcome.gone, outcome.missing), (Some(blob), vec![]));
    assert!(!is_held(&lab, 2, &blob.sha1) && is_held(&lab, 0, &blob.sha1));
    let outcome = dropped(drop_from(&mut lab, 2, 1, blob.sha1)).outcomes.pop().unwrap();
    assert_eq!((outcome.gone, outcome.missing), (None, vec![Missing::Copies { have: 1, need: 2 }]));
    let outcome = dropped(drop_from(&mut lab, 0, 2, blob.sha1)).outcomes.pop().unwrap();
    assert_eq!(outcome.missing, [Missing::Copy], "it has none any more");
    assert!(is_held(&lab, 0, &blob.sha1) && is_held(&lab, 1, &blob.sha1));
}

#[test]
fn who_is_not_connected_or_does_not_answer_in_time_is_told_of() {
    let (mut lab, blob) = lab_with_copies(3, 1);
    let peer = lab.machines[2].id();
    lab.give(0, Input::Disconnected { peer });
    assert!(matches!(drop_from(&mut lab, 0, 2, blob.sha1), Some(Reply::NotConnected(node)) if node == peer));
    // Connected, as it seems, and deaf.
    lab.parted = vec![(0, 1)];
    let (node, asked_ms) = (lab.machines[1].id(), lab.now_ms);
    assert!(drop_from(&mut lab, 0, 1, blob.sha1).is_none());
    lab.now_ms = asked_ms + DROP_FROM_TIMEOUT_MS - 1;
    assert!(lab.give(0, Input::Tick).is_empty());
    lab.now_ms = asked_ms + DROP_FROM_TIMEOUT_MS;
    assert!(matches!(lab.give(0, Input::Tick)[..], [Reply::Late(late)] if late == node));
    assert!(drop_from(&mut lab, 0, 1, blob.sha1).is_none());
    lab.give(0, Input::Disconnected { peer: node });
    assert!(matches!(lab.give(0, Input::Tick)[..], [Reply::NotConnected(gone)] if gone == node));
    assert!(is_held(&lab, 1, &blob.sha1));
}

#[test]
fn who_is_no_member_any_more_makes_nobody_drop() {
    let (mut lab, blob) = lab_with_copies(3, 1);
    let dead = lab.machines[2].id();
    lab.give(0, Input::Declare { request: REQUEST, node: dead, is_dead: true });
    lab.settle();
    let asked = DropRequest { nonce: Nonce([1; 16]), blobs: vec![blob.sha1] };
    let report = reported(&mut lab, 1, dead, &asked).pop().unwrap();
    assert_eq!((report.nonce, &report.outcomes[0].missing[..]), (asked.nonce, &[Missing::Leave(Why::NotAMember)][..]));
    lab.settle();
    assert!(is_held(&lab, 1, &blob.sha1));
}

#[test]
fn a_report_counts_once_and_from_whom_it_was_asked() {
    let (mut lab, blob) = lab_with_copies(3, 1);
    let (one, other) = (lab.machines[1].id(), lab.machines[2].id());
    let asks = lab.effects_of(0, Input::DropFrom { request: REQUEST, node: one, blobs: vec![blob.sha1] });
    let Some(Effect::Send { bytes, .. }) = asks.into_iter().next() else { panic!("nobody is asked") };
    let Ok(Message::DropRequest(asked)) = Message::decode(&bytes) else { panic!("something else is asked") };
    let report = Message::DropReport(DropReport { nonce: asked.nonce, outcomes: vec![], unheard: vec![] }).encode();
    assert!(lab.give(0, Input::Received { from: other, bytes: report.clone() }).is_empty());
    assert_eq!(lab.give(0, Input::Received { from: one, bytes: report.clone() }).len(), 1);
    assert!(lab.give(0, Input::Received { from: one, bytes: report }).is_empty());
}

#[test]
fn at_most_max_rounds_of_others_run_at_once_and_a_request_that_comes_twice_is_one() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    let blobs: Vec<BlobFact> = (0..=MAX_ROUNDS_OF_OTHERS)
        .map(|number| {
            let bytes = number.to_be_bytes();
            lab.put(1, &bytes, &[]);
            lab.put(0, &bytes, &[])
        })
        .collect();
    let named: Vec<BlobId> = blobs.iter().map(|blob| blob.sha1).collect();
    lab.give(0, Input::WriteRefs { request: REQUEST, ops: vec![RefOp::Set(a_set("lab/b", "{}", &named))] });
    lab.settle();
    let from = lab.machines[0].id();
    // The asker hears no question, so that each round goes on.
    let begun = |lab: &mut Lab, number: usize, blob: BlobId| {
        let asked = DropRequest { nonce: Nonce([u8::try_from(number).unwrap(); 16]), blobs: vec![blob] };
        let bytes = Message::DropRequest(asked).encode();
        lab.effects_of(1, Input::Received { from, bytes }).len()
    };
    for (number, blob) in blobs[..MAX_ROUNDS_OF_OTHERS].iter().enumerate() {
        assert_eq!(begun(&mut lab, number, blob.sha1), 1, "it asks the other holder");
        assert_eq!(begun(&mut lab, number, blob.sha1), 0, "it has been asked that");
    }
    assert_eq!(begun(&mut lab, MAX_ROUNDS_OF_OTHERS, blobs[MAX_ROUNDS_OF_OTHERS].sha1), 0);
    assert!(is_held(&lab, 1, &blob.sha1));
}
