//! A node that meets entries of its own which its disk does not have: it was restored from an old copy, and others know better.
//!
//! It goes on under a new boot, and takes the lost entries in like any others. If it had written since, its old boot has forked, and
//! every node follows both branches: nothing that was acknowledged is lost, and values that both gave a ref are kept as conflicts. What
//! the lost entries say of its own disk may no longer be true: the disk is asked, and what differs is said anew.

use keepwell_protocol::id::BlobId;
use keepwell_protocol::log::entry::Entry;
use keepwell_protocol::log::op::{Holdings, Op};
use keepwell_store::error::StoreError;

use crate::engine::author::Batch;
use crate::engine::effect::Event;
use crate::engine::{Engine, Step};

impl Engine {
    /// Somebody has an entry of our present boot that we do not have, which only we can have signed: our disk was rolled back. (What a peer
    /// merely says that it has proves nothing; it is pulled.)
    pub(super) fn begin_boot_after_rollback(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        let old = self.own_chain()?.boot;
        self.begin_boot(step)?;
        step.tell(Event::RolledBack { old })?;
        Ok(())
    }

    /// An entry of an earlier boot of ours came back: what it says of our copies is compared with the disk, which decides.
    pub(super) fn correct_copies(&self, step: &mut Step<'_, '_>, entry: &Entry) -> Result<(), StoreError> {
        if !self.is_member(step.txn)? {
            return Ok(());
        }
        let mut corrected = Holdings::default();
        for op in &entry.ops {
            let Op::Holdings(holdings) = op else { continue };
            let added = holdings.added.iter().map(|fact| &fact.sha1);
            for id in added.chain(&holdings.removed) {
                self.correct_copy(step, id, &mut corrected)?;
            }
        }
        match corrected == Holdings::default() {
            true => Ok(()),
            false => self.publish(step, Batch { holdings: corrected, ..Batch::default() }),
        }
    }

    fn correct_copy(&self, step: &Step<'_, '_>, id: &BlobId, corrected: &mut Holdings) -> Result<(), StoreError> {
        let is_announced = step.txn.is_held_by(id, &self.home.node)?;
        match step.txn.blob(id)? {
            Some(record) if !is_announced => corrected.added.push(record.fact(*id)),
            None if is_announced => corrected.removed.push(*id),
            _ => {}
        }
        Ok(())
    }
}
