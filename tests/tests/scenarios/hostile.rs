//! Members that lie, and strangers: refused with the reason, told once, and nothing else is affected.

use ed25519_dalek::SigningKey;
use keepwell_node::engine::{Effect, Event, Input, RefOp, Reply, RequestId};
use keepwell_node::limits::{MAX_REFUSED_CHAINS, PULL_TIMEOUT_MS, STATUS_EVERY_MS, TICK_MS};
use keepwell_protocol::catalog::change::{Change, DocState, Write};
use keepwell_protocol::catalog::doc::change_hash;
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::gc::Missing;
use keepwell_protocol::id::{B3, BlobFact, BlobId, BootId, Seq, StorageId, ValueId};
use keepwell_protocol::limits::{MAX_ENTRY_DEPS, MAX_GOSSIP_ENTRY_BYTES, MAX_MESSAGE_BYTES, MAX_PULL_BYTES, MAX_WAITING_ENTRIES};
use keepwell_protocol::log::entry::node_id;
use keepwell_protocol::log::exchange::{ForkProof, Message, Want};
use keepwell_protocol::log::op::{Boot, Holdings, Op, PROTECTS, RawOp};
use keepwell_protocol::log::vector::{Chain, Vector};
use keepwell_protocol::wire;
use keepwell_store::home::DiskPlace;

use super::forger::Forger;
use super::lab::{Lab, a_set};

/// Machine `from` sends machine 0 a message.
fn send(lab: &mut Lab, from: usize, message: Vec<u8>) {
    send_to(lab, 0, from, message);
}

fn send_to(lab: &mut Lab, to: usize, from: usize, message: Vec<u8>) {
    let from = lab.machines[from].id();
    lab.give(to, Input::Received { from, bytes: message });
}

fn entries(entries: Vec<Vec<u8>>) -> Vec<u8> {
    Message::Entries { entries, more: false }.encode()
}

fn send_entry(lab: &mut Lab, from: usize, entry: Vec<u8>) {
    send(lab, from, entries(vec![entry]));
}

fn vector(lab: &Lab, machine: usize) -> Vector {
    lab.machines[machine].engine().store().snapshot().unwrap().vector().unwrap()
}

/// Machines 0 and 1 still work together.
fn assert_unaffected(lab: &mut Lab) {
    lab.set(1, "lab/honest", "works", &[]);
    assert_eq!(lab.values(0, "lab/honest"), ["works"]);
}

fn assert_refused(lab: &Lab, reason: &str) {
    assert!(lab.refusals.iter().any(|(_, _, told)| told.contains(reason)), "{:?}", lab.refusals);
}

fn reasons(lab: &Lab, chain: Chain) -> Vec<&str> {
    let told = lab.events.iter().filter_map(|(_, event)| match event {
        Event::EntryRefused { chain: refused, reason } if *refused == chain => Some(reason.as_str()),
        _ => None,
    });
    told.collect()
}

fn write_to(name: &str) -> Write {
    Write { item: Item::reference(name), replaces: vec![], body: Some(vec![1]) }
}

#[test]
fn garbage_and_oversized_messages_are_refused() {
    let mut lab = Lab::new(3);
    send(&mut lab, 2, b"garbage".to_vec());
    assert_refused(&lab, "unknown format version");
    send(&mut lab, 2, vec![1; MAX_MESSAGE_BYTES + 1]);
    assert_refused(&lab, "exceeds the limit");
    assert_unaffected(&mut lab);
}

#[test]
fn a_bad_signature_is_refused() {
    let mut lab = Lab::new(3);
    let mut entry = Forger::member(&lab, 2).entry(&lab, vec![]);
    *entry.last_mut().unwrap() ^= 1;
    send_entry(&mut lab, 2, entry);
    assert_refused(&lab, "valid signature");
    assert_unaffected(&mut lab);
}

#[test]
fn a_strangers_entries_are_refused_once_also_through_a_member() {
    let mut lab = Lab::new(3);
    let mut stranger = Forger::new(SigningKey::from_bytes(&[200; 32]), vec![]);
    let entry = stranger.entry(&lab, vec![]);
    for _ in 0..3 {
        send_entry(&mut lab, 2, entry.clone());
    }
    assert_eq!(reasons(&lab, stranger.chain).len(), 1);
    assert!(reasons(&lab, stranger.chain)[0].contains("not a member"));
    assert_unaffected(&mut lab);
}

#[test]
fn strangers_are_told_of_up_to_max_refused_chains() {
    let mut lab = Lab::new(3);
    for number in 0..=MAX_REFUSED_CHAINS {
        let mut seed = [200; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let entry = Forger::new(SigningKey::from_bytes(&seed), vec![]).entry(&lab, vec![]);
        send_entry(&mut lab, 2, entry);
    }
    let told = lab.events.iter().filter(|(at, event)| *at == 0 && matches!(event, Event::EntryRefused { .. })).count();
    assert_eq!(told, MAX_REFUSED_CHAINS);
    assert_unaffected(&mut lab);
}

#[test]
fn nobody_writes_under_the_boot_of_another() {
    let mut lab = Lab::new(3);
    let victim = lab.machines[1].engine().home().boot.clone().unwrap();
    let mut forger = Forger::member(&lab, 2);
    forger.chain.boot = victim.id;
    let entry = forger.entry(&lab, vec![]);
    send_entry(&mut lab, 2, entry);
    assert_refused(&lab, "does not belong to its author");
    assert_unaffected(&mut lab);
}

#[test]
fn a_node_speaks_for_its_own_copies_alone() {
    let mut lab = Lab::new(3);
    let fact = lab.put(1, b"held by machine 1", &[]);
    let removal = Op::Holdings(Holdings { added: vec![], removed: vec![fact.sha1] });
    let entry = Forger::member(&lab, 2).entry(&lab, vec![removal]);
    send_entry(&mut lab, 2, entry);
    let holders = lab.machines[0].engine().store().snapshot().unwrap().holders(&fact.sha1).unwrap();
    assert_eq!(holders.iter().map(|holding| holding.node).collect::<Vec<_>>(), [lab.machines[1].id()]);
}

#[test]
fn changes_that_break_a_rule_are_void_and_affect_nothing_else() {
    let item = Item::reference("lab/forged");
    let good = |forger: &Forger| {
        Change::next(item.shard(), 0, &forger.chain.boot, &DocState::default(), None, vec![write_to("lab/forged")])
    };
    type Break = fn(&mut Change);
    let broken: [(&str, Break); 6] = [
        ("actor sequence", |change| change.actor_seq = 5),
        ("first operation", |change| change.start_op = u64::from(u32::MAX)),
        ("is not a name", |change| change.writes[0].item = Item::reference("\u{1b}[2J")),
        ("wrong shard", |change| change.writes[0].item = Item::reference("elsewhere/entirely")),
        ("without a change of the epoch before", |change| change.epoch = 3),
        ("without writes", |change| change.writes.clear()),
    ];
    for (reason, break_it) in broken {
        let mut lab = Lab::new(3);
        let mut forger = Forger::member(&lab, 2);
        let mut change = good(&forger);
        break_it(&mut change);
        let entry = forger.entry(&lab, vec![Op::Change(change)]);
        send_entry(&mut lab, 2, entry);
        assert!(reasons(&lab, forger.chain).iter().any(|told| told.contains(reason)), "{reason}: {:?}", lab.events);
        assert!(lab.values(0, "lab/forged").is_empty());
        assert_unaffected(&mut lab);
    }
}

#[test]
fn a_bad_entry_that_only_some_hear_parts_nobody() {
    let mut lab = Lab::new(3);
    let (mut one, mut other) = (Forger::member(&lab, 2), Forger::member(&lab, 2));
    let first = one.entry(&lab, vec![]);
    assert_eq!(other.entry(&lab, vec![]), first);
    // To machine 0 it says what breaks a rule, to machine 1, at the same position, what does not.
    let item = Item::reference("lab/forged");
    let unseen = ValueId { boot: BootId([9; 16]), seq: Seq(9), index: 0 };
    let write = |replaces| Write { replaces, ..write_to("lab/forged") };
    let change = |replaces| Change::next(item.shard(), 0, &one.chain.boot, &DocState::default(), None, vec![write(replaces)]);
    let (bad, good) = (change(vec![unseen]), change(vec![]));
    let bad = one.entry(&lab, vec![Op::Change(bad)]);
    let good = other.entry(&lab, vec![Op::Change(good)]);
    lab.parted = vec![(0, 1)];
    send_to(&mut lab, 0, 2, entries(vec![first.clone(), bad]));
    send_to(&mut lab, 1, 2, entries(vec![first, good]));
    assert_eq!(reasons(&lab, one.chain).len(), 1);
    lab.set(1, "lab/honest", "built on it", &[]);
    lab.parted.clear();
    lab.settle();
    assert_eq!(vector(&lab, 0), vector(&lab, 1));
    assert_eq!(lab.values(0, "lab/honest"), ["built on it"]);
    assert_eq!(lab.machines[0].engine().compare_rebuild().unwrap(), Vec::<&str>::new());
    lab.set(0, "lab/honest", "and back", &[]);
    assert_eq!(lab.values(1, "lab/honest"), ["and back"]);
}

#[test]
fn what_names_a_branch_before_others_know_of_the_fork_counts_once_they_do() {
    let mut lab = Lab::new(3);
    let (mut one, mut other) = (Forger::member(&lab, 2), Forger::member(&lab, 2));
    let first = one.entry(&lab, vec![]);
    other.entry(&lab, vec![]);
    let item = Item::reference("lab/forged");
    let set = |boot: &BootId, replaces| {
        let write = Write { replaces, ..write_to("lab/forged") };
        Op::Change(Change::next(item.shard(), 0, boot, &DocState::default(), None, vec![write]))
    };
    let left = one.entry(&lab, vec![set(&one.chain.boot, vec![])]);
    let right = other.entry(&lab, vec![Op::Holdings(Holdings { added: vec![], removed: vec![BlobId([1; 20])] })]);
    // Another member builds on the left branch under the boot's name, and replaces its value under the branch's.
    let head = one.last.unwrap();
    let mut third = Forger::new(lab.machines[1].key.clone(), vec![(one.chain, head)]);
    third.deps.extend(vector(&lab, 0).0);
    let value = ValueId { boot: BootId::of_branch(&head.hash), seq: head.seq, index: 0 };
    let mut change = set(&third.chain.boot, vec![value]);
    if let Op::Change(change) = &mut change {
        let known = Change::next(item.shard(), 0, &one.chain.boot, &DocState::default(), None, vec![write_to("lab/forged")]);
        let hash = change_hash(&known, ValueId { boot: one.chain.boot, seq: head.seq, index: 0 });
        (change.deps, change.start_op, change.writes[0].body) = (vec![hash], 2, Some(vec![2]));
    }
    let naming = third.entry(&lab, vec![change]);
    send(&mut lab, 2, entries(vec![first, left, naming]));
    let bodies = |lab: &Lab| {
        let row = lab.machines[0].engine().store().snapshot().unwrap().item(&item).unwrap();
        row.values().iter().map(|value| value.body.clone()).collect::<Vec<_>>()
    };
    assert_eq!((bodies(&lab), reasons(&lab, third.chain).len()), (vec![vec![1]], 1));
    send_entry(&mut lab, 2, right);
    assert_eq!(bodies(&lab), [[2]]);
    lab.settle();
    assert_eq!(vector(&lab, 0), vector(&lab, 1));
}

#[test]
fn who_writes_under_the_name_of_a_branch_is_refused_and_the_branch_goes_on() {
    let mut lab = Lab::new(3);
    let (mut one, mut other) = (Forger::member(&lab, 2), Forger::member(&lab, 2));
    let holdings = Op::Holdings(Holdings { added: vec![], removed: vec![BlobId([1; 20])] });
    let (left, right) = (one.entry(&lab, vec![]), other.entry(&lab, vec![holdings]));
    send(&mut lab, 2, entries(vec![left, right]));
    let branch = Chain { boot: BootId::of_branch(&one.last.unwrap().hash), ..one.chain };
    let mut posing = Forger { key: one.key.clone(), chain: branch, deps: vec![], last: one.last };
    let (posed, honest) = (posing.entry(&lab, vec![]), one.entry(&lab, vec![]));
    send_entry(&mut lab, 2, posed);
    assert_refused(&lab, "under the name of a branch");
    send_entry(&mut lab, 2, honest);
    assert_eq!(vector(&lab, 0).seq(&branch), 2);
    assert_unaffected(&mut lab);
}

#[test]
fn a_member_may_not_admit_an_admin_and_goes_on() {
    let mut lab = Lab::new(2);
    let node = node_id(&SigningKey::from_bytes(&[200; 32]));
    let admit = |role| {
        let body = NodeBody { name: "new".into(), role, storage: StorageId([7; 16]) };
        Input::Admit { request: RequestId(1), node, body }
    };
    let replies = lab.give(1, admit(Role::Admin));
    assert!(matches!(replies[..], [Reply::MayNotAdmit(_)]), "{replies:?}");
    assert!(matches!(lab.give(1, admit(Role::Member))[..], [Reply::Admitted]));
    // It is a member by now: only an admin changes its record.
    assert!(matches!(lab.give(1, admit(Role::Member))[..], [Reply::MayNotAdmit(_)]));
    assert_unaffected(&mut lab);
}

#[test]
fn more_news_than_max_entry_deps_allows_is_named_by_entries_before() {
    let mut lab = Lab::new(6);
    // Its chains stand before those that say who is a member.
    let flooder = (1..6).find(|at| lab.machines[*at].id() < lab.machines[0].id()).unwrap();
    let member = (1..6).find(|at| *at != flooder).unwrap();
    let mut boots = Vec::new();
    for number in 0..=MAX_ENTRY_DEPS as u64 / 2 {
        let mut forger = Forger::member(&lab, flooder);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        forger.chain.boot = BootId::of(&forger.chain.node, &nonce);
        let mut draft = forger.draft(&lab, vec![]);
        draft.ops = vec![Op::Boot(Boot { storage: StorageId([7; 16]), nonce })];
        boots.push(draft.seal(&forger.key));
    }
    lab.parted = (0..6).flat_map(|a| (0..a).map(move |b| (a, b))).collect();
    for machine in [0, member] {
        let before = vector(&lab, machine).seq(&lab.own_chain(machine));
        send_to(&mut lab, machine, flooder, entries(boots.clone()));
        lab.set(machine, "lab/a", "1", &[]);
        assert_eq!(lab.values(machine, "lab/a"), ["1"]);
        assert_eq!(vector(&lab, machine).seq(&lab.own_chain(machine)), before + 2, "one entry for what is new alone");
        // The first entry of a new boot has all the rest to name, and must show that its author is a member.
        lab.machines[machine].place = DiskPlace { device: 1, inode: 99 };
        lab.machines[machine].start();
        lab.set(machine, "lab/a", "2", &[]);
        assert_eq!((lab.values(machine, "lab/a"), vector(&lab, machine).seq(&lab.own_chain(machine))), (vec!["2".to_owned()], 2));
    }
}

#[test]
fn a_member_cannot_make_itself_an_admin() {
    let mut lab = Lab::new(3);
    let mut forger = Forger::member(&lab, 2);
    let item = Item::node(&forger.chain.node);
    let body = NodeBody { name: "n2".into(), role: Role::Admin, storage: StorageId([7; 16]) };
    let write = Write { item: item.clone(), replaces: vec![], body: Some(wire::encode(&body)) };
    let snapshot = lab.machines[0].engine().store().snapshot().unwrap();
    let state = snapshot.doc(item.shard(), 0).unwrap();
    let change = Change::next(item.shard(), 0, &forger.chain.boot, &state, None, vec![write]);
    let entry = forger.entry(&lab, vec![Op::Change(change)]);
    send_entry(&mut lab, 2, entry);
    assert!(reasons(&lab, forger.chain)[0].contains("not an admin"), "{:?}", lab.events);
    assert_unaffected(&mut lab);
}

#[test]
fn two_entries_of_one_position_are_a_proof_that_third_parties_believe() {
    let mut lab = Lab::new(3);
    let (mut one, mut other) = (Forger::member(&lab, 2), Forger::member(&lab, 2));
    let holdings = Op::Holdings(Holdings { added: vec![], removed: vec![BlobId([1; 20])] });
    let (left, right) = (one.entry(&lab, vec![]), other.entry(&lab, vec![holdings]));
    send_entry(&mut lab, 2, left.clone());
    send_entry(&mut lab, 2, right.clone());
    lab.settle();
    let told: Vec<usize> =
        lab.events.iter().filter(|(_, event)| *event == Event::Forked { chain: one.chain }).map(|(at, _)| *at).collect();
    assert!(told.contains(&0) && told.contains(&1), "{:?}", lab.events);
    let alike = Message::Fork(ForkProof { one: left.clone(), other: left }).encode();
    send(&mut lab, 2, alike);
    assert_refused(&lab, "proves none");
    assert_unaffected(&mut lab);
}

#[test]
fn a_compressed_automerge_chunk_is_not_even_read() {
    let mut lab = Lab::new(3);
    // automerge's magic, a checksum, chunk type 2 (deflate), and a claim of much to come.
    let chunk = [&[0x85, 0x6f, 0x4a, 0x83, 1, 2, 3, 4, 2][..], &[0xff; 64]].concat();
    let raw = RawOp { kind: PROTECTS | 1, body: chunk };
    let entry = Forger::member(&lab, 2).entry(&lab, vec![Op::Unknown(raw)]);
    send_entry(&mut lab, 2, entry);
    assert_refused(&lab, "unreadable");
    assert_unaffected(&mut lab);
}

#[test]
fn an_unknown_op_that_may_protect_is_kept_passed_on_and_counted() {
    let mut lab = Lab::new(3);
    let raw = RawOp { kind: PROTECTS | 900, body: vec![1, 2, 3] };
    let mut forger = Forger::member(&lab, 2);
    let entry = forger.entry(&lab, vec![Op::Unknown(raw)]);
    send_entry(&mut lab, 2, entry);
    lab.settle();
    for machine in [0, 1] {
        let snapshot = lab.machines[machine].engine().store().snapshot().unwrap();
        assert_eq!(snapshot.count(keepwell_store::counts::Count::UnknownProtecting).unwrap(), 1);
    }
}

#[test]
fn beside_a_value_that_nobody_can_read_no_copy_is_given_up_and_the_node_goes_on() {
    let mut lab = Lab::new(3);
    let blob = [0, 1].map(|machine| lab.put(machine, b"data", &[]))[0];
    lab.set(0, "lab/data", "{}", &[blob.sha1]);
    lab.settle();
    let mut forger = Forger::member(&lab, 2);
    let item = Item::reference("lab/data");
    let state = lab.machines[0].engine().store().snapshot().unwrap().doc(item.shard(), 0).unwrap();
    let change = Change::next(item.shard(), 0, &forger.chain.boot, &state, None, vec![write_to("lab/data")]);
    let entry = forger.entry(&lab, vec![Op::Change(change)]);
    send_entry(&mut lab, 2, entry);
    assert_eq!(lab.machines[0].engine().store().snapshot().unwrap().item(&item).unwrap().values().len(), 2);
    let replies = lab.give(0, Input::Drop { request: RequestId(9), blobs: vec![blob.sha1] });
    let Some(Reply::Dropped(dropped)) = replies.into_iter().next() else { panic!("no answer") };
    assert!(dropped.outcomes[0].missing.contains(&Missing::Knowledge), "{dropped:?}");
    lab.set(1, "lab/honest", "works", &[]);
}

#[test]
fn entries_without_their_past_wait_in_bounded_memory() {
    let mut lab = Lab::new(3);
    let mut forger = Forger::member(&lab, 2);
    forger.entry(&lab, vec![]);
    let flood: Vec<Vec<u8>> = (0..=MAX_WAITING_ENTRIES).map(|_| forger.entry(&lab, vec![])).collect();
    for entry in flood {
        send_entry(&mut lab, 2, entry);
    }
    assert_eq!(lab.machines[0].engine().waiting_entries(), MAX_WAITING_ENTRIES);
    assert_unaffected(&mut lab);
}

#[test]
fn a_colliding_claim_changes_no_record() {
    let mut lab = Lab::new(3);
    let fact = lab.put(0, b"the first of the two", &[]);
    let other = BlobFact { b3: B3([9; 32]), ..fact };
    let claim = Op::Holdings(Holdings { added: vec![other], removed: vec![] });
    let entry = Forger::member(&lab, 2).entry(&lab, vec![claim]);
    send_entry(&mut lab, 2, entry);
    let snapshot = lab.machines[0].engine().store().snapshot().unwrap();
    assert_eq!(snapshot.blob(&fact.sha1).unwrap().unwrap().fact(fact.sha1), fact);
}

/// The messages that machine 0 sends to machine `to` when it is given an input.
fn sent_to(lab: &mut Lab, to: usize, input: Input) -> Vec<Message> {
    let to = lab.machines[to].id();
    lab.effects_of(0, input)
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Send { to: receiver, bytes } if receiver == to => Message::decode(&bytes).ok(),
            _ => None,
        })
        .collect()
}

#[test]
fn an_answer_to_a_pull_ends_at_max_pull_bytes_and_says_that_there_is_more() {
    let mut lab = Lab::new(2);
    lab.parted = vec![(0, 1)];
    let obj = format!("{{\"text\":\"{}\"}}", "x".repeat(60_000));
    let count = MAX_PULL_BYTES / obj.len() + 2;
    for number in 0..count {
        lab.set(0, &format!("lab/large{number}"), &obj, &[]);
    }
    let chain = lab.own_chain(0);
    let from = lab.machines[1].id();
    let pull = |after| Input::Received { from, bytes: Message::Pull(vec![Want { chain, after }]).encode() };
    let Some(Message::Entries { entries, more }) = sent_to(&mut lab, 1, pull(0)).pop() else { panic!("no answer") };
    assert!(more && entries.iter().map(Vec::len).sum::<usize>() <= MAX_PULL_BYTES);
    let Some(Message::Entries { entries: rest, more }) = sent_to(&mut lab, 1, pull(entries.len() as u64)).pop() else {
        panic!("no answer")
    };
    assert!(!more && !rest.is_empty());
    lab.parted.clear();
    lab.connect_all();
    assert_eq!(lab.values(1, &format!("lab/large{}", count - 1)), [obj]);
}

#[test]
fn only_entries_up_to_max_gossip_entry_bytes_are_gossiped() {
    let mut lab = Lab::new(2);
    for (length, gossiped) in [(100, true), (MAX_GOSSIP_ENTRY_BYTES, false)] {
        let op = RefOp::Set(a_set("lab/a", &"x".repeat(length), &[]));
        let effects = lab.effects_of(0, Input::WriteRefs { request: RequestId(1), ops: vec![op] });
        assert_eq!(effects.iter().any(|effect| matches!(effect, Effect::Publish(_))), gossiped);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Send { .. })), "pushed in any case");
    }
}

#[test]
fn peers_are_told_every_status_every_ms_and_a_pull_is_repeated_after_pull_timeout_ms() {
    let mut lab = Lab::new(2);
    let statuses = |messages: Vec<Message>| messages.iter().filter(|message| matches!(message, Message::Status(_))).count();
    lab.now_ms += STATUS_EVERY_MS;
    assert_eq!(statuses(sent_to(&mut lab, 1, Input::Tick)), 1);
    lab.now_ms += TICK_MS;
    assert_eq!(statuses(sent_to(&mut lab, 1, Input::Tick)), 0);

    // Machine 1 writes while machine 0 hears only its word on how far it has come.
    lab.parted = vec![(0, 1)];
    lab.set(1, "lab/a", "1", &[]);
    lab.now_ms += STATUS_EVERY_MS;
    let to = lab.machines[0].id();
    let word = lab.effects_of(1, Input::Tick).into_iter().find_map(|effect| match effect {
        Effect::Send { to: receiver, bytes } if receiver == to => Some(bytes),
        _ => None,
    });
    let (from, word) = (lab.machines[1].id(), word.unwrap());
    let heard = || Input::Received { from, bytes: word.clone() };
    let pulls = |messages: Vec<Message>| messages.iter().filter(|message| matches!(message, Message::Pull(_))).count();
    assert_eq!(pulls(sent_to(&mut lab, 1, heard())), 1);
    lab.now_ms += PULL_TIMEOUT_MS - 1;
    assert_eq!(pulls(sent_to(&mut lab, 1, heard())), 0);
    lab.now_ms += 1;
    assert_eq!(pulls(sent_to(&mut lab, 1, heard())), 1);
}
