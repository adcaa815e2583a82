//! Link facts after they were written: said again where somebody might have ended them, and ended when nothing needs them (`unlinking`).
//!
//! Facts are ended by whoever sees their parent unreached and held by nobody. Three rules see to it that who has a parent all the same
//! has its facts (SAFETY.md S9): a copy of what no ref reaches is announced with its facts said anew, under ids that nobody can have
//! ended who does not know of the copy; so is what a value makes live; and who holds the parent when facts of it end, or
//! has it in the trash, or sees a ref that reaches it, says them again in the same transaction, before anything can rest on their absence.
//! What is said anew replaces what it says, so that a blob which comes and goes does not gather facts.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_protocol::log::op::{LinkFact, Unlink};
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use super::author::Batch;
use super::{Engine, Step, closure};

pub(super) mod unlinking;

impl Engine {
    /// Adds to `batch` the facts of what it announces as held here.
    pub(super) fn with_links(&self, txn: &Transaction<'_>, batch: &mut Batch) -> Result<(), StoreError> {
        let held: Vec<BlobId> = batch.holdings.added.iter().map(|fact| fact.sha1).collect();
        for id in held {
            if txn.has_facts(&id)? && !is_surely_live(txn, &id)? {
                say_anew(txn, &id, batch)?;
            }
        }
        Ok(())
    }

    /// Adds to `batch` the facts of what a value that names `roots` makes live. Of what is held here and has no facts but those of this
    /// boot they need not be said anew: whoever knows of them knows of the copy.
    pub(super) fn with_links_behind(&self, txn: &Transaction<'_>, roots: &[BlobId], batch: &mut Batch) -> Result<(), StoreError> {
        let boot = self.own_chain()?.boot;
        let is_live = |id: &BlobId| is_surely_live(txn, id);
        let mut behind = BTreeSet::new();
        closure::visit_below(txn, roots, is_live, |id| {
            behind.insert(id);
        })?;
        for id in behind {
            let facts = txn.fact_ids(&id)?;
            if !facts.is_empty() && (txn.blob(&id)?.is_none() || facts.iter().any(|fact| fact.boot != boot)) {
                say_anew(txn, &id, batch)?;
            }
        }
        Ok(())
    }

    /// Says facts again that have ended since this was last called, of what is held here, lies in the trash, or is reached by a ref.
    pub(super) fn say_links_again(&mut self, step: &mut Step<'_, '_>) -> Result<(), StoreError> {
        let ended = step.txn.take_ended_facts();
        if ended.is_empty() {
            return Ok(());
        }
        self.unlinking.touched(ended.iter().map(|(parent, _)| parent));
        let mut children: BTreeMap<BlobId, BTreeSet<BlobFact>> = BTreeMap::new();
        for (parent, named) in ended {
            children.entry(parent).or_default().extend(named);
        }
        let mut facts = Vec::new();
        for (parent, mut children) in children {
            for known in step.txn.children(&parent)? {
                children.remove(&known);
            }
            if !children.is_empty() && needs_links(step.txn, &parent)? {
                facts.extend(LinkFact::of(parent, &children.into_iter().collect::<Vec<_>>()));
            }
        }
        if facts.is_empty() || !self.is_member(step.txn)? {
            return Ok(());
        }
        self.publish(step, Batch { facts, ..Batch::default() })
    }
}

/// Whether something here rests on the facts of `parent`.
fn needs_links(txn: &Transaction<'_>, parent: &BlobId) -> Result<bool, StoreError> {
    Ok(txn.blob(parent)?.is_some() || txn.trashed(parent)?.is_some() || txn.is_reached(parent)?)
}

/// Whether a ref reaches `id`. Counts tell, but for those that have not been passed on or may be kept by a cycle alone.
fn is_surely_live(txn: &Transaction<'_>, id: &BlobId) -> Result<bool, StoreError> {
    Ok(txn.is_live(id)? && (txn.is_settled()? && !txn.has_doubtful()? || txn.is_reached(id)?))
}

fn say_anew(txn: &Transaction<'_>, parent: &BlobId, batch: &mut Batch) -> Result<(), StoreError> {
    batch.facts.extend(LinkFact::of(*parent, &txn.children(parent)?));
    batch.unlinks.push(Unlink { parent: *parent, facts: txn.fact_ids(parent)? });
    Ok(())
}

#[cfg(test)]
mod tests;
