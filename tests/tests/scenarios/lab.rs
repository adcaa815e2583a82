//! A few engines on simulated disks that hear each other at once: for plays that need no bad weather.

use std::collections::VecDeque;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use keepwell_node::engine::{
    Effect, Engine, EngineRng, Event, Input, NewHome, Probed, PutBlob, RefOp, RefSet, Reply, RequestId, Settings, Stored,
};
use keepwell_node::limits::MAX_TICK_GAP_MS;
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::id::{BlobFact, BlobId, NodeId};
use keepwell_protocol::log::entry::node_id;
use keepwell_protocol::log::vector::Chain;
use keepwell_protocol::name::{NetworkName, NodeName, RefName};
use keepwell_store::fs::sim::SimDisk;
use keepwell_store::home::DiskPlace;
use keepwell_store::ingest::{IngestId, ingest};
use keepwell_store::store::Store;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Simulated time of every step: nothing in these plays depends on it, but for ticks.
const START_MS: u64 = 1_800_000_000_000;

/// One machine: its disk survives its engine.
pub(super) struct Machine {
    pub(super) disk: SimDisk,
    pub(super) key: SigningKey,
    pub(super) place: DiskPlace,
    rng: EngineRng,
    engine: Option<Engine>,
}

/// Some machines that are all connected, and what they told their people.
pub(super) struct Lab {
    pub(super) machines: Vec<Machine>,
    pub(super) events: Vec<(usize, Event)>,
    pub(super) refusals: Vec<(usize, NodeId, String)>,
    /// Copies that machines would fetch, in order: nobody does unless a play does it.
    pub(super) brings: Vec<(usize, Vec<BlobId>)>,
    /// Pairs that do not hear each other.
    pub(super) parted: Vec<(usize, usize)>,
    pub(super) now_ms: u64,
    /// Questions about copies for which a machine has looked at its own.
    pub(super) probes: usize,
}

impl Machine {
    fn new(number: u8) -> Machine {
        Machine {
            disk: SimDisk::new(u64::from(number)),
            key: SigningKey::from_bytes(&[number + 1; 32]),
            place: DiskPlace { device: 1, inode: u64::from(number) },
            rng: EngineRng::seed_from_u64(u64::from(number)),
            engine: None,
        }
    }

    pub(super) fn store(&self) -> Arc<Store> {
        Arc::new(Store::open(self.disk.backend("index.redb"), Arc::new(self.disk.fs())).unwrap())
    }

    pub(super) fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    pub(super) fn id(&self) -> NodeId {
        node_id(&self.key)
    }

    /// Sets the machine's node.
    pub(super) fn set(&mut self, settings: Settings) {
        self.engine = self.engine.take().map(|engine| engine.with(settings));
    }

    /// Ends the machine's node.
    pub(super) fn stop(&mut self) {
        self.engine = None;
    }

    /// Starts the machine's node again, wherever its disk is now.
    pub(super) fn start(&mut self) {
        self.engine = None;
        self.disk.restart();
        self.engine = Some(Engine::open(self.store(), self.key.clone(), self.place, &mut self.rng).unwrap());
    }
}

impl Lab {
    /// `count` machines in one network, connected.
    pub(super) fn new(count: u8) -> Lab {
        let mut lab = Lab {
            machines: (0..count).map(Machine::new).collect(),
            events: vec![],
            refusals: vec![],
            brings: vec![],
            parted: vec![],
            now_ms: START_MS,
            probes: 0,
        };
        lab.found();
        for machine in 1..count.into() {
            lab.join(machine);
        }
        lab.connect_all();
        lab
    }

    fn found(&mut self) {
        let first = &mut self.machines[0];
        let new =
            NewHome { network: NetworkName::parse("lab").unwrap(), node: NodeName::parse("n0").unwrap(), place: first.place };
        first.engine = Some(Engine::init(first.store(), first.key.clone(), &new, &mut first.rng).unwrap());
    }

    fn join(&mut self, machine: usize) {
        let network = self.machines[0].engine().home().network;
        let joining = &mut self.machines[machine];
        let engine = Engine::join(joining.store(), joining.key.clone(), network, joining.place, &mut joining.rng).unwrap();
        let body = NodeBody { name: format!("n{machine}"), role: Role::Member, storage: engine.home().storage };
        joining.engine = Some(engine);
        let node = joining.id();
        self.give(0, Input::Admit { request: RequestId(0), node, body });
    }

    /// Connects every pair that is not parted, as if anew.
    pub(super) fn connect_all(&mut self) {
        for a in 0..self.machines.len() {
            for b in 0..self.machines.len() {
                if a != b && !self.is_parted(a, b) {
                    let peer = self.machines[b].id();
                    self.give(a, Input::Disconnected { peer });
                    self.give(a, Input::Connected { peer });
                }
            }
        }
        self.settle();
    }

    /// Lets a few ticks pass, so that everybody tells everybody how far they have come.
    pub(super) fn settle(&mut self) {
        for _ in 0..5 {
            self.now_ms += 5_000;
            for machine in 0..self.machines.len() {
                self.give(machine, Input::Tick);
            }
        }
    }

    /// Has one machine run for so long.
    pub(super) fn run(&mut self, machine: usize, mut ms: u64) {
        while ms > 0 {
            let passing = ms.min(MAX_TICK_GAP_MS);
            ms -= passing;
            self.now_ms += passing;
            self.give(machine, Input::Tick);
        }
    }

    fn is_parted(&self, a: usize, b: usize) -> bool {
        self.parted.contains(&(a, b)) || self.parted.contains(&(b, a))
    }

    /// Gives one machine an input, and delivers everything that follows from it, everywhere.
    pub(super) fn give(&mut self, machine: usize, input: Input) -> Vec<Reply> {
        let mut replies = Vec::new();
        let mut due = VecDeque::from([(machine, input)]);
        while let Some((at, input)) = due.pop_front() {
            let here = &mut self.machines[at];
            let Some(engine) = here.engine.as_mut() else { continue };
            for effect in engine.step(self.now_ms, &mut here.rng, vec![input]).unwrap() {
                self.carry_out(at, effect, &mut due, &mut replies);
            }
        }
        replies
    }

    fn carry_out(&mut self, at: usize, effect: Effect, due: &mut VecDeque<(usize, Input)>, replies: &mut Vec<Reply>) {
        match effect {
            Effect::Send { to, bytes } => {
                let to = self.machines.iter().position(|machine| machine.id() == to);
                if let Some(to) = to.filter(|to| !self.is_parted(at, *to)) {
                    due.push_back((to, Input::Received { from: self.machines[at].id(), bytes }));
                }
            }
            Effect::Reply(_, reply) => replies.push(reply),
            Effect::Tell(event) => self.events.push((at, event)),
            Effect::Refuse { peer, reason } => self.refusals.push((at, peer, reason)),
            Effect::Probe { from, question, seed } => {
                self.probes += 1;
                let probes = self.machines[at].engine().store().probe_all(&question.blobs, seed, 0);
                due.push_back((at, Input::Probed(Probed { from, question, probes })));
            }
            Effect::Retrieve(blob) => {
                let retrieved = self.machines[at].engine().store().try_retrieve(&blob).unwrap();
                due.extend(retrieved.map(|retrieved| (at, Input::Restore { request: RequestId::NOBODY, retrieved })));
            }
            Effect::Bring(blobs) => self.brings.push((at, blobs)),
            Effect::Collected(_) | Effect::Publish(_) | Effect::Unlink(_) | Effect::Discard(_) | Effect::EmptyTrash { .. } => {}
        }
    }

    /// What a machine would have the world do, without doing it.
    pub(super) fn effects_of(&mut self, machine: usize, input: Input) -> Vec<Effect> {
        let here = &mut self.machines[machine];
        here.engine.as_mut().unwrap().step(self.now_ms, &mut here.rng, vec![input]).unwrap()
    }

    /// Takes back the record that a machine has of a blob, as when its bytes were found to be lost.
    pub(super) fn forget(&mut self, machine: usize, blob: BlobId) -> Option<Reply> {
        let input = self.forgetting(machine, blob);
        self.give(machine, input).pop()
    }

    /// What takes it back.
    pub(super) fn forgetting(&self, machine: usize, blob: BlobId) -> Input {
        let record = self.machines[machine].engine().store().snapshot().unwrap().blob(&blob).unwrap().unwrap();
        Input::Forget { request: RequestId(3), blob, record, why: "rotten".into() }
    }

    /// Goes on on a machine as after a step that a full disk has failed.
    pub(super) fn fail_step(&mut self, machine: usize) {
        self.machines[machine].engine.as_mut().unwrap().restart().unwrap();
        self.connect_all();
    }

    /// The chain that a machine writes.
    pub(super) fn own_chain(&self, machine: usize) -> Chain {
        let home = self.machines[machine].engine().home();
        Chain { node: home.node, boot: home.boot.as_ref().unwrap().id }
    }

    /// Puts bytes on a machine, linked to `children`.
    pub(super) fn put(&mut self, machine: usize, bytes: &[u8], children: &[BlobId]) -> BlobFact {
        let (fact, blob) = self.take_in(machine, bytes);
        self.give(
            machine,
            Input::Put { request: RequestId(1), blobs: vec![PutBlob { blob, children: children.to_vec() }], lease: None },
        );
        fact
    }

    /// Puts one blob for each number below `count` on a machine, all at once.
    pub(super) fn put_many(&mut self, machine: usize, count: usize) -> Vec<BlobId> {
        let taken: Vec<(BlobFact, Stored)> = (0..count).map(|number| self.take_in(machine, &number.to_be_bytes())).collect();
        let ids = taken.iter().map(|(fact, _)| fact.sha1).collect();
        let blobs = taken.into_iter().map(|(_, blob)| PutBlob { blob, children: vec![] }).collect();
        self.give(machine, Input::Put { request: RequestId(1), blobs, lease: None });
        ids
    }

    fn take_in(&mut self, machine: usize, bytes: &[u8]) -> (BlobFact, Stored) {
        let mut id = [0; 16];
        self.machines[machine].rng.fill_bytes(&mut id);
        let store = self.machines[machine].engine().store().clone();
        let ingested = ingest(store.fs(), IngestId(id), &mut &*bytes, &mut |_| {}).unwrap();
        let fact = ingested.fact();
        (fact, Stored::New(store.place(vec![ingested]).unwrap().placed.pop().unwrap()))
    }

    /// Whether a machine holds a blob.
    pub(super) fn holds(&self, machine: usize, blob: &BlobId) -> bool {
        self.machines[machine].engine().store().snapshot().unwrap().blob(blob).unwrap().is_some()
    }

    /// Fetches copies for a machine from whoever it is not parted from, and tells it that this is over.
    pub(super) fn bring(&mut self, machine: usize, blobs: Vec<BlobId>) {
        let mut puts = Vec::new();
        for id in &blobs {
            let mut givers = (0..self.machines.len()).filter(|giver| !self.is_parted(*giver, machine));
            let Some(giver) = givers.find(|giver| *giver != machine && self.holds(*giver, id)) else { continue };
            let bytes = self.read(giver, id);
            let (_, blob) = self.take_in(machine, &bytes);
            puts.push(PutBlob { blob, children: vec![] });
        }
        self.give(machine, Input::Put { request: RequestId(3), blobs: puts, lease: None });
        self.give(machine, Input::Brought { blobs });
    }

    fn read(&self, machine: usize, blob: &BlobId) -> Vec<u8> {
        let store = self.machines[machine].engine().store();
        let snapshot = store.snapshot().unwrap();
        let record = snapshot.blob(blob).unwrap().unwrap();
        let mut bytes = vec![0; usize::try_from(record.size_bytes).unwrap()];
        assert_eq!(store.open_blob(&snapshot, blob, &record).unwrap().read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    /// Sets a ref on a machine.
    pub(super) fn set(&mut self, machine: usize, name: &str, obj: &str, links: &[BlobId]) -> Reply {
        let op = RefOp::Set(a_set(name, obj, links));
        self.give(machine, Input::WriteRefs { request: RequestId(2), ops: vec![op] }).pop().unwrap()
    }

    /// The objects of a ref as a machine shows them, the winner first.
    pub(super) fn values(&self, machine: usize, name: &str) -> Vec<String> {
        let snapshot = self.machines[machine].engine().store().snapshot().unwrap();
        let row = snapshot.item(&Item::reference(name)).unwrap();
        row.values().iter().map(|value| RefBody::of(value).unwrap().obj).collect()
    }
}

/// A write of a ref with nothing special about it.
pub(super) fn a_set(name: &str, obj: &str, links: &[BlobId]) -> RefSet {
    RefSet::new(RefName::parse(name).unwrap(), obj, links.to_vec())
}
