//! What a full disk makes a node do by itself: collect at once, empty the trash sooner, give up surplus copies. In this order, and no
//! more of each than is needed until the low mark is reached.
//!
//! The verdicts are those of `keepwell_protocol::gc::pressure`. Nothing goes that could not go without pressure: garbage by the rules of
//! garbage, copies by proof, and what was put lately keeps its grace. What is deleted goes through the trash, whose bytes count as freed
//! when the next thing to do is chosen: they will be.

use keepwell_protocol::gc::pressure::{Level, Pressure, Room};
use keepwell_store::counts::Count;
use keepwell_store::error::StoreError;
use keepwell_store::tables::{Access, Tables};

use super::effect::Effect;
use super::{Engine, Settings, Step};

/// What is kept of it between steps. In memory: after a start the disk is measured again. A step that fails forgets nothing of it: a disk
/// that was found full is to be relieved down to the low mark, and it is on full disks that steps fail.
#[derive(Debug, Default)]
pub(super) struct Pressing {
    report: PressureReport,
}

/// How full the disk was found, and why no more goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PressureReport {
    /// How full.
    pub pressure: Pressure,
    /// What is waited for; nothing without pressure.
    pub waits: Vec<Wait>,
}

/// Why no more space is freed right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The node does nothing by itself.
    NotSetTo,
    /// There is garbage, and something stands in the way of its collection, or it is about to begin.
    Garbage,
    /// What was deleted lately can be brought back for a while.
    YoungTrash {
        /// Its bytes.
        bytes: u64,
    },
    /// The disk is so full that nothing can be written: it is tried again after a while.
    FullDisk,
    /// Other members are being asked whether they keep what could go here.
    Asking,
    /// Damage was found in the index: nothing is deleted by what it says.
    IndexDamaged,
    /// Not everybody has been heard yet: until then no copy is given up.
    NotHeard,
    /// Others would not vouch for their copies of what could go here: they are asked again after a while.
    Refused {
        /// How many.
        blobs: usize,
    },
    /// All else that is here is needed here, or nobody in reach holds it too.
    Needed,
}

/// The rooms that have an end: the disk, and what the home may hold. What was deleted is held until it is gone for good.
pub fn rooms<A: Access>(tables: &Tables<A>, settings: &Settings, disk: Room) -> Result<Vec<Room>, StoreError> {
    let used_bytes = tables.count(Count::BlobBytes)?.saturating_add(tables.count(Count::TrashBytes)?);
    let home = settings.max_size_bytes.map(|total_bytes| Room { total_bytes, used_bytes });
    Ok(std::iter::once(disk).chain(home).collect())
}

impl Engine {
    /// How full the disk was found the last time, and why no more goes.
    pub fn pressure(&self) -> &PressureReport {
        &self.pressing.report
    }

    /// Hears how full the disk is, and does one step of what follows.
    pub(super) fn measured(&mut self, step: &mut Step<'_, '_>, disk: Room) -> Result<(), StoreError> {
        self.patience.measured(disk);
        let before = self.pressing.report.pressure;
        let pressure = before.see(&self.settings.marks, &rooms(&**step.txn, &self.settings, disk)?);
        let mut waits = Vec::new();
        if pressure.level > before.level {
            self.trigger_collection(step.now_ms);
        }
        // What nobody counts on any more is for its operator to free.
        if pressure.level != Level::None && self.is_counted_on(step.txn)? {
            match self.settings.schedule {
                Some(_) => self.relieve(step, &pressure, &mut waits)?,
                None => waits.push(Wait::NotSetTo),
            }
        } else {
            if before.level != Level::None {
                self.leave_surplus();
            }
            waits.extend((pressure.level != Level::None && self.is_index_damaged()).then_some(Wait::IndexDamaged));
        }
        self.pressing.report = PressureReport { pressure, waits };
        Ok(())
    }

    fn relieve(&mut self, step: &mut Step<'_, '_>, pressure: &Pressure, waits: &mut Vec<Wait>) -> Result<(), StoreError> {
        if let Some(oldest_ms) = step.txn.oldest_trash_ms()? {
            // By a clock that is contradicted nothing is old; in an emergency that does not count.
            let now_ms = if pressure.level == Level::Emergency { step.now_ms } else { step.ends_ms };
            match pressure.sooner(now_ms, oldest_ms) {
                Some(sooner) => {
                    let (until_ms, enough_bytes) = (sooner.until_ms, sooner.enough_bytes);
                    step.effects.push(Effect::EmptyTrash { until_ms, enough_bytes });
                }
                None => waits.push(Wait::YoungTrash { bytes: step.txn.count(Count::TrashBytes)? }),
            }
        }
        let is_garbage = !step.txn.unneeded_before(u64::MAX, 1)?.is_empty();
        waits.extend(is_garbage.then_some(Wait::Garbage));
        let left_bytes = pressure.to_free_bytes.saturating_sub(step.txn.count(Count::TrashBytes)?);
        // Copies go only when there is no garbage left that could.
        if left_bytes > 0 && (!is_garbage || self.is_collection_blocked()) {
            waits.extend(self.give_up_surplus(step, left_bytes)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
