//! A world of several nodes: their disks, the network between them, and what goes wrong.
//!
//! The world owns the clock and the only source of randomness. It hands each node its inputs one at a time, carries out the effects
//! in order, and delivers what is sent late, twice, in another order or not at all. Checkers see everything and belong to no node.

pub mod checks;
mod clocks;
mod copies;
mod deletions;
mod faults;
mod leases;
mod model;
mod network;
mod node;
mod oracle;
mod pressure;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::id::{BlobFact, BlobId, NodeId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::engine::{Effect, Event, Input, Reply};
use crate::limits::TICK_MS;
use clocks::Clocks;
pub use faults::Faults;
use network::Network;
use node::SimNode;
use oracle::Oracle;

/// When simulated time begins, in Unix milliseconds.
const EPOCH_MS: u64 = 1_800_000_000_000;
/// Lines of the trace that a violation shows.
const TRACE_LINES: usize = 40;
/// What a collection may cost, in microseconds.
const MAX_COST_US: u64 = 20_000;
/// How long a driver may take until it brings a blob back, in simulated milliseconds.
const RETRIEVE_WITHIN_MS: u64 = 500;
/// How long a fetch may take, in simulated milliseconds.
const BRING_WITHIN_MS: u64 = 3_000;

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What all its randomness comes from.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How long users are active and things go wrong, in simulated milliseconds.
    pub active_ms: u64,
    /// How long the world is then left in peace, in simulated milliseconds.
    pub quiet_ms: u64,
    /// Milliseconds between two acts of users, on average.
    pub act_every_ms: u64,
    /// How many different blobs users put: the fewer, the more copies there are of each.
    pub contents: u64,
    /// Whether disks are full, each for a while and then not, and all of them in the end.
    pub full_disks: bool,
    /// What goes wrong, and how often.
    pub faults: Faults,
}

/// A broken promise: the seed replays it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("seed {seed}, at {at_ms} ms: {broken}\nlast of the trace:\n{}", trace.join("\n"))]
pub struct Violation {
    /// The seed of the run.
    pub seed: u64,
    /// When it was noticed, in simulated milliseconds since the beginning.
    pub at_ms: u64,
    /// What was broken, by the numbers of docs/SAFETY.md.
    pub broken: String,
    /// What happened last.
    pub trace: Vec<String>,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// A hash over everything that happened: equal for equal plans.
    pub trace_hash: [u8; 32],
    /// Inputs that nodes were given.
    pub inputs: u64,
    /// Writes to refs that were acknowledged.
    pub refs_written: usize,
    /// Puts that were acknowledged.
    pub blobs_put: usize,
    /// Copies that were purged.
    pub copies_purged: u64,
    /// Surplus copies that were given up.
    pub copies_dropped: u64,
    /// Copies that nodes fetched by themselves.
    pub copies_brought: u64,
    /// Those of the purged that nobody had asked for.
    pub copies_purged_unasked: u64,
    /// Those of the given up that went in the end, when all disks were full.
    pub copies_dropped_unasked: u64,
    /// Marks of values whose time was over.
    pub marks: u64,
    /// Those of them that a clock which was a little ahead wrote too early.
    pub early_marks: u64,
    /// Times that a node crashed.
    pub crashes: u64,
    /// Times that an old state of a disk was put back.
    pub rollbacks: u64,
    /// Boots that forked, as far as all nodes know in the end.
    pub forks: usize,
    /// Refs that ended with more than one value.
    pub conflicts: usize,
    /// How often the links of a blob were forgotten, with its last fact.
    pub unlinked: usize,
}

/// Something that will happen.
#[derive(Debug)]
enum Happening {
    /// A message arrives, if the two can still talk.
    Deliver { from: usize, to: usize, bytes: Vec<u8> },
    /// An entry arrives by gossip.
    Gossip { to: usize, entry: Vec<u8> },
    /// A node's timer.
    Tick(usize),
    /// Some user does something.
    Act,
    /// Something goes wrong.
    Fault,
    /// A crashed node starts again.
    Restart(usize),
    /// A node gets around to bringing a blob back from its trash.
    Retrieve(usize, BlobId),
    /// A node fetches copies.
    Bring(usize, Vec<BlobId>),
    /// A node is told how long its step took.
    Took(usize, u64),
    /// A parted network is whole again.
    Heal,
}

/// Several nodes and all there is around them.
pub struct World {
    plan: Plan,
    rng: ChaCha8Rng,
    now_ms: u64,
    nodes: Vec<SimNode>,
    network: Network,
    oracle: Oracle,
    clocks: Clocks,
    /// The nodes on which an old disk was put back: they may fork.
    rolled_back: BTreeSet<NodeId>,
    queue: BTreeMap<(u64, u64), Happening>,
    scheduled: u64,
    trace: Trace,
    summary: Summary,
}

/// What happened, as a hash over all of it and its last lines.
struct Trace {
    hasher: blake3::Hasher,
    lines: Vec<String>,
}

impl Trace {
    fn note(&mut self, at_ms: u64, line: String, bytes: &[u8]) {
        self.hasher.update(&at_ms.to_le_bytes());
        self.hasher.update(line.as_bytes());
        self.hasher.update(bytes);
        if self.lines.len() == TRACE_LINES {
            self.lines.remove(0);
        }
        self.lines.push(format!("{at_ms:>8} {line}"));
    }
}

impl World {
    /// A network of `plan.nodes` members, all running and connected, that know nothing of each other yet but by invitation.
    pub fn new(plan: Plan) -> Result<World, Violation> {
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
        let nodes = (0..plan.nodes).map(|at| SimNode::new(at, &mut rng)).collect();
        let summary = Summary {
            trace_hash: [0; 32],
            inputs: 0,
            refs_written: 0,
            blobs_put: 0,
            copies_purged: 0,
            copies_dropped: 0,
            copies_brought: 0,
            copies_purged_unasked: 0,
            copies_dropped_unasked: 0,
            marks: 0,
            early_marks: 0,
            crashes: 0,
            rollbacks: 0,
            forks: 0,
            unlinked: 0,
            conflicts: 0,
        };
        let mut world = World {
            network: Network::new(plan.nodes),
            rng,
            now_ms: EPOCH_MS,
            nodes,
            oracle: Oracle::default(),
            clocks: Clocks::default(),
            rolled_back: BTreeSet::new(),
            queue: BTreeMap::new(),
            scheduled: 0,
            trace: Trace { hasher: blake3::Hasher::new(), lines: Vec::new() },
            summary,
            plan,
        };
        world.found()?;
        Ok(world)
    }

    /// Runs the plan to its end and checks everything.
    pub fn run(mut self) -> Result<Summary, Violation> {
        let active_until = EPOCH_MS + self.plan.active_ms;
        self.go_on_until(active_until)?;
        self.make_peace()?;
        self.go_on_until(active_until + self.plan.quiet_ms)?;
        checks::check_all(&self).map_err(|broken| self.violation(broken))?;
        copies::check_enough(&self).map_err(|broken| self.violation(broken))?;
        match self.plan.full_disks {
            true => self.fill_all_disks()?,
            false => self.give_up_all_surplus()?,
        }
        let ended = checks::check_all(&self).map_err(|broken| self.violation(broken))?;
        deletions::check_surplus_gone(&self).map_err(|broken| self.violation(broken))?;
        deletions::check_garbage_gone(&self).map_err(|broken| self.violation(broken))?;
        (self.summary.conflicts, self.summary.forks, self.summary.unlinked) = (ended.conflicts, ended.forks, ended.unlinked);
        self.summary.refs_written = self.oracle.values.len();
        let gone = usize::try_from(self.oracle.purged + self.oracle.dropped).unwrap_or(0);
        self.summary.blobs_put = self.oracle.held.len() + gone;
        (self.summary.copies_purged, self.summary.copies_dropped) = (self.oracle.purged, self.oracle.dropped);
        (self.summary.marks, self.summary.early_marks) = (self.clocks.marks, self.clocks.early_marks);
        self.summary.trace_hash = *self.trace.hasher.finalize().as_bytes();
        Ok(self.summary)
    }

    fn go_on_until(&mut self, until_ms: u64) -> Result<(), Violation> {
        while let Some((&(at_ms, number), _)) = self.queue.first_key_value() {
            if at_ms > until_ms {
                break;
            }
            self.now_ms = at_ms;
            if let Some(happening) = self.queue.remove(&(at_ms, number)) {
                self.happen(happening)?;
            }
        }
        self.now_ms = until_ms;
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::Deliver { from, to, bytes } if self.network.can_hear(from, to) => {
                self.note_clock(from, to, &bytes);
                let from = self.nodes[from].id();
                self.give(to, Input::Received { from, bytes })
            }
            Happening::Deliver { .. } => Ok(()),
            Happening::Gossip { to, entry } => self.give(to, Input::Gossiped { entry }),
            Happening::Tick(node) => {
                self.after(TICK_MS, Happening::Tick(node));
                self.give(node, Input::Tick)?;
                self.measure(node)
            }
            Happening::Act => self.act(),
            Happening::Fault => self.fault(),
            Happening::Restart(node) => self.restart(node),
            Happening::Retrieve(node, blob) => self.retrieve(node, &blob),
            Happening::Bring(node, blobs) => self.bring(node, blobs),
            Happening::Took(node, cost_us) => self.give(node, Input::Took { cost_us }),
            Happening::Heal => self.heal(),
        }
    }

    /// Gives a running node an input and carries out what it answers.
    fn give(&mut self, node: usize, input: Input) -> Result<(), Violation> {
        if !self.nodes[node].is_running() {
            return Ok(());
        }
        self.summary.inputs += 1;
        self.trace.note(self.now_ms - EPOCH_MS, format!("node {node} takes {}", name_of(&input)), received_bytes(&input));
        let by_itself = matches!(input, Input::Tick | Input::Collect { .. });
        let (now_ms, boot_ms) = (self.clock_of(node), self.ran_ms());
        match self.nodes[node].step(now_ms, boot_ms, input) {
            Ok(effects) => {
                self.end_acknowledged_leases(node);
                for effect in &effects {
                    if let Effect::Publish(entry) = effect {
                        self.look_at_written(node, entry, by_itself)?;
                    }
                }
                self.carry_out(node, effects)
            }
            Err(_) if self.nodes[node].disk_crashed() => self.crashed(node),
            Err(error) => Err(self.violation(format!("node {node} failed without a fault: {error}"))),
        }
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) -> Result<(), Violation> {
        for effect in effects {
            match effect {
                Effect::Send { to, bytes } => self.send(node, &to, bytes),
                Effect::Publish(entry) => self.gossip(node, &entry),
                Effect::Reply(_, reply) => self.note_reply(node, reply)?,
                Effect::Unlink(blob) => self.unlink(node, &blob)?,
                Effect::Probe { from, question, seed } => self.probe(node, from, question, seed)?,
                Effect::Collected(collected) => {
                    self.summary.copies_purged_unasked += collected.purged.len() as u64;
                    self.note_reply(node, Reply::Collected(collected))?;
                    let cost_us = self.draw(MAX_COST_US);
                    self.after(1, Happening::Took(node, cost_us));
                }
                Effect::Retrieve(blob) => {
                    let delay_ms = self.draw(RETRIEVE_WITHIN_MS);
                    self.after(delay_ms, Happening::Retrieve(node, blob));
                }
                Effect::Bring(blobs) => {
                    let delay_ms = self.draw(BRING_WITHIN_MS);
                    self.after(delay_ms, Happening::Bring(node, blobs));
                }
                Effect::EmptyTrash { until_ms, enough_bytes } => self.empty_trash(node, until_ms, enough_bytes)?,
                Effect::Refuse { peer, reason } => {
                    return Err(self.violation(format!("node {node} refuses the honest node {peer}: {reason}")));
                }
                Effect::Tell(Event::RolledBack { .. }) => {
                    self.trace.note(self.now_ms - EPOCH_MS, format!("node {node} was rolled back"), &[])
                }
                Effect::Tell(Event::Forked { chain }) if self.rolled_back.contains(&chain.node) => {
                    self.trace.note(self.now_ms - EPOCH_MS, format!("node {node} proves a fork of {}", chain.node), &[])
                }
                Effect::Tell(Event::Dropped { blob, .. }) => {
                    self.oracle.gave_up(node, blob);
                    let checked =
                        deletions::check_dropped(self, node, &blob.sha1).and_then(|()| self.check_leases(node, &[blob]));
                    checked.map_err(|broken| self.violation(format!("node {node}: {broken}")))?;
                }
                Effect::Tell(event) => return Err(self.violation(format!("node {node} accuses an honest node: {event:?}"))),
            }
        }
        Ok(())
    }

    fn note_reply(&mut self, node: usize, reply: Reply) -> Result<(), Violation> {
        self.check_deletions(node, &reply)?;
        if self.is_removed_lease(node, &reply) {
            return Ok(());
        }
        let noted = self.oracle.note(node, reply);
        noted.map_err(|broken| self.violation(broken))
    }

    fn check_leases(&self, node: usize, gone: &[BlobFact]) -> Result<(), String> {
        let gone = gone.iter().map(|fact| fact.sha1);
        let engine = self.nodes[node].engine();
        engine.map_or(Ok(()), |engine| leases::check_deleted(engine, &self.oracle.leases, node, gone))
    }

    /// A deletion is judged by itself, from the refs and links alone, at the moment at which it has been made.
    fn check_deletions(&mut self, node: usize, reply: &Reply) -> Result<(), Violation> {
        match (reply, self.nodes[node].engine()) {
            (Reply::Collected(collected), Some(engine)) => deletions::check_purged(engine, &collected.purged)
                .and_then(|()| self.check_leases(node, &collected.purged))
                .map_err(|broken| self.violation(format!("node {node}: {broken}"))),
            _ => Ok(()),
        }
    }

    fn send(&mut self, from: usize, to: &NodeId, bytes: Vec<u8>) {
        let Some(to) = self.index_of(to) else { return };
        for delay_ms in self.network.fates(&mut self.rng, &self.plan.faults) {
            self.after(delay_ms, Happening::Deliver { from, to, bytes: bytes.clone() });
        }
    }

    fn gossip(&mut self, from: usize, entry: &[u8]) {
        for to in 0..self.nodes.len() {
            if to != from && self.network.can_hear(from, to) {
                for delay_ms in self.network.fates(&mut self.rng, &self.plan.faults) {
                    self.after(delay_ms, Happening::Gossip { to, entry: entry.to_vec() });
                }
            }
        }
    }

    fn after(&mut self, delay_ms: u64, happening: Happening) {
        self.scheduled += 1;
        self.queue.insert((self.now_ms + delay_ms, self.scheduled), happening);
    }

    fn index_of(&self, id: &NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id() == *id)
    }

    /// A number below `bound`.
    fn draw(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }

    fn some_node(&mut self) -> usize {
        usize::try_from(self.draw(self.nodes.len() as u64)).unwrap_or(0)
    }

    fn violation(&self, broken: String) -> Violation {
        let at_ms = self.now_ms - EPOCH_MS;
        Violation { seed: self.plan.seed, at_ms, broken, trace: self.trace.lines.clone() }
    }
}

fn name_of(input: &Input) -> &'static str {
    match input {
        Input::Put { .. } => "a put",
        Input::Lease { .. } => "a lease",
        Input::WriteRefs { .. } => "a write of refs",
        Input::Admit { .. } => "a new member",
        Input::Confirm { .. } => "a question how durable something is",
        Input::Declare { .. } => "a declaration",
        Input::Delete { .. } => "a delete",
        Input::Collect { .. } => "a collection",
        Input::Drop { .. } => "a request to drop",
        Input::DropFrom { .. } => "a request to have another drop",
        Input::Probed(_) => "what a look at copies found",
        Input::Restore { .. } => "a restoration",
        Input::Forget { .. } => "a forget",
        Input::Brought { .. } => "the end of a fetch",
        Input::Note { .. } => "a note",
        Input::Took { .. } => "the time",
        Input::Connected { .. } => "a connection",
        Input::Disconnected { .. } => "a disconnection",
        Input::Received { .. } => "a message",
        Input::Gossiped { .. } => "gossip",
        Input::Room(_) => "how full its disk is",
        Input::Elapsed { .. } => "the time since it was started",
        Input::Tick => "a tick",
    }
}

fn received_bytes(input: &Input) -> &[u8] {
    match input {
        Input::Received { bytes, .. } => bytes,
        Input::Gossiped { entry } => entry,
        _ => &[],
    }
}
