//! A world of several nodes: their disks, the network between them, and what goes wrong.
//!
//! The world owns the clock and the only source of randomness. It hands each node its inputs one at a time, carries out the effects
//! in order, and delivers what is sent late, twice, in another order or not at all. Checkers see everything and belong to no node.

pub mod checks;
mod clocks;
mod copies;
mod deletions;
mod faults;
mod hostile;
mod leases;
mod linked;
mod looks;
mod mishaps;
mod model;
mod network;
mod node;
mod oracle;
mod pressure;
mod removals;
mod rest;
mod rot;
mod stories;
mod summary;
mod twins;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::id::{BlobFact, BlobId, NetworkId, NodeId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::engine::{Effect, Event, Input, Reply};
use crate::limits::TICK_MS;
use clocks::Clocks;
pub use faults::Faults;
pub use hostile::Hostile;
use network::Network;
use node::SimNode;
use oracle::Oracle;
use stories::Stories;
pub use summary::Summary;
use summary::{name_of, received_bytes};
use twins::Twins;

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
    /// What the last node is, if it is not as honest as the others.
    pub hostile: Option<Hostile>,
    /// For how many liars every node leaves a margin.
    pub liars: u32,
    /// Whether the first node's admin removes a member in mid-story.
    pub removal: bool,
    /// What goes wrong, and how often.
    pub faults: Faults,
}

/// A broken promise: the seed replays it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("seed {seed}, at {at_ms} ms: {broken}\nlast of the trace:\n{}\nstory of the blob:\n{}", trace.join("\n"), story.join("\n"))]
pub struct Violation {
    /// The seed of the run.
    pub seed: u64,
    /// When it was noticed, in simulated milliseconds since the beginning.
    pub at_ms: u64,
    /// What was broken, by the numbers of docs/SAFETY.md.
    pub broken: String,
    /// What happened last.
    pub trace: Vec<String>,
    /// What had happened to the blobs that it is about.
    pub story: Vec<String>,
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
    /// A checker looks at all nodes.
    Look,
    /// A node reads all that it holds.
    Scrub(usize),
    /// The hostile node does something evil.
    Evil,
    /// The admin removes a member.
    Remove(usize),
    /// Two nodes come to talk again.
    Connect(usize, usize),
    /// Whoever dials a node of which there are two reaches now the one and now the other.
    Roam,
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
    /// The network parts once more, or is whole again, and so on so many times.
    Flap { sides: Vec<bool>, left: u64 },
    /// A node that was paused goes on.
    Resume(usize),
    /// A node that was paused is given what came for it.
    Give(usize, Input),
    /// A disk has room again.
    Room(usize),
}

/// Several nodes and all there is around them.
pub struct World {
    plan: Plan,
    rng: ChaCha8Rng,
    now_ms: u64,
    nodes: Vec<SimNode>,
    network: Network,
    network_id: Option<NetworkId>,
    /// The nodes that take nothing in now, and what waits for them.
    paused: BTreeMap<usize, Vec<Happening>>,
    oracle: Oracle,
    clocks: Clocks,
    /// The nodes on which an old disk was put back: they may fork.
    rolled_back: BTreeSet<NodeId>,
    /// Who is no member any more.
    removed: Option<usize>,
    twins: Option<Twins>,
    queue: BTreeMap<(u64, u64), Happening>,
    scheduled: u64,
    trace: Trace,
    stories: Stories,
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
        let nodes = (0..plan.nodes).map(|at| SimNode::new(at, plan.liars, &mut rng)).collect();
        let mut world = World {
            network: Network::new(plan.nodes),
            network_id: None,
            paused: BTreeMap::new(),
            rng,
            now_ms: EPOCH_MS,
            nodes,
            oracle: Oracle::default(),
            clocks: Clocks::default(),
            rolled_back: BTreeSet::new(),
            removed: None,
            twins: None,
            queue: BTreeMap::new(),
            scheduled: 0,
            trace: Trace { hasher: blake3::Hasher::new(), lines: Vec::new() },
            stories: Stories::default(),
            summary: Summary::default(),
            plan,
        };
        world.found()?;
        Ok(world)
    }

    /// Runs the plan to its end and checks everything.
    pub fn run(mut self) -> Result<Summary, Violation> {
        let active_until = EPOCH_MS + self.plan.active_ms;
        self.go_on_until(active_until)?;
        self.rest(active_until)?;
        self.let_last_words_arrive()?;
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
        self.summary.void = ended.void;
        self.summary.refs_written = self.oracle.values.len() as u64;
        self.summary.blobs_put = self.oracle.held.len() as u64 + self.oracle.purged + self.oracle.dropped;
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
        let Some(happening) = self.unless_paused(happening) else { return Ok(()) };
        match happening {
            Happening::Deliver { from, to, bytes } if self.network.can_hear(from, to) => {
                if self.is_lied_about(from, to, &bytes) {
                    return Ok(());
                }
                self.note_clock(from, to, &bytes);
                let from = self.nodes[from].id();
                self.give(to, Input::Received { from, bytes })
            }
            Happening::Deliver { .. } => Ok(()),
            Happening::Gossip { to, entry } => self.give(to, Input::Gossiped { entry }),
            Happening::Tick(node) => {
                self.after(TICK_MS, Happening::Tick(node));
                self.give(node, Input::Tick)?;
                self.retry_unlinks(node)?;
                self.measure(node)
            }
            Happening::Act => self.act(),
            Happening::Fault => self.fault(),
            Happening::Look => self.look(),
            Happening::Evil => self.do_evil(),
            Happening::Remove(of) => self.remove(of),
            Happening::Roam => self.roam(),
            Happening::Connect(a, b) => self.connect(a, b),
            Happening::Scrub(node) => self.scrub(node),
            Happening::Restart(node) => self.restart(node),
            Happening::Retrieve(node, blob) => self.retrieve(node, &blob),
            Happening::Bring(node, blobs) => self.bring(node, blobs),
            Happening::Took(node, cost_us) => self.give(node, Input::Took { cost_us }),
            Happening::Heal => self.heal(),
            Happening::Flap { sides, left } => self.flap(sides, left),
            Happening::Resume(node) => self.resume(node),
            Happening::Give(node, input) => self.give(node, input),
            Happening::Room(node) => {
                self.nodes[node].fill_disk(false);
                Ok(())
            }
        }
    }

    /// Gives a running node an input and carries out what it answers.
    fn give(&mut self, node: usize, input: Input) -> Result<(), Violation> {
        if !self.nodes[node].is_running() {
            return Ok(());
        }
        let Some(input) = self.put_off_if_paused(node, input) else { return Ok(()) };
        self.summary.inputs += 1;
        self.trace.note(self.now_ms - EPOCH_MS, format!("node {node} takes {}", name_of(&input)), received_bytes(&input));
        let linked = linked::links_in(&input);
        let by_itself = matches!(input, Input::Tick | Input::Collect { .. });
        let (now_ms, boot_ms) = (self.clock_of(node), self.ran_ms());
        let connected: Vec<NodeId> = self.network.peers_of(node).map(|peer| self.nodes[peer].id()).collect();
        match self.nodes[node].step(now_ms, boot_ms, connected.into_iter(), input) {
            Ok(effects) => {
                self.end_acknowledged_leases(node);
                self.check_linked(node, &linked, &effects)?;
                for effect in &effects {
                    if let Effect::Publish(entry) = effect {
                        self.tell_written(node, entry);
                        self.look_at_written(node, entry, by_itself)?;
                    }
                }
                self.carry_out(node, effects)
            }
            Err(error) => self.step_failed(node, &error),
        }
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) -> Result<(), Violation> {
        for effect in effects {
            match effect {
                Effect::Send { to, bytes } => {
                    self.judge(node, |world| world.check_answer(node, &bytes))?;
                    self.send(node, &to, bytes);
                }
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
                // Nobody uploads anything here.
                Effect::Discard(_) => {}
                Effect::EmptyTrash { until_ms, enough_bytes } => self.empty_trash(node, until_ms, enough_bytes)?,
                Effect::Refuse { peer, .. } if self.index_of(&peer).is_some_and(|peer| self.is_hostile(peer)) => {
                    self.shut_out(node, self.plan.nodes - 1)?;
                }
                Effect::Refuse { peer, reason } => {
                    return Err(self.violation(format!("node {node} refuses the honest node {peer}: {reason}")));
                }
                // Whoever equivocates is two.
                Effect::Tell(Event::Twin) if self.is_hostile(node) || self.twin_of(node).is_some() => {}
                Effect::Tell(Event::Twin) => return Err(self.violation(format!("node {node} takes itself for two"))),
                Effect::Tell(Event::RolledBack { .. }) => {
                    self.trace.note(self.now_ms - EPOCH_MS, format!("node {node} was rolled back"), &[])
                }
                Effect::Tell(Event::Forked { chain }) if self.rolled_back.contains(&chain.node) => {
                    self.trace.note(self.now_ms - EPOCH_MS, format!("node {node} proves a fork of {}", chain.node), &[])
                }
                Effect::Tell(Event::Forked { chain } | Event::EntryRefused { chain, .. })
                    if self.index_of(&chain.node).is_some_and(|of| self.is_hostile(of) || self.is_removed(of)) =>
                {
                    self.note(format!("node {node} takes nothing more of {}", chain.node));
                }
                Effect::Tell(Event::Dropped { blob, proof }) => {
                    let who: Vec<_> = proof.iter().filter_map(|(by, _)| self.index_of(by)).collect();
                    self.tell(blob.sha1, format!("node {node} gives its copy up, as {who:?} prove theirs"));
                    self.oracle.gave_up(node, blob);
                    self.judge(node, |world| {
                        deletions::check_dropped(world, node, &blob.sha1)?;
                        world.check_leases(node, &[blob])
                    })?;
                    self.note_loss_by_flips(&blob.sha1);
                    self.note_loss_by_removal(&blob.sha1);
                }
                Effect::Tell(event) => return Err(self.violation(format!("node {node} accuses an honest node: {event:?}"))),
            }
        }
        Ok(())
    }

    fn note_reply(&mut self, node: usize, reply: Reply) -> Result<(), Violation> {
        self.check_deletions(node, &reply)?;
        let is_void = self.is_removed(node) && matches!(reply, Reply::Refs(_));
        if is_void || self.is_removed_lease(node, &reply) {
            return Ok(());
        }
        let gone: Vec<BlobId> = match &reply {
            Reply::Collected(collected) => collected.purged.iter().map(|fact| fact.sha1).collect(),
            _ => Vec::new(),
        };
        let unaware = self.unaware_twin_of(node);
        let noted = self.oracle.note(node, unaware, reply);
        for id in &gone {
            self.tell(*id, format!("node {node} purges its copy"));
            self.note_loss_by_flips(id);
        }
        noted.map_err(|broken| self.violation(broken))
    }

    fn check_leases(&self, node: usize, gone: &[BlobFact]) -> Result<(), String> {
        let gone = gone.iter().map(|fact| fact.sha1);
        let engine = self.nodes[node].engine();
        engine.map_or(Ok(()), |engine| leases::check_deleted(engine, &self.oracle.leases, node, gone))
    }

    /// A deletion is judged by itself, from the refs and links alone, at the moment at which it has been made.
    fn check_deletions(&mut self, node: usize, reply: &Reply) -> Result<(), Violation> {
        let Reply::Collected(collected) = reply else { return Ok(()) };
        self.judge(node, |world| {
            let Some(engine) = world.nodes[node].engine() else { return Ok(()) };
            deletions::check_purged(engine, &collected.purged)?;
            world.check_leases(node, &collected.purged)
        })
    }

    /// Holds a node to a check, unless a fault struck while the checker was looking.
    fn judge(&self, node: usize, check: impl FnOnce(&World) -> Result<(), String>) -> Result<(), Violation> {
        if self.is_hostile(node) {
            return Ok(());
        }
        let faults = || self.nodes.iter().map(SimNode::faults).sum::<u64>();
        let before = faults();
        match check(self) {
            Err(broken) if faults() == before => Err(self.violation(format!("node {node}: {broken}"))),
            _ => Ok(()),
        }
    }

    fn send(&mut self, from: usize, to: &NodeId, bytes: Vec<u8>) {
        if let Some(to) = self.reached_as(from, to) {
            self.send_bytes(from, to, bytes);
        }
    }

    fn send_bytes(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
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

    fn network_id(&self) -> NetworkId {
        self.network_id.unwrap_or(NetworkId([0; 32]))
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
        let story = self.stories.of_those_in(&broken);
        Violation { seed: self.plan.seed, at_ms, broken, trace: self.trace.lines.clone(), story }
    }
}
