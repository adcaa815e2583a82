//! The engine: turns inputs into one durable transaction and an ordered list of effects.
//!
//! It runs unchanged in the daemon, in embedded commands and in the simulator: it knows no clock, thread, socket or file of its own.
//! Time and randomness are arguments, the disk is the store's, and what the rest of the world must do is returned. No effect is
//! returned before the transaction that it speaks of is durable. Between steps it keeps nothing in memory that the store does not
//! have, so a failed step leaves nothing to undo.

mod apply;
mod author;
mod blobs;
pub mod closure;
mod effect;
mod input;
mod open;
pub mod rebuild;
mod refs;

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use keepwell_store::error::StoreError;
use keepwell_store::home::Home;
use keepwell_store::store::{Store, Transaction};

pub use apply::Refusal;
pub use effect::{Effect, PutOutcome, RefOutcome, RefRefusal, Reply};
pub use input::{Input, PutBlob, RefOp, RefSet, RequestId, Stored};
pub use open::{NewHome, OpenError};

/// The engine of one home.
pub struct Engine {
    store: Arc<Store>,
    key: SigningKey,
    home: Home,
}

impl Engine {
    /// Takes all inputs in one transaction, and returns what the world must do once it is durable, in this order.
    ///
    /// An input that is refused is answered; an error means that nothing at all has happened, and that the store must be reopened.
    pub fn step(&mut self, now_ms: u64, inputs: Vec<Input>) -> Result<Vec<Effect>, StoreError> {
        let store = Arc::clone(&self.store);
        store.write(|txn| {
            let mut effects = Vec::new();
            for input in inputs {
                self.take(txn, now_ms, input, &mut effects)?;
            }
            Ok(effects)
        })
    }

    /// The disk that it writes to; for reading.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What it is the engine of.
    pub fn home(&self) -> &Home {
        &self.home
    }

    fn take(&self, txn: &mut Transaction<'_>, now_ms: u64, input: Input, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        match input {
            Input::Put { request, blobs } => self.put(txn, now_ms, request, blobs, effects),
            Input::WriteRefs { request, ops } => self.write_refs(txn, now_ms, request, ops, effects),
            Input::Delete { request, permit } => self.delete(txn, now_ms, request, permit, effects),
            Input::Forget { request, blob } => self.forget(txn, request, blob, effects),
        }
    }
}
