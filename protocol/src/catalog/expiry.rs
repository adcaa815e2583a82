//! When the values of refs end, and who says so.
//!
//! A value whose deadline has passed goes on as before until a member writes its *mark*: a delete that names this one value. So all nodes
//! agree on what has ended, whatever their clocks show, and a value that was written meanwhile, by a touch or anew, outlives the mark.
//! Marks of one value by several members are harmless; turns keep them rare.

use std::cmp::Reverse;

use crate::id::{NodeId, ValueId};
use crate::limits::{MARK_TURN_MS, MAX_TOUCH_STEP_MS, TOUCHES_PER_TTL};

/// What turns are derived under.
const TURN_CONTEXT: &str = "keepwell 2026-11-23 expiry turn v1";

/// How long after the deadline of `value` it is for `node` to write its mark, in milliseconds, if nobody has: its author does so at once, and
/// the other `members` one after the other, in an order of their own for each value.
pub fn mark_after_ms<'a>(node: &NodeId, author: &NodeId, members: impl IntoIterator<Item = &'a NodeId>, value: &ValueId) -> u64 {
    if node == author {
        return 0;
    }
    let place = |node: &NodeId| (turn(node, value), Reverse(*node));
    let own = place(node);
    let before = members.into_iter().filter(|other| *other != node && *other != author && place(other) > own).count();
    MARK_TURN_MS.saturating_mul(before as u64 + 1)
}

fn turn(node: &NodeId, value: &ValueId) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(TURN_CONTEXT);
    hasher.update(node.as_bytes());
    hasher.update(value.boot.as_bytes());
    hasher.update(&value.seq.0.to_be_bytes());
    hasher.update(&value.index.to_be_bytes());
    let mut score = [0; 8];
    hasher.finalize_xof().fill(&mut score);
    u64::from_be_bytes(score)
}

/// The deadline of a value that is used at `now_ms`, if the use is worth a write: touches are coarse, and none brings an end nearer.
pub fn touched(now_ms: u64, expires_ms: Option<u64>, ttl_access_ms: Option<u64>) -> Option<u64> {
    let ttl_ms = ttl_access_ms?;
    let step_ms = (ttl_ms / TOUCHES_PER_TTL).min(MAX_TOUCH_STEP_MS);
    let until_ms = now_ms.saturating_add(ttl_ms);
    let is_worth_it = expires_ms.is_none_or(|expires_ms| until_ms > expires_ms && until_ms - expires_ms >= step_ms);
    is_worth_it.then_some(until_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{BootId, Seq};

    const HOUR_MS: u64 = 60 * 60 * 1_000;

    fn nodes(count: u8) -> Vec<NodeId> {
        (1..=count).map(|n| NodeId([n; 32])).collect()
    }

    fn value(seq: u64) -> ValueId {
        ValueId { boot: BootId([7; 16]), seq: Seq(seq), index: 0 }
    }

    #[test]
    fn the_author_writes_the_mark_and_everybody_else_has_a_turn_of_their_own_after_it() {
        let nodes = nodes(6);
        let mut first = [0; 6];
        for seq in 0..300 {
            let mut turns: Vec<u64> = nodes.iter().map(|node| mark_after_ms(node, &nodes[2], &nodes, &value(seq))).collect();
            first[turns.iter().position(|after_ms| *after_ms == MARK_TURN_MS).unwrap()] += 1;
            assert_eq!(turns[2], 0);
            turns.sort_unstable();
            assert_eq!(turns, (0..6).map(|turn| turn * MARK_TURN_MS).collect::<Vec<_>>());
        }
        assert_eq!(first[2], 0);
        assert!(first.iter().enumerate().all(|(at, count)| at == 2 || (30..100).contains(count)), "{first:?}");
    }

    #[test]
    fn who_is_no_member_any_more_has_no_turn() {
        let nodes = nodes(2);
        assert_eq!(mark_after_ms(&nodes[0], &NodeId([9; 32]), &nodes[..1], &value(1)), MARK_TURN_MS);
        assert_eq!(mark_after_ms(&nodes[0], &NodeId([9; 32]), [], &value(1)), MARK_TURN_MS);
    }

    #[test]
    fn a_touch_counts_from_a_part_of_the_ttl_on_that_touches_per_ttl_says() {
        let ttl_ms = TOUCHES_PER_TTL * 100;
        let at = |now_ms| touched(now_ms, Some(1_000 + ttl_ms), Some(ttl_ms));
        assert_eq!(at(1_099), None);
        assert_eq!(at(1_100), Some(1_100 + ttl_ms));
        assert_eq!(at(900), None, "it never brings the end nearer");
    }

    #[test]
    fn a_touch_counts_from_max_touch_step_on_however_long_the_ttl() {
        let ttl_ms = 1_000 * HOUR_MS;
        let at = |now_ms| touched(now_ms, Some(ttl_ms), Some(ttl_ms));
        assert_eq!(at(MAX_TOUCH_STEP_MS - 1), None);
        assert_eq!(at(MAX_TOUCH_STEP_MS), Some(MAX_TOUCH_STEP_MS + ttl_ms));
    }

    #[test]
    fn a_touch_of_what_has_no_ttl_is_none_and_one_of_a_tiny_ttl_still_counts() {
        assert_eq!((touched(5, None, None), touched(5, Some(9), None)), (None, None));
        assert_eq!((touched(5, Some(9), Some(5)), touched(5, Some(10), Some(5))), (Some(10), None));
        assert_eq!(touched(5, None, Some(5)), Some(10));
        assert_eq!(touched(u64::MAX, Some(9), Some(5)), Some(u64::MAX));
    }
}
