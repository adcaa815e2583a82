//! Patience with a full disk: what a node writes by itself is tried again after a while that is drawn, and after a longer one each time.
//!
//! A step on a full disk fails whole, and whatever users asked for in it fails too. So ticks leave alone what can wait: the ends of refs,
//! graces and leases, collections, surplus copies. The trash is emptied all the same, which is what makes room. When the disk is seen to have
//! room again, nothing is waited for.

use keepwell_protocol::gc::backoff::full_jitter_ms;
use keepwell_protocol::gc::pressure::Room;
use keepwell_protocol::limits::RETRY_MORE_MS;
use rand_chacha::rand_core::Rng;

use super::{Engine, EngineRng};
use crate::limits::FULL_DISK_RETRY_MOST_MS;

/// What was tried in vain. It outlives the failed step.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// How often in a row.
    tries: u32,
    /// Until when nothing is tried; none until it has been drawn.
    until_ms: Option<u64>,
    /// Whether something is being written that nobody asked for.
    is_trying: bool,
    /// Whether the disk had no room for blobs when it was measured last.
    was_full: bool,
}

impl Patience {
    /// A step is durable. `goes_on`: what it began is not written yet.
    pub(super) fn step_succeeded(&mut self, goes_on: bool) {
        if self.is_trying && !goes_on {
            (self.is_trying, self.tries, self.until_ms) = (false, 0, None);
        }
    }

    /// The last step has failed.
    pub(super) fn step_failed(&mut self) {
        if std::mem::take(&mut self.is_trying) {
            (self.tries, self.until_ms) = (self.tries.saturating_add(1), None);
        }
    }

    /// Hears how full the disk is.
    pub(super) fn measured(&mut self, disk: Room) {
        let is_full = disk.free_bytes() == 0;
        if std::mem::replace(&mut self.was_full, is_full) && !is_full {
            (self.tries, self.until_ms) = (0, None);
        }
    }

    /// Whether something may be written now that nobody asked for.
    fn allows(&mut self, now_ms: u64, rng: &mut EngineRng) -> bool {
        if self.tries > 0 {
            let mut draw = || RETRY_MORE_MS + full_jitter_ms(RETRY_MORE_MS, FULL_DISK_RETRY_MOST_MS, self.tries, rng.next_u64());
            let until_ms = *self.until_ms.get_or_insert_with(|| now_ms.saturating_add(draw()));
            // Also when the clock was set back.
            if now_ms < until_ms && until_ms - now_ms <= RETRY_MORE_MS + FULL_DISK_RETRY_MOST_MS {
                return false;
            }
        }
        self.is_trying = true;
        true
    }
}

impl Engine {
    /// Whether this step may write something that nobody asked for. Whoever asks is about to.
    pub(super) fn may_write_unasked(&mut self, now_ms: u64, rng: &mut EngineRng) -> bool {
        self.patience.allows(now_ms, rng)
    }

    /// Until when nothing is written that nobody asked for.
    pub(super) fn patient_until_ms(&self) -> Option<u64> {
        self.patience.until_ms.filter(|_| self.patience.tries > 0)
    }
}

#[cfg(test)]
mod tests {
    use keepwell_protocol::gc::schedule::Keys;

    use super::*;
    use crate::engine::collect::tests::{Alone, NOW_MS};
    use crate::engine::{Effect, Input, RefOp, RefSet, RequestId, Settings};
    use crate::limits::{PUT_GRACE_MS, TICK_MS};

    const OVER_MS: u64 = NOW_MS + PUT_GRACE_MS;
    const FULL: Room = Room { total_bytes: 1, used_bytes: 1 };

    /// A node with garbage, on a disk that has become full.
    fn full() -> Alone {
        let Alone { engine, rng, disk } = Alone::new();
        let settings = Settings { schedule: Some(Keys::DEFAULT), ..Settings::default() };
        let mut node = Alone { engine: engine.with(settings), rng, disk };
        node.put(3);
        node.step(NOW_MS, Input::Room(FULL));
        fill(&mut node);
        node
    }

    /// Has the disk become full, and what room the index has in its file used up.
    fn fill(node: &mut Alone) {
        node.disk.set_capacity(Some(0));
        let set = |n: u32| RefOp::Set(RefSet::new("lab/fill".parse().unwrap(), format!("\"{n}{}\"", "x".repeat(2_000)), vec![]));
        let write = |n| vec![Input::WriteRefs { request: RequestId(1), ops: vec![set(n)] }];
        assert!((0..10_000).any(|n| node.engine.step(NOW_MS, &mut node.rng, write(n)).is_err()));
        node.engine.restart().unwrap();
    }

    /// A tick of a driver on a disk that may be full: what was purged in it; none if the step has failed.
    fn tick(node: &mut Alone, now_ms: u64, room: Room) -> Option<usize> {
        match node.engine.step(now_ms, &mut node.rng, vec![Input::Tick, Input::Room(room)]) {
            Ok(effects) => Some(
                effects
                    .iter()
                    .map(|effect| match effect {
                        Effect::Collected(collected) => collected.purged.len(),
                        _ => 0,
                    })
                    .sum(),
            ),
            Err(_) => {
                node.engine.restart().unwrap();
                None
            }
        }
    }

    #[test]
    fn on_a_full_disk_ever_fewer_ticks_fail_up_to_full_disk_retry_most() {
        let mut node = full();
        let failed: Vec<u64> = (0..3_600).filter(|n| tick(&mut node, OVER_MS + n * TICK_MS, FULL).is_none()).collect();
        let pauses: Vec<u64> = failed.windows(2).map(|pair| (pair[1] - pair[0]) * TICK_MS).collect();
        assert_eq!(failed[0], 0);
        assert!(failed.len() > 40 && failed.len() < 300, "{} of an hour's ticks failed", failed.len());
        let longest = *pauses.iter().max().unwrap();
        assert!(
            longest > FULL_DISK_RETRY_MOST_MS / 2 && longest <= FULL_DISK_RETRY_MOST_MS + RETRY_MORE_MS + TICK_MS,
            "{longest}"
        );
        assert!(node.engine.wakes_ms().is_none_or(|wakes_ms| wakes_ms > OVER_MS + 3_599 * TICK_MS), "it is not woken in between");
    }

    #[test]
    fn refs_that_are_to_end_on_a_full_disk_are_as_patient() {
        let mut node = Alone::new();
        let set = RefSet { expires_ms: Some(NOW_MS + 1), ..RefSet::new("lab/a".parse().unwrap(), "{}", vec![]) };
        node.step(NOW_MS, Input::WriteRefs { request: RequestId(1), ops: vec![RefOp::Set(set)] });
        fill(&mut node);
        // By a clock that is told how long the machine has run: else no ref ends by it.
        let fails = |node: &mut Alone, n: u64, room: Room| {
            let inputs = vec![Input::Elapsed { boot_ms: n * TICK_MS }, Input::Tick, Input::Room(room)];
            let failed = node.engine.step(OVER_MS + n * TICK_MS, &mut node.rng, inputs).is_err();
            if failed {
                node.engine.restart().unwrap();
            }
            failed
        };
        let failed = (1..3_600).filter(|n| fails(&mut node, *n, FULL)).count();
        assert!((1..300).contains(&failed), "{failed} of an hour's ticks failed");
        node.disk.set_capacity(None);
        let free = Room { total_bytes: 2, used_bytes: 1 };
        (3_600..3_603).for_each(|n| assert!(!fails(&mut node, n, free)));
        assert_eq!(node.engine.store().snapshot().unwrap().next_expiry_ms().unwrap(), None, "it has ended");
    }

    #[test]
    fn it_goes_on_at_once_when_the_disk_is_seen_to_have_room() {
        let mut node = full();
        for n in 0..600 {
            tick(&mut node, OVER_MS + n * TICK_MS, FULL);
        }
        node.disk.set_capacity(None);
        let free = Room { total_bytes: 2, used_bytes: 1 };
        let purged: Vec<Option<usize>> = (600..603).map(|n| tick(&mut node, OVER_MS + n * TICK_MS, free)).collect();
        assert!(purged.contains(&Some(3)), "{purged:?}");
    }

    #[test]
    fn a_disk_that_does_not_say_that_it_is_full_is_tried_again_all_the_same() {
        let mut node = full();
        let room = Room { total_bytes: 2, used_bytes: 1 };
        for n in 0..600 {
            tick(&mut node, OVER_MS + n * TICK_MS, room);
        }
        node.disk.set_capacity(None);
        let tries = 2 + (FULL_DISK_RETRY_MOST_MS + RETRY_MORE_MS) / TICK_MS;
        assert!((600..600 + tries).any(|n| tick(&mut node, OVER_MS + n * TICK_MS, room) == Some(3)));
    }
}
