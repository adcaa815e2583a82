//! The driver: one thread that owns the engine, gives it inputs in batches, and performs what each step asks for.
//!
//! Whatever has come while a step ran goes into the next one together (group commit). Effects are performed in their order, after
//! the step is durable; answers go to whoever waits. A step that finds the disk full has not happened: everybody who waits for it is
//! told so, and the engine starts anew for the next one. Any other failure ends the driver: everybody is told, and the daemon exits.

mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keepwell_protocol::catalog::member::NodeBody;
use keepwell_protocol::clock::Doubt;
use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_protocol::log::exchange::Ack;
use keepwell_store::error::StoreError;
use keepwell_store::home::Home;
use keepwell_store::store::Store;
use rand_chacha::rand_core::SeedableRng;
use tokio::sync::watch;

use super::mover::{Mover, Movers, Report};
use super::prober::Prober;
use crate::engine::pressure::PressureReport;
use crate::engine::{Collected, Effect, Engine, EngineRng, Event, Input, Reply, RequestId, Settings};
use crate::failure::{Code, Failure};
use crate::limits::{MAX_STEP_INPUTS, TICK_MS};
use crate::service::copies::LastCount;
use crate::uptime::boot_ms;

/// What the driver cannot do itself: the network, and telling people.
pub trait World: Send {
    /// Gossip an entry.
    fn publish(&mut self, entry: Vec<u8>);
    /// Send a message to a connected member.
    fn send(&mut self, to: NodeId, message: Vec<u8>);
    /// Close the connection of a peer that broke the protocol.
    fn refuse(&mut self, peer: NodeId, reason: &str);
    /// Something that people should hear of.
    fn tell(&mut self, event: &Event);
    /// Fetch copies of blobs, and report when that is over.
    fn bring(&mut self, blobs: Vec<BlobId>);
    /// A step is durable: the catalog may have changed.
    fn stepped(&mut self, store: &Store) -> Result<(), StoreError>;
}

/// A world of one: nobody is there to be talked to.
#[derive(Debug)]
pub struct Alone;

impl World for Alone {
    fn publish(&mut self, _entry: Vec<u8>) {}
    fn send(&mut self, _to: NodeId, _message: Vec<u8>) {}
    fn refuse(&mut self, _peer: NodeId, _reason: &str) {}
    fn tell(&mut self, _event: &Event) {}
    fn bring(&mut self, _blobs: Vec<BlobId>) {}
    fn stepped(&mut self, _store: &Store) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What the engine knows of the other members, and of itself, as of the last step.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    /// The members that are connected.
    pub connected: Vec<NodeId>,
    /// The last word of each member.
    pub acks: BTreeMap<NodeId, Ack>,
    /// Why nothing is ended by this machine's clock, if so.
    pub doubt: Option<Doubt>,
    /// Whether damage was found in this node's index.
    pub is_index_damaged: bool,
}

/// A running engine. Clones drive the same one; it stops when [`Driver::stop`] is called.
#[derive(Clone)]
pub struct Driver {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<Store>,
    home: Home,
    settings: Settings,
    jobs: Sender<Job>,
    rng: Mutex<EngineRng>,
    peers: Arc<Mutex<Peers>>,
    pressure: Arc<Mutex<PressureReport>>,
    steps: watch::Receiver<u64>,
    movers: Movers,
    longest_purge_us: Arc<AtomicU64>,
    last_count: LastCount,
    thread: Mutex<Option<JoinHandle<Result<(), Failure>>>>,
}

/// An input and whoever waits for its answer.
enum Job {
    Input(Input),
    Ask(Box<dyn FnOnce(RequestId) -> Input + Send>, SyncSender<Result<Reply, Failure>>),
    /// The disk has failed beside the engine.
    Failed(StoreError),
    Stop,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver({})", self.shared.home.node)
    }
}

impl Driver {
    /// Starts the thread that owns `engine`. `rng` must not be predictable by others.
    pub fn start(engine: Engine, mut rng: EngineRng, world: impl World + 'static) -> Result<Driver, Failure> {
        let (jobs, queue) = channel();
        let (store, home) = (Arc::clone(engine.store()), engine.home().clone());
        let settings = engine.settings();
        let ours = EngineRng::from_rng(&mut rng);
        let is_index_damaged = engine.is_index_damaged();
        let peers = Arc::new(Mutex::new(Peers { is_index_damaged, ..Peers::default() }));
        let pressure = Arc::new(Mutex::new(PressureReport::default()));
        let (stepped, steps) = watch::channel(0);
        let reports = jobs.clone();
        let mover = mover(&store, jobs.clone())?;
        let movers = mover.handle();
        let longest_purge_us = Arc::new(AtomicU64::new(0));
        let running = Running {
            engine,
            rng,
            world: Box::new(world),
            waiting: BTreeMap::new(),
            next: 1,
            connected: BTreeSet::new(),
            is_stale: false,
            followed: Vec::new(),
            failed: None,
            mover,
            longest_purge_us: Arc::clone(&longest_purge_us),
            began: Instant::now(),
            peers: Arc::clone(&peers),
            pressure: Arc::clone(&pressure),
            stepped,
            prober: Prober::start(Arc::clone(&store), move |probed| reports.send(Job::Input(Input::Probed(probed))).is_ok())?,
        };
        let spawned = std::thread::Builder::new().name("engine".into()).spawn(move || running.run(&queue));
        let thread =
            spawned.map_err(|error| Failure::new(Code::Internal, format!("cannot start the engine's thread: {error}")))?;
        let (rng, thread) = (Mutex::new(ours), Mutex::new(Some(thread)));
        let last_count = LastCount::default();
        let shared =
            Shared { store, home, settings, jobs, rng, peers, pressure, steps, movers, longest_purge_us, last_count, thread };
        Ok(Driver { shared: Arc::new(shared) })
    }

    /// Gives the engine an input that nobody waits for.
    pub fn give(&self, input: Input) {
        // A driver that has stopped takes nothing more; whoever needs an answer is told by `ask`.
        drop(self.shared.jobs.send(Job::Input(input)));
    }

    /// Takes a node into the network. The answer comes when its record is durable.
    pub fn admit(&self, node: NodeId, body: NodeBody) -> Result<(), Failure> {
        match self.ask(move |request| Input::Admit { request, node, body })? {
            Reply::Admitted => Ok(()),
            other => Err(other.into()),
        }
    }

    /// What home this is.
    pub fn home(&self) -> &Home {
        &self.shared.home
    }

    /// What is known of the other members.
    pub fn peers(&self) -> Peers {
        self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the threads that move files have been at for too long.
    pub fn hung(&self) -> Vec<String> {
        self.shared.movers.hung()
    }

    /// Changes whenever a step has become durable: then the catalog may have changed.
    pub fn steps(&self) -> watch::Receiver<u64> {
        self.shared.steps.clone()
    }

    /// Ends the engine after the step that is running; why it had ended before, if it had.
    pub fn stop(&self) -> Result<(), Failure> {
        drop(self.shared.jobs.send(Job::Stop));
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread.map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(Failure::new(Code::Internal, "the engine panicked")
                .hint("if it does so again, its index may be damaged: check it with `keepwell fsck --verify`")),
        }
    }

    fn ask(&self, input: impl FnOnce(RequestId) -> Input + Send + 'static) -> Result<Reply, Failure> {
        let (answer, reply) = sync_channel(1);
        let stopped = || Failure::new(Code::Unreachable, "the daemon is stopping").hint("start it again with `keepwell up`");
        self.shared.jobs.send(Job::Ask(Box::new(input), answer)).map_err(|_| stopped())?;
        reply.recv().map_err(|_| stopped())?
    }
}

/// The engine's thread.
struct Running {
    engine: Engine,
    rng: EngineRng,
    world: Box<dyn World>,
    waiting: BTreeMap<RequestId, SyncSender<Result<Reply, Failure>>>,
    next: u64,
    /// Who is connected, as the inputs say; the engine is told again when it starts anew.
    connected: BTreeSet<NodeId>,
    /// Whether a step has failed since the engine was started.
    is_stale: bool,
    /// What has followed from the last step, for the next one.
    followed: Vec<Input>,
    /// Why the disk has failed beside the engine, if it has.
    failed: Option<StoreError>,
    /// Where the files of deleted blobs are moved.
    mover: Mover,
    /// The longest that a step which purged has taken, in microseconds.
    longest_purge_us: Arc<AtomicU64>,
    /// When the last step began.
    began: Instant,
    peers: Arc<Mutex<Peers>>,
    pressure: Arc<Mutex<PressureReport>>,
    stepped: watch::Sender<u64>,
    /// Where copies are looked at.
    prober: Prober,
}

impl Running {
    fn run(mut self, queue: &Receiver<Job>) -> Result<(), Failure> {
        let tick = Duration::from_millis(TICK_MS);
        let mut next_tick = Instant::now() + tick;
        loop {
            let mut inputs = std::mem::take(&mut self.followed);
            let patience = next_tick.saturating_duration_since(Instant::now());
            let goes_on = match queue.recv_timeout(if inputs.is_empty() { patience } else { Duration::ZERO }) {
                Ok(job) => self.collect(job, queue, &mut inputs),
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + tick;
                inputs.push(Input::Tick);
                // A disk that cannot be asked presses no more than it did.
                inputs.extend(self.engine.store().fs().room().ok().map(Input::Room));
                self.retry_unlinks()?;
            }
            if let Some(error) = self.failed.take() {
                return Err(error.into());
            }
            // Whoever waits is answered before a portion of garbage goes, not after it.
            let (lengthy, brief) = inputs.into_iter().partition(Input::may_purge);
            self.step(brief)?;
            self.step(still_asked(lengthy, |request| self.waiting.contains_key(request)))?;
            if !goes_on {
                return Ok(());
            }
            if let Some(wakes_ms) = self.wakes_ms() {
                next_tick =
                    next_tick.min(Instant::now() + Duration::from_millis(wakes_ms.saturating_sub(now_ms()).saturating_add(1)));
            }
        }
    }

    /// When the engine wants a tick out of turn. After a step that failed it has nothing to say.
    fn wakes_ms(&self) -> Option<u64> {
        if self.is_stale { None } else { self.engine.wakes_ms() }
    }

    /// Takes `job` and whatever else is there, up to a step's worth. False when the driver is to stop afterwards.
    fn collect(&mut self, job: Job, queue: &Receiver<Job>, inputs: &mut Vec<Input>) -> bool {
        let mut next = Some(job);
        while let Some(job) = next.take() {
            match job {
                Job::Input(input) => inputs.push(input),
                Job::Ask(input, answer) => {
                    let request = RequestId(self.next);
                    self.next += 1;
                    self.waiting.insert(request, answer);
                    inputs.push(input(request));
                }
                Job::Failed(error) => self.failed = Some(error),
                Job::Stop => return false,
            }
            if inputs.len() < MAX_STEP_INPUTS {
                next = queue.try_recv().ok();
            }
        }
        true
    }

    fn step(&mut self, inputs: Vec<Input>) -> Result<(), Failure> {
        if inputs.is_empty() {
            return Ok(());
        }
        for input in &inputs {
            match input {
                Input::Connected { peer } => drop(self.connected.insert(*peer)),
                Input::Disconnected { peer } => drop(self.connected.remove(peer)),
                _ => {}
            }
        }
        let was_stale = self.is_stale;
        let effects = match self.fresh_step(inputs) {
            Ok(effects) => effects,
            Err(error) if matches!(error, StoreError::NoSpace) || self.engine.store().has_met_full() => {
                if !was_stale {
                    eprintln!("warning: the disk of this home is full: what is asked is refused until there is space");
                }
                self.refuse_all();
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let known = Peers {
            connected: self.engine.connected_peers().copied().collect(),
            acks: self.engine.acks().clone(),
            doubt: self.engine.clock_doubt(),
            is_index_damaged: self.engine.is_index_damaged(),
        };
        *self.peers.lock().unwrap_or_else(PoisonError::into_inner) = known;
        self.pressure.lock().unwrap_or_else(PoisonError::into_inner).clone_from(self.engine.pressure());
        self.world.stepped(self.engine.store())?;
        effects.into_iter().for_each(|effect| self.perform(effect));
        self.stepped.send_modify(|steps| *steps += 1);
        Ok(())
    }

    /// A step of an engine that no failed one has left anything in.
    fn fresh_step(&mut self, inputs: Vec<Input>) -> Result<Vec<Effect>, StoreError> {
        let mut all = inputs;
        if self.is_stale {
            self.engine.restart()?;
            let again = self.connected.iter().map(|peer| Input::Connected { peer: *peer });
            all = again.chain(all.into_iter().filter(|input| !matches!(input, Input::Connected { .. }))).collect();
        }
        let was_stale = std::mem::replace(&mut self.is_stale, true);
        self.began = Instant::now();
        all.insert(0, Input::Elapsed { boot_ms: boot_ms() });
        let effects = self.engine.step(now_ms(), &mut self.rng, all)?;
        self.is_stale = false;
        if was_stale {
            eprintln!("note: there is space again on the disk of this home");
        }
        Ok(effects)
    }

    /// The disk is full: nothing of this step has happened, and whoever waits for it is told.
    fn refuse_all(&mut self) {
        for (_, answer) in std::mem::take(&mut self.waiting) {
            // Whoever asked may have gone.
            drop(answer.send(Err(StoreError::NoSpace.into())));
        }
    }

    /// Performs an effect. What may take as long as the disk does is only begun.
    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Publish(entry) => self.world.publish(entry),
            Effect::Send { to, bytes } => self.world.send(to, bytes),
            Effect::Refuse { peer, reason } => self.world.refuse(peer, &reason),
            Effect::Tell(event) => self.world.tell(&event),
            Effect::Unlink(blob) => self.mover.unlink(blob),
            Effect::Collected(collected) => {
                let cost_us = self.purge_took(&collected);
                self.followed.push(Input::Took { cost_us });
            }
            Effect::Retrieve(blob) => self.mover.retrieve(blob),
            Effect::Bring(blobs) => self.world.bring(blobs),
            Effect::Probe { from, question, seed } => self.prober.look(from, question, seed),
            Effect::Discard(ingest) => self.mover.discard(ingest),
            Effect::EmptyTrash { until_ms, enough_bytes } => self.mover.empty(until_ms, enough_bytes),
            Effect::Reply(request, reply) => {
                if let Reply::Collected(collected) = &reply {
                    self.purge_took(collected);
                }
                if let Some(answer) = self.waiting.remove(&request) {
                    // Whoever asked may have gone; what was done is done.
                    drop(answer.send(Ok(reply)));
                }
            }
        }
    }

    /// How long the step has taken that came to this, in microseconds.
    fn purge_took(&self, collected: &Collected) -> u64 {
        let cost_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        if !collected.purged.is_empty() {
            self.longest_purge_us.fetch_max(cost_us, Ordering::Relaxed);
        }
        cost_us
    }

    /// What could not be moved stays queued, with the reason, and is tried again.
    fn retry_unlinks(&mut self) -> Result<(), Failure> {
        match self.mover.tick(now_ms()) {
            Err(error) if !matches!(error, StoreError::NoSpace) && !self.engine.store().has_met_full() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Without the collections whose askers have been told by now that the disk is full: what was refused does not happen.
fn still_asked(inputs: Vec<Input>, is_waiting: impl Fn(&RequestId) -> bool) -> Vec<Input> {
    let is_asked = |input: &Input| if let Input::Collect { request, .. } = input { is_waiting(request) } else { true };
    inputs.into_iter().filter(is_asked).collect()
}

/// The threads that move files on this disk, and tell what comes of it in `jobs`.
fn mover(store: &Arc<Store>, jobs: Sender<Job>) -> Result<Mover, Failure> {
    Mover::start(Arc::clone(store), move |report| {
        let job = match report {
            Report::Retrieved(retrieved) => Job::Input(Input::Restore { request: RequestId::NOBODY, retrieved }),
            Report::Failed(error) => Job::Failed(error),
        };
        // A driver that has stopped needs no more telling.
        drop(jobs.send(job));
    })
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
