//! What commands and requests ask of the node: each is an input, and waits for its answer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use keepwell_protocol::id::{BlobFact, BlobId, LeaseId, NodeId};
use keepwell_protocol::name::RefName;
use keepwell_store::audit::Note;
use keepwell_store::blobs::BlobRecord;
use keepwell_store::ingest::IngestId;
use keepwell_store::leases::Lease;
use keepwell_store::store::Store;
use keepwell_store::trash::Retrieved;
use rand_chacha::rand_core::Rng;

use super::{Driver, now_ms};
use crate::engine::pressure::PressureReport;
use crate::engine::{
    Collect, Collected, Confirmed, Dropped, Input, LeaseOp, LeaseUse, PutBlob, PutOutcome, RefOp, RefOutcome, Reply, Settings,
};
use crate::failure::Failure;
use crate::limits::UNASKED_PORTION;
use crate::service::Node;
use crate::service::copies::LastCount;

impl Node for Driver {
    fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn settings(&self) -> Settings {
        self.shared.settings
    }

    fn last_count(&self) -> Option<&LastCount> {
        Some(&self.shared.last_count)
    }

    fn longest_purge_us(&self) -> Option<u64> {
        Some(self.shared.longest_purge_us.load(Ordering::Relaxed)).filter(|longest_us| *longest_us > 0)
    }

    fn new_ingest(&self) -> IngestId {
        let mut id = [0; 16];
        self.shared.rng.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut id);
        IngestId(id)
    }

    fn put(&self, blobs: Vec<PutBlob>, lease: Option<LeaseUse>) -> Result<Vec<PutOutcome>, Failure> {
        match self.ask(move |request| Input::Put { request, blobs, lease })? {
            Reply::Put(outcomes) => Ok(outcomes),
            other => Err(other.into()),
        }
    }

    fn lease(&self, op: LeaseOp) -> Result<(LeaseId, Lease), Failure> {
        match self.ask(move |request| Input::Lease { request, op })? {
            Reply::Leased(id, lease) => Ok((id, lease)),
            other => Err(other.into()),
        }
    }

    fn write_refs(&self, ops: Vec<RefOp>) -> Result<Vec<RefOutcome>, Failure> {
        match self.ask(move |request| Input::WriteRefs { request, ops })? {
            Reply::Refs(outcome) => Ok(outcome?),
            other => Err(other.into()),
        }
    }

    fn use_elsewhere(&self, name: &RefName) -> Result<bool, Failure> {
        let name = name.clone();
        match self.ask(move |request| Input::UseElsewhere { request, name })? {
            Reply::UsedBy(node) => Ok(node.is_some()),
            other => Err(other.into()),
        }
    }

    fn collect(&self, how: Collect) -> Result<Collected, Failure> {
        match self.ask(move |request| Input::Collect { request, how })? {
            Reply::Collected(collected) => Ok(collected),
            other => Err(other.into()),
        }
    }

    fn confirm(&self, blobs: Vec<BlobId>) -> Result<Confirmed, Failure> {
        match self.ask(move |request| Input::Confirm { request, blobs })? {
            Reply::Confirmed(confirmed) => Ok(confirmed),
            other => Err(other.into()),
        }
    }

    fn drop_copies(&self, blobs: Vec<BlobId>, from: Option<NodeId>) -> Result<Dropped, Failure> {
        match self.ask(move |request| Input::dropping(request, blobs, from))? {
            Reply::Dropped(dropped) => Ok(dropped),
            other => Err(other.into()),
        }
    }

    fn give_up(&self, blobs: Vec<BlobId>, by: String) -> Result<Dropped, Failure> {
        match self.ask(move |request| Input::GiveUp { request, blobs, by })? {
            Reply::Dropped(dropped) => Ok(dropped),
            other => Err(other.into()),
        }
    }

    fn restore(&self, retrieved: Retrieved) -> Result<Option<BlobFact>, Failure> {
        match self.ask(move |request| Input::Restore { request, retrieved })? {
            Reply::Restored(restored) => Ok(restored),
            other => Err(other.into()),
        }
    }

    fn declare(&self, node: NodeId, is_dead: bool) -> Result<(), Failure> {
        match self.ask(move |request| Input::Declare { request, node, is_dead })? {
            Reply::Declared => Ok(()),
            other => Err(other.into()),
        }
    }

    fn remove(&self, node: NodeId) -> Result<(), Failure> {
        match self.ask(move |request| Input::Remove { request, node })? {
            Reply::Declared => Ok(()),
            other => Err(other.into()),
        }
    }

    fn purge_portion(&self) -> usize {
        UNASKED_PORTION
    }

    fn pressure(&self) -> Result<PressureReport, Failure> {
        Ok(self.shared.pressure.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn forget(&self, blob: BlobId, record: &BlobRecord, why: &str) -> Result<Option<BlobFact>, Failure> {
        let (record, why) = (*record, why.to_owned());
        match self.ask(move |request| Input::Forget { request, blob, record, why })? {
            Reply::Gone(gone) => Ok(gone),
            other => Err(other.into()),
        }
    }

    fn distrust_index(&self, why: &str) -> Result<(), Failure> {
        let why = why.to_owned();
        match self.ask(move |request| Input::IndexDamaged { request, why })? {
            Reply::Noted => Ok(()),
            other => Err(other.into()),
        }
    }

    fn trust_index(&self, began_ms: u64) {
        self.give(Input::IndexWhole { began_ms });
    }

    fn is_index_damaged(&self) -> bool {
        self.peers().is_index_damaged
    }

    fn note(&self, note: Note) -> Result<(), Failure> {
        match self.ask(move |request| Input::Note { request, note })? {
            Reply::Noted => Ok(()),
            other => Err(other.into()),
        }
    }
}
