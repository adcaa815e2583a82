//! Refs that lapse, on several machines: one of them says so, all of them see it, and what is used meanwhile lives on.

use keepwell_node::engine::{Effect, Input, RefOp, RefRefusal, RefSet, Reply, RequestId};
use keepwell_node::limits::USE_ELSEWHERE_TIMEOUT_MS;
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::catalog::usage::UseRequest;
use keepwell_protocol::id::{BlobId, NodeId, Nonce};
use keepwell_protocol::limits::MARK_TURN_MS;
use keepwell_protocol::log::exchange::Message;

use super::lab::{Lab, a_set};

const LASTS_MS: u64 = 30_000;

/// Machines that know how long they have run, and what time it is elsewhere.
fn lab(count: u8) -> Lab {
    let mut lab = Lab::new(count);
    pass(&mut lab, 5_000);
    lab
}

/// Time passes, and everybody is told.
fn pass(lab: &mut Lab, ms: u64) {
    lab.now_ms += ms;
    for machine in 0..lab.machines.len() {
        // These machines were started when their clocks began.
        lab.give(machine, Input::Elapsed { boot_ms: lab.now_ms });
    }
    for machine in 0..lab.machines.len() {
        lab.give(machine, Input::Tick);
    }
}

fn write(lab: &mut Lab, machine: usize, op: RefOp) -> Reply {
    lab.give(machine, Input::WriteRefs { request: RequestId(2), ops: vec![op] }).pop().unwrap()
}

/// Sets a ref that lapses LASTS_MS from now, or so long after its last use.
fn set(lab: &mut Lab, machine: usize, obj: &str) {
    let expires_ms = Some(lab.now_ms + LASTS_MS);
    write(lab, machine, RefOp::Set(RefSet { expires_ms, ttl_access_ms: Some(LASTS_MS), ..a_set("lab/x", obj, &[]) }));
}

fn touch(lab: &mut Lab, machine: usize) {
    write(lab, machine, RefOp::Touch { name: "lab/x".parse().unwrap() });
}

fn values(lab: &Lab) -> Vec<usize> {
    (0..lab.machines.len()).map(|machine| lab.values(machine, "lab/x").len()).collect()
}

/// How many entries these machines have written.
fn written(lab: &Lab, machines: &[usize]) -> Vec<u64> {
    let seq = |machine: &usize| {
        let vector = lab.machines[*machine].engine().store().snapshot().unwrap().vector().unwrap();
        vector.seq(&lab.own_chain(*machine))
    };
    machines.iter().map(seq).collect()
}

#[test]
fn its_author_ends_a_ref_and_nobody_else_needs_to_write() {
    let mut lab = lab(3);
    set(&mut lab, 1, "{}");
    pass(&mut lab, LASTS_MS - 1);
    assert_eq!(values(&lab), [1, 1, 1]);
    let before = written(&lab, &[0, 1, 2]);
    pass(&mut lab, 1);
    assert_eq!(values(&lab), [0, 0, 0]);
    for _ in 0..5 {
        pass(&mut lab, MARK_TURN_MS);
    }
    assert_eq!(written(&lab, &[0, 1, 2]), [before[0], before[1] + 1, before[2]]);
}

#[test]
fn when_the_author_is_away_one_of_the_others_ends_its_refs() {
    let mut lab = lab(3);
    set(&mut lab, 0, "{}");
    lab.parted = vec![(0, 1), (0, 2)];
    lab.machines[0].stop();
    let before = written(&lab, &[1, 2]);
    pass(&mut lab, LASTS_MS);
    assert_eq!(lab.values(1, "lab/x").len(), 1);
    pass(&mut lab, MARK_TURN_MS);
    assert_eq!((lab.values(1, "lab/x").len(), lab.values(2, "lab/x").len()), (0, 0));
    pass(&mut lab, MARK_TURN_MS);
    let after = written(&lab, &[1, 2]);
    assert_eq!(after.iter().sum::<u64>(), before.iter().sum::<u64>() + 1);

    lab.parted.clear();
    lab.machines[0].start();
    lab.connect_all();
    assert_eq!(lab.values(0, "lab/x").len(), 0);
}

#[test]
fn marks_that_two_write_at_once_are_as_good_as_one() {
    let mut lab = lab(2);
    set(&mut lab, 0, "{}");
    lab.parted = vec![(0, 1)];
    pass(&mut lab, LASTS_MS);
    pass(&mut lab, MARK_TURN_MS);
    assert_eq!(values(&lab), [0, 0]);
    lab.parted.clear();
    lab.connect_all();
    set(&mut lab, 1, "{\"again\":1}");
    assert_eq!(values(&lab), [1, 1]);
}

#[test]
fn a_use_that_the_one_who_ends_it_has_not_heard_of_outlives_the_mark() {
    let mut lab = lab(2);
    set(&mut lab, 0, "{}");
    pass(&mut lab, LASTS_MS - 2_000);
    lab.parted = vec![(0, 1)];
    touch(&mut lab, 1);
    pass(&mut lab, 2_000);
    assert_eq!(values(&lab), [0, 1]);
    lab.parted.clear();
    lab.connect_all();
    assert_eq!(values(&lab), [1, 1]);
    pass(&mut lab, LASTS_MS);
    assert_eq!(values(&lab), [0, 0], "and ends in its own time");
}

#[test]
fn of_a_conflict_only_the_value_ends_whose_time_has_come() {
    let mut lab = lab(2);
    lab.parted = vec![(0, 1)];
    set(&mut lab, 0, "{\"lapses\":1}");
    lab.set(1, "lab/x", "{\"stays\":1}", &[]);
    lab.parted.clear();
    lab.connect_all();
    assert_eq!(values(&lab), [2, 2]);
    pass(&mut lab, LASTS_MS);
    for machine in 0..2 {
        assert_eq!(lab.values(machine, "lab/x"), ["{\"stays\":1}"]);
    }
}

#[test]
fn a_ref_that_is_used_lives_on_and_its_uses_are_coarse() {
    let mut lab = lab(2);
    set(&mut lab, 0, "{}");
    let before = written(&lab, &[0]);
    for _ in 0..100 {
        pass(&mut lab, 600);
        touch(&mut lab, 0);
    }
    assert_eq!(values(&lab), [1, 1]);
    let writes = written(&lab, &[0])[0] - before[0];
    assert!((15..=21).contains(&writes), "{writes} writes for 100 uses in two times its life");
    pass(&mut lab, LASTS_MS);
    assert_eq!(values(&lab), [0, 0]);
    assert_eq!(lab.machines[0].engine().store().snapshot().unwrap().item(&Item::reference("lab/x")).unwrap().values(), []);
}

/// Two machines of three hold what a ref names that ends some time after its last use; the third knows the ref alone.
fn lab_with_a_reader() -> (Lab, BlobId) {
    let mut lab = lab(3);
    let blob = lab.put(0, b"measured", &[]).sha1;
    lab.put(1, b"measured", &[]);
    let expires_ms = Some(lab.now_ms + LASTS_MS);
    let set = RefSet { expires_ms, ttl_access_ms: Some(LASTS_MS), ..a_set("lab/x", "{}", &[blob]) };
    let done = write(&mut lab, 0, RefOp::Set(set));
    assert!(matches!(done, Reply::Refs(Ok(_))), "{done:?}");
    pass(&mut lab, LASTS_MS / 2);
    (lab, blob)
}

fn use_elsewhere(lab: &mut Lab) -> Option<Reply> {
    lab.give(2, Input::UseElsewhere { request: RequestId(3), name: "lab/x".parse().unwrap() }).pop()
}

/// When the ref ends, as each machine knows it: its one value.
fn ends_ms(lab: &Lab) -> Vec<u64> {
    let end = |machine: usize| {
        let row = lab.machines[machine].engine().store().snapshot().unwrap().item(&Item::reference("lab/x")).unwrap();
        let [value] = row.values() else { panic!("not one value on {machine}") };
        RefBody::of(value).unwrap().expires_ms.unwrap()
    };
    (0..lab.machines.len()).map(end).collect()
}

#[test]
fn who_lacks_what_a_ref_names_has_a_holder_write_that_it_is_used() {
    let (mut lab, _) = lab_with_a_reader();
    let refused = write(&mut lab, 2, RefOp::Touch { name: "lab/x".parse().unwrap() });
    assert!(matches!(refused, Reply::Refs(Err(RefRefusal::Missing { .. }))), "own copy first");
    let before = written(&lab, &[0, 1, 2]);
    assert!(matches!(use_elsewhere(&mut lab), Some(Reply::UsedBy(Some(_)))));
    let after = written(&lab, &[0, 1, 2]);
    assert_eq!(after.iter().sum::<u64>(), before.iter().sum::<u64>() + 1, "one machine has written it, once");
    assert_eq!(after[2], before[2]);
    assert_eq!(ends_ms(&lab), [lab.now_ms + LASTS_MS; 3]);
}

#[test]
fn a_holder_that_does_not_answer_is_passed_over_and_without_any_the_user_is_told() {
    let (mut lab, _) = lab_with_a_reader();
    // The holder that is asked first.
    let asked = lab.machines[1].id();
    let effects = lab.effects_of(2, Input::UseElsewhere { request: RequestId(3), name: "lab/x".parse().unwrap() });
    let to = |effects: &[Effect]| {
        let sent = effects.iter().filter_map(|effect| match effect {
            Effect::Send { to, bytes } if matches!(Message::decode(bytes), Ok(Message::UseRequest(_))) => Some(*to),
            _ => None,
        });
        sent.collect::<Vec<_>>()
    };
    let first = to(&effects);
    assert_eq!(first.len(), 1, "one at a time");
    let mut tick_at = |ms: u64| {
        lab.now_ms += ms;
        lab.effects_of(2, Input::Elapsed { boot_ms: lab.now_ms });
        lab.effects_of(2, Input::Tick)
    };
    assert_eq!(to(&tick_at(USE_ELSEWHERE_TIMEOUT_MS - 1)), []);
    let second = to(&tick_at(1));
    assert!(second.len() == 1 && second != first && (first[0] == asked || second[0] == asked), "{first:?}, then {second:?}");
    let given_up = tick_at(USE_ELSEWHERE_TIMEOUT_MS);
    assert!(given_up.iter().any(|effect| matches!(effect, Effect::Reply(RequestId(3), Reply::UsedBy(None)))));
}

#[test]
fn a_use_is_written_for_members_alone_and_only_by_who_holds_all_of_it() {
    let (mut lab, blob) = lab_with_a_reader();
    let asked = |name: &str| Message::UseRequest(UseRequest { nonce: Nonce([1; 16]), name: name.into() }).encode();
    let told = |lab: &mut Lab, machine: usize, from: NodeId, name: &str| {
        let effects = lab.effects_of(machine, Input::Received { from, bytes: asked(name) });
        let reports = effects.into_iter().filter_map(|effect| match effect {
            Effect::Send { bytes, .. } => match Message::decode(&bytes) {
                Ok(Message::UseReport(report)) => Some(report.done),
                _ => None,
            },
            _ => None,
        });
        reports.collect::<Vec<_>>()
    };
    let (reader, stranger) = (lab.machines[2].id(), NodeId([77; 32]));
    assert_eq!(told(&mut lab, 0, reader, "no name"), [false]);
    assert_eq!(told(&mut lab, 0, reader, "lab/other"), [false]);
    lab.effects_of(0, Input::Connected { peer: stranger });
    assert_eq!(told(&mut lab, 0, stranger, "lab/x"), [false]);
    lab.forget(1, blob);
    assert_eq!(told(&mut lab, 1, reader, "lab/x"), [false]);
    assert_eq!(told(&mut lab, 0, reader, "lab/x"), [true]);
    assert_eq!(told(&mut lab, 0, reader, "lab/x"), [true], "a use so soon after is the same");
}
