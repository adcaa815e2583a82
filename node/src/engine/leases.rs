//! Leases in the engine: who takes, renews and gives them up, and what is put under one. No other node hears of any of it.
//!
//! What a lease covers is not unneeded: see `keepwell_store::leases`, and the purge in `collect`, which asks for it.

use keepwell_protocol::id::{BlobId, LeaseId};
use keepwell_protocol::name::OwnerName;
use keepwell_store::error::StoreError;
use keepwell_store::ingest::IngestId;
use keepwell_store::leases::{Lease, LeaseError};
use keepwell_store::tables::{Access, Tables};
use keepwell_store::uploads::Upload;

use super::effect::{Effect, PutOutcome, Reply};
use super::input::RequestId;
use super::open::draw;
use super::{Engine, Step};
use crate::limits::{LEASE_ROWS_PER_STEP, MAX_LEASES, MAX_UPLOADS};

/// A lease, and who says that it is theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseUse {
    /// Which.
    pub lease: LeaseId,
    /// Whose.
    pub owner: OwnerName,
}

/// An upload that is to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadWish {
    /// What its client calls it.
    pub name: OwnerName,
    /// Where its bytes are to be.
    pub ingest: IngestId,
    /// What it is to become, if its client says.
    pub sha1: Option<BlobId>,
    /// How large, in bytes, if its client says.
    pub size_bytes: Option<u64>,
}

/// What is to become of a lease.
#[derive(Debug, Clone)]
pub enum LeaseOp {
    /// A new one, on blobs that are all held here.
    Add {
        /// Whose.
        owner: OwnerName,
        /// How long it lasts from now on, in milliseconds.
        ttl_ms: u64,
        /// Whether it protects its blobs without what they link to.
        is_flat: bool,
        /// What it protects.
        blobs: Vec<BlobId>,
    },
    /// It is to last for so long from now on. It never ends sooner for that.
    Renew {
        /// Which.
        used: LeaseUse,
        /// How long, in milliseconds.
        ttl_ms: u64,
    },
    /// It is to protect these blobs too, which are all held here.
    Give {
        /// Which.
        used: LeaseUse,
        /// The blobs.
        blobs: Vec<BlobId>,
    },
    /// A new one, on what an upload is to become, held or not. The upload ends with it.
    Upload {
        /// Whose.
        owner: OwnerName,
        /// How long it lasts from now on, in milliseconds.
        ttl_ms: u64,
        /// What it is for.
        upload: UploadWish,
    },
    /// It ends.
    Remove(LeaseUse),
}

/// Why a lease was not changed, or nothing was put under it. Nothing has happened then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    /// There is none of that id: it was never taken, was removed, or its time is over.
    #[error("there is no lease `{0}`, or it has ended")]
    Ended(LeaseId),
    /// It lives, and belongs to somebody else.
    #[error("lease `{lease}` belongs to `{owner}`")]
    Foreign {
        /// Which.
        lease: LeaseId,
        /// To whom.
        owner: String,
        /// Until when, in Unix milliseconds.
        expires_ms: u64,
    },
    /// It was to protect blobs that are not held here.
    #[error("a lease protects what is stored here, and {} of these blobs are not", .0.len())]
    Missing(Vec<BlobId>),
    /// There is an upload of that name.
    #[error("there is an upload `{0}` already")]
    UploadExists(OwnerName),
    /// There are as many uploads as there may be.
    #[error("there are {MAX_UPLOADS} uploads already")]
    TooManyUploads,
    /// There are as many as there may be.
    #[error("there are {MAX_LEASES} leases already")]
    TooMany,
}

/// What the engine keeps of leases between steps: when to look for one that has expired. In memory: after a start it looks at once.
#[derive(Default)]
pub(super) struct LeaseClock {
    look_ms: u64,
}

impl LeaseClock {
    /// When the next lease ends, in Unix milliseconds; none if there is none, or if that is to be looked for.
    pub(super) fn next_end_ms(&self) -> Option<u64> {
        Some(self.look_ms).filter(|look_ms| (1..u64::MAX).contains(look_ms))
    }
}

/// Why a change was not made.
enum Stop {
    Refused(LeaseRefusal),
    Store(StoreError),
}

impl From<LeaseRefusal> for Stop {
    fn from(refusal: LeaseRefusal) -> Self {
        Stop::Refused(refusal)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Stop::Store(error)
    }
}

/// What the store refuses although it was found acceptable in this very step.
impl From<LeaseError> for Stop {
    fn from(error: LeaseError) -> Self {
        Stop::Store(unexpected(error))
    }
}

impl Engine {
    /// Changes a lease, or answers why not.
    pub(super) fn lease(&mut self, step: &mut Step<'_, '_>, request: RequestId, op: LeaseOp) -> Result<(), StoreError> {
        self.end_leases(step)?;
        let reply = match change(step, op) {
            Ok((id, lease)) => {
                self.leases.look_ms = self.leases.look_ms.min(lease.expires_ms);
                Reply::Leased(id, lease)
            }
            Err(Stop::Refused(refused)) => Reply::LeaseRefused(refused),
            Err(Stop::Store(error)) => return Err(error),
        };
        step.effects.push(Effect::Reply(request, reply));
        end_uploads(step)
    }

    /// Removes a portion of the leases that have expired; whether none is left.
    pub(super) fn end_leases(&mut self, step: &mut Step<'_, '_>) -> Result<bool, StoreError> {
        if step.ends_ms < self.leases.look_ms {
            return Ok(true);
        }
        match step.txn.next_lease_expiry_ms()? {
            Some(expires_ms) if expires_ms <= step.ends_ms => {
                let all = step.txn.end_leases(step.ends_ms, LEASE_ROWS_PER_STEP)?;
                end_uploads(step)?;
                Ok(all)
            }
            next => {
                self.leases.look_ms = next.unwrap_or(u64::MAX);
                Ok(true)
            }
        }
    }
}

/// What was being uploaded under a lease that has ended goes with it.
fn end_uploads(step: &mut Step<'_, '_>) -> Result<(), StoreError> {
    if step.txn.upload_count()? > 0 {
        step.effects.extend(step.txn.end_uploads()?.into_iter().map(Effect::Discard));
    }
    Ok(())
}

/// The lease, if it lives and is whose it is said to be.
pub fn usable<A: Access>(tables: &Tables<A>, used: &LeaseUse, now_ms: u64) -> Result<Result<Lease, LeaseRefusal>, StoreError> {
    let LeaseUse { lease: id, owner } = used;
    Ok(match tables.lease(id)?.filter(|lease| !lease.is_expired(now_ms)) {
        None => Err(LeaseRefusal::Ended(*id)),
        Some(lease) if lease.owner == owner.as_str() => Ok(lease),
        Some(Lease { owner, expires_ms, .. }) => Err(LeaseRefusal::Foreign { lease: *id, owner, expires_ms }),
    })
}

/// Puts what is held now under the lease, which has been found usable in this step.
pub(super) fn cover(step: &mut Step<'_, '_>, used: &LeaseUse, outcomes: &[PutOutcome]) -> Result<(), StoreError> {
    let held = outcomes.iter().filter_map(|outcome| match outcome {
        PutOutcome::Held { fact, .. } => Some(fact.sha1),
        PutOutcome::Collision { .. } | PutOutcome::Missing { .. } | PutOutcome::Gone { .. } => None,
    });
    give(step, used, &held.collect::<Vec<_>>()).map_err(unexpected)
}

fn change(step: &mut Step<'_, '_>, op: LeaseOp) -> Result<(LeaseId, Lease), Stop> {
    match op {
        LeaseOp::Add { owner, ttl_ms, is_flat, blobs } => {
            let used = add(step, owner, ttl_ms, is_flat, &blobs)?;
            told(step, used.lease)
        }
        LeaseOp::Renew { used, ttl_ms } => {
            let before = usable(step.txn, &used, step.ends_ms)??;
            let expires_ms = step.now_ms.saturating_add(ttl_ms).max(before.expires_ms);
            step.txn.renew_lease(&used.lease, used.owner.as_str(), step.ends_ms, expires_ms)?;
            told(step, used.lease)
        }
        LeaseOp::Give { used, blobs } => {
            usable(step.txn, &used, step.ends_ms)??;
            all_held(step, &blobs)?;
            give(step, &used, &blobs)?;
            told(step, used.lease)
        }
        LeaseOp::Upload { owner, ttl_ms, upload } => {
            if step.txn.upload(upload.name.as_str())?.is_some() {
                return Err(LeaseRefusal::UploadExists(upload.name).into());
            }
            if step.txn.upload_count()? >= MAX_UPLOADS as u64 {
                return Err(LeaseRefusal::TooManyUploads.into());
            }
            let used = add(step, owner, ttl_ms, true, &[])?;
            give(step, &used, upload.sha1.as_slice())?;
            let begun = Upload::new(upload.ingest, used.lease, upload.sha1, upload.size_bytes);
            step.txn.put_upload(upload.name.as_str(), &begun)?;
            told(step, used.lease)
        }
        LeaseOp::Remove(used) => {
            let before = usable(step.txn, &used, step.ends_ms)??;
            step.txn.remove_lease(&used.lease, used.owner.as_str(), step.ends_ms)?;
            step.txn.end_leases(step.ends_ms, LEASE_ROWS_PER_STEP)?;
            // It ended now; if it had many rows, this time is also when to look for the rest of them.
            Ok((used.lease, Lease { expires_ms: step.now_ms, ..before }))
        }
    }
}

fn add(step: &mut Step<'_, '_>, owner: OwnerName, ttl_ms: u64, is_flat: bool, blobs: &[BlobId]) -> Result<LeaseUse, Stop> {
    all_held(step, blobs)?;
    if step.txn.lease_count()? >= MAX_LEASES as u64 {
        return Err(LeaseRefusal::TooMany.into());
    }
    let lease = LeaseId(draw(step.rng));
    let expires_ms = step.now_ms.saturating_add(ttl_ms);
    step.txn.add_lease(&lease, owner.as_str(), step.now_ms, expires_ms, is_flat)?;
    let used = LeaseUse { lease, owner };
    give(step, &used, blobs)?;
    Ok(used)
}

fn give(step: &mut Step<'_, '_>, used: &LeaseUse, blobs: &[BlobId]) -> Result<(), LeaseError> {
    step.txn.add_to_lease(&used.lease, used.owner.as_str(), step.ends_ms, blobs)
}

fn told(step: &Step<'_, '_>, id: LeaseId) -> Result<(LeaseId, Lease), Stop> {
    let lease = step.txn.lease(&id)?.ok_or(LeaseRefusal::Ended(id))?;
    Ok((id, lease))
}

/// What is not here cannot be kept.
fn all_held(step: &Step<'_, '_>, blobs: &[BlobId]) -> Result<(), Stop> {
    let mut missing = Vec::new();
    for id in blobs {
        if step.txn.blob(id)?.is_none() {
            missing.push(*id);
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(LeaseRefusal::Missing(missing).into()) }
}

fn unexpected(error: LeaseError) -> StoreError {
    match error {
        LeaseError::Store(error) => error,
        refused => StoreError::Inconsistent(refused.to_string()),
    }
}

#[cfg(test)]
mod tests;
