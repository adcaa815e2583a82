//! The engine: turns inputs into one durable transaction and an ordered list of effects.
//!
//! It runs unchanged in the daemon, in embedded commands and in the simulator: it knows no clock, thread, socket or file of its own.
//! Time and randomness are arguments, the disk is the store's, and what the rest of the world must do is returned. No effect is
//! returned before the transaction that it speaks of is durable. Between steps it keeps nothing in memory that the store does not
//! have, so a failed step leaves nothing to undo.

pub mod absence;
mod apply;
mod arrival;
mod audit;
mod author;
mod blobs;
mod clock;
pub mod closure;
mod collect;
pub mod copies;
mod distrust;
mod drop;
mod effect;
mod expiry;
mod input;
pub mod leases;
mod links;
pub mod members;
mod open;
mod patience;
pub mod pressure;
pub mod rebuild;
mod refs;
mod removal;
mod replicate;
#[cfg(test)]
mod restarted;
mod settings;
mod uses;

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use keepwell_store::error::StoreError;
use keepwell_store::home::Home;
use keepwell_store::store::{Store, Transaction};
use rand_chacha::ChaCha8Rng;

use absence::Absence;
pub use apply::Refusal;
use arrival::Arrivals;
use clock::Clock;
use collect::Collector;
use copies::Copies;
pub use drop::Probed;
use drop::{Dropping, Whom};
pub use effect::{Collected, Confirmed, DropOutcome, Dropped, Effect, Event, PutOutcome, RefOutcome, RefRefusal, Reply};
pub use input::{Collect, Input, PutBlob, RefOp, RefSet, RequestId, Stored};
use leases::LeaseClock;
pub use leases::{LeaseOp, LeaseRefusal, LeaseUse, UploadWish};
use links::unlinking::Unlinks;
pub use open::{NewHome, OpenError};
use patience::Patience;
use pressure::Pressing;
use replicate::Replication;
pub use settings::Settings;
use uses::Uses;

/// The engine of one home.
pub struct Engine {
    store: Arc<Store>,
    key: SigningKey,
    home: Home,
    replication: Replication,
    collector: Collector,
    dropping: Dropping,
    pressing: Pressing,
    patience: Patience,
    absence: Absence,
    arrivals: Arrivals,
    copies: Copies,
    settings: Settings,
    leases: LeaseClock,
    uses: Uses,
    unlinking: Unlinks,
    clock: Clock,
    /// Not of a step's making: it outlives [`Engine::restart`].
    is_index_damaged: bool,
    /// When the last check of the index began that found nothing, in Unix milliseconds.
    index_whole_ms: u64,
}

/// Where the engine's randomness comes from: the operating system in a daemon, a seed in a simulation.
pub type EngineRng = ChaCha8Rng;

impl Engine {
    /// Takes all inputs in one transaction, and returns what the world must do once it is durable, in this order.
    ///
    /// An input that is refused is answered; an error means that nothing at all has happened, and that the engine must be
    /// restarted ([`Engine::restart`]), or the store reopened.
    pub fn step(&mut self, now_ms: u64, rng: &mut EngineRng, inputs: Vec<Input>) -> Result<Vec<Effect>, StoreError> {
        let store = Arc::clone(&self.store);
        let is_tick = inputs.iter().any(|input| matches!(input, Input::Tick));
        let done = store.write(|txn| {
            let (steady_ms, ends_ms) = (self.clock.steady_ms(now_ms), self.clock.ends_ms(now_ms));
            let mut step = Step { txn, now_ms, steady_ms, ends_ms, rng, effects: Vec::new() };
            for input in inputs {
                self.take(&mut step, input)?;
                self.say_links_again(&mut step)?;
            }
            self.end_attempts_on_new_roots(&mut step)?;
            self.settle(&mut step)?;
            self.restore_arrived(&mut step)?;
            self.see_to_copies(&mut step, is_tick)?;
            self.note_garbage(&step)?;
            Ok(step.effects)
        });
        if done.is_ok() {
            self.patience.step_succeeded(self.dropping.is_asking_unasked());
        }
        done
    }

    /// Goes on after a failed step as after a restart of the process: what the step left in memory is forgotten, and what the disk
    /// says holds. The peers that are connected must be told of again. What was read off the machine itself, its clock and how full its
    /// disk is, is as true after a step that failed, and stays.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        let missing = || StoreError::Inconsistent("this home is no more".into());
        self.home = self.store.snapshot()?.home()?.ok_or_else(missing)?;
        self.replication = Replication::default();
        self.collector = Collector::default();
        self.dropping = Dropping::default();
        self.patience.step_failed();
        self.arrivals = Arrivals::default();
        self.copies = Copies::default();
        self.leases = LeaseClock::default();
        self.uses = Uses::default();
        self.unlinking = Unlinks::default();
        Ok(())
    }

    /// The disk that it writes to; for reading.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What it is the engine of.
    pub fn home(&self) -> &Home {
        &self.home
    }

    fn take(&mut self, step: &mut Step<'_, '_>, input: Input) -> Result<(), StoreError> {
        match input {
            Input::Put { request, blobs, lease } => self.put(step, request, blobs, lease.as_ref()),
            Input::Lease { request, op } => self.lease(step, request, op),
            Input::WriteRefs { request, ops } => self.write_refs(step, request, ops),
            Input::UseElsewhere { request, name } => self.use_elsewhere(step, request, name),
            Input::Admit { request, node, body } => self.admit_member(step, request, &node, &body),
            Input::Declare { request, node, is_dead } => self.declare(step, request, &node, is_dead),
            Input::Remove { request, node } => self.remove_member(step, request, &node),
            Input::Delete { request, permit } => self.delete(step, request, permit),
            Input::Forget { request, blob, record, why } => self.forget(step, request, (blob, &record), why),
            Input::Collect { request, how } => self.collect(step, request, how),
            Input::Drop { request, blobs } => self.drop_copies(step, Whom::Request(request), &blobs),
            Input::DropFrom { request, node, blobs } => self.drop_from(step, request, node, blobs),
            Input::GiveUp { request, blobs, by } => self.give_up(step, request, &blobs, &by),
            Input::Confirm { request, blobs } => self.confirm(step, request, &blobs),
            Input::Note { request, note } => {
                step.txn.note(step.now_ms, note)?;
                step.effects.push(Effect::Reply(request, Reply::Noted));
                Ok(())
            }
            Input::IndexWhole { began_ms } => {
                self.index_whole_ms = began_ms;
                Ok(())
            }
            Input::IndexDamaged { request, why } => self.distrust_index(step, request, why),
            Input::Probed(probed) => self.probed(step, probed),
            Input::Restore { request, retrieved } => self.restore(step, request, retrieved),
            Input::Brought { blobs } => self.brought(step, &blobs),
            Input::Took { cost_us } => {
                self.collection_took(step.now_ms, cost_us);
                Ok(())
            }
            Input::Room(disk) => self.measured(step, disk),
            Input::Connected { peer } => self.connected(step, peer),
            Input::Disconnected { peer } => self.disconnected(peer),
            Input::Received { from, bytes } => self.received(step, from, &bytes),
            Input::Gossiped { entry } => self.gossiped(step, &entry),
            Input::Elapsed { boot_ms } => self.elapsed(step, boot_ms),
            Input::Tick => {
                self.absence_on_tick(step)?;
                self.clock_on_tick(step)?;
                if self.may_write_unasked(step.steady_ms, step.rng) {
                    self.expire(step)?;
                    self.unlink_on_tick(step)?;
                }
                self.collect_on_tick(step)?;
                self.drop_on_tick(step)?;
                self.uses_on_tick(step);
                self.walk_trash(step)?;
                self.tick(step)
            }
        }
    }
}

/// A step under way: the transaction it writes, the arguments it was given, and what the world must do afterwards.
struct Step<'a, 't> {
    txn: &'a mut Transaction<'t>,
    now_ms: u64,
    /// A time that nobody sets: for what is done again every so often.
    steady_ms: u64,
    /// The time by which leases, graces and trash end here: see `clock`.
    ends_ms: u64,
    rng: &'a mut EngineRng,
    effects: Vec<Effect>,
}
