//! When a copy that had to stay is asked about again, and what goes first.

use std::sync::Arc;

use keepwell_protocol::gc::Missing;

use super::*;
use crate::engine::collect::tests::{Alone, NOW_MS};

fn blob(number: usize) -> BlobId {
    let mut id = [0; BlobId::LEN];
    id[..8].copy_from_slice(&number.to_be_bytes());
    BlobId(id)
}

/// Tells the node that a round ended in which all of these had to stay.
fn refuse(node: &mut Alone, now_ms: u64, blobs: impl Iterator<Item = usize>) {
    let outcomes: Vec<DropOutcome> = blobs.map(|number| DropOutcome::refused(blob(number), vec![Missing::Attempt])).collect();
    let (store, Alone { engine, rng, .. }) = (Arc::clone(node.engine.store()), node);
    let told = store.write(|txn| {
        engine.surplus_round_ended(
            &mut Step { txn, now_ms, steady_ms: now_ms, ends_ms: now_ms, rng, effects: Vec::new() },
            &outcomes,
        );
        Ok::<_, StoreError>(())
    });
    told.unwrap();
}

#[test]
fn what_had_to_stay_is_let_alone_for_longer_each_time_and_never_for_longer_than_surplus_retry_most() {
    let mut node = Alone::new();
    let (mut now_ms, mut waits) = (NOW_MS, Vec::new());
    for _ in 0..200 {
        refuse(&mut node, now_ms, 0..1);
        let due_ms = node.engine.dropping.surplus.refused[&blob(0)].due_ms;
        assert!(node.engine.dropping.surplus.all.due_ms > now_ms, "and so is all of it, when nothing went");
        waits.push(due_ms - now_ms);
        now_ms = due_ms;
    }
    assert!(waits[0] >= SURPLUS_RETRY_MORE_MS && waits[0] <= 2 * SURPLUS_RETRY_MORE_MS);
    let longest = *waits.iter().max().unwrap();
    assert!(longest > SURPLUS_RETRY_MOST_MS / 2 && longest <= SURPLUS_RETRY_MORE_MS + SURPLUS_RETRY_MOST_MS, "{longest}");
}

#[test]
fn at_most_max_refused_drops_are_remembered_and_only_while_it_matters() {
    let mut node = Alone::new();
    refuse(&mut node, NOW_MS, 0..MAX_REFUSED_DROPS);
    refuse(&mut node, NOW_MS, MAX_REFUSED_DROPS - 1..MAX_REFUSED_DROPS + 1);
    let refused = &node.engine.dropping.surplus.refused;
    assert_eq!((refused.len(), refused[&blob(MAX_REFUSED_DROPS - 1)].tries), (MAX_REFUSED_DROPS, 2));
    refuse(&mut node, NOW_MS + 3 * SURPLUS_RETRY_MOST_MS, 0..1);
    assert_eq!(node.engine.dropping.surplus.refused.len(), 1);
}

#[test]
fn what_others_keep_rather_goes_first_and_then_what_is_largest_until_it_is_enough() {
    let found = [(1, 0, 900), (2, 1, 10), (3, 2, 5), (4, 1, 20)];
    let candidates = || found.map(|(number, rank, size_bytes)| Candidate { id: blob(number), rank, size_bytes });
    let batch = |left_bytes| Surplus { found: candidates().into(), ..Surplus::default() }.batch(left_bytes);
    assert_eq!(batch(1), [blob(3)]);
    assert_eq!(batch(6), [blob(3), blob(4)]);
    assert_eq!(batch(u64::MAX), [blob(3), blob(4), blob(2), blob(1)]);
}
