//! One simulated node: its disk, its key, and its engine while it runs.

use std::io::Read;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::gc::pressure::Marks;
use keepwell_protocol::gc::schedule::Keys;
use keepwell_protocol::id::{BlobId, NetworkId, NodeId};
use keepwell_protocol::log::entry::node_id;
use keepwell_protocol::name::{NetworkName, NodeName};
use keepwell_store::blobs::Place;
use keepwell_store::error::StoreError;
use keepwell_store::fs::SharedFs;
use keepwell_store::fs::sim::SimDisk;
use keepwell_store::home::DiskPlace;
use keepwell_store::ingest::{IngestError, IngestId, ingest};
use keepwell_store::layout;
use keepwell_store::place::{PlaceError, Placed};
use keepwell_store::store::Store;
use keepwell_store::trash::Retrieved;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::engine::{Effect, Engine, Input, NewHome, Settings};

/// A short grace, so that nodes have something to purge by themselves; else what users get.
const SETTINGS: Settings = Settings {
    grace_ms: 5_000,
    schedule: Some(Keys::DEFAULT),
    marks: Marks::DEFAULT,
    max_size_bytes: None,
    facts_after_ms: 3_000,
    liars: 0,
    checks_index: false,
};

/// Whatever stops a simulated node, as text for the trace.
pub(super) type Failed = Box<dyn std::error::Error>;

pub(super) struct SimNode {
    name: NodeName,
    key: SigningKey,
    disk: SimDisk,
    old_disk: Option<SimDisk>,
    rng: ChaCha8Rng,
    engine: Option<Engine>,
    place: DiskPlace,
    /// Whether a step has failed on a full disk since the engine was started.
    is_stale: bool,
    /// Failures of the disk that whoever met them has dealt with.
    excused: u64,
    /// Calls to the disk within which the node crashes when it starts next, if it is to.
    doomed: Option<u64>,
    /// Whether only the process ended, and not its machine.
    is_process_only: bool,
    settings: Settings,
}

impl SimNode {
    pub(super) fn new(number: usize, liars: u32, rng: &mut ChaCha8Rng) -> SimNode {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        SimNode {
            name: NodeName::parse(&format!("n{number}")).expect("invariant: a letter and digits are a name"),
            key: SigningKey::from_bytes(&seed),
            disk: SimDisk::new(rng.next_u64()),
            old_disk: None,
            rng: ChaCha8Rng::seed_from_u64(rng.next_u64()),
            engine: None,
            place: DiskPlace { device: 1, inode: number as u64 },
            is_stale: false,
            excused: 0,
            doomed: None,
            is_process_only: false,
            settings: Settings { liars, ..SETTINGS },
        }
    }

    /// A second node on a copy of its disk, which lies somewhere else if it knows that it is one.
    pub(super) fn twin(&self, inode: Option<u64>, rng: &mut ChaCha8Rng) -> SimNode {
        SimNode {
            name: self.name.clone(),
            key: self.key.clone(),
            disk: self.disk.fork(rng.next_u64()),
            old_disk: None,
            rng: ChaCha8Rng::seed_from_u64(rng.next_u64()),
            engine: None,
            place: inode.map_or(self.place, |inode| DiskPlace { device: 2, inode }),
            is_stale: false,
            excused: 0,
            doomed: None,
            is_process_only: false,
            settings: self.settings,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        node_id(&self.key)
    }

    pub(super) fn key(&self) -> &SigningKey {
        &self.key
    }

    pub(super) fn is_running(&self) -> bool {
        self.engine.is_some()
    }

    pub(super) fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    pub(super) fn disk_crashed(&self) -> bool {
        self.disk.is_crashed()
    }

    /// Makes its home in a network of its own.
    pub(super) fn found(&mut self) -> Result<NetworkId, Failed> {
        let new = NewHome { network: NetworkName::parse("lab")?, node: self.name.clone(), place: self.place };
        let engine = Engine::init(self.open_store()?, self.key.clone(), &new, &mut self.rng)?;
        let network = engine.home().network;
        self.engine = Some(engine.with(self.settings));
        Ok(network)
    }

    /// Makes its home in a network that has invited it.
    pub(super) fn join(&mut self, network: NetworkId) -> Result<(), Failed> {
        let engine = Engine::join(self.open_store()?, self.key.clone(), network, self.place, &mut self.rng)?;
        self.engine = Some(engine.with(self.settings));
        Ok(())
    }

    /// The record that its inviter writes of it.
    pub(super) fn record(&self) -> Option<NodeBody> {
        let storage = self.engine.as_ref()?.home().storage;
        Some(NodeBody { name: self.name.to_string(), role: Role::Member, storage })
    }

    /// Starts it, which may fail when it is doomed to crash at that, or when its disk is full.
    pub(super) fn start(&mut self) -> Result<(), Failed> {
        match std::mem::take(&mut self.is_process_only) {
            true => self.disk.restart_process(),
            false => self.disk.restart(),
        }
        (self.excused, self.is_stale) = (self.disk.faults(), false);
        if let Some(calls) = self.doomed.take() {
            self.crash_at(calls);
        }
        let engine = Engine::open(self.open_store()?, self.key.clone(), self.place, &mut self.rng)?;
        self.engine = Some(engine.with(self.settings));
        Ok(())
    }

    pub(super) fn stop(&mut self) {
        self.engine = None;
    }

    /// Its process ends, as by an error of its own, and its machine goes on.
    pub(super) fn stop_process(&mut self) {
        self.engine = None;
        self.is_process_only = true;
    }

    pub(super) fn crash_within(&mut self, calls: u64) {
        if self.is_running() {
            self.crash_at(calls);
        }
    }

    fn crash_at(&self, calls: u64) {
        self.disk.crash_at(self.disk.calls() + calls);
    }

    /// It will crash within so many calls to the disk when it starts next.
    pub(super) fn doom(&mut self, calls: u64) {
        self.doomed = Some(calls);
    }

    /// Takes back whatever has not come yet.
    pub(super) fn pardon(&mut self) {
        if !self.disk.is_crashed() {
            self.disk.crash_at(u64::MAX);
            self.disk.fail_at(u64::MAX);
        }
        self.disk.set_capacity(None);
        self.doomed = None;
    }

    /// One of the next calls to the disk fails, and has no effect.
    pub(super) fn fail_within(&mut self, calls: u64) {
        if self.is_running() {
            self.disk.fail_at(self.disk.calls() + calls);
        }
    }

    /// Flips a bit in a blob's file; whether there is such a byte.
    pub(super) fn flip_bit(&self, id: &BlobId, offset_bytes: u64) -> bool {
        self.disk.flip_bit(&layout::blob_file(id), offset_bytes).is_ok()
    }

    /// From now on its disk is full, or it is not.
    pub(super) fn fill_disk(&mut self, is_full: bool) {
        match is_full {
            true => self.disk.fill(),
            false => self.disk.set_capacity(None),
        }
    }

    /// What its disk has done wrong since it was made.
    pub(super) fn faults(&self) -> u64 {
        self.disk.faults()
    }

    /// Whether a call to the disk has failed and nobody has dealt with that.
    pub(super) fn disk_failed(&self) -> bool {
        self.disk.faults() > self.excused
    }

    /// Whether the disk is full as far as the node can know: what it does meanwhile may fail.
    pub(super) fn met_full(&self, error: &Failed) -> bool {
        matches!(error.downcast_ref(), Some(StoreError::NoSpace))
            || matches!(error.downcast_ref(), Some(PlaceError::DiskFull(_) | PlaceError::Records(StoreError::NoSpace)))
            || matches!(error.downcast_ref(), Some(IngestError::DiskFull(_)))
            || self.engine.as_ref().is_some_and(|engine| engine.store().has_met_full())
    }

    pub(super) fn remember_disk(&mut self) {
        if self.is_running() {
            self.old_disk = Some(self.disk.fork(self.rng.next_u64()));
        }
    }

    pub(super) fn put_back_old_disk(&mut self) -> bool {
        let Some(old) = self.old_disk.take() else { return false };
        self.disk = old;
        true
    }

    /// A step as the driver makes it. After one that failed the engine begins anew, and is told who is connected.
    pub(super) fn step(
        &mut self,
        now_ms: u64,
        boot_ms: u64,
        connected: impl Iterator<Item = NodeId>,
        input: Input,
    ) -> Result<Vec<Effect>, Failed> {
        let engine = self.engine.as_mut().ok_or("it does not run")?;
        let mut inputs = vec![Input::Elapsed { boot_ms }];
        if self.is_stale {
            engine.restart()?;
            inputs.extend(connected.map(|peer| Input::Connected { peer }));
        }
        inputs.push(input);
        self.is_stale = true;
        let effects = engine.step(now_ms, &mut self.rng, inputs)?;
        self.is_stale = false;
        Ok(effects)
    }

    /// Takes in bytes and puts them in place, as a worker does before it reports to the engine; whether a file of them was held already.
    pub(super) fn take_in(&mut self, mut bytes: &[u8]) -> Result<(Placed, bool), Failed> {
        let engine = self.engine.as_ref().ok_or("it does not run")?;
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        let source: &mut dyn Read = &mut bytes;
        let ingested = ingest(engine.store().fs(), IngestId(id), source, &mut |_| {})?;
        let record = engine.store().snapshot()?.blob(&ingested.fact().sha1)?;
        let was_held = record.is_some_and(|record| record.place == Place::File);
        let placed = engine.store().place(vec![ingested])?.placed.pop().ok_or("it holds another blob of that SHA-1")?;
        Ok((placed, was_held))
    }

    /// All that it holds, while it runs.
    pub(super) fn all_blobs(&self) -> Vec<BlobId> {
        let mut all = Vec::new();
        if let Some(Ok(snapshot)) = self.engine.as_ref().map(|engine| engine.store().snapshot()) {
            let visited = snapshot.visit_blobs::<StoreError>(&BlobId([0; BlobId::LEN]), |id, _| {
                all.push(id);
                Ok(true)
            });
            visited.expect("invariant: a simulated disk is read without errors while its node runs");
        }
        all
    }

    /// The bytes of a blob, if it runs and holds it.
    pub(super) fn read(&self, id: &BlobId) -> Option<Vec<u8>> {
        let store = self.engine.as_ref()?.store();
        let snapshot = store.snapshot().ok()?;
        let record = snapshot.blob(id).ok()??;
        let bytes = store.open_blob(&snapshot, id, &record).ok()?;
        let mut read = vec![0; usize::try_from(record.size_bytes).ok()?];
        let whole = bytes.read_at(&mut read, 0).ok()? == read.len();
        whole.then_some(read)
    }

    /// Brings back the bytes of what has been in the trash for longest.
    pub(super) fn retrieve_oldest(&mut self) -> Result<Option<Retrieved>, Failed> {
        let engine = self.engine.as_ref().ok_or("it does not run")?;
        let oldest = engine.store().snapshot()?.trash_until(u64::MAX, 1)?.pop();
        Ok(oldest.map(|id| engine.store().retrieve(&id)).transpose()?.flatten())
    }

    fn open_store(&self) -> Result<Arc<Store>, Failed> {
        let fs: SharedFs = Arc::new(self.disk.fs());
        Ok(Arc::new(Store::open(self.disk.backend("index.redb"), fs)?))
    }
}
