//! Keeps the network alive: when its task, or a connection's, panics, everything is started again; when that helps nobody, it ends.

use std::collections::{BTreeSet, VecDeque};
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::FutureExt as _;
use keepwell_protocol::id::NodeId;
use libp2p::core::upgrade::NegotiationError;
use libp2p::gossipsub::IdentTopic;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Swarm, noise};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::behaviour::{self, Behaviour};
use super::book::Book;
use super::driver::{Driver, Exit};
use super::event::{NetError, NetEvent};
use super::identity;
use super::join::Desk;
use super::limits::{MAX_RESTARTS, RESTART_WINDOW};
use super::refusals::Refusals;
use super::{Command, NetConfig, Shared, lock};

/// What outlives a restart.
pub(super) struct Kept {
    pub(super) shared: Arc<Shared>,
    pub(super) key: Keypair,
    pub(super) topic: IdentTopic,
    pub(super) mdns: bool,
    pub(super) members: BTreeSet<NodeId>,
    /// Where to listen; a port that was left open is filled in once it is known, so that a restart gets it again.
    pub(super) listen: Vec<Multiaddr>,
    pub(super) book: Book,
    pub(super) desk: Desk,
    pub(super) refusals: Refusals,
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) gossip: mpsc::Receiver<Vec<u8>>,
    /// The tasks of links: each tells the node of its end, so they are waited for.
    pub(super) links: JoinSet<()>,
    /// All other tasks.
    pub(super) tasks: JoinSet<()>,
}

impl Kept {
    /// The peer ids of the members. A member without a key cannot connect.
    pub(super) fn member_peers(&self) -> BTreeSet<PeerId> {
        self.members.iter().filter_map(identity::peer_id).collect()
    }
}

/// Starts everything, so far that errors of the configuration are known.
pub(super) fn start(
    config: NetConfig,
    events: mpsc::Sender<NetEvent>,
    commands: mpsc::UnboundedReceiver<Command>,
    gossip: mpsc::Receiver<Vec<u8>>,
) -> Result<Arc<Shared>, NetError> {
    let key = identity::keypair(config.key)?;
    let local = identity::node_id(&key.public().to_peer_id()).ok_or_else(|| NetError::Start("no ed25519 key".to_owned()))?;
    let shared = Arc::new(Shared { local, network: config.network, links: Mutex::default(), listening: Mutex::default() });
    let listen = config.listen.iter().map(|address| Ok(identity::parse_address(address)?.0));
    let mut kept = Kept {
        shared: shared.clone(),
        key,
        topic: behaviour::topic(&config.network),
        mdns: config.mdns,
        members: config.members,
        listen: listen.collect::<Result<_, NetError>>()?,
        book: Book::default(),
        desk: Desk::default(),
        refusals: Refusals::default(),
        events,
        commands,
        gossip,
        links: JoinSet::new(),
        tasks: JoinSet::new(),
    };
    let first = make(&kept)?;
    tokio::spawn(async move {
        if let Err(reason) = keep_running(&mut kept, first).await {
            kept.events.send(NetEvent::Failed { reason }).await.ok();
        }
    });
    Ok(shared)
}

/// A swarm that listens, and what tells of its connections' panics.
type Made = (Swarm<Behaviour>, mpsc::Receiver<()>);

fn make(kept: &Kept) -> Result<Made, NetError> {
    let (panicked, hears_panic) = mpsc::channel(1);
    let mut swarm = behaviour::swarm(&kept.key, &kept.topic, kept.member_peers(), kept.mdns, panicked)?;
    for address in &kept.listen {
        let failed = |reason: String| NetError::Listen { address: address.to_string(), reason };
        is_free(address).map_err(|error| failed(error.to_string()))?;
        swarm.listen_on(address.clone()).map_err(|error| failed(deepest(&error)))?;
    }
    Ok((swarm, hears_panic))
}

/// Fails if somebody listens there already. libp2p shares its ports: two nodes would each get some of the connections.
fn is_free(address: &Multiaddr) -> std::io::Result<()> {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let socket = match parts.as_slice() {
        [Protocol::Ip4(ip), Protocol::Tcp(port)] => SocketAddr::from((*ip, *port)),
        [Protocol::Ip6(ip), Protocol::Tcp(port)] => SocketAddr::from((*ip, *port)),
        _ => return Ok(()),
    };
    std::net::TcpListener::bind(socket).map(drop)
}

/// What the innermost cause says: the outer ones of libp2p say little.
pub(super) fn deepest(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Whether the other side just went away, or offered no protocol before it did, as far down as that is said.
pub(super) fn broke_off(error: &(dyn Error + 'static)) -> bool {
    if let Some(NegotiationError::Failed) = error.downcast_ref() {
        return true;
    }
    // noise passes the error of its stream off as its own, so it is no source of anything.
    let io = match error.downcast_ref::<noise::Error>() {
        Some(noise::Error::Io(error)) => Some(error),
        _ => error.downcast_ref::<io::Error>(),
    };
    if let Some(error) = io {
        let gone = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        if error.get_ref().is_none() || gone.contains(&error.kind()) {
            return gone.contains(&error.kind());
        }
    }
    let inside = io.and_then(io::Error::get_ref).map(|inner| inner as &(dyn Error + 'static));
    inside.or_else(|| error.source()).is_some_and(broke_off)
}

async fn keep_running(kept: &mut Kept, first: Made) -> Result<(), String> {
    let mut made = first;
    let mut restarts = VecDeque::new();
    loop {
        let (swarm, panicked) = made;
        let outcome = AssertUnwindSafe(Driver::new(kept, swarm, panicked).run()).catch_unwind().await;
        clean_up(kept).await;
        let reason = match outcome {
            Ok(Exit::Down(done)) => {
                done.map(|done| done.send(()));
                return Ok(());
            }
            Ok(Exit::ConnectionPanicked) => "the task of a connection panicked",
            Err(_) => "the task of the network panicked",
        };
        let now = Instant::now();
        restarts.retain(|at| now.saturating_duration_since(*at) < RESTART_WINDOW);
        if restarts.len() >= MAX_RESTARTS {
            return Err(format!("{reason}, after {MAX_RESTARTS} restarts"));
        }
        restarts.push_back(now);
        kept.events.send(NetEvent::Restarted { reason: reason.to_owned() }).await.ok();
        made = make(kept).map_err(|error| format!("{reason}, and {error}"))?;
    }
}

/// Ends what a driver left behind. Its links have seen that it is gone.
async fn clean_up(kept: &mut Kept) {
    kept.tasks.shutdown().await;
    while kept.links.join_next().await.is_some() {}
    lock(&kept.shared.listening).clear();
    kept.book.reset();
    kept.desk.reset();
}

/// Fills in the port that the system has chosen for an address.
pub(super) fn with_port(listen: &mut [Multiaddr], actual: &Multiaddr) {
    let port = |address: &Multiaddr| match address.iter().nth(1) {
        Some(Protocol::Tcp(port)) => Some(port),
        _ => None,
    };
    let is_v4 = |address: &Multiaddr| matches!(address.iter().next(), Some(Protocol::Ip4(_)));
    let Some(actual_port) = port(actual) else { return };
    let open = listen.iter_mut().find(|address| port(address) == Some(0) && is_v4(address) == is_v4(actual));
    if let Some(address) = open {
        address.pop();
        address.push(Protocol::Tcp(actual_port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_port_is_filled_in_once() {
        let at = |text: &str| text.parse::<Multiaddr>().unwrap();
        let mut listen = [at("/ip6/::1/tcp/0"), at("/ip4/0.0.0.0/tcp/0")];
        with_port(&mut listen, &at("/ip4/127.0.0.1/tcp/5000"));
        with_port(&mut listen, &at("/ip4/10.0.0.1/tcp/5000"));
        assert_eq!(listen, [at("/ip6/::1/tcp/0"), at("/ip4/0.0.0.0/tcp/5000")]);
    }
}
