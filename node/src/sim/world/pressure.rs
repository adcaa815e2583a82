//! Disks that are full for a while: what nodes then free by themselves is judged like all that they delete.

use keepwell_protocol::gc::pressure::Room;

use super::{EPOCH_MS, Violation, World};
use crate::engine::Input;

/// For how long a disk is full, and then not, in milliseconds. Each node's times are its own.
const FULL_MS: u64 = 15_000;
/// How long all disks are full in the end, in milliseconds: what was refused before is asked for again within it.
const ALL_FULL_MS: u64 = 300_000;
/// More than can ever go.
const FULL: Room = Room { total_bytes: 1 << 40, used_bytes: 1 << 40 };
const EMPTY: Room = Room { total_bytes: 1 << 40, used_bytes: 0 };

impl World {
    /// A node looks how full its disk is.
    pub(super) fn measure(&mut self, node: usize) -> Result<(), Violation> {
        if !self.plan.full_disks {
            return Ok(());
        }
        let passed_ms = self.now_ms - EPOCH_MS;
        let is_its_time = (passed_ms / FULL_MS + node as u64).is_multiple_of(2);
        let is_the_end = passed_ms > self.plan.active_ms + self.plan.quiet_ms;
        let is_active = passed_ms < self.plan.active_ms;
        let room = if is_the_end || is_active && is_its_time { FULL } else { EMPTY };
        self.give(node, Input::Room(room))
    }

    /// All disks are full at once, until nothing goes any more.
    pub(super) fn fill_all_disks(&mut self) -> Result<(), Violation> {
        self.revive_all()?;
        let before = self.oracle.dropped;
        self.go_on_until(self.now_ms + ALL_FULL_MS)?;
        self.summary.copies_dropped_unasked = self.oracle.dropped - before;
        Ok(())
    }
}
