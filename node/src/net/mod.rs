//! The network: moves bytes between the members of a network, and lets strangers ask to join. The only place that knows libp2p.
//!
//! Absent from it: entries, blobs, tickets, the engine, the disk. What a message means is for others to say; here it has a
//! length, a sender proven by the connection, and a place in an order.
//!
//! One task drives libp2p and never waits (`driver`). Each connected peer has a control channel, one task each (`link`);
//! bytes in bulk flow on streams of their own, past the driver (`bulk`). Who may do what is decided at the `door`.

mod behaviour;
mod book;
mod bulk;
mod door;
mod driver;
mod event;
mod frame;
mod greet;
mod identity;
mod join;
pub mod limits;
mod link;
mod refusals;
mod supervise;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keepwell_protocol::id::{NetworkId, NodeId};
use keepwell_protocol::limits::{MAX_GOSSIP_ENTRY_BYTES, MAX_MESSAGE_BYTES};
use libp2p::{Multiaddr, PeerId};
use libp2p_stream::Control;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub use bulk::BulkStream;
pub use event::{NetError, NetEvent};
use limits::{JOIN_TIMEOUT, MAX_JOIN_BYTES, MAX_WAITING_EVENTS, MAX_WAITING_GOSSIP};
use link::Link;

/// What a node needs to be on the network.
#[derive(Clone)]
pub struct NetConfig {
    /// The secret seed of the node's ed25519 key.
    pub key: [u8; 32],
    /// The network that it belongs to.
    pub network: NetworkId,
    /// Multiaddresses to listen on, such as `/ip4/0.0.0.0/tcp/4077`.
    pub listen: Vec<String>,
    /// Whether to find members in the local network by multicast, and to be found.
    pub mdns: bool,
    /// Who may do more than ask to join.
    pub members: BTreeSet<NodeId>,
}

/// A handle on the network. When the last one is dropped, the network goes down.
#[derive(Clone)]
pub struct Net {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    gossip: mpsc::Sender<Vec<u8>>,
}

/// What the handle and the tasks know together.
struct Shared {
    local: NodeId,
    network: NetworkId,
    links: Mutex<BTreeMap<NodeId, Way>>,
    listening: Mutex<BTreeSet<String>>,
}

/// How to reach a connected peer.
#[derive(Clone)]
struct Way {
    peer: PeerId,
    link: Arc<Link>,
    control: Control,
}

/// What the handle asks of the driver.
enum Command {
    SetMembers(BTreeSet<NodeId>),
    Dial(Vec<(Multiaddr, Option<NodeId>)>),
    Disconnect(NodeId, String),
    Join(JoinCall),
    Count(oneshot::Sender<Counts>),
    Shutdown(oneshot::Sender<()>),
    #[cfg(test)]
    Panic,
}

/// A wish to join somewhere.
struct JoinCall {
    host: NodeId,
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    request: Vec<u8>,
    answer: oneshot::Sender<Result<Vec<u8>, NetError>>,
}

/// How much the network keeps at the moment, for diagnosis: without any connection, all is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections, made or in the making, and what the guards keep of them.
    pub connections: usize,
    /// Links, working or not yet.
    pub links: usize,
    /// Dials under way.
    pub dials: usize,
    /// Nodes that are asking to join, here or there.
    pub joins: usize,
}

impl Net {
    /// Starts the network in the background. What happens comes out of the receiver, which must be drained.
    pub async fn start(config: NetConfig) -> Result<(Net, mpsc::Receiver<NetEvent>), NetError> {
        let (events, heard) = mpsc::channel(MAX_WAITING_EVENTS);
        let (commands, commanded) = mpsc::unbounded_channel();
        let (gossip, gossiped) = mpsc::channel(MAX_WAITING_GOSSIP);
        let shared = supervise::start(config, events, commanded, gossiped)?;
        Ok((Net { shared, commands, gossip }, heard))
    }

    /// This node's id.
    pub fn local(&self) -> NodeId {
        self.shared.local
    }

    /// Replaces the members. The connections of whoever is none any more are closed.
    pub fn set_members(&self, members: BTreeSet<NodeId>) {
        self.command(Command::SetMembers(members));
    }

    /// Remembers addresses of a node, or of whoever answers there, and tries them until its link works, with growing
    /// pauses. Only members are dialled; addresses that cannot be dialled are refused.
    pub fn dial(&self, addresses: &[String], expected: Option<NodeId>) -> Result<(), NetError> {
        let parsed = addresses.iter().map(|address| {
            let (address, named) = identity::parse_address(address)?;
            Ok((address, expected.or(named)))
        });
        self.command(Command::Dial(parsed.collect::<Result<_, NetError>>()?));
        Ok(())
    }

    /// Sends a message to a connected peer, in order. To one that is not connected it is lost; if it finds no room in the
    /// queue, the link ends, and whatever was under way is lost: `Disconnected` tells.
    pub fn send(&self, to: NodeId, message: Vec<u8>) -> Result<(), NetError> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(NetError::TooLarge { len: message.len() });
        }
        if let Some(way) = self.shared.way(&to) {
            way.link.send(message);
        }
        Ok(())
    }

    /// Gossips an entry, as a hint. Entries past [`MAX_GOSSIP_ENTRY_BYTES`] are not gossiped.
    pub fn publish(&self, entry: Vec<u8>) {
        if entry.len() <= MAX_GOSSIP_ENTRY_BYTES {
            // When too much is waiting, this one will be pulled.
            self.gossip.try_send(entry).ok();
        }
    }

    /// Opens a stream for many bytes to a connected peer. Waits while as many as allowed are open.
    pub async fn open_bulk(&self, to: NodeId) -> Result<BulkStream, NetError> {
        let way = self.shared.way(&to).ok_or(NetError::NotConnected(to))?;
        bulk::open(way.control, to, way.peer, way.link.bulk_out.clone()).await
    }

    /// Asks a node to let this one join, at any of its addresses, and returns its answer.
    pub async fn join(&self, addresses: &[String], inviter: NodeId, request: Vec<u8>) -> Result<Vec<u8>, NetError> {
        if request.len() > MAX_JOIN_BYTES {
            return Err(NetError::JoinTooLarge { len: request.len() });
        }
        let unreachable = |reason: &str| NetError::Unreachable { node: inviter, reason: reason.to_owned() };
        let peer = identity::peer_id(&inviter).ok_or_else(|| unreachable("it is no ed25519 key"))?;
        let joining = async {
            let mut resolved = Vec::new();
            for address in addresses {
                resolved.extend(identity::resolve(identity::parse_address(address)?.0).await);
            }
            let (answer, answered) = oneshot::channel();
            self.command(Command::Join(JoinCall { host: inviter, peer, addresses: resolved, request, answer }));
            answered.await.unwrap_or(Err(NetError::Down))
        };
        let late = NetError::TimedOut { node: inviter, doing: "joining" };
        timeout(JOIN_TIMEOUT, joining).await.unwrap_or(Err(late))
    }

    /// Where this node can be reached, as multiaddresses.
    pub fn listen_addresses(&self) -> Vec<String> {
        lock(&self.shared.listening).iter().cloned().collect()
    }

    /// Cuts a peer off, telling it why. It may connect again; this node waits before it dials it.
    pub fn disconnect(&self, peer: NodeId, reason: &str) {
        self.command(Command::Disconnect(peer, reason.to_owned()));
    }

    /// How much is kept at the moment.
    pub async fn counts(&self) -> Result<Counts, NetError> {
        let (answer, answered) = oneshot::channel();
        self.command(Command::Count(answer));
        answered.await.map_err(|_| NetError::Down)
    }

    /// Says good-bye to all peers and goes down.
    pub async fn shutdown(self) {
        let (done, is_done) = oneshot::channel();
        self.command(Command::Shutdown(done));
        // An error means that it is down already.
        is_done.await.ok();
    }

    #[cfg(test)]
    fn panic(&self) {
        self.command(Command::Panic);
    }

    /// A network that is down hears nothing, which every command can live with.
    fn command(&self, command: Command) {
        self.commands.send(command).ok();
    }
}

impl Shared {
    fn way(&self, to: &NodeId) -> Option<Way> {
        lock(&self.links).get(to).cloned()
    }

    /// Makes a link known to senders.
    fn publish(&self, node: NodeId, way: Way) {
        lock(&self.links).insert(node, way);
    }

    /// Takes a link away, and says whether the node has been told of it.
    fn withdraw(&self, node: &NodeId) -> bool {
        lock(&self.links).remove(node).is_some_and(|way| way.link.is_announced())
    }
}

/// A lock that a panic elsewhere does not spoil: what it guards is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Any number from 0 to 1.
fn jitter() -> f64 {
    // Without randomness pauses are merely even.
    getrandom::u32().map_or(0.5, |drawn| f64::from(drawn) / f64::from(u32::MAX))
}
