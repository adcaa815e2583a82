//! The embedded driver: one process that owns a home, its engine, its randomness and its clock, and performs what steps ask for.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use keepwell_protocol::id::{BlobFact, BlobId, LeaseId, NodeId};
use keepwell_protocol::name::{NetworkName, NodeName};
use keepwell_protocol::units::{DurationMs, SizeBytes};
use keepwell_store::audit::Note;
use keepwell_store::blobs::BlobRecord;
use keepwell_store::error::StoreError;
use keepwell_store::ingest::{IngestId, remove_leftover};
use keepwell_store::leases::Lease;
use keepwell_store::store::Store;
use keepwell_store::trash::Retrieved;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

use crate::engine::{
    Collect, Collected, Confirmed, Dropped, Effect, Engine, EngineRng, Input, LeaseOp, LeaseUse, NewHome, PutBlob, PutOutcome,
    RefOp, RefOutcome, Reply, RequestId, Settings,
};
use crate::failure::{Code, Failure};
use crate::home::lock::HomeLock;
use crate::home::{self, OpenHome, damage};
use crate::limits::TRASH_PORTION;
use crate::service::Node;
use crate::uptime::boot_ms;

/// The id of every request: a step here has one, and is answered before the next.
const REQUEST: RequestId = RequestId(1);

/// A home that this process works on by itself.
pub struct Local {
    path: PathBuf,
    store: Arc<Store>,
    engine: Mutex<Engine>,
    rng: Mutex<EngineRng>,
    _lock: HomeLock,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local({})", self.path.display())
    }
}

impl Local {
    /// Makes a home, with a network of its own.
    pub fn init(
        path: &Path,
        wait: DurationMs,
        max_size: Option<SizeBytes>,
        network: NetworkName,
        node: NodeName,
    ) -> Result<Local, Failure> {
        let mut rng = rng()?;
        let OpenHome { path, key, store, place, lock } = home::prepare(path, wait, max_size, || {
            let mut seed = Zeroizing::new([0; 32]);
            rng.fill_bytes(seed.as_mut_slice());
            seed
        })?;
        let engine = Engine::init(Arc::clone(&store), key, &NewHome { network, node, place }, &mut rng)?;
        Ok(Local { path, store, engine: Mutex::new(engine), rng: Mutex::new(rng), _lock: lock })
    }

    /// Opens a home, waiting for whoever is using it.
    pub fn open(path: &Path, wait: DurationMs) -> Result<Local, Failure> {
        let OpenHome { path, key, store, place, lock } = home::open(path, wait)?;
        let mut rng = rng()?;
        let engine = Engine::open(Arc::clone(&store), key, place, &mut rng)?.on_index(damage::read(&path).is_some());
        Ok(Local { path, store, engine: Mutex::new(engine), rng: Mutex::new(rng), _lock: lock })
    }

    /// The same home with these settings of its engine.
    pub fn with(self, settings: Settings) -> Local {
        let engine = self.engine.into_inner().unwrap_or_else(PoisonError::into_inner).with(settings);
        Local { engine: Mutex::new(engine), ..self }
    }

    /// The engine, for what only its owner may ask: `fsck` and `init`.
    pub fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The home's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn rng(&self) -> MutexGuard<'_, EngineRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one input, performs what it leads to, and returns its answer.
    fn ask(&self, input: Input) -> Result<Reply, Failure> {
        let (mut due, mut answer) = (VecDeque::from([input]), None);
        while let Some(input) = due.pop_front() {
            let now_ms = self.now_ms();
            let effects = self.engine().step(now_ms, &mut self.rng(), vec![Input::Elapsed { boot_ms: boot_ms() }, input])?;
            let mut unlinks = Vec::new();
            for effect in effects {
                match effect {
                    // Nobody listens while no daemon runs; the next one sends what is in the log.
                    Effect::Publish(_) | Effect::Send { .. } | Effect::Probe { .. } | Effect::Refuse { .. } => {}
                    Effect::Tell(_) | Effect::Collected(_) | Effect::Bring(_) => {}
                    Effect::Unlink(blob) => unlinks.push(blob),
                    // What cannot be brought back lies in the trash as before; the next daemon looks for it again.
                    Effect::Retrieve(blob) => due.extend(self.store.try_retrieve(&blob).ok().flatten().map(restored)),
                    Effect::EmptyTrash { until_ms, enough_bytes } => {
                        self.store.empty_some_trash(until_ms, TRASH_PORTION, enough_bytes)?;
                    }
                    // What cannot be removed is a leftover at the next start.
                    Effect::Discard(ingest) => drop(remove_leftover(self.store.fs(), ingest)),
                    Effect::Reply(request, reply) if request == REQUEST => answer = Some(reply),
                    Effect::Reply(..) => {}
                }
            }
            // What cannot be moved stays queued, with the reason, for `fsck` and the next start.
            self.store.try_unlink(&unlinks, now_ms)?;
        }
        answer.ok_or_else(|| StoreError::Inconsistent("a request was not answered".into()).into())
    }
}

impl Node for Local {
    fn store(&self) -> &Arc<Store> {
        &self.store
    }

    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn settings(&self) -> Settings {
        self.engine().settings()
    }

    fn new_ingest(&self) -> IngestId {
        let mut id = [0; 16];
        self.rng().fill_bytes(&mut id);
        IngestId(id)
    }

    fn put(&self, blobs: Vec<PutBlob>, lease: Option<LeaseUse>) -> Result<Vec<PutOutcome>, Failure> {
        match self.ask(Input::Put { request: REQUEST, blobs, lease })? {
            Reply::Put(outcomes) => Ok(outcomes),
            other => Err(other.into()),
        }
    }

    fn lease(&self, op: LeaseOp) -> Result<(LeaseId, Lease), Failure> {
        match self.ask(Input::Lease { request: REQUEST, op })? {
            Reply::Leased(id, lease) => Ok((id, lease)),
            other => Err(other.into()),
        }
    }

    fn write_refs(&self, ops: Vec<RefOp>) -> Result<Vec<RefOutcome>, Failure> {
        match self.ask(Input::WriteRefs { request: REQUEST, ops })? {
            Reply::Refs(outcome) => Ok(outcome?),
            other => Err(other.into()),
        }
    }

    fn collect(&self, how: Collect) -> Result<Collected, Failure> {
        match self.ask(Input::Collect { request: REQUEST, how })? {
            Reply::Collected(collected) => Ok(collected),
            other => Err(other.into()),
        }
    }

    fn confirm(&self, blobs: Vec<BlobId>) -> Result<Confirmed, Failure> {
        match self.ask(Input::Confirm { request: REQUEST, blobs })? {
            Reply::Confirmed(confirmed) => Ok(confirmed),
            other => Err(other.into()),
        }
    }

    fn drop_copies(&self, blobs: Vec<BlobId>, from: Option<NodeId>) -> Result<Dropped, Failure> {
        match self.ask(Input::dropping(REQUEST, blobs, from))? {
            Reply::Dropped(dropped) => Ok(dropped),
            other => Err(other.into()),
        }
    }

    fn give_up(&self, blobs: Vec<BlobId>, by: String) -> Result<Dropped, Failure> {
        match self.ask(Input::GiveUp { request: REQUEST, blobs, by })? {
            Reply::Dropped(dropped) => Ok(dropped),
            other => Err(other.into()),
        }
    }

    fn restore(&self, retrieved: Retrieved) -> Result<Option<BlobFact>, Failure> {
        match self.ask(Input::Restore { request: REQUEST, retrieved })? {
            Reply::Restored(restored) => Ok(restored),
            other => Err(other.into()),
        }
    }

    fn declare(&self, node: NodeId, is_dead: bool) -> Result<(), Failure> {
        match self.ask(Input::Declare { request: REQUEST, node, is_dead })? {
            Reply::Declared => Ok(()),
            other => Err(other.into()),
        }
    }

    fn remove(&self, node: NodeId) -> Result<(), Failure> {
        match self.ask(Input::Remove { request: REQUEST, node })? {
            Reply::Declared => Ok(()),
            other => Err(other.into()),
        }
    }

    fn forget(&self, blob: BlobId, record: &BlobRecord, why: &str) -> Result<Option<BlobFact>, Failure> {
        match self.ask(Input::Forget { request: REQUEST, blob, record: *record, why: why.to_owned() })? {
            Reply::Gone(gone) => Ok(gone),
            other => Err(other.into()),
        }
    }

    fn distrust_index(&self, why: &str) -> Result<(), Failure> {
        match self.ask(Input::IndexDamaged { request: REQUEST, why: why.to_owned() })? {
            Reply::Noted => Ok(()),
            other => Err(other.into()),
        }
    }

    fn is_index_damaged(&self) -> bool {
        self.engine().is_index_damaged()
    }

    fn note(&self, note: Note) -> Result<(), Failure> {
        match self.ask(Input::Note { request: REQUEST, note })? {
            Reply::Noted => Ok(()),
            other => Err(other.into()),
        }
    }
}

fn restored(retrieved: Retrieved) -> Input {
    Input::Restore { request: RequestId::NOBODY, retrieved }
}

/// A generator that only this process knows the seed of.
pub(crate) fn rng() -> Result<EngineRng, Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| Failure::new(Code::Internal, format!("the operating system gives no random bytes: {error}")))?;
    Ok(EngineRng::from_seed(*seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LOCK_WAIT_MS;

    #[test]
    fn a_home_is_made_once_and_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home");
        let init = || Local::init(&path, DurationMs(0), None, "lab".parse().unwrap(), "ada".parse().unwrap());
        let made = init().unwrap();
        let home = made.engine().home().clone();
        drop(made);
        assert_eq!(init().unwrap_err().code, Code::Exists);
        let opened = Local::open(&path, DurationMs(LOCK_WAIT_MS)).unwrap();
        assert_eq!(*opened.engine().home(), home);
        assert_ne!(opened.new_ingest(), opened.new_ingest());
    }
}
