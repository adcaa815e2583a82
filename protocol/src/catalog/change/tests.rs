//! Every rule for changes, each broken alone and kept; and the limits, at their edge and past it.

mod convergence;

use std::convert::Infallible;

use super::*;
use crate::catalog::doc::{Doc, change_hash};

const A: BootId = BootId([0xa; 16]);
const B: BootId = BootId([0xb; 16]);
const STRANGER: BootId = BootId([0xc; 16]);

/// What one node has applied: enough for [`Change::check`].
#[derive(Debug, Clone, Default)]
struct Applied {
    changes: BTreeMap<(u8, u32, ChangeHash), AppliedChange>,
    epochs: BTreeMap<(u8, BootId), u32>,
    docs: BTreeMap<(u8, u32), DocState>,
    past: Past,
}

impl AppliedChanges for Applied {
    type Error = Infallible;

    fn applied(&self, shard: u8, epoch: u32, hash: &ChangeHash, past: &Past) -> Result<Option<AppliedChange>, Infallible> {
        Ok(self.changes.get(&(shard, epoch, *hash)).copied().filter(|known| past.includes(&known.boot, known.seq)))
    }

    fn newest_epoch(&self, shard: u8, boot: &BootId) -> Result<Option<u32>, Infallible> {
        Ok(self.epochs.get(&(shard, *boot)).copied())
    }
}

impl Applied {
    fn doc(&self, shard: u8, epoch: u32) -> DocState {
        self.docs.get(&(shard, epoch)).cloned().unwrap_or_default()
    }

    /// Applies the change that stands first in entry `seq` of `boot`.
    fn apply(&mut self, boot: BootId, seq: u64, change: &Change) -> ChangeHash {
        let hash = change_hash(change, id(boot, seq));
        let applied = AppliedChange { boot, seq: Seq(seq), max_op: change.max_op() };
        self.changes.insert((change.shard, change.epoch, hash), applied);
        self.epochs.insert((change.shard, boot), change.epoch);
        self.docs.entry((change.shard, change.epoch)).or_default().note(boot, hash, change);
        self.past.extend(boot, Seq(seq));
        hash
    }

    fn judge(&self, boot: &BootId, change: &Change) -> Result<(), ChangeError> {
        let Ok(verdict) = change.check(&[*boot], &self.past, &self.doc(change.shard, change.epoch), self);
        verdict
    }
}

fn id(boot: BootId, seq: u64) -> ValueId {
    ValueId { boot, seq: Seq(seq), index: 0 }
}

fn item() -> Item {
    Item::reference("lab/raw")
}

fn set(text: &str) -> Write {
    Write { item: item(), replaces: vec![], body: Some(text.as_bytes().to_vec()) }
}

/// `A` wrote twice to epoch 0 of the item's shard, and `B` once after it.
fn applied() -> Applied {
    let mut applied = Applied::default();
    for (boot, seq) in [(A, 1), (A, 2), (B, 1)] {
        let change = next(&applied, boot, vec![set("x")]);
        assert_eq!(applied.judge(&boot, &change), Ok(()));
        applied.apply(boot, seq, &change);
    }
    applied
}

/// The honest next change of `boot` to epoch 0.
fn next(applied: &Applied, boot: BootId, writes: Vec<Write>) -> Change {
    Change::next(item().shard(), 0, &boot, &applied.doc(item().shard(), 0), None, writes)
}

/// The verdict on the honest next change of `A` after `spoil` has had its way with it. Unspoilt it is accepted.
fn spoilt(spoil: impl FnOnce(&mut Change)) -> Result<(), ChangeError> {
    let applied = applied();
    let mut change = next(&applied, A, vec![set("new")]);
    assert_eq!(applied.judge(&A, &change), Ok(()));
    spoil(&mut change);
    applied.judge(&A, &change)
}

#[test]
fn a_change_without_writes_is_refused() {
    assert_eq!(spoilt(|change| change.writes.clear()), Err(ChangeError::Empty));
}

#[test]
fn a_write_in_a_shard_that_is_not_its_items_is_refused() {
    assert_ne!(Item::reference("lab/sorted").shard(), item().shard());
    let stray = Item::reference("lab/sorted");
    assert_eq!(spoilt(|change| change.writes[0].item = stray), Err(ChangeError::WrongShard("lab/sorted".into())));
}

#[test]
fn a_write_replaces_only_what_its_author_can_have_seen() {
    for known in [id(A, 1), id(A, 2), id(B, 1)] {
        assert_eq!(spoilt(|change| change.writes[0].replaces = vec![known]), Ok(()));
    }
    for unseen in [id(A, 3), id(B, 2), id(STRANGER, 1)] {
        let refused = Err(ChangeError::NotInPast(unseen.to_string()));
        assert_eq!(spoilt(|change| change.writes[0].replaces = vec![id(A, 1), unseen]), refused);
    }
}

#[test]
fn a_position_that_is_not_the_authors_next_is_refused() {
    for found in [0, 1, 2, 4, u64::MAX] {
        let refused = Err(ChangeError::WrongActorSeq { found, expected: 3 });
        assert_eq!(spoilt(|change| change.actor_seq = found), refused);
    }
    let applied = applied();
    assert_eq!(next(&applied, STRANGER, vec![set("x")]).actor_seq, 1);
}

#[test]
fn an_operation_number_that_is_not_one_past_the_dependencies_is_refused() {
    for found in [5, 99, u64::MAX] {
        assert_eq!(spoilt(|change| change.start_op = found), Err(ChangeError::WrongStartOp { found, expected: 4 }));
    }
    let applied = applied();
    for found in [0, 3] {
        let low = Change { start_op: found, ..next(&applied, STRANGER, vec![set("x")]) };
        assert_eq!(applied.judge(&STRANGER, &low), Err(ChangeError::WrongStartOp { found, expected: 4 }));
    }
}

#[test]
fn dependencies_out_of_order_or_repeated_are_refused() {
    let all: Vec<ChangeHash> = applied().changes.keys().map(|(_, _, hash)| *hash).collect();
    assert_eq!(spoilt(|change| change.deps = all.clone()), Ok(()), "superfluous dependencies harm nobody");
    let backwards: Vec<ChangeHash> = all.iter().rev().copied().collect();
    assert_eq!(spoilt(|change| change.deps = backwards), Err(ChangeError::UnorderedDeps));
    assert_eq!(spoilt(|change| change.deps = vec![all[0], all[0]]), Err(ChangeError::UnorderedDeps));
}

#[test]
fn a_dependency_that_is_unknown_or_came_later_than_the_author_knew_is_refused() {
    let refused = Err(ChangeError::NotInPast("a change it depends on".into()));
    assert_eq!(spoilt(|change| change.deps = vec![ChangeHash([7; 32])]), refused);
    // Another node has applied B's change already; the author of this entry had not.
    let mut node = applied();
    let change = next(&node, A, vec![set("x")]);
    node.past = Past([(A, Seq(2))].into());
    assert_eq!(node.judge(&A, &change), refused);
}

#[test]
fn an_author_that_leaves_out_its_own_earlier_change_is_refused() {
    // Its operations would have the numbers of that change: one name for two writes.
    let applied = applied();
    let own = next(&applied, A, vec![set("x")]);
    let forgetful = Change { start_op: 1, deps: vec![], ..own };
    assert_eq!(applied.judge(&A, &forgetful), Err(ChangeError::ForgetsItself { found: 1, own: 2 }));
    // For somebody who has written nothing yet, the same dependencies are legal.
    let newcomer = Change { actor_seq: 1, ..forgetful };
    assert_eq!(applied.judge(&STRANGER, &newcomer), Ok(()));
}

#[test]
fn an_epoch_is_opened_only_by_naming_a_change_of_the_one_before_it() {
    let applied = applied();
    let shard = item().shard();
    let head = applied.doc(shard, 0).heads.keys().next().copied();
    let open = |epoch, prior| Change::next(shard, epoch, &A, &DocState::default(), prior, vec![set("x")]);
    assert_eq!(applied.judge(&A, &open(1, head)), Ok(()));
    for (epoch, prior) in [(1, None), (1, Some(ChangeHash([7; 32]))), (2, head), (u32::MAX, head)] {
        assert_eq!(applied.judge(&A, &open(epoch, prior)), Err(ChangeError::UngroundedEpoch(epoch)));
    }
    let mut narrow = applied.clone();
    narrow.past = Past([(A, Seq(2))].into());
    assert_eq!(narrow.judge(&A, &open(1, head)), Err(ChangeError::UngroundedEpoch(1)), "the author had not seen that change");
}

#[test]
fn an_author_never_goes_back_to_an_older_epoch_and_another_may() {
    let mut applied = applied();
    let shard = item().shard();
    let head = applied.doc(shard, 0).heads.keys().next().copied();
    applied.apply(A, 3, &Change::next(shard, 1, &A, &DocState::default(), head, vec![set("x")]));
    let back = next(&applied, A, vec![set("x")]);
    assert_eq!(applied.judge(&A, &back), Err(ChangeError::BackToOldEpoch { found: 0, newest: 1 }));
    let late = next(&applied, B, vec![set("x")]);
    assert_eq!(applied.judge(&B, &late), Ok(()), "B has not written to epoch 1");
    // Within the new epoch a change with dependencies needs no ground of its own.
    let onward = Change::next(shard, 1, &B, &applied.doc(shard, 1), None, vec![set("x")]);
    assert_eq!((onward.prior, applied.judge(&B, &onward)), (None, Ok(())));
}

fn too_many(what: &'static str, limit: usize) -> Result<(), ChangeError> {
    Err(ChangeError::TooMany { what, count: limit + 1, limit })
}

#[test]
fn replaced_writes_are_counted_at_and_past_max_replaces() {
    let with = |count| spoilt(|change| change.writes[0].replaces = vec![id(A, 1); count]);
    assert_eq!(with(MAX_REPLACES), Ok(()));
    assert_eq!(with(MAX_REPLACES + 1), too_many("replaced writes", MAX_REPLACES));
}

#[test]
fn a_body_is_measured_at_and_past_max_body_bytes() {
    let with = |bytes| spoilt(|change| change.writes[0].body = Some(vec![0; bytes]));
    assert_eq!(with(MAX_BODY_BYTES), Ok(()));
    assert_eq!(with(MAX_BODY_BYTES + 1), too_many("bytes of a body", MAX_BODY_BYTES));
}

/// As many authors as `heads` have written to one document without knowing of each other.
fn crowd(heads: usize) -> Applied {
    let mut applied = Applied::default();
    for n in 0..heads {
        let boot = BootId((n as u128 + 1).to_be_bytes());
        let change = next(&Applied::default(), boot, vec![set("x"); 1 + n % 3]);
        applied.apply(boot, 1, &change);
    }
    applied
}

#[test]
fn dependencies_are_counted_at_and_past_max_change_deps() {
    for (heads, verdict) in [(MAX_CHANGE_DEPS, Ok(())), (MAX_CHANGE_DEPS + 1, too_many("dependencies", MAX_CHANGE_DEPS))] {
        let applied = crowd(heads);
        let all: Vec<ChangeHash> = applied.doc(item().shard(), 0).heads.into_keys().collect();
        let change = Change { deps: all, start_op: 4, ..next(&applied, A, vec![set("x")]) };
        assert_eq!(applied.judge(&A, &change), verdict);
    }
}

#[test]
fn an_author_that_meets_more_heads_than_max_change_deps_can_still_write() {
    let mut applied = crowd(3 * MAX_CHANGE_DEPS);
    let heads = |applied: &Applied| applied.doc(item().shard(), 0).heads.len();
    for (seq, left) in [(1, 2 * MAX_CHANGE_DEPS + 1), (2, MAX_CHANGE_DEPS + 2), (3, 3), (4, 1)] {
        let change = next(&applied, A, vec![set("x")]);
        assert_eq!(applied.judge(&A, &change), Ok(()));
        assert!(applied.doc(item().shard(), 0).heads.values().all(|op| *op < change.start_op), "it comes after all it saw");
        applied.apply(A, seq, &change);
        assert_eq!(heads(&applied), left);
    }
}

#[test]
fn a_document_is_full_at_epoch_ops_or_epoch_bytes_and_not_before() {
    let full = |ops, bytes| DocState { ops, bytes, ..DocState::default() }.is_full();
    assert!(!full(EPOCH_OPS - 1, EPOCH_BYTES - 1));
    assert!(full(EPOCH_OPS, 0));
    assert!(full(0, EPOCH_BYTES));
}

#[test]
fn a_document_counts_its_operations_and_the_bytes_of_keys_and_bodies() {
    let mut state = DocState::default();
    let delete = Write { item: item(), replaces: vec![id(A, 1)], body: None };
    let change = Change::next(item().shard(), 0, &A, &state, None, vec![set("four"), delete]);
    state.note(A, ChangeHash([1; 32]), &change);
    assert_eq!((state.ops, state.bytes), (2, 2 * 7 + 4));
    let endless = DocState { ops: u32::MAX, bytes: u32::MAX, ..DocState::default() };
    let mut state = endless.clone();
    state.note(A, ChangeHash([1; 32]), &change);
    assert_eq!((state.ops, state.bytes), (endless.ops, endless.bytes), "a count that cannot grow stays full");
}

#[test]
fn an_honest_author_never_produces_two_operations_of_one_number() {
    let applied = applied();
    let shard = item().shard();
    let mut numbers: Vec<u64> = applied.changes.values().map(|change| change.max_op).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(applied.doc(shard, 0).actors[&A], LastChange { actor_seq: 2, max_op: 2 });
}

#[test]
fn automerge_itself_would_take_two_writes_of_one_place() {
    // Why `ForgetsItself` is ours to refuse: such a document is built, and nothing in it tells which write wins.
    let one = Change::next(item().shard(), 0, &A, &DocState::default(), None, vec![set("one")]);
    let two = Change { actor_seq: 2, ..one.clone() };
    let doc = Doc::build([(&one, id(A, 1)), (&two, id(A, 2))]).unwrap();
    let places: Vec<Order> = doc.writes(0).unwrap().into_iter().map(|(_, order, _)| order).collect();
    assert_eq!((places.len(), places[0]), (2, places[1]));
}

#[test]
fn the_bytes_of_changes_never_change() {
    // Golden values: a change of any of them breaks homes and networks in the field.
    let golden = |bytes: Vec<u8>| data_encoding::HEXLOWER.encode(&bytes);
    let write = Write { item: item(), replaces: vec![id(A, 300)], body: Some(b"new".to_vec()) };
    let delete = Write { body: None, ..write.clone() };
    let writes = vec![write, delete];
    let (deps, prior) = (vec![ChangeHash([1; 32])], Some(ChangeHash([2; 32])));
    let change = Change { shard: 65, epoch: 3, actor_seq: 4, start_op: 5, deps, prior, writes };
    assert_eq!(
        golden(crate::wire::encode(&change)),
        "014103040501010101010101010101010101010101010101010101010101010101010101010101020202020202020202020202020202020202020202020202020202020202020202fb0180076c61622f726177010a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0afb2c010001036e6577fb0180076c61622f726177010a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0afb2c010000"
    );
    let hash = change_hash(&change, id(A, 7));
    assert_eq!(golden(hash.0.to_vec()), "e1f66a585ef64c498215b58f2a70fa78849cf5aeacc2f8a9eeca80195ed5b30b");
    assert_eq!(
        golden(crate::wire::encode(&AppliedChange { boot: A, seq: Seq(7), max_op: 6 })),
        "010a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0706"
    );
    let mut state = DocState::default();
    state.note(A, hash, &change);
    assert_eq!(
        golden(crate::wire::encode(&state)),
        "0101e1f66a585ef64c498215b58f2a70fa78849cf5aeacc2f8a9eeca80195ed5b30b06010a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a04060211"
    );
}

#[test]
fn a_branch_goes_on_where_its_boot_was_when_it_forked() {
    const BRANCH: BootId = BootId([0xd; 16]);
    let mut applied = applied();
    let honest = next(&applied, A, vec![set("on a branch")]);
    applied.past.extend(BRANCH, Seq(3));
    assert_eq!(applied.judge(&A, &honest), Ok(()));
    let judge = |change: &Change, author: &[BootId]| {
        let Ok(verdict) = change.check(author, &applied.past, &applied.doc(change.shard, 0), &applied);
        verdict
    };
    assert_eq!(judge(&honest, &[BRANCH, A]), Ok(()));
    assert!(matches!(judge(&honest, &[BRANCH]), Err(ChangeError::WrongActorSeq { found: 3, expected: 1 })));
}
