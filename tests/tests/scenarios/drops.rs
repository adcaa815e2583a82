//! Giving up surplus copies, one story at a time: what proves a copy, what does not, and what calls it off.

use keepwell_node::engine::{Confirmed, Dropped, Effect, Input, LeaseOp, Probed, RefOp, Reply, RequestId, Settings};
use keepwell_node::limits::{ASK_AGAIN_MS, DROP_TIMEOUT_MS, MAX_PROBES, NEW_ROOT_VISITS};
use keepwell_protocol::gc::Missing;
use keepwell_protocol::gc::question::{Purpose, Question, Why, Word};
use keepwell_protocol::id::{BlobFact, BlobId, Nonce};
use keepwell_protocol::limits::MAX_QUESTION_BLOBS;
use keepwell_protocol::log::exchange::Message;
use keepwell_protocol::log::vector::Vector;
use keepwell_protocol::place::rank::before;
use keepwell_store::layout;

use super::lab::{Lab, a_set};

const REQUEST: RequestId = RequestId(9);

/// A lab in which every machine holds the blob, and a ref names it that wants so many copies.
fn lab_with_copies(machines: u8, copies: u32) -> (Lab, BlobFact) {
    let mut lab = Lab::new(machines);
    let bytes = vec![7; 40_000];
    let facts: Vec<BlobFact> = (0..machines.into()).map(|machine| lab.put(machine, &bytes, &[])).collect();
    set_copies(&mut lab, 0, facts[0].sha1, copies);
    lab.settle();
    (lab, facts[0])
}

fn set_copies(lab: &mut Lab, machine: usize, blob: BlobId, copies: u32) {
    let mut set = a_set("lab/a", "{}", &[blob]);
    set.copies = copies;
    lab.give(machine, Input::WriteRefs { request: REQUEST, ops: vec![RefOp::Set(set)] });
}

fn answer(replies: Vec<Reply>) -> Option<Dropped> {
    replies.into_iter().find_map(|reply| match reply {
        Reply::Dropped(dropped) => Some(dropped),
        _ => None,
    })
}

fn give_up(lab: &mut Lab, machine: usize, blob: BlobId) -> Option<Dropped> {
    answer(lab.give(machine, Input::Drop { request: REQUEST, blobs: vec![blob] }))
}

/// What stood in the way of the one blob that was to go.
fn missing(dropped: Option<Dropped>) -> Vec<Missing> {
    let outcome = dropped.unwrap().outcomes.pop().unwrap();
    assert_eq!(outcome.gone, None);
    outcome.missing
}

fn holders(lab: &Lab, blob: &BlobId) -> Vec<usize> {
    let holds = |machine: &usize| lab.machines[*machine].engine().store().snapshot().unwrap().blob(blob).unwrap().is_some();
    (0..lab.machines.len()).filter(holds).collect()
}

#[test]
fn a_surplus_copy_goes_and_the_last_one_wanted_stays() {
    let (mut lab, blob) = lab_with_copies(3, 2);
    let dropped = give_up(&mut lab, 2, blob.sha1).unwrap();
    let outcome = &dropped.outcomes[0];
    assert_eq!((outcome.gone, outcome.proof.len(), dropped.unheard.len()), (Some(blob), 2, 0));
    assert_eq!(missing(give_up(&mut lab, 1, blob.sha1)), [Missing::Copies { have: 1, need: 2 }]);
    assert_eq!(holders(&lab, &blob.sha1), [0, 1]);
    lab.settle();
    let known = lab.machines[0].engine().store().snapshot().unwrap().holders(&blob.sha1).unwrap();
    assert_eq!(known.len(), 2, "the others hear of it");
    set_copies(&mut lab, 1, blob.sha1, 1);
    assert_eq!(give_up(&mut lab, 1, blob.sha1).unwrap().outcomes[0].gone, Some(blob));
    assert_eq!(missing(give_up(&mut lab, 0, blob.sha1)), [Missing::Copies { have: 0, need: 1 }]);
}

#[test]
fn a_margin_for_liars_asks_for_so_many_more_proofs_of_whoever_leaves_it() {
    let (mut lab, blob) = lab_with_copies(4, 2);
    for machine in 0..3 {
        lab.machines[machine].set(Settings { liars: 1, ..Settings::default() });
    }
    assert_eq!(give_up(&mut lab, 0, blob.sha1).unwrap().outcomes[0].proof.len(), 3);
    lab.settle();
    assert_eq!(missing(give_up(&mut lab, 1, blob.sha1)), [Missing::Copies { have: 2, need: 3 }]);
    assert_eq!(holders(&lab, &blob.sha1), [1, 2, 3]);
    // Each goes by its own setting.
    assert_eq!(give_up(&mut lab, 3, blob.sha1).unwrap().outcomes[0].gone, Some(blob));
}

#[test]
fn of_two_that_give_it_up_at_once_one_does() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    // Both have flagged it before either is asked.
    let ask = |lab: &mut Lab, machine| lab.effects_of(machine, Input::Drop { request: REQUEST, blobs: vec![blob.sha1] });
    let questions: Vec<(usize, Vec<Effect>)> = [0, 1].map(|machine| (machine, ask(&mut lab, machine))).into();
    for (from, effects) in questions {
        for effect in effects {
            let Effect::Send { bytes, .. } = effect else { continue };
            let from = lab.machines[from].id();
            let to = lab.machines.iter().position(|machine| machine.id() != from).unwrap();
            lab.give(to, Input::Received { from, bytes });
        }
    }
    lab.settle();
    assert_eq!(holders(&lab, &blob.sha1).len(), 1);
}

/// What a machine sends in answer to a message, once it has looked at its disk; nobody gets it yet.
fn sent_for(lab: &mut Lab, machine: usize, from: usize, bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let from = lab.machines[from].id();
    let mut due = lab.effects_of(machine, Input::Received { from, bytes });
    let mut sent = Vec::new();
    while let Some(effect) = due.pop() {
        match effect {
            Effect::Send { bytes, .. } => sent.push(bytes),
            Effect::Probe { from, question, seed } => {
                let probes = lab.machines[machine].engine().store().probe_all(&question.blobs, seed, 0);
                due.extend(lab.effects_of(machine, Input::Probed(Probed { from, question, probes })));
            }
            _ => {}
        }
    }
    sent
}

/// The questions of a machine that begins to give the blob up.
fn asks(lab: &mut Lab, machine: usize, blob: &BlobFact) -> Vec<Vec<u8>> {
    let effects = lab.effects_of(machine, Input::Drop { request: REQUEST, blobs: vec![blob.sha1] });
    let sent = effects.into_iter().filter_map(|effect| match effect {
        Effect::Send { bytes, .. } => Some(bytes),
        _ => None,
    });
    sent.collect()
}

#[test]
fn two_that_are_both_asked_before_either_decides_do_not_both_vouch() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    let questions = [0, 1].map(|machine| asks(&mut lab, machine, &blob));
    let mut answers = Vec::new();
    for (from, questions) in questions.into_iter().enumerate() {
        for bytes in questions {
            answers.extend(sent_for(&mut lab, 1 - from, from, bytes).into_iter().map(|answer| (from, answer)));
        }
    }
    for (to, answer) in answers {
        sent_for(&mut lab, to, 1 - to, answer);
    }
    assert_eq!(holders(&lab, &blob.sha1).len(), 1);
}

#[test]
fn who_yields_does_not_go_by_a_word_that_it_was_given_before() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    let storages = [0, 1].map(|machine: usize| lab.machines[machine].engine().home().storage);
    let keeper = if before(&storages[0], &storages[1], &blob.sha1) { 0 } else { 1 };
    let other = 1 - keeper;
    // The one that keeps it rather asks first; the word that it is given is late.
    let question = asks(&mut lab, keeper, &blob).remove(0);
    let late = sent_for(&mut lab, other, keeper, question);
    let question = asks(&mut lab, other, &blob).remove(0);
    for word in sent_for(&mut lab, keeper, other, question) {
        sent_for(&mut lab, other, keeper, word);
    }
    assert_eq!(holders(&lab, &blob.sha1), [keeper], "it yields, and the other gives its copy up");
    for word in late {
        sent_for(&mut lab, keeper, other, word);
    }
    assert_eq!(holders(&lab, &blob.sha1), [keeper]);
}

#[test]
fn what_no_ref_reaches_is_not_for_a_drop_and_what_is_not_here_cannot_go() {
    let mut lab = Lab::new(2);
    let blob = [0, 1].map(|machine| lab.put(machine, b"garbage", &[]))[0];
    lab.settle();
    assert!(missing(give_up(&mut lab, 0, blob.sha1)).contains(&Missing::Live));
    assert_eq!(missing(give_up(&mut lab, 0, BlobId([9; 20]))), [Missing::Copy]);
}

#[test]
fn a_copy_that_has_rotten_or_gone_proves_nothing() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    let path = layout::blob_file(&blob.sha1);
    let fs = lab.machines[1].engine().store().fs().clone();
    fs.unlink(&path).unwrap();
    fs.create_new(&path).unwrap().write_all_at(&[8; 40_000], 0).unwrap();
    let outcome = give_up(&mut lab, 0, blob.sha1).unwrap().outcomes.pop().unwrap();
    assert_eq!(outcome.refusals, [(lab.machines[1].id(), Why::Damaged)]);
    fs.unlink(&path).unwrap();
    assert_eq!(missing(give_up(&mut lab, 0, blob.sha1)), [Missing::Copies { have: 0, need: 1 }]);
    assert_eq!(holders(&lab, &blob.sha1), [0, 1]);
}

#[test]
fn nothing_is_given_up_before_everybody_has_been_heard_since_the_start() {
    let (mut lab, blob) = lab_with_copies(3, 1);
    lab.machines[0].start();
    lab.parted = vec![(0, 2)];
    lab.connect_all();
    let dropped = give_up(&mut lab, 0, blob.sha1);
    assert_eq!(dropped.as_ref().map(|dropped| dropped.unheard.clone()), Some(vec![lab.machines[2].id()]));
    assert!(missing(dropped).contains(&Missing::Leave(Why::JustStarted)));
    lab.parted.clear();
    lab.connect_all();
    assert_eq!(give_up(&mut lab, 0, blob.sha1).unwrap().outcomes[0].gone, Some(blob));
}

#[test]
fn who_has_just_started_vouches_for_nothing() {
    let (mut lab, blob) = lab_with_copies(3, 1);
    lab.machines[1].start();
    // It hears the asker alone; somebody in reach of it has not spoken yet.
    let (zero, two) = (lab.machines[0].id(), lab.machines[2].id());
    for peer in [zero, two] {
        lab.effects_of(1, Input::Connected { peer });
    }
    let question = question(&lab, blob);
    let effects = lab.effects_of(1, Input::Received { from: zero, bytes: Message::Question(question).encode() });
    assert_eq!(words(&effects), [Some(Why::JustStarted)]);
}

fn question(lab: &Lab, blob: BlobFact) -> Question {
    let chain = lab.own_chain(0);
    Question { nonce: Nonce([1; 16]), boot: chain.boot, purpose: Purpose::Drop, seen: Vector::default(), blobs: vec![blob] }
}

/// What the answers among `effects` say no for.
fn words(effects: &[Effect]) -> Vec<Option<Why>> {
    let mut words = Vec::new();
    for effect in effects {
        let Effect::Send { bytes, .. } = effect else { continue };
        let Ok(Message::Answer(answer)) = Message::decode(bytes) else { continue };
        words.extend(answer.claimed().words.iter().map(|(_, word)| match word {
            Word::Yes => None,
            Word::No(why) => Some(*why),
        }));
    }
    words
}

#[test]
fn a_new_value_that_reaches_it_calls_the_attempt_off() {
    for is_above in [false, true] {
        let (mut lab, blob) = lab_with_copies(2, 1);
        let parent = lab.put(0, b"parent", &[blob.sha1]);
        lab.settle();
        let question = lab.effects_of(0, Input::Drop { request: REQUEST, blobs: vec![blob.sha1] });
        let named = if is_above { parent.sha1 } else { blob.sha1 };
        let op = RefOp::Set(a_set("lab/new", "{}", &[named]));
        let pushed = lab.effects_of(0, Input::WriteRefs { request: REQUEST, ops: vec![op] });
        let replies = deliver(&mut lab, question.into_iter().chain(pushed).collect());
        assert_eq!(holders(&lab, &blob.sha1), [0, 1]);
        assert_eq!(missing(answer(replies)), [Missing::Attempt]);
    }
}

/// Takes a lease on machine 0, for a second.
fn lease(lab: &mut Lab, blob: BlobId, is_flat: bool) {
    let op = LeaseOp::Add { owner: "ann".parse().unwrap(), ttl_ms: 1_000, is_flat, blobs: vec![blob] };
    let replies = lab.give(0, Input::Lease { request: REQUEST, op });
    assert!(matches!(replies[..], [Reply::Leased(..)]), "{replies:?}");
}

#[test]
fn what_a_lease_covers_is_not_given_up_also_when_a_ref_reaches_it_through_what_is_leased() {
    for is_flat in [false, true] {
        let (mut lab, blob) = lab_with_copies(2, 1);
        let parent = lab.put(0, b"parent", &[blob.sha1]);
        lab.give(0, Input::WriteRefs { request: REQUEST, ops: vec![RefOp::Set(a_set("lab/parent", "{}", &[parent.sha1]))] });
        lab.settle();
        lease(&mut lab, parent.sha1, is_flat);
        if !is_flat {
            assert!(missing(give_up(&mut lab, 0, blob.sha1)).contains(&Missing::Unpinned));
            lab.now_ms += 1_000;
        }
        assert_eq!(give_up(&mut lab, 0, blob.sha1).unwrap().outcomes[0].gone, Some(blob));
    }
}

#[test]
fn a_lease_that_is_taken_meanwhile_stands_in_the_way_of_the_decision() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    let question = lab.effects_of(0, Input::Drop { request: REQUEST, blobs: vec![blob.sha1] });
    lease(&mut lab, blob.sha1, true);
    let answered = question.into_iter().filter_map(|effect| match effect {
        Effect::Send { bytes, .. } => Some(bytes),
        _ => None,
    });
    let from = lab.machines[0].id();
    let replies = answered.flat_map(|bytes| lab.give(1, Input::Received { from, bytes })).collect();
    assert!(missing(answer(replies)).contains(&Missing::Unpinned));
    assert_eq!(holders(&lab, &blob.sha1), [0, 1]);
}

#[test]
fn a_put_of_it_calls_the_attempt_off() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    let question = lab.effects_of(0, Input::Drop { request: REQUEST, blobs: vec![blob.sha1] });
    lab.put(0, &vec![7; 40_000], &[]);
    assert_eq!(missing(answer(deliver(&mut lab, question))), [Missing::Attempt]);
    assert_eq!(holders(&lab, &blob.sha1), [0, 1]);
}

/// Delivers what machine 0 sent, to machine 1, and everything that follows.
fn deliver(lab: &mut Lab, effects: Vec<Effect>) -> Vec<Reply> {
    let from = lab.machines[0].id();
    let mut replies = Vec::new();
    for effect in effects {
        if let Effect::Send { bytes, .. } = effect {
            replies.extend(lab.give(1, Input::Received { from, bytes }));
        }
    }
    for _ in 0..3 {
        lab.now_ms += DROP_TIMEOUT_MS;
        replies.extend(lab.give(0, Input::Tick));
    }
    replies
}

#[test]
fn behind_a_root_that_is_too_large_to_look_through_everything_counts_as_wanted() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    let other = [0, 1].map(|machine| lab.put(machine, b"other", &[]))[0];
    lab.give(0, Input::WriteRefs { request: REQUEST, ops: vec![RefOp::Set(a_set("lab/b", "{}", &[other.sha1]))] });
    let children = lab.put_many(0, NEW_ROOT_VISITS);
    for (count, is_called_off) in [(NEW_ROOT_VISITS - 2, false), (NEW_ROOT_VISITS, true)] {
        let parent = lab.put(0, format!("parent of {count}").as_bytes(), &children[..count]);
        lab.settle();
        let question = lab.effects_of(0, Input::Drop { request: REQUEST, blobs: vec![blob.sha1] });
        let op = RefOp::Set(a_set(&format!("lab/of{count}"), "{}", &[parent.sha1]));
        let pushed = lab.effects_of(0, Input::WriteRefs { request: REQUEST, ops: vec![op] });
        let replies = deliver(&mut lab, question.into_iter().chain(pushed).collect());
        assert_eq!(answer(replies).unwrap().outcomes[0].gone.is_none(), is_called_off, "{count}");
        if !is_called_off {
            lab.put(0, &vec![7; 40_000], &[]);
        }
    }
}

#[test]
fn a_question_that_got_lost_is_asked_again_after_ask_again_ms_until_drop_timeout_ms() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    lab.effects_of(0, Input::Drop { request: REQUEST, blobs: vec![blob.sha1] });
    let asks = |lab: &mut Lab| {
        let effects = lab.effects_of(0, Input::Tick);
        let questions = effects.iter().filter(|effect| match effect {
            Effect::Send { bytes, .. } => matches!(Message::decode(bytes), Ok(Message::Question(_))),
            _ => false,
        });
        questions.count()
    };
    lab.now_ms += ASK_AGAIN_MS - 1;
    assert_eq!(asks(&mut lab), 0);
    lab.now_ms += 1;
    assert_eq!(asks(&mut lab), 1);
    lab.now_ms += DROP_TIMEOUT_MS - ASK_AGAIN_MS - 1;
    assert_eq!(answer(lab.effects_of(0, Input::Tick).into_iter().filter_map(reply_of).collect()), None);
    lab.now_ms += 1;
    let late = answer(lab.effects_of(0, Input::Tick).into_iter().filter_map(reply_of).collect());
    assert_eq!(missing(late), [Missing::Copies { have: 0, need: 1 }]);
}

#[test]
fn who_let_a_question_run_out_of_time_is_asked_again_when_something_has_come_of_it() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    let ask = |lab: &mut Lab| {
        answer(
            lab.effects_of(0, Input::Drop { request: REQUEST, blobs: vec![blob.sha1] })
                .into_iter()
                .filter_map(reply_of)
                .collect(),
        )
    };
    let tick = |lab: &mut Lab| answer(lab.effects_of(0, Input::Tick).into_iter().filter_map(reply_of).collect());
    assert_eq!(ask(&mut lab), None, "the other is waited for");
    lab.now_ms += DROP_TIMEOUT_MS;
    assert!(tick(&mut lab).is_some());
    // The next portion of a large request does not wait as long again.
    assert_eq!(missing(ask(&mut lab)), [Missing::Copies { have: 0, need: 1 }]);
    let from = lab.machines[1].id();
    let status = lab.effects_of(1, Input::Tick).into_iter().find_map(|effect| match effect {
        Effect::Send { bytes, .. } => Some(bytes),
        _ => None,
    });
    lab.effects_of(0, Input::Received { from, bytes: status.unwrap() });
    assert_eq!(ask(&mut lab), None, "it is there after all");
}

fn reply_of(effect: Effect) -> Option<Reply> {
    match effect {
        Effect::Reply(_, reply) => Some(reply),
        _ => None,
    }
}

#[test]
fn no_more_than_max_probes_are_under_way_and_what_was_not_looked_at_comes_again() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    let from = lab.machines[0].id();
    let ask = |lab: &mut Lab| {
        let question = Message::Question(question(lab, blob)).encode();
        let effects = lab.effects_of(1, Input::Received { from, bytes: question });
        effects.iter().filter(|effect| matches!(effect, Effect::Probe { .. })).count()
    };
    for _ in 0..MAX_PROBES {
        assert_eq!(ask(&mut lab), 1);
    }
    assert_eq!(ask(&mut lab), 0);
}

#[test]
fn who_leaves_is_not_waited_for_and_who_asks_too_much_is_cut_off() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    lab.effects_of(0, Input::Drop { request: REQUEST, blobs: vec![blob.sha1] });
    let peer = lab.machines[1].id();
    lab.effects_of(0, Input::Disconnected { peer });
    assert!(answer(lab.effects_of(0, Input::Tick).into_iter().filter_map(reply_of).collect()).is_some());
    let ask = |count: usize, lab: &mut Lab| {
        let question = Question { blobs: vec![blob; count], ..question(lab, blob) };
        let from = lab.machines[0].id();
        let effects = lab.effects_of(1, Input::Received { from, bytes: Message::Question(question).encode() });
        effects.iter().any(|effect| matches!(effect, Effect::Refuse { .. }))
    };
    assert!(!ask(MAX_QUESTION_BLOBS, &mut lab));
    assert!(ask(MAX_QUESTION_BLOBS + 1, &mut lab));
}

#[test]
fn who_does_not_know_all_that_the_asker_knew_vouches_for_nothing() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    let from = lab.machines[0].id();
    // A value that has not reached the other machine.
    lab.effects_of(0, Input::WriteRefs { request: REQUEST, ops: vec![RefOp::Set(a_set("lab/b", "{}", &[]))] });
    let seen = lab.machines[0].engine().store().snapshot().unwrap().vector().unwrap();
    let question = Question { seen, ..question(&lab, blob) };
    let effects = lab.effects_of(1, Input::Received { from, bytes: Message::Question(question).encode() });
    assert_eq!(words(&effects), [Some(Why::Behind)]);
}

fn confirm(lab: &mut Lab, machine: usize, blobs: Vec<BlobId>) -> Option<Confirmed> {
    lab.give(machine, Input::Confirm { request: REQUEST, blobs }).into_iter().find_map(|reply| match reply {
        Reply::Confirmed(confirmed) => Some(confirmed),
        _ => None,
    })
}

#[test]
fn as_many_copies_are_confirmed_as_disks_have_all_of_it() {
    let (mut lab, blob) = lab_with_copies(3, 2);
    assert_eq!(confirm(&mut lab, 0, vec![blob.sha1]), Some(Confirmed { copies: 3, unproven: vec![] }));
    let alone = lab.put(0, b"alone", &[]);
    lab.give(0, Input::WriteRefs { request: REQUEST, ops: vec![RefOp::Set(a_set("lab/b", "{}", &[alone.sha1]))] });
    assert_eq!(confirm(&mut lab, 0, vec![blob.sha1, alone.sha1]).unwrap().copies, 1);
    assert_eq!(confirm(&mut lab, 1, vec![alone.sha1]).unwrap().copies, 1, "asked by who has none");
    assert_eq!(confirm(&mut lab, 0, vec![BlobId([9; 20])]).unwrap().copies, 0);

    let path = layout::blob_file(&blob.sha1);
    lab.machines[1].engine().store().fs().clone().unlink(&path).unwrap();
    let damaged = Confirmed { copies: 2, unproven: vec![lab.machines[1].id()] };
    assert_eq!(confirm(&mut lab, 0, vec![blob.sha1]), Some(damaged));
    let peer = lab.machines[2].id();
    lab.give(0, Input::Disconnected { peer });
    assert_eq!(confirm(&mut lab, 0, vec![blob.sha1]).unwrap().copies, 1);
}

#[test]
fn a_copy_that_is_being_given_up_is_confirmed_to_nobody() {
    let (mut lab, blob) = lab_with_copies(2, 1);
    lab.effects_of(1, Input::Drop { request: REQUEST, blobs: vec![blob.sha1] });
    assert_eq!(confirm(&mut lab, 0, vec![blob.sha1]).unwrap().copies, 1);
}
