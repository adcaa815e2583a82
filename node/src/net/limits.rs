//! Every limit and interval of the network, each a named constant with its unit in the name.
//!
//! A size is inclusive: that many bytes pass, one more does not. What two nodes must agree on is part of the protocol version.

use std::time::Duration;

use keepwell_protocol::limits::{MAX_GOSSIP_ENTRY_BYTES, MAX_MESSAGE_BYTES};

// --- Frames ---

/// Bytes of a join request, and of its answer.
pub const MAX_JOIN_BYTES: usize = 64 << 10;
/// Bytes of the reason that one side gives the other for closing.
pub const MAX_REASON_BYTES: usize = 1_024;

// --- Queues ---

/// Messages that wait for one peer before the channel is given up.
pub const MAX_QUEUED_MESSAGES: usize = 16_384;
/// Bytes of such messages.
pub const MAX_QUEUED_BYTES: usize = 32 << 20;
/// Events that wait for the node, the largest as large as a message; beyond them peers are slowed down, and hints are dropped.
pub const MAX_WAITING_EVENTS: usize = 128;
/// Entries that wait to be gossiped; what does not fit is pulled by the others.
pub const MAX_WAITING_GOSSIP: usize = 1_024;
/// Frames are gathered into writes of about this many bytes.
pub const WRITE_BUFFER_BYTES: usize = 64 << 10;

// --- Connections and streams ---

/// Connections that are still in their handshake, each way.
pub const MAX_PENDING_CONNECTIONS: u32 = 64;
/// Connections with members.
pub const MAX_CONNECTIONS: u32 = 256;
/// Connections with one member: two after a simultaneous dial, and as many again while old ones die.
pub const MAX_CONNECTIONS_PER_PEER: u32 = 4;
/// Connections with strangers, who may be about to join.
pub const MAX_GUESTS: usize = 16;
/// Memory of the process beyond which no new connection is made, in bytes.
pub const MAX_PROCESS_BYTES: usize = 4 << 30;
/// Streams on one connection.
pub const MAX_STREAMS_PER_CONNECTION: usize = 64;
/// Incoming streams on one connection whose protocol is not agreed yet.
pub const MAX_NEGOTIATING_STREAMS: usize = 32;
/// Bulk streams that one node has open to one peer.
pub const MAX_BULK_PER_PEER: usize = 4;
/// Bulk streams that one node accepts from one peer: twice as many, since the end of one is seen later than the start of the next.
pub const MAX_BULK_FROM_PEER: usize = 2 * MAX_BULK_PER_PEER;

// --- Joining ---

/// Join requests that are heard in a minute, from everybody.
pub const MAX_JOINS_PER_MINUTE: usize = 60;
/// Join requests that are heard in a minute from one node.
pub const MAX_JOINS_PER_NODE_PER_MINUTE: usize = 6;
/// How long joining may take, from the first dial to the answer.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a stranger may be connected without asking to join.
pub const GUEST_GRACE: Duration = Duration::from_secs(3);
/// How long a stranger may be connected at all.
pub const GUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Guests after which the state kept for them is made anew; see `door`.
pub const GUESTS_PER_RENEWAL: usize = 256;

// --- Waiting ---

/// How long a connection's handshake may take, either way.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long opening one stream, or one step of greeting on it, may take.
pub const STREAM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after a connection the control channel must work.
pub const LINK_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a peer may seem not to speak our protocols: on its side it may be joining, or about to hear that we are a member.
pub const UNSUPPORTED_PATIENCE: Duration = Duration::from_secs(2);
/// How long to go on trying to open a bulk stream.
pub const BULK_OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a bulk stream may stand still while it is read or written.
pub const BULK_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest pause before a lost stream is opened again.
pub const STREAM_RETRY: Duration = Duration::from_millis(200);
/// How long telling a peer why it is cut off may take.
pub const BYE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long saying good-bye to all peers may take.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection without any stream is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// How often a peer is asked whether it is there.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long it may take to say so.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Pings in a row that may fail before the connection is given up.
pub const MAX_FAILED_PINGS: u32 = 1;
/// A link older than this is dead if its peer connects again: a peer with a live link does not dial.
pub const LINK_SETTLED: Duration = Duration::from_secs(5);
/// How often what is due is looked for.
pub const TICK: Duration = Duration::from_millis(250);

// --- Addresses and dialling ---

/// Addresses remembered of one node, the latest ones.
pub const MAX_ADDRESSES_PER_NODE: usize = 16;
/// Nodes and bare addresses that are remembered.
pub const MAX_TARGETS: usize = 512;
/// Pause after the first dial that failed; it doubles with each further one.
pub const DIAL_BACKOFF_MIN: Duration = Duration::from_millis(250);
/// The longest pause between two dials.
pub const DIAL_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Pause before this node dials somebody again whom it cut off itself.
pub const DISCONNECT_PAUSE: Duration = Duration::from_secs(10);
/// A link that lasted this long is a success: dialling begins anew with short pauses.
pub const LINK_STABLE: Duration = Duration::from_secs(10);

// --- Reports ---

/// The same refusal is not reported again within this time.
pub const REFUSAL_REPEAT: Duration = Duration::from_secs(600);
/// Refusals remembered for that, hence reported in that time.
pub const MAX_REFUSALS: usize = 256;

// --- Gossip ---

/// What signing, the topic and the framing add to a gossiped entry, at most, in bytes.
pub const GOSSIP_OVERHEAD_BYTES: usize = 4 << 10;
/// Bytes of one gossip message on the wire.
pub const MAX_GOSSIP_BYTES: usize = MAX_GOSSIP_ENTRY_BYTES + GOSSIP_OVERHEAD_BYTES;
/// Bytes of one gossip control message.
pub const MAX_GOSSIP_CONTROL_BYTES: usize = 16 << 10;
/// Neighbours that gossip strives for. Up to [`GOSSIP_MESH_HIGH`] peers all are neighbours.
pub const GOSSIP_MESH: usize = 6;
/// Neighbours below which more are sought.
pub const GOSSIP_MESH_LOW: usize = 4;
/// Neighbours above which some are let go.
pub const GOSSIP_MESH_HIGH: usize = 12;
/// Neighbours that this node has dialled itself, at least.
pub const GOSSIP_MESH_OUTBOUND: usize = 2;
/// How often the neighbourhood is mended.
pub const GOSSIP_HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a gossiped message is remembered, so that it is delivered once.
pub const GOSSIP_MEMORY: Duration = Duration::from_secs(120);

// --- Mishaps ---

/// Restarts of the network after a panic within [`RESTART_WINDOW`]; one more ends it.
pub const MAX_RESTARTS: usize = 5;
/// See [`MAX_RESTARTS`].
pub const RESTART_WINDOW: Duration = Duration::from_secs(600);

const _: () = assert!(MAX_QUEUED_BYTES >= MAX_MESSAGE_BYTES, "any one message can wait");
const _: () = assert!(UNSUPPORTED_PATIENCE.as_secs() < GUEST_GRACE.as_secs(), "a reason is known before the peer closes");
const _: () = assert!(SHUTDOWN_TIMEOUT.as_secs() > BYE_TIMEOUT.as_secs());
const _: () = assert!(MAX_GOSSIP_CONTROL_BYTES <= MAX_GOSSIP_BYTES);
const _: () = assert!(MAX_STREAMS_PER_CONNECTION >= 2 * MAX_BULK_FROM_PEER + 16, "bulk leaves room for the rest");
const _: () = assert!(MAX_NEGOTIATING_STREAMS <= MAX_STREAMS_PER_CONNECTION);
const _: () = assert!(
    2 * GOSSIP_MESH_OUTBOUND <= GOSSIP_MESH
        && GOSSIP_MESH_OUTBOUND <= GOSSIP_MESH_LOW
        && GOSSIP_MESH_LOW <= GOSSIP_MESH
        && GOSSIP_MESH <= GOSSIP_MESH_HIGH,
    "libp2p checks this only for topics with parameters of their own"
);

#[cfg(test)]
mod tests {
    use super::*;

    /// What must be shorter than what, or nobody would hear the reason.
    #[test]
    fn short_waits_are_shorter_than_those_around_them() {
        let pairs = [
            (TICK, GUEST_GRACE),
            (STREAM_RETRY, STREAM_TIMEOUT),
            (UNSUPPORTED_PATIENCE, GUEST_GRACE),
            (GUEST_GRACE, GUEST_TIMEOUT),
            (STREAM_TIMEOUT, LINK_TIMEOUT),
            (STREAM_TIMEOUT, BULK_OPEN_TIMEOUT),
            (STREAM_TIMEOUT, JOIN_TIMEOUT),
            (CONNECT_TIMEOUT, JOIN_TIMEOUT),
            (JOIN_TIMEOUT + STREAM_TIMEOUT, GUEST_TIMEOUT),
            (BYE_TIMEOUT, SHUTDOWN_TIMEOUT),
            (LINK_SETTLED, LINK_TIMEOUT),
            (DIAL_BACKOFF_MIN, LINK_STABLE),
            (BULK_IDLE_TIMEOUT, IDLE_TIMEOUT),
            (DIAL_BACKOFF_MAX, RESTART_WINDOW),
        ];
        for (short, long) in pairs {
            assert!(short < long, "{short:?} < {long:?}");
        }
    }

    #[test]
    fn a_peer_whose_machine_lost_power_is_missed_within_two_minutes() {
        assert!((PING_INTERVAL + PING_TIMEOUT) * (MAX_FAILED_PINGS + 1) <= Duration::from_secs(120));
    }

    /// Strangers hold at most so much: what they send is not read, so each stream holds a window at most.
    #[test]
    fn strangers_hold_little_memory() {
        let window_bytes = 256 << 10;
        let held_bytes =
            MAX_GUESTS * (MAX_STREAMS_PER_CONNECTION.max(MAX_NEGOTIATING_STREAMS) * window_bytes + 2 * MAX_JOIN_BYTES);
        assert!(held_bytes < MAX_PROCESS_BYTES / 8, "{held_bytes}");
        let kept_a_guest_bytes = 1_024;
        assert!(GUESTS_PER_RENEWAL * kept_a_guest_bytes <= 1 << 20);
    }

    #[test]
    fn a_write_holds_many_small_messages_and_a_gossip_message_any_entry() {
        assert_eq!(WRITE_BUFFER_BYTES % 1_024, 0);
        assert_eq!(MAX_GOSSIP_BYTES, MAX_GOSSIP_ENTRY_BYTES + GOSSIP_OVERHEAD_BYTES);
        assert_eq!(MAX_BULK_FROM_PEER, 2 * MAX_BULK_PER_PEER);
    }
}
