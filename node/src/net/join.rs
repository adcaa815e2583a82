//! Asking to join, and being asked: one request and one answer on a stream of its own.
//!
//! The host says `Ready` first, so that a stream which got lost can be opened again without sending a request twice.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use keepwell_protocol::id::NodeId;
use libp2p::{PeerId, StreamProtocol};
use libp2p_stream::Control;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::bulk::{self, Wire};
use super::event::{NetError, NetEvent};
use super::frame::{self, Kind};
use super::jitter;
use super::limits::{
    JOIN_TIMEOUT, MAX_JOIN_BYTES, MAX_JOINS_PER_MINUTE, MAX_JOINS_PER_NODE_PER_MINUTE, STREAM_RETRY, STREAM_TIMEOUT,
};

/// The protocol of joining.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/keepwell/join/1");

/// The span in which join requests are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// Why a node is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    /// It is being heard, or its last answer is on its way: it may ask again in a moment.
    WithItself,
    /// There were too many requests lately.
    WithTooMany,
}

/// Who is being heard, and who was lately.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Since when.
    serving: BTreeMap<NodeId, Instant>,
    recent: VecDeque<(Instant, NodeId)>,
}

impl Desk {
    /// Begins to hear a node, or says why not.
    pub(super) fn admit(&mut self, node: NodeId, now: Instant) -> Result<(), Busy> {
        while self.recent.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= MINUTE) {
            self.recent.pop_front();
        }
        let of_node = self.recent.iter().filter(|(_, of)| *of == node).count();
        if self.serving.contains_key(&node) {
            Err(Busy::WithItself)
        } else if self.recent.len() >= MAX_JOINS_PER_MINUTE || of_node >= MAX_JOINS_PER_NODE_PER_MINUTE {
            Err(Busy::WithTooMany)
        } else {
            self.recent.push_back((now, node));
            self.serving.insert(node, now);
            Ok(())
        }
    }

    /// The node has been heard; says since when it was.
    pub(super) fn done(&mut self, node: &NodeId) -> Option<Instant> {
        self.serving.remove(node)
    }

    /// Whether a node is being heard.
    pub(super) fn is_serving(&self, node: &NodeId) -> bool {
        self.serving.contains_key(node)
    }

    /// Nobody is being heard any more: the network was restarted.
    pub(super) fn reset(&mut self) {
        self.serving.clear();
    }

    /// How many are being heard.
    pub(super) fn serving(&self) -> usize {
        self.serving.len()
    }
}

/// Asks a connected host.
pub(super) async fn ask(control: Control, host: NodeId, peer: PeerId, request: &[u8]) -> Result<Vec<u8>, NetError> {
    let mut last = NetError::TimedOut { node: host, doing: "opening a stream to join" };
    let asking = async {
        let mut wire = loop {
            match knock(control.clone(), host, peer).await {
                Ok(wire) => break wire,
                Err(error @ NetError::Refused { .. }) => return Err(error),
                Err(error) => last = error,
            }
            sleep(STREAM_RETRY.mul_f64(jitter())).await;
        };
        let refused = |reason: String| NetError::Refused { node: host, reason };
        frame::write(&mut wire, Kind::Join, request).await.map_err(|error| refused(error.to_string()))?;
        let answer = frame::read(&mut wire, Kind::Join).await.map_err(|error| refused(error.to_string()))?;
        // The host waits for this end, to know that its answer has arrived.
        wire.shutdown().await.ok();
        Ok(answer)
    };
    let outcome = timeout(JOIN_TIMEOUT, asking).await;
    outcome.unwrap_or(Err(last))
}

async fn knock(control: Control, host: NodeId, peer: PeerId) -> Result<Wire, NetError> {
    let mut wire = match bulk::open_stream(control, peer, PROTOCOL).await {
        Ok(wire) => wire,
        Err(bulk::OpenError::Unsupported(protocol)) => {
            return Err(NetError::Refused {
                node: host,
                reason: format!("it does not speak {protocol}: it is of another version"),
            });
        }
        Err(error) => return Err(NetError::Unreachable { node: host, reason: error.to_string() }),
    };
    match timeout(STREAM_TIMEOUT, frame::read(&mut wire, Kind::Ready)).await {
        Ok(Ok(_)) => Ok(wire),
        Ok(Err(error @ (frame::FrameError::Broken(_) | frame::FrameError::Later))) => {
            Err(NetError::Unreachable { node: host, reason: error.to_string() })
        }
        Ok(Err(error)) => Err(NetError::Refused { node: host, reason: error.to_string() }),
        Err(_) => Err(NetError::TimedOut { node: host, doing: "being heard" }),
    }
}

/// Hears one request, and carries the node's answer back. Says what the asker did wrong.
pub(super) async fn serve(mut wire: Wire, from: NodeId, events: mpsc::Sender<NetEvent>) -> Result<(), String> {
    let hearing = async {
        frame::write(&mut wire, Kind::Ready, &[]).await?;
        frame::read(&mut wire, Kind::Join).await
    };
    let bytes = match timeout(STREAM_TIMEOUT, hearing).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            turn_away(wire, &error.to_string()).await;
            return Err(format!("bad request to join: {error}"));
        }
        Err(_) => return Err("it did not say why it wants to join".to_owned()),
    };
    let (answer, answered) = oneshot::channel();
    let request = NetEvent::JoinRequest { from, bytes, answer };
    let answered = timeout(JOIN_TIMEOUT, async {
        events.send(request).await.ok()?;
        answered.await.ok()
    });
    match answered.await {
        Ok(Some(answer)) if answer.len() <= MAX_JOIN_BYTES => deliver(wire, &answer).await,
        _ => turn_away(wire, "the request to join was not accepted").await,
    }
    Ok(())
}

/// Sends the answer and waits until the asker has it: the connection is closed after this.
async fn deliver(mut wire: Wire, answer: &[u8]) {
    let delivering = async {
        frame::write(&mut wire, Kind::Join, answer).await?;
        wire.shutdown().await?;
        wire.read_u8().await
    };
    // An end of the stream is what is waited for; anything else changes nothing.
    timeout(STREAM_TIMEOUT, delivering).await.ok();
}

/// Tells an asker to come again in a moment.
pub(super) async fn put_off(mut wire: Wire) {
    timeout(STREAM_TIMEOUT, frame::write(&mut wire, Kind::Later, &[])).await.ok();
}

/// Tells an asker why it is not heard.
pub(super) async fn turn_away(mut wire: Wire, reason: &str) {
    let telling = async {
        frame::write_bye(&mut wire, reason).await?;
        wire.shutdown().await?;
        wire.read_u8().await
    };
    timeout(STREAM_TIMEOUT, telling).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: usize) -> NodeId {
        NodeId([u8::try_from(n).unwrap(); 32])
    }

    #[test]
    fn a_node_is_heard_once_at_a_time_and_a_few_times_a_minute() {
        let (mut desk, start) = (Desk::default(), Instant::now());
        for _ in 0..MAX_JOINS_PER_NODE_PER_MINUTE {
            assert!(desk.admit(node(1), start).is_ok());
            assert!(desk.is_serving(&node(1)) && desk.admit(node(1), start).is_err());
            desk.done(&node(1));
        }
        assert!(desk.admit(node(1), start).is_err());
        assert!(desk.admit(node(2), start).is_ok());
        assert!(desk.admit(node(1), start + MINUTE).is_ok());
    }

    #[test]
    fn all_together_are_heard_max_joins_per_minute_times() {
        let (mut desk, start) = (Desk::default(), Instant::now());
        let heard = (0..MAX_JOINS_PER_MINUTE + 10).filter(|n| desk.admit(node(*n), start).is_ok()).count();
        assert_eq!((heard, desk.recent.len()), (MAX_JOINS_PER_MINUTE, MAX_JOINS_PER_MINUTE));
        desk.reset();
        assert_eq!(desk.serving(), 0);
    }
}
