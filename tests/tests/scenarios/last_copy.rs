//! Giving up the last copy by command: what is in its way, and what everybody knows afterwards.

use keepwell_node::engine::{Effect, Input, LeaseOp, LeaseUse, Reply, RequestId, Settings};
use keepwell_protocol::gc::Missing;
use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_protocol::limits::MAX_QUESTION_BLOBS;
use keepwell_protocol::name::OwnerName;
use keepwell_store::audit::Note;

use super::lab::Lab;

const REQUEST: RequestId = RequestId(9);

/// Two machines without graces; machine 0 holds a blob that a ref names.
fn lab_with_a_blob() -> (Lab, BlobFact) {
    let mut lab = Lab::new(2);
    for machine in &mut lab.machines {
        machine.set(Settings { grace_ms: 0, ..Settings::default() });
    }
    let fact = lab.put(0, &[7; 40_000], &[]);
    lab.set(0, "lab/a", "{}", &[fact.sha1]);
    lab.settle();
    (lab, fact)
}

fn input(blobs: Vec<BlobId>) -> Input {
    Input::GiveUp { request: REQUEST, blobs, by: "ann".into() }
}

/// What is in the way of giving up the blob on machine 0; nothing if it has gone.
fn give_up(lab: &mut Lab, blob: &BlobId) -> Vec<Missing> {
    let replies = lab.give(0, input(vec![*blob]));
    let Some(Reply::Dropped(dropped)) = replies.into_iter().next() else { panic!("no answer") };
    assert_eq!(dropped.outcomes[0].gone.is_none(), !dropped.outcomes[0].missing.is_empty());
    dropped.outcomes[0].missing.clone()
}

#[test]
fn the_last_copy_goes_by_command_and_is_audited_with_who_asked() {
    let (mut lab, fact) = lab_with_a_blob();
    assert_eq!(give_up(&mut lab, &fact.sha1), []);
    assert!(!lab.holds(0, &fact.sha1));
    let snapshot = |machine: usize| lab.machines[machine].engine().store().snapshot().unwrap();
    assert!(snapshot(1).holders(&fact.sha1).unwrap().is_empty(), "the others know");
    assert!(snapshot(0).trashed(&fact.sha1).unwrap().is_some());
    let notes = snapshot(0).notes_after(None, 99).unwrap();
    assert!(notes.iter().any(|(_, noted)| noted.note == Note::GivenUp { blob: fact, by: "ann".into() }), "{notes:?}");
    assert_eq!(lab.values(1, "lab/a").len(), 1, "the name stays");
    assert_eq!(give_up(&mut lab, &fact.sha1), [Missing::Copy]);
    // A name that reaches it does not bring it back: that was known when it went.
    lab.settle();
    assert!(!lab.holds(0, &fact.sha1));
}

#[test]
fn an_attempt_a_lease_and_a_grace_are_in_its_way() {
    let (mut lab, fact) = lab_with_a_blob();
    lab.put(1, &[7; 40_000], &[]);
    // It asks the other one, whose answer is still on its way.
    let asked = lab.effects_of(0, Input::Drop { request: REQUEST, blobs: vec![fact.sha1] });
    assert!(asked.iter().any(|effect| matches!(effect, Effect::Send { .. })));
    assert_eq!(give_up(&mut lab, &fact.sha1), [Missing::Attempt]);
    lab.machines[0].start();
    lab.machines[0].set(Settings { grace_ms: 0, ..Settings::default() });

    let owner: OwnerName = "ben".parse().unwrap();
    let op = LeaseOp::Add { owner: owner.clone(), ttl_ms: 1_000_000, is_flat: false, blobs: vec![fact.sha1] };
    let Some(Reply::Leased(lease, _)) = lab.give(0, Input::Lease { request: REQUEST, op }).pop() else { panic!("no lease") };
    assert_eq!(give_up(&mut lab, &fact.sha1), [Missing::Unpinned]);
    lab.give(0, Input::Lease { request: REQUEST, op: LeaseOp::Remove(LeaseUse { lease, owner }) });

    lab.machines[0].set(Settings::default());
    let graced = lab.put(0, b"just put", &[]);
    assert_eq!(give_up(&mut lab, &graced.sha1), [Missing::GraceOver]);
    assert_eq!(give_up(&mut lab, &fact.sha1), []);
}

#[test]
fn one_command_gives_up_max_question_blobs_and_looks_at_no_more() {
    let mut lab = Lab::new(1);
    lab.machines[0].set(Settings { grace_ms: 0, ..Settings::default() });
    let ids = lab.put_many(0, MAX_QUESTION_BLOBS + 1);
    let replies = lab.give(0, input(ids.clone()));
    let Some(Reply::Dropped(dropped)) = replies.into_iter().next() else { panic!("no answer") };
    assert_eq!(dropped.outcomes.len(), MAX_QUESTION_BLOBS);
    assert!(lab.holds(0, &ids[MAX_QUESTION_BLOBS]) && !lab.holds(0, &ids[0]));
}
