//! A node that meets entries of its own which its disk does not have: it was restored from an old copy, and others know better.
//!
//! It goes on under a new boot, and takes the lost entries in like any others. If it had written since, its old boot has forked, and
//! every node follows both branches: nothing that was acknowledged is lost, and values that both gave a ref are kept as conflicts. What
//! the lost entries say of its own disk may no longer be true: the disk is asked, and what differs is said anew.

use std::collections::BTreeSet;

use keepwell_protocol::id::{BlobId, Seq};
use keepwell_protocol::log::admit::Placement;
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

    /// Whether an entry in our name builds on what this very process has written: then another one runs on a copy of this home right now.
    /// What it says of its disk is not for us to correct: it would say it anew, and so would we, for ever.
    pub(super) fn is_by_twin(&mut self, step: &mut Step<'_, '_>, placement: &Placement) -> Result<bool, StoreError> {
        let own = self.own_chain()?;
        let head = step.txn.chain(&own)?.map_or(0, |state| state.head.seq.0);
        let (boot, seq) = *self.replication.began_at.get_or_insert((own.boot, head));
        // A boot that began since is all of this process.
        let written_since = if boot == own.boot { seq + 1 } else { 1 };
        let past = step.txn.chain(&placement.chain)?.map(|state| state.past);
        let is_by_twin = past.is_some_and(|past| past.includes(&own.boot, Seq(written_since)));
        if is_by_twin && !self.replication.has_told_of_twin {
            self.replication.has_told_of_twin = true;
            step.tell(Event::Twin)?;
        }
        Ok(is_by_twin)
    }

    /// Once after a start: where two processes have written in our name side by side, what they said of their disks is compared with this one.
    /// The other process may have ended since, and who goes on must be taken at its word.
    pub(super) fn correct_copies_after_twins(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.replication.has_compared, true) || !self.is_member(step.txn)? || !self.had_twin(step)? {
            return Ok(());
        }
        let (node, mut corrected) = (self.home.node, Holdings::default());
        step.txn.visit_blobs::<StoreError>(&BlobId([0; BlobId::LEN]), |id, record| {
            if !step.txn.is_held_by(&id, &node)? {
                corrected.added.push(record.fact(id));
            }
            Ok(true)
        })?;
        let mut gone = BTreeSet::new();
        step.txn.visit_held_by::<StoreError>(&node, |id| {
            if step.txn.blob(&id)?.is_none() {
                gone.insert(id);
            }
            Ok(())
        })?;
        corrected.removed.extend(gone);
        match corrected == Holdings::default() {
            true => Ok(()),
            false => self.publish(step, Batch { holdings: corrected, ..Batch::default() }),
        }
    }

    /// Whether somebody else has written in our name who knew of what we write now.
    fn had_twin(&self, step: &Step<'_, '_>) -> Result<bool, StoreError> {
        let own = self.own_chain()?;
        let others = step.txn.vector()?.0.into_keys().filter(|chain| chain.node == own.node && *chain != own);
        for chain in others {
            if step.txn.chain(&chain)?.is_some_and(|state| state.past.includes(&own.boot, Seq::FIRST)) {
                return Ok(true);
            }
        }
        Ok(false)
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
