//! One node alone: what was purged and is named again comes back, in portions, and nothing of it is forgotten.

use keepwell_store::store::Store;

use super::*;
use crate::engine::collect::tests::{Alone, NOW_MS};
use crate::engine::{Input, RefOp, RefSet, RequestId};

/// A node with `count` small blobs, all of them purged; their names, ascending.
fn purged(count: usize) -> (Alone, Vec<BlobId>) {
    let mut node = Alone::new();
    node.put(count);
    let mut ids: Vec<BlobId> = node.collect(Some(0), count).purged.iter().map(|fact| fact.sha1).collect();
    ids.sort_unstable();
    assert_eq!(ids.len(), count);
    // The walk that begins with the engine has nothing to find.
    assert_eq!(retrieves(node.step(NOW_MS, Input::Tick)), []);
    (node, ids)
}

fn name(node: &mut Alone, links: &[BlobId]) -> Vec<BlobId> {
    // As the value of another node, which holds what it names.
    let set = RefSet { allow_missing: true, ..RefSet::new("lab/again".parse().unwrap(), "{}", links.to_vec()) };
    retrieves(node.step(NOW_MS, Input::WriteRefs { request: RequestId(4), ops: vec![RefOp::Set(set)] }))
}

fn retrieves(effects: Vec<Effect>) -> Vec<BlobId> {
    let wanted = effects.into_iter().filter_map(|effect| match effect {
        Effect::Retrieve(id) => Some(id),
        _ => None,
    });
    wanted.collect()
}

fn bring_back(node: &mut Alone, ids: &[BlobId]) {
    for id in ids {
        let retrieved = store(node).try_retrieve(id).unwrap().unwrap();
        node.step(NOW_MS, Input::Restore { request: RequestId::NOBODY, retrieved });
    }
}

fn store(node: &Alone) -> &Store {
    node.engine.store()
}

#[test]
fn what_is_named_again_comes_back_and_the_rest_stays_in_the_trash() {
    let (mut node, ids) = purged(3);
    assert_eq!(name(&mut node, &ids[..1]), ids[..1]);
    bring_back(&mut node, &ids[..1]);
    let snapshot = store(&node).snapshot().unwrap();
    assert!(snapshot.blob(&ids[0]).unwrap().is_some() && snapshot.trashed(&ids[0]).unwrap().is_none());
    assert!(snapshot.was_purged(&ids[1]).unwrap());
    assert_eq!(retrieves(node.step(NOW_MS + TRASH_WALK_EVERY_MS, Input::Tick)), []);
}

#[test]
fn a_step_brings_back_retrieves_per_step_and_the_walk_finds_the_one_past_it() {
    for past in [0, 1] {
        let (mut node, ids) = purged(RETRIEVES_PER_STEP + past);
        let first = name(&mut node, &ids);
        assert_eq!(first.len(), RETRIEVES_PER_STEP);
        // Nothing could be brought back so far: a walk is as bounded as any step.
        let again = retrieves(node.step(NOW_MS, Input::Tick));
        assert_eq!(again.len(), if past == 0 { 0 } else { RETRIEVES_PER_STEP });
        bring_back(&mut node, &first);
        let rest = retrieves(node.step(NOW_MS, Input::Tick));
        assert_eq!(rest.len(), past);
        bring_back(&mut node, &rest);
        assert_eq!(store(&node).snapshot().unwrap().trash_size().unwrap(), (0, 0));
    }
}

#[test]
fn a_tick_looks_at_trash_looks_per_tick_and_the_next_one_goes_on() {
    for past in [0, 1] {
        let (mut node, ids) = purged(TRASH_LOOKS_PER_TICK + past);
        let last = &ids[ids.len() - 1..];
        assert_eq!(name(&mut node, last), last, "and the machine stops before it is done");
        node.engine.restart().unwrap();
        let ticks = [retrieves(node.step(NOW_MS, Input::Tick)), retrieves(node.step(NOW_MS, Input::Tick))];
        assert!(ticks[past] == last && (past == 0 || ticks[0].is_empty()), "{ticks:?}");
    }
}

#[test]
fn what_could_not_be_brought_back_is_looked_for_again_after_trash_walk_every() {
    let (mut node, ids) = purged(1);
    assert_eq!(name(&mut node, &ids), ids);
    assert_eq!(retrieves(node.step(NOW_MS + TRASH_WALK_EVERY_MS - 1, Input::Tick)), []);
    assert_eq!(retrieves(node.step(NOW_MS + TRASH_WALK_EVERY_MS, Input::Tick)), ids);
    assert_eq!(retrieves(node.step(NOW_MS, Input::Tick)), ids, "the clock was set back");
}
