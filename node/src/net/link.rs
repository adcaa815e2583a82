//! The control channel between two nodes: one stream, both ways, opened by the node with the smaller id.
//!
//! One stream has one end: both sides see it break, and no two halves of a channel can disagree about its life. The opener
//! sends `Hello` with its network, the other answers with its own, the opener says `Ready`: from then on each knows that the
//! channel works both ways. After that there are messages, until one side says `Bye` or the stream breaks.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt as _;
use keepwell_protocol::id::{NetworkId, NodeId};
use libp2p::{PeerId, StreamProtocol};
use libp2p_stream::Control;
use tokio::io::{AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::bulk::Wire;
use super::event::NetEvent;
use super::frame::{self, FrameError, Kind};
use super::greet::establish;
use super::limits::{
    BYE_TIMEOUT, MAX_BULK_FROM_PEER, MAX_BULK_PER_PEER, MAX_QUEUED_BYTES, MAX_QUEUED_MESSAGES, WRITE_BUFFER_BYTES,
};

/// The protocol of control channels.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/keepwell/control/1");

/// A link as the rest of the node uses it: where to put messages, and whom bulk streams count against.
#[derive(Debug)]
pub(super) struct Link {
    outbox: mpsc::Sender<Vec<u8>>,
    queued_bytes: AtomicUsize,
    /// Told when a message found no room.
    overflow: CancellationToken,
    /// Set once the node has been told of the link: before that, nothing else of this peer may be.
    is_announced: AtomicBool,
    pub(super) bulk_out: Arc<Semaphore>,
    pub(super) bulk_in: Arc<Semaphore>,
}

impl Link {
    fn new(outbox: mpsc::Sender<Vec<u8>>) -> Self {
        Self {
            outbox,
            queued_bytes: AtomicUsize::new(0),
            overflow: CancellationToken::new(),
            is_announced: AtomicBool::new(false),
            bulk_out: Arc::new(Semaphore::new(MAX_BULK_PER_PEER)),
            bulk_in: Arc::new(Semaphore::new(MAX_BULK_FROM_PEER)),
        }
    }

    /// Queues a message. If there is no room, the link ends: what it loses must not go unnoticed.
    pub(super) fn send(&self, message: Vec<u8>) {
        let len = message.len();
        let queued = self.queued_bytes.fetch_add(len, Ordering::Relaxed) + len;
        if queued > MAX_QUEUED_BYTES || self.outbox.try_send(message).is_err() {
            self.overflow.cancel();
        }
    }

    pub(super) fn is_announced(&self) -> bool {
        self.is_announced.load(Ordering::Acquire)
    }
}

/// Why a link is to end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The connection is gone. What the peer said last may still be in the stream.
    Gone(String),
    /// The connection must go at once.
    Now(String),
    /// The peer connected anew: this link is dead.
    Again,
    /// The peer is told why.
    Tell(String),
}

/// How a link ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) reason: String,
    pub(super) kind: EndingKind,
}

/// What follows from the end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndingKind {
    /// It broke: connect again.
    Broken,
    /// The peer is at fault, or of another kind: report it.
    Fault,
    /// This node wanted it.
    Wanted,
    /// There is a newer connection: make a link on it.
    Again,
}

impl Ending {
    pub(super) fn new(kind: EndingKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    /// The task that kept the link failed.
    pub(super) fn panicked() -> Self {
        Self::new(EndingKind::Broken, "a task of this node failed")
    }
}

impl From<Stop> for Ending {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Gone(reason) | Stop::Now(reason) => Self::new(EndingKind::Broken, reason),
            Stop::Tell(reason) => Self::new(EndingKind::Wanted, reason),
            Stop::Again => Self::new(EndingKind::Again, "the peer connected again"),
        }
    }
}

/// What a link works with.
pub(super) struct Seat {
    pub(super) local: NodeId,
    pub(super) network: NetworkId,
    pub(super) node: NodeId,
    pub(super) peer: PeerId,
    /// Where the peer is, for people.
    pub(super) address: String,
    pub(super) control: Control,
    /// Control streams that the peer opened.
    pub(super) incoming: mpsc::Receiver<Wire>,
    pub(super) stop: oneshot::Receiver<Stop>,
    pub(super) events: mpsc::Sender<NetEvent>,
}

/// Keeps a link from the first stream to its end. `publish` makes it known to senders before the node hears of it.
pub(super) async fn run(mut seat: Seat, publish: impl FnOnce(Arc<Link>)) -> Ending {
    let wire = match greet(&mut seat).await {
        Ok(wire) => wire,
        Err(ending) => return ending,
    };
    let (sender, outbox) = mpsc::channel(MAX_QUEUED_MESSAGES);
    let link = Arc::new(Link::new(sender));
    publish(link.clone());
    let connected = NetEvent::Connected { peer: seat.node, address: seat.address.clone() };
    // Nobody hears it any more: the network is going down.
    if seat.events.send(connected).await.is_err() {
        return Ending::new(EndingKind::Broken, "this node is shutting down");
    }
    link.is_announced.store(true, Ordering::Release);
    carry(seat, wire, &link, outbox).await
}

/// Greets the peer. When the connection is gone meanwhile, what the peer said last may still tell why.
async fn greet(seat: &mut Seat) -> Result<Wire, Ending> {
    let mut trouble = Ending::new(EndingKind::Fault, "it opened no control channel");
    let cause = {
        let who = (seat.local, seat.node);
        let mut greeting = pin!(establish(&mut seat.incoming, &seat.control, who, seat.peer, &seat.network, &mut trouble));
        let stop = tokio::select! {
            wire = &mut greeting => Err(wire),
            stop = &mut seat.stop => Ok(stop),
        };
        match stop {
            Err(Some(wire)) => return Ok(wire),
            Err(None) => None,
            Ok(Ok(Stop::Gone(cause))) => {
                timeout(BYE_TIMEOUT, greeting).await.ok();
                Some(cause)
            }
            Ok(stop) => return Err(stopped(stop)),
        }
    };
    Err(match cause {
        Some(cause) if trouble.kind == EndingKind::Fault => {
            trouble.reason.push_str(&format!(" (it may not know this node as a member: {cause})"));
            trouble
        }
        Some(cause) => Ending::new(EndingKind::Broken, cause),
        None => trouble,
    })
}

fn stopped(stop: Result<Stop, oneshot::error::RecvError>) -> Ending {
    stop.map_or_else(|_| Ending::new(EndingKind::Broken, "the network of this node was restarted"), Ending::from)
}

/// Says why this side closes, and waits until the peer has heard it, which it shows by closing as well: a connection that is
/// closed at once may take the words with it.
pub(super) async fn say_bye<T>(writer: &mut (impl AsyncWrite + Unpin), reason: &str, closed: impl Future<Output = T>) {
    let telling = async {
        frame::write_bye(writer, reason).await?;
        writer.shutdown().await?;
        closed.await;
        Ok::<(), std::io::Error>(())
    };
    // The peer may be gone, or not listen; it is cut off anyway.
    timeout(BYE_TIMEOUT, telling).await.ok();
}

/// What ended the traffic.
enum End {
    /// This node did.
    Decided(Ending),
    /// This node did, and says so.
    Told(String),
    /// The peer did, or the stream broke.
    Received(FrameError),
    /// The stream broke while sending, or its connection did.
    Lost(String),
}

/// Carries messages both ways until something ends it.
async fn carry(mut seat: Seat, wire: Wire, link: &Link, mut outbox: mpsc::Receiver<Vec<u8>>) -> Ending {
    let (mut reader, mut writer) = tokio::io::split(wire);
    let is_writing = AtomicBool::new(false);
    // Fused: a violation has ended it, and is told of nevertheless.
    let mut receiving = pin!(receive(&mut reader, seat.node, &seat.events).fuse());
    // Both directions get their turn, neither before the other.
    let traffic = async {
        tokio::select! {
            error = &mut receiving => End::Received(error),
            error = transmit(&mut writer, &mut outbox, link, &is_writing) => End::Lost(error.to_string()),
        }
    };
    // What this node decided comes before what follows from it.
    let end = tokio::select! {
        biased;
        stop = &mut seat.stop => match stop {
            Ok(Stop::Gone(cause)) => End::Lost(cause),
            Ok(Stop::Tell(reason)) => End::Told(reason),
            stop => End::Decided(stopped(stop)),
        },
        () = link.overflow.cancelled() => {
            End::Decided(Ending::new(EndingKind::Broken, "it does not keep up: the queue is full"))
        }
        // None is no end: the sender lives as long as `seat.stop`.
        Some(_) = seat.incoming.recv() => End::Decided(Stop::Again.into()),
        end = traffic => end,
    };
    let (ending, is_told) = match end {
        End::Decided(ending) => (ending, false),
        End::Told(reason) => (Ending::new(EndingKind::Wanted, reason), true),
        End::Received(error) => of_frame(&error),
        // The peer's last words may be on their way still.
        End::Lost(cause) => match timeout(BYE_TIMEOUT, &mut receiving).await {
            Ok(error @ FrameError::Bye(_)) => of_frame(&error),
            _ => (Ending::new(EndingKind::Broken, cause), false),
        },
    };
    if is_told && !is_writing.load(Ordering::Relaxed) {
        say_bye(&mut writer, &ending.reason, receiving).await;
    }
    ending
}

fn of_frame(error: &FrameError) -> (Ending, bool) {
    let kind = if error.is_violation() { EndingKind::Fault } else { EndingKind::Broken };
    (Ending::new(kind, error.to_string()), error.is_violation())
}

/// Hands over what comes, waiting for the node when it is busy: the peer then waits as well.
async fn receive(reader: &mut ReadHalf<Wire>, from: NodeId, events: &mpsc::Sender<NetEvent>) -> FrameError {
    loop {
        let bytes = match frame::read(reader, Kind::Message).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        if events.send(NetEvent::Message { from, bytes }).await.is_err() {
            return FrameError::Bye("this node is shutting down".to_owned());
        }
    }
}

/// Sends what is queued, many small messages in one write.
async fn transmit(
    writer: &mut WriteHalf<Wire>,
    outbox: &mut mpsc::Receiver<Vec<u8>>,
    link: &Link,
    is_writing: &AtomicBool,
) -> std::io::Error {
    let mut buffer = Vec::with_capacity(WRITE_BUFFER_BYTES);
    while let Some(first) = outbox.recv().await {
        let mut next = Some(first);
        let mut sent = 0;
        while let Some(message) = next {
            sent += message.len();
            buffer.extend_from_slice(&frame::header(Kind::Message, message.len()));
            buffer.extend_from_slice(&message);
            next = if buffer.len() < WRITE_BUFFER_BYTES { outbox.try_recv().ok() } else { None };
        }
        is_writing.store(true, Ordering::Relaxed);
        let written = async {
            writer.write_all(&buffer).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            return error;
        }
        is_writing.store(false, Ordering::Relaxed);
        link.queued_bytes.fetch_sub(sent, Ordering::Relaxed);
        buffer.clear();
        buffer.shrink_to(2 * WRITE_BUFFER_BYTES);
    }
    std::io::Error::from(std::io::ErrorKind::NotConnected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(capacity: usize) -> (Link, mpsc::Receiver<Vec<u8>>) {
        let (sender, outbox) = mpsc::channel(capacity);
        (Link::new(sender), outbox)
    }

    #[test]
    fn a_link_overflows_past_max_queued_messages() {
        let (link, _outbox) = link(MAX_QUEUED_MESSAGES);
        (0..MAX_QUEUED_MESSAGES).for_each(|_| link.send(vec![1]));
        assert!(!link.overflow.is_cancelled());
        link.send(vec![1]);
        assert!(link.overflow.is_cancelled());
    }

    #[test]
    fn a_link_overflows_past_max_queued_bytes() {
        let (link, _outbox) = link(MAX_QUEUED_MESSAGES);
        link.send(vec![1; MAX_QUEUED_BYTES]);
        assert!(!link.overflow.is_cancelled());
        link.send(vec![1]);
        assert!(link.overflow.is_cancelled());
    }
}
