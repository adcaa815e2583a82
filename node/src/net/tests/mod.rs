//! Two and three nodes on one machine, over real connections. Nothing here sleeps: every test waits for an event.

mod bulk;
mod hostile;
mod links;
mod membership;

use std::collections::BTreeSet;
use std::time::Duration;

use keepwell_protocol::id::{NetworkId, NodeId};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Counts, Net, NetConfig, NetEvent, identity};

/// Longer than anything takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

const NETWORK: NetworkId = NetworkId([9; 32]);

/// A node, with what it has been told and not looked at yet.
struct Node {
    id: NodeId,
    net: Net,
    events: mpsc::Receiver<NetEvent>,
}

fn id(seed: u8) -> NodeId {
    identity::node_id(&identity::keypair([seed; 32]).unwrap().public().to_peer_id()).unwrap()
}

fn ids(seeds: &[u8]) -> BTreeSet<NodeId> {
    seeds.iter().map(|seed| id(*seed)).collect()
}

fn config(seed: u8, members: &[u8]) -> NetConfig {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
    NetConfig { key: [seed; 32], network: NETWORK, listen, mdns: false, members: ids(members) }
}

impl Node {
    async fn start(config: NetConfig) -> Node {
        let key = config.key;
        let (net, events) = Net::start(config).await.unwrap();
        let mut node = Node { id: id(key[0]), net, events };
        assert_eq!(node.net.local(), node.id);
        node.until("listening", |event| matches!(event, NetEvent::Listening { .. }).then_some(())).await;
        node
    }

    async fn new(seed: u8, members: &[u8]) -> Node {
        Node::start(config(seed, members)).await
    }

    /// The first event that is wanted. Those before it are gone.
    async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(NetEvent) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let waiting = async {
            loop {
                let event = self.events.recv().await.expect("the network is up");
                if !matches!(event, NetEvent::Message { .. }) {
                    seen.push(format!("{event:?}"));
                }
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        let found = timeout(PATIENCE, waiting).await;
        found.unwrap_or_else(|_| panic!("never {what}, but {seen:#?}"))
    }

    async fn connected(&mut self, to: NodeId) {
        let is_it = |event| matches!(event, NetEvent::Connected { peer, .. } if peer == to).then_some(());
        self.until("connected", is_it).await;
    }

    async fn disconnected(&mut self, from: NodeId) -> String {
        let is_it = |event| match event {
            NetEvent::Disconnected { peer, reason } if peer == from => Some(reason),
            _ => None,
        };
        self.until("disconnected", is_it).await
    }

    async fn refused(&mut self, of: &str) -> String {
        let is_it = |event| match event {
            NetEvent::Refused { who, reason } if who == of => Some(reason),
            _ => None,
        };
        self.until("refused", is_it).await
    }

    async fn message(&mut self) -> Vec<u8> {
        let is_it = |event| match event {
            NetEvent::Message { bytes, .. } => Some(bytes),
            _ => None,
        };
        self.until("a message", is_it).await
    }

    fn dial(&self, other: &Node) {
        self.net.dial(&other.net.listen_addresses(), Some(other.id)).unwrap();
    }

    /// Waits until nothing is kept, asking again after whatever happens next.
    async fn empty(&mut self) {
        let emptying = async {
            loop {
                let counts = self.net.counts().await.unwrap();
                if counts == Counts::default() {
                    return;
                }
                // Asking is what lets time pass: each answer takes a turn of the driver.
                while self.events.try_recv().is_ok() {}
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, emptying).await.expect("everything is pruned");
    }
}

/// Two nodes of one network that are connected.
async fn pair() -> (Node, Node) {
    let (mut ada, mut bob) = (Node::new(1, &[1, 2]).await, Node::new(2, &[1, 2]).await);
    bob.dial(&ada);
    ada.connected(bob.id).await;
    bob.connected(ada.id).await;
    (ada, bob)
}
