//! What the network tells the node, and why it could not do something.

use std::time::Duration;

use keepwell_protocol::id::NodeId;
use keepwell_protocol::limits::MAX_MESSAGE_BYTES;
use tokio::sync::oneshot;

use super::bulk::BulkStream;

/// One thing that happened on the network.
///
/// Of one peer, `Connected`, its `Message`s and `Disconnected` come in that order. Hints (`Gossip`, `Rtt`)
/// are dropped while the node does not keep up; the rest waits, and slows the peer down.
#[derive(Debug)]
pub enum NetEvent {
    /// This node can be reached at an address.
    Listening {
        /// Which, as a multiaddress.
        address: String,
    },
    /// A member can be talked to: the control channel works both ways. Once a peer, however many connections it has.
    Connected {
        /// Who.
        peer: NodeId,
        /// Where.
        address: String,
    },
    /// A member can no longer be talked to. What was sent lately may be lost.
    Disconnected {
        /// Who.
        peer: NodeId,
        /// Why.
        reason: String,
    },
    /// A connected member sent a message, of at most [`MAX_MESSAGE_BYTES`].
    Message {
        /// Who, by the connection's own proof.
        from: NodeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A member published an entry. It may come again, or not at all.
    Gossip {
        /// The entry.
        bytes: Vec<u8>,
    },
    /// A connected member opened a bulk stream.
    Bulk {
        /// Who.
        from: NodeId,
        /// The stream. Dropping it closes it.
        stream: BulkStream,
    },
    /// Somebody asks to join: the only thing that a stranger may do.
    JoinRequest {
        /// Who, by the connection's own proof.
        from: NodeId,
        /// What it says.
        bytes: Vec<u8>,
        /// Takes the answer; dropping it refuses.
        answer: oneshot::Sender<Vec<u8>>,
    },
    /// How long a connected member takes to answer a ping.
    Rtt {
        /// Who.
        peer: NodeId,
        /// From the question to the answer.
        rtt: Duration,
    },
    /// Where a member can be reached, worth remembering over a restart: all that is known, the latest first.
    Learned {
        /// Who.
        peer: NodeId,
        /// Multiaddresses.
        addresses: Vec<String>,
    },
    /// Somebody was turned away or cut off. Reported once in a while for the same who and why.
    Refused {
        /// A node id, or the address of somebody without one.
        who: String,
        /// Why.
        reason: String,
    },
    /// A part of the network failed; all connections were lost and everything was started again.
    Restarted {
        /// What is known about it.
        reason: String,
    },
    /// The network has failed too often, and is down until the process is started again.
    Failed {
        /// What is known about it.
        reason: String,
    },
}

/// Why the network could not do something.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// It could not be set up.
    #[error("cannot start the network: {0}")]
    Start(String),
    /// An address to listen on is taken, not ours, or not allowed.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// Not an address that can be used.
    #[error("`{address}` is not an address: {reason}")]
    BadAddress {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A message past [`MAX_MESSAGE_BYTES`].
    #[error("message of {len} bytes exceeds the limit of {MAX_MESSAGE_BYTES}")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// A join request past [`MAX_JOIN_BYTES`](super::limits::MAX_JOIN_BYTES).
    #[error("join request of {len} bytes exceeds the limit of {}", super::limits::MAX_JOIN_BYTES)]
    JoinTooLarge {
        /// Its length.
        len: usize,
    },
    /// The peer is not connected.
    #[error("node {0} is not connected")]
    NotConnected(NodeId),
    /// As many bulk streams as allowed are open to this peer, and none ended in time.
    #[error("all bulk streams to node {0} are in use")]
    Busy(NodeId),
    /// The peer could not be reached at any address.
    #[error("cannot reach node {node}: {reason}")]
    Unreachable {
        /// Who.
        node: NodeId,
        /// What went wrong.
        reason: String,
    },
    /// The peer was reached and did not do its part.
    #[error("node {node} refused: {reason}")]
    Refused {
        /// Who.
        node: NodeId,
        /// What it said or did.
        reason: String,
    },
    /// It took too long.
    #[error("node {node} did not answer in time: {doing}")]
    TimedOut {
        /// Who.
        node: NodeId,
        /// What it was about.
        doing: &'static str,
    },
    /// The network has been shut down.
    #[error("the network is down")]
    Down,
}
