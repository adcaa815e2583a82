//! The daemon: one process that keeps a home open and serves it to everybody on the machine and in the network.

pub mod addresses;
mod bringer;
pub mod driver;
pub mod fetch;
pub mod heard;
pub mod index;
pub mod invites;
pub mod join;
pub mod mover;
pub mod network;
mod prober;
pub mod scrub;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_protocol::log::exchange::wants;
use keepwell_protocol::ticket::Ticket;
use keepwell_store::locks::BlobLocks;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::engine::absence::dead;
use crate::engine::{Engine, EngineRng, closure};
use crate::failure::{Code, Failure};
use crate::limits::{LISTEN_TIMEOUT, MAX_REASONS};
use crate::net::{Net, NetConfig, NetEvent};
use crate::service::backend::Extent;
use crate::service::network::Seen;
use crate::service::status::status;
use crate::service::types::{FetchLine, PeerLine, StatusLine};
use crate::service::{self, Node};
use addresses::Addresses;
use driver::Driver;
use fetch::{Fetch, Outcome, Progress};
use heard::Heard;
use invites::Invites;
use network::{Inward, NetStreams, Outward};

/// A node on the network: its engine, its connections, its invitations.
pub struct Daemon {
    driver: Driver,
    net: Net,
    invites: Arc<Mutex<Invites>>,
    addresses: Arc<Mutex<Addresses>>,
    heard: Heard,
    busy: BlobLocks,
    inward: Mutex<Option<JoinHandle<()>>>,
    bringer: Mutex<Option<JoinHandle<()>>>,
}

/// What a daemon is started with.
pub struct DaemonConfig<'a> {
    /// The secret seed of the node's key.
    pub seed: Zeroizing<[u8; 32]>,
    /// The home's folder.
    pub home: &'a Path,
    /// Multiaddresses to listen on.
    pub listen: Vec<String>,
    /// Whether to look for members in the local network by multicast, and to be found.
    pub mdns: bool,
    /// A node that is trusted before the catalog says so: the inviter of a node that is joining.
    pub inviter: Option<NodeId>,
}

impl Daemon {
    /// Starts `engine` and puts it on the network.
    pub async fn start(engine: Engine, rng: EngineRng, config: DaemonConfig<'_>) -> Result<Daemon, Failure> {
        let down = |error: crate::net::NetError| Failure::new(Code::Unreachable, format!("the network does not start: {error}"));
        let invites = Invites::open(config.home)?;
        let addresses = Addresses::open(config.home);
        let members = trusted(&engine, &addresses, config.inviter)?;
        let listens = !config.listen.is_empty();
        let (net, mut events) = Net::start(NetConfig {
            key: *config.seed,
            network: engine.home().network,
            listen: config.listen,
            mdns: config.mdns,
            members: members.clone(),
        })
        .await
        .map_err(down)?;
        // A ticket must say where to come: nobody is told of this node before it can be reached.
        let early = if listens { until_listening(&mut events).await? } else { Vec::new() };
        let (brings, due) = mpsc::unbounded_channel();
        let driver = Driver::start(engine, rng, Outward::new(net.clone(), members, brings))?;
        let busy = BlobLocks::default();
        let bringer = tokio::spawn(bringer::run(driver.clone(), net.clone(), busy.clone(), due));
        let invites = Arc::new(Mutex::new(invites));
        for (node, known) in addresses.known() {
            // An address that cannot be parsed any more is of no use; others may be.
            net.dial(known, Some(*node)).ok();
        }
        let addresses = Arc::new(Mutex::new(addresses));
        let heard = Heard::default();
        let inward = Inward::new(driver.clone(), Arc::clone(&invites), Arc::clone(&addresses), heard.clone());
        let inward = tokio::spawn(inward.run(early, events));
        Ok(Daemon {
            driver,
            net,
            invites,
            addresses,
            heard,
            busy,
            inward: Mutex::new(Some(inward)),
            bringer: Mutex::new(Some(bringer)),
        })
    }

    /// The engine, for whoever asks something of the node.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The network.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// What is known of the other members beyond the catalog.
    pub fn seen(&self) -> BTreeMap<NodeId, Seen> {
        let peers = self.driver.peers();
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen: BTreeMap<NodeId, Seen> = BTreeMap::new();
        for (node, known) in addresses.known() {
            seen.entry(*node).or_default().addresses.clone_from(known);
        }
        for node in peers.connected {
            seen.entry(node).or_default().connected = true;
        }
        for (node, sign) in self.heard.signs() {
            let seen = seen.entry(node).or_default();
            seen.last_seen_ms = sign.last_seen_ms;
            // It may have answered while the connection broke.
            seen.rtt_ms = sign.rtt_ms.filter(|_| seen.connected);
        }
        seen
    }

    /// How the node and its network do.
    pub fn status(&self, max_size_bytes: Option<u64>) -> Result<StatusLine, Failure> {
        let mut line = status(&self.driver, max_size_bytes, true)?;
        let snapshot = self.driver.store().snapshot()?;
        let (mine, names) = (snapshot.vector()?, service::network::members(&snapshot)?);
        let (peers, seen, dead) = (self.driver.peers(), self.seen(), dead(&snapshot)?);
        for (node, name) in names.iter().filter(|(node, _)| **node != self.driver.home().node) {
            let Seen { connected, rtt_ms, last_seen_ms, .. } = seen.get(node).cloned().unwrap_or_default();
            line.peers.push(PeerLine { name: name.clone(), node: node.to_string(), connected, rtt_ms, last_seen_ms });
            let theirs = peers.acks.get(node).map(|ack| snapshot.by_names_here(&ack.persisted)).transpose()?;
            let is_waited_for = service::network::is_waited_for(&snapshot, &dead, node)?;
            if is_waited_for && theirs.is_none_or(|theirs| !wants(&theirs, &mine).is_empty()) {
                line.unacknowledged.push(name.clone());
            }
        }
        line.converged = line.unacknowledged.is_empty();
        line.clock = peers.doubt.into();
        Ok(line)
    }

    /// Fetches what is missing of one blob, to this extent, and counts in `progress`. A failure names everybody who was asked.
    pub async fn fetch_one(&self, root: BlobId, extent: Extent, progress: Progress) -> Result<FetchLine, Failure> {
        let outcome = self.fetch(&[root], extent, progress).await?;
        let snapshot = self.driver.store().snapshot()?;
        let names = service::network::names(&snapshot)?;
        let (mut is_missing, mut size_bytes) = (false, 0);
        closure::visit(&snapshot, &[root], |id| {
            let record = snapshot.blob(&id)?;
            is_missing |= record.is_none();
            size_bytes += record.map_or(0, |record| record.size_bytes);
            Ok(extent == Extent::Closure)
        })?;
        let is_whole = outcome.collided.is_empty() && !is_missing;
        if !outcome.failed.is_empty() && !is_whole {
            return Err(no_provider(&root, &outcome, &names));
        }
        let from: BTreeSet<String> =
            outcome.arrived.iter().map(|arrived| service::network::name_of(&names, &arrived.from)).collect();
        Ok(FetchLine {
            sha1: root.to_string(),
            size_bytes,
            received_bytes: outcome.arrived.iter().map(|arrived| arrived.received_bytes).sum(),
            from: from.into_iter().collect(),
            existed: outcome.arrived.is_empty(),
        })
    }

    /// Invites a machine, or several.
    pub fn invite(&self, role: Role, uses: u32, lasts_ms: u64) -> Result<Ticket, Failure> {
        network::invite(&self.driver, &self.net, &self.invites, role, uses, lasts_ms)
    }

    /// Asks the inviter of `ticket` to take this node in as `body` says, and connects to it. May be repeated.
    pub async fn join(&self, ticket: &Ticket, body: NodeBody) -> Result<(), Failure> {
        network::ask_to_join(&self.net, ticket, body).await?;
        // Remembered before anything can go wrong: a start before the first exchange must find its way too.
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.learn(ticket.inviter, ticket.addresses.clone());
        let dialled = self.net.dial(&ticket.addresses, Some(ticket.inviter));
        dialled.map_err(|error| Failure::new(Code::Usage, format!("the ticket's addresses are of no use: {error}")))
    }

    /// Fetches what is missing here of `roots`, to this extent, and counts in `progress`.
    pub async fn fetch(&self, roots: &[BlobId], extent: Extent, progress: Progress) -> Result<Outcome, Failure> {
        let streams = NetStreams::new(self.net.clone(), self.driver.clone());
        let node: Arc<dyn Node + Send + Sync> = Arc::new(self.driver.clone());
        Fetch::new(node, &streams, self.busy.clone(), progress).run(roots, extent).await
    }

    /// Leaves the network and ends the engine, in this order; why the engine had ended before, if it had.
    pub async fn stop(&self) -> Result<(), Failure> {
        self.net.clone().shutdown().await;
        let inward = self.inward.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(inward) = inward {
            // The events end with the network.
            inward.await.ok();
        }
        let stopped = self.driver.stop();
        let bringer = self.bringer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bringer) = bringer {
            // Ends with the engine, which is who asks.
            bringer.await.ok();
        }
        stopped
    }
}

/// Waits until the network can be reached; what happened on it meanwhile.
async fn until_listening(events: &mut mpsc::Receiver<NetEvent>) -> Result<Vec<NetEvent>, Failure> {
    let mut early = Vec::new();
    let listening = async {
        while let Some(event) = events.recv().await {
            if matches!(event, NetEvent::Listening { .. }) {
                return true;
            }
            early.push(event);
        }
        false
    };
    match timeout(LISTEN_TIMEOUT, listening).await {
        Ok(true) => Ok(early),
        _ => Err(Failure::new(Code::Unreachable, "the network does not begin to listen")
            .hint("look at the addresses in `keepwell config show`")),
    }
}

/// Nobody gave a blob: who was asked, and what each of them said.
fn no_provider(root: &BlobId, outcome: &Outcome, names: &BTreeMap<NodeId, String>) -> Failure {
    let missing: Vec<BlobId> = outcome.failed.keys().copied().collect();
    if names.len() <= 1 {
        return Failure::no_provider(format!("nobody here has blob {root}"), &missing);
    }
    let mut tried: Vec<String> = Vec::new();
    for reasons in outcome.failed.values() {
        for reason in reasons {
            let by_name = names.iter().fold(reason.clone(), |text, (node, name)| text.replace(&node.to_string(), name));
            if !tried.contains(&by_name) && tried.len() < MAX_REASONS {
                tried.push(by_name);
            }
        }
    }
    if tried.is_empty() {
        tried.push("no connected member is known to hold it".into());
    }
    let collided = !outcome.collided.is_empty() || tried.iter().any(|reason| reason.contains("the first is kept"));
    let code = if collided { Code::Collision } else { Code::NoProvider };
    let message = format!("{} of the blobs that {root} needs could not be fetched: {}", missing.len(), tried.join("; "));
    let hint = "see `keepwell where` for who holds it, and `keepwell status` for who is connected";
    Failure::new(code, message)
        .hint(hint)
        .about("missing", missing.iter().map(ToString::to_string).collect::<Vec<_>>())
        .about("tried", tried)
}

/// Whom to talk to at the start: the members; of a node that does not know yet that it is one, whoever it has dealt with.
fn trusted(engine: &Engine, addresses: &Addresses, inviter: Option<NodeId>) -> Result<BTreeSet<NodeId>, Failure> {
    let mut members = network::members(&*engine.store().snapshot()?)?;
    if !members.contains(&engine.home().node) {
        members.extend(addresses.known().map(|(node, _)| *node));
        members.extend(inviter);
    }
    Ok(members)
}

#[cfg(test)]
mod tests;
pub mod up;
