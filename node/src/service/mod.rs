//! What commands and HTTP handlers do: in terms of names and plain answers, on whatever node they are given.
//!
//! Absent from here: arguments, terminals, and how the engine is driven.

pub mod backend;
pub mod bring;
pub mod cat;
pub mod collision;
pub mod copies;
pub mod doctor;
pub mod drop;
pub mod durable;
pub mod embedded;
pub mod events;
pub mod fsck;
pub mod gc;
pub mod get;
mod glob;
pub mod index;
pub mod leases;
pub mod list;
pub mod network;
pub mod pressure;
pub mod put;
pub mod quota;
pub mod read;
pub mod refs;
pub mod resolve;
mod rot;
pub mod scrub;
pub mod stat;
pub mod status;
pub mod tree;
pub mod types;
pub mod uploads;
pub mod uses;
pub mod why;

use std::sync::Arc;

use keepwell_protocol::id::{BlobFact, BlobId, LeaseId, NodeId};
use keepwell_protocol::name::RefName;
use keepwell_store::audit::Note;
use keepwell_store::blobs::BlobRecord;
use keepwell_store::ingest::IngestId;
use keepwell_store::leases::Lease;
use keepwell_store::store::Store;
use keepwell_store::trash::Retrieved;

use crate::engine::pressure::PressureReport;
use crate::engine::{
    Collect, Collected, Confirmed, Dropped, LeaseOp, LeaseUse, PutBlob, PutOutcome, RefOp, RefOutcome, Settings,
};
use crate::failure::Failure;
use crate::limits::PURGE_BATCH_BLOBS;

/// A node as services need it. Whoever answers has made durable what the answer says.
pub trait Node: Send + Sync {
    /// Its disk, for reading and for taking bytes in.
    fn store(&self) -> &Arc<Store>;

    /// Its clock, in Unix milliseconds.
    fn now_ms(&self) -> u64;

    /// What its engine is set to.
    fn settings(&self) -> Settings;

    /// The longest that a step which deleted garbage has taken since the node started, in microseconds; none if none has.
    fn longest_purge_us(&self) -> Option<u64> {
        None
    }

    /// What it counted last of copies that are missing; none if nobody asks it twice.
    fn last_count(&self) -> Option<&copies::LastCount> {
        None
    }

    /// A name for a new ingest.
    fn new_ingest(&self) -> IngestId;

    /// Records blobs, under a lease if one is given: one outcome each, in order.
    fn put(&self, blobs: Vec<PutBlob>, lease: Option<LeaseUse>) -> Result<Vec<PutOutcome>, Failure>;

    /// Takes a lease, or changes one.
    fn lease(&self, op: LeaseOp) -> Result<(LeaseId, Lease), Failure>;

    /// Writes all of these refs, or none.
    fn write_refs(&self, ops: Vec<RefOp>) -> Result<Vec<RefOutcome>, Failure>;

    /// Has another member write that a ref is used; whether one has.
    fn use_elsewhere(&self, _name: &RefName) -> Result<bool, Failure> {
        Ok(false)
    }

    /// Purges a portion of what nothing needs.
    fn collect(&self, how: Collect) -> Result<Collected, Failure>;

    /// Gives up copies as far as others prove theirs, here or on the member `from`: of at most `MAX_QUESTION_BLOBS` blobs (protocol).
    fn drop_copies(&self, blobs: Vec<BlobId>, from: Option<NodeId>) -> Result<Dropped, Failure>;

    /// Gives up copies here without proof, because `by` says so: of at most `MAX_QUESTION_BLOBS` blobs (protocol).
    fn give_up(&self, blobs: Vec<BlobId>, by: String) -> Result<Dropped, Failure>;

    /// On how many disks each of these blobs is at least, as others prove now: at most `MAX_QUESTION_BLOBS` (protocol).
    fn confirm(&self, blobs: Vec<BlobId>) -> Result<Confirmed, Failure>;

    /// Holds a blob again whose bytes were brought back from the trash. None if it was held already, or has gone from there.
    fn restore(&self, retrieved: Retrieved) -> Result<Option<BlobFact>, Failure>;

    /// Says that a member is dead, or alive after all.
    fn declare(&self, member: NodeId, is_dead: bool) -> Result<(), Failure>;

    /// Removes a member.
    fn remove(&self, member: NodeId) -> Result<(), Failure>;

    /// How many blobs one step of a collection purges: others wait for it, where there are any.
    fn purge_portion(&self) -> usize {
        PURGE_BATCH_BLOBS
    }

    /// How full its disk is, and why no more is freed.
    fn pressure(&self) -> Result<PressureReport, Failure> {
        pressure::measured(self.store(), &self.settings())
    }

    /// Takes back a record whose bytes are missing or rotten, and remembers what was found.
    fn forget(&self, blob: BlobId, record: &BlobRecord, why: &str) -> Result<Option<BlobFact>, Failure>;

    /// Deletes nothing from now on, because damage was found in the index.
    fn distrust_index(&self, why: &str) -> Result<(), Failure>;

    /// Hears that a check which began then found nothing wrong with the index, in Unix milliseconds.
    fn trust_index(&self, _began_ms: u64) {}

    /// Whether damage was found in the index.
    fn is_index_damaged(&self) -> bool;

    /// Remembers something in the audit log.
    fn note(&self, note: Note) -> Result<(), Failure>;
}
