//! Rebuilding the derived tables from the log, and telling whether that changes anything.

use std::fmt::Display;
use std::sync::Arc;

use keepwell_protocol::log::admit::{Admission, admit};
use keepwell_protocol::log::entry::Entry;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use super::Engine;
use super::apply::{self, Strangers};
use super::removal::next_in_force;

/// The derived tables that a rebuild changes, by name; none when they were right. Of what is counted only too few reasons are wrong.
pub type Differences = Vec<&'static str>;

/// Ends the transaction of a trial: what it did is not to be kept.
enum Trial {
    Done(Differences),
    Failed(StoreError),
}

impl From<StoreError> for Trial {
    fn from(error: StoreError) -> Self {
        Trial::Failed(error)
    }
}

impl Engine {
    /// Tells which derived tables a rebuild would change, and changes nothing.
    pub fn compare_rebuild(&self) -> Result<Differences, StoreError> {
        let trial =
            |txn: &mut Transaction<'_>| self.try_replay(txn).and_then(|differences| Err::<(), _>(Trial::Done(differences)));
        match Arc::clone(&self.store).write(trial) {
            Err(Trial::Done(differences)) => Ok(differences),
            Err(Trial::Failed(error)) => Err(error),
            Ok(()) => Ok(Vec::new()),
        }
    }

    /// Rebuilds the derived tables; those that were wrong.
    pub fn rebuild(&self) -> Result<Differences, StoreError> {
        let outcome = Arc::clone(&self.store).write(|txn| self.try_replay(txn));
        outcome.map_err(|trial| match trial {
            Trial::Failed(error) => error,
            Trial::Done(_) => StoreError::Inconsistent("a rebuild ended as a trial".into()),
        })
    }

    /// Replays the log as a part of a larger transaction: once, and once more for each removal that comes to be in force.
    pub(super) fn replay(&self, txn: &mut Transaction<'_>) -> Result<(), StoreError> {
        txn.rederive(|txn| self.replay_entries(txn))?;
        let mut in_force = Vec::new();
        while let Some(next) = next_in_force(txn)? {
            in_force.push(next);
            txn.rederive(|txn| {
                for known in &in_force {
                    txn.put_removal(&known.node, &known.removal, true)?;
                }
                self.replay_entries(txn)
            })?;
        }
        Ok(())
    }

    fn replay_entries(&self, txn: &mut Transaction<'_>) -> Result<(), StoreError> {
        let mut from = 0;
        while let Some((arrival, bytes)) = txn.entry_from(from)? {
            let broken = |what: &dyn Display| StoreError::Inconsistent(format!("entry {arrival} in a replay: {what}"));
            let entry = Entry::reopen(&bytes).map_err(|error| broken(&error))?;
            let placement = match admit(&entry, &**txn)? {
                Admission::Apply(placement) => placement,
                verdict => return Err(broken(&format!("{verdict:?}"))),
            };
            // What was judged under other names of branches is judged again: nobody's entry can stop a replay.
            apply::apply(txn, &self.home, &entry, &placement, arrival, Strangers::Kept)?;
            from = arrival + 1;
        }
        Ok(())
    }

    fn try_replay(&self, txn: &mut Transaction<'_>) -> Result<Differences, Trial> {
        let before = txn.derived_digests().map_err(StoreError::from)?;
        let is_counted = txn.settles_rightly()?;
        self.replay(txn)?;
        let after = txn.derived_digests().map_err(StoreError::from)?;
        let differing = before.into_iter().zip(after).filter(|(a, b)| a != b).map(|((name, _), _)| name);
        Ok(differing.chain((!is_counted).then_some("reached")).collect())
    }
}
