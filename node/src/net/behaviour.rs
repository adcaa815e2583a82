//! The protocols of a node, put together: what members speak, what strangers may, and on which transport.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use keepwell_protocol::id::NetworkId;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{self, NetworkBehaviour};
use libp2p::{PeerId, Swarm, Transport as _, identify, mdns, memory_connection_limits, noise, ping, tcp, yamux};
use tokio::sync::mpsc;

use super::NetError;
use super::door::Door;
use super::limits::{
    CONNECT_TIMEOUT, GOSSIP_HEARTBEAT, GOSSIP_MEMORY, GOSSIP_MESH, GOSSIP_MESH_HIGH, GOSSIP_MESH_LOW, GOSSIP_MESH_OUTBOUND,
    IDLE_TIMEOUT, MAX_GOSSIP_BYTES, MAX_GOSSIP_CONTROL_BYTES, MAX_NEGOTIATING_STREAMS, MAX_PROCESS_BYTES,
    MAX_STREAMS_PER_CONNECTION, PING_INTERVAL, PING_TIMEOUT,
};

/// The version of everything that nodes say to each other, as identify tells it.
pub(super) const VERSION: &str = "keepwell/1";

/// What members speak.
#[derive(NetworkBehaviour)]
pub(super) struct Inner {
    pub(super) stream: libp2p_stream::Behaviour,
    pub(super) gossip: gossipsub::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// A node on the network.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    memory: memory_connection_limits::Behaviour,
    pub(super) door: Door<Inner, libp2p_stream::Behaviour>,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// Makes the swarm of a node. A panic in a connection's task is told to `panicked`; libp2p would never notice.
pub(super) fn swarm(
    key: &Keypair,
    topic: &IdentTopic,
    members: BTreeSet<PeerId>,
    with_mdns: bool,
    panicked: mpsc::Sender<()>,
) -> Result<Swarm<Behaviour>, NetError> {
    let start = |error: String| NetError::Start(error);
    let local = key.public().to_peer_id();
    let mdns = with_mdns.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), local)).transpose();
    let behaviour = Behaviour {
        memory: memory_connection_limits::Behaviour::with_max_bytes(MAX_PROCESS_BYTES),
        door: Door::new(inner(key, topic)?, libp2p_stream::Behaviour::new(), members),
        mdns: mdns.map_err(|error| start(error.to_string()))?.into(),
    };
    let executor = move |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let panicked = panicked.clone();
        tokio::spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                // Full means that it is known already.
                panicked.try_send(()).ok();
            }
        });
    };
    let config = swarm::Config::with_executor(executor)
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS);
    Ok(Swarm::new(transport(key)?, behaviour, local, config))
}

/// TCP, encrypted and authenticated by noise, with streams by yamux.
pub(super) fn transport(key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetError> {
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(MAX_STREAMS_PER_CONNECTION);
    Ok(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).map_err(|error| NetError::Start(error.to_string()))?)
        .multiplex(muxer)
        .timeout(CONNECT_TIMEOUT)
        .boxed())
}

fn inner(key: &Keypair, topic: &IdentTopic) -> Result<Inner, NetError> {
    let start = |error: String| NetError::Start(error);
    let signed = MessageAuthenticity::Signed(key.clone());
    let mut gossip = gossipsub::Behaviour::new(signed, gossip_config()?).map_err(|error| start(error.to_string()))?;
    gossip.subscribe(topic).map_err(|error| start(error.to_string()))?;
    let identify = identify::Config::new(VERSION.to_owned(), key.public())
        .with_agent_version(concat!("keepwell/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_push_listen_addr_updates(true)
        .with_cache_size(0);
    Ok(Inner {
        stream: libp2p_stream::Behaviour::new(),
        gossip,
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT)),
    })
}

/// The one topic of a network.
pub(super) fn topic(network: &NetworkId) -> IdentTopic {
    IdentTopic::new(format!("{VERSION}/entries/{network}"))
}

/// Peers are not scored: all are members, and many may sit behind one address, which scoring punishes.
fn gossip_config() -> Result<gossipsub::Config, NetError> {
    gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(MAX_GOSSIP_BYTES)
        .max_control_message_size(MAX_GOSSIP_CONTROL_BYTES)
        .mesh_n(GOSSIP_MESH)
        .mesh_n_low(GOSSIP_MESH_LOW)
        .mesh_n_high(GOSSIP_MESH_HIGH)
        .mesh_outbound_min(GOSSIP_MESH_OUTBOUND)
        .heartbeat_initial_delay(GOSSIP_HEARTBEAT)
        .heartbeat_interval(GOSSIP_HEARTBEAT)
        .duplicate_cache_time(GOSSIP_MEMORY)
        .flood_publish(true)
        .build()
        .map_err(|error| NetError::Start(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::limits::GOSSIP_OVERHEAD_BYTES;
    use super::*;
    use keepwell_protocol::limits::MAX_GOSSIP_ENTRY_BYTES;

    #[test]
    fn the_gossip_mesh_is_sound_for_2_to_50_peers() {
        let config = gossip_config().unwrap();
        let (low, n, high) = (config.mesh_n_low(), config.mesh_n(), config.mesh_n_high());
        assert_eq!((low, n, high), (GOSSIP_MESH_LOW, GOSSIP_MESH, GOSSIP_MESH_HIGH));
        let outbound = config.mesh_outbound_min();
        assert_eq!(outbound, GOSSIP_MESH_OUTBOUND);
        assert!(outbound <= low && low <= n && n <= high && 2 * outbound <= n);
        // Messages live as long as it takes to reach the last of 50, at `low` neighbours each and a heartbeat a hop.
        let hops = 50_f64.log(low as f64).ceil();
        assert!(GOSSIP_MEMORY.as_secs_f64() > 10.0 * hops * GOSSIP_HEARTBEAT.as_secs_f64());
        assert_eq!((config.heartbeat_interval(), config.duplicate_cache_time()), (GOSSIP_HEARTBEAT, GOSSIP_MEMORY));
    }

    #[test]
    fn the_largest_entry_fits_into_a_gossip_message() {
        let config = gossip_config().unwrap();
        assert_eq!(config.max_transmit_size(), MAX_GOSSIP_ENTRY_BYTES + GOSSIP_OVERHEAD_BYTES);
        assert_eq!(config.max_control_message_size(), MAX_GOSSIP_CONTROL_BYTES);
        assert!(matches!(config.validation_mode(), ValidationMode::Strict) && config.validate_messages());
    }
}
