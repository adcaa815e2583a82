//! Blobs that come and go: records, holdings and link facts in one entry.

use std::collections::BTreeSet;

use keepwell_protocol::gc::permit::Permit;
use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_protocol::log::op::{Holdings, LinkFact};
use keepwell_store::audit::Note;
use keepwell_store::blobs::{BlobRecord, Recorded};
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use super::author::Batch;
use super::effect::{Effect, PutOutcome, Reply};
use super::input::{PutBlob, RequestId, Stored};
use super::leases::{self, LeaseUse};
use super::refs::MISSING_NAMED;
use super::{Engine, Step, closure};

impl Engine {
    /// Records the blobs of one put, under a lease if they have one, and says what they refer to.
    pub(super) fn put(
        &mut self,
        step: &mut Step<'_, '_>,
        request: RequestId,
        blobs: Vec<PutBlob>,
        lease: Option<&LeaseUse>,
    ) -> Result<(), StoreError> {
        if !self.is_member(step.txn)? {
            step.effects.push(Effect::Reply(request, Reply::NotAMember));
            return Ok(());
        }
        if let Some(used) = lease
            && let Err(refused) = leases::usable(step.txn, used, step.ends_ms)?
        {
            step.effects.push(Effect::Reply(request, Reply::LeaseRefused(refused)));
            return Ok(());
        }
        let grace_until_ms = step.now_ms.saturating_add(self.settings.grace_ms);
        let mut batch = Batch::default();
        let mut outcomes = Vec::with_capacity(blobs.len());
        for blob in blobs {
            outcomes.push(put_one(step.txn, grace_until_ms, step.now_ms, blob, &mut batch)?);
        }
        for outcome in &outcomes {
            if let PutOutcome::Held { fact, .. } = outcome {
                self.end_attempt_on(&fact.sha1);
            }
        }
        if let Some(used) = lease {
            leases::cover(step, used, &outcomes)?;
        }
        self.publish(step, batch)?;
        step.effects.push(Effect::Reply(request, Reply::Put(outcomes)));
        Ok(())
    }

    /// Deletes a blob: record and holding now, bytes once that is durable.
    pub(super) fn delete(&self, step: &mut Step<'_, '_>, request: RequestId, permit: Permit) -> Result<(), StoreError> {
        let id = permit.blob();
        let gone = step.txn.delete(permit, step.now_ms)?.map(|record| record.fact(id));
        if let Some(blob) = gone {
            step.txn.note(step.now_ms, Note::Deleted { blob })?;
            self.no_longer_holds(step, id)?;
            step.effects.push(Effect::Unlink(id));
        }
        step.effects.push(Effect::Reply(request, Reply::Gone(gone)));
        Ok(())
    }

    /// Takes back a record whose bytes turned out not to be there: the node no longer says that it holds them. If the record has changed since
    /// it was looked at, as when somebody has put the blob, nothing is taken back.
    pub(super) fn forget(
        &self,
        step: &mut Step<'_, '_>,
        request: RequestId,
        (id, looked_at): (BlobId, &BlobRecord),
        why: String,
    ) -> Result<(), StoreError> {
        let is_same = |found: &BlobRecord| BlobRecord { grace_until_ms: looked_at.grace_until_ms, ..*found } == *looked_at;
        let gone = match step.txn.blob(&id)?.filter(is_same) {
            Some(_) => step.txn.remove_record(&id)?.map(|record| record.fact(id)),
            None => None,
        };
        if let Some(blob) = gone {
            step.txn.note(step.now_ms, Note::Forgotten { blob, why })?;
            self.no_longer_holds(step, id)?;
        }
        step.effects.push(Effect::Reply(request, Reply::Gone(gone)));
        Ok(())
    }

    /// Says that the copy of a blob is gone. Who is no member says nothing, and nobody counts on what it said.
    fn no_longer_holds(&self, step: &mut Step<'_, '_>, id: BlobId) -> Result<(), StoreError> {
        if self.is_member(step.txn)? { self.publish(step, removal(id)) } else { Ok(()) }
    }

    /// Writes `batch` and has its entries published.
    pub(super) fn publish(&self, step: &mut Step<'_, '_>, mut batch: Batch) -> Result<(), StoreError> {
        self.with_links(step.txn, &mut batch)?;
        let authored = self.author(step.txn, batch)?;
        self.push(step, authored.entries);
        Ok(())
    }
}

fn removal(id: BlobId) -> Batch {
    Batch { holdings: Holdings { added: vec![], removed: vec![id] }, ..Batch::default() }
}

fn put_one(
    txn: &mut Transaction<'_>,
    grace_until_ms: u64,
    now_ms: u64,
    put: PutBlob,
    batch: &mut Batch,
) -> Result<PutOutcome, StoreError> {
    let sha1 = put.blob.fact().sha1;
    let children = match held_children(txn, &sha1, &put.children)? {
        Ok(children) => children,
        Err(children) => return Ok(PutOutcome::Missing { sha1, children }),
    };
    let (fact, recorded) = match put.blob {
        Stored::New(placed) => (placed.fact(), txn.record(placed, now_ms, grace_until_ms)?),
        Stored::Known(fact) => match recorded(txn, &fact, grace_until_ms)? {
            Some(recorded) => (fact, recorded),
            None => return Ok(PutOutcome::Gone { sha1 }),
        },
    };
    match recorded {
        Recorded::Collision(kept) => return Ok(PutOutcome::Collision { kept }),
        Recorded::New => batch.holdings.added.push(fact),
        Recorded::Existed => {}
    }
    batch.facts.extend(new_facts(txn, sha1, children)?);
    Ok(PutOutcome::Held { fact, existed: recorded == Recorded::Existed })
}

/// How a blob that its putter found here is recorded now, if it still is. It is given the grace, as a blob that is new here.
fn recorded(txn: &mut Transaction<'_>, fact: &BlobFact, grace_until_ms: u64) -> Result<Option<Recorded>, StoreError> {
    let Some(known) = txn.blob(&fact.sha1)?.map(|record| record.fact(fact.sha1)) else { return Ok(None) };
    if known != *fact {
        return Ok(Some(Recorded::Collision(known)));
    }
    txn.renew_grace(&fact.sha1, grace_until_ms)?;
    Ok(Some(Recorded::Existed))
}

/// The facts of `children`, or what is not held here of them and of all that they link to: a link may make any of that live, and by then
/// whoever else holds it may be purging it. What `parent` itself links to already is tied to it in any case.
fn held_children(
    txn: &Transaction<'_>,
    parent: &BlobId,
    children: &[BlobId],
) -> Result<Result<Vec<BlobFact>, Vec<BlobId>>, StoreError> {
    let mut missing = closure::missing_but(txn, children, parent, MISSING_NAMED)?;
    let mut held = Vec::with_capacity(children.len());
    for id in children {
        match txn.blob(id)? {
            Some(record) => held.push(record.fact(*id)),
            None if !missing.contains(id) => missing.push(*id),
            None => {}
        }
    }
    Ok(if missing.is_empty() { Ok(held) } else { Err(missing) })
}

/// What is to be said of `parent`'s links beyond what the catalog says already.
fn new_facts(txn: &Transaction<'_>, parent: BlobId, children: Vec<BlobFact>) -> Result<Vec<LinkFact>, StoreError> {
    if children.is_empty() {
        return Ok(Vec::new());
    }
    let known: BTreeSet<BlobFact> = txn.children(&parent)?.into_iter().collect();
    let mut new: Vec<BlobFact> = children.into_iter().filter(|child| !known.contains(child)).collect();
    new.sort_unstable();
    new.dedup();
    Ok(LinkFact::of(parent, &new))
}
