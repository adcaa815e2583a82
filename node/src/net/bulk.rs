//! Streams for many bytes: opened and accepted with a greeting, so that a stream which got lost is noticed and opened again.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use keepwell_protocol::id::NodeId;
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::{Control, OpenStreamError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

use super::event::NetError;
use super::frame::{self, Kind};
use super::jitter;
use super::limits::{BULK_IDLE_TIMEOUT, BULK_OPEN_TIMEOUT, STREAM_RETRY, STREAM_TIMEOUT};

/// The protocol of bulk streams.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/keepwell/blob/1");

/// A stream of the transport with tokio's traits.
pub(super) type Wire = Compat<Stream>;

/// Bytes both ways.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A two-way stream of bytes to or from a connected member.
///
/// It fails when it stands still for [`BULK_IDLE_TIMEOUT`] while being read or written. Dropping it closes it. It counts
/// towards the limit of its peer as long as it lives.
pub struct BulkStream {
    wire: Box<dyn Duplex>,
    /// How long it may stand still.
    idle: Duration,
    /// When something last moved.
    moved: Instant,
    /// Runs while nothing moves.
    alarm: Option<Pin<Box<Sleep>>>,
    _slot: OwnedSemaphorePermit,
}

impl BulkStream {
    fn new(wire: impl Duplex + 'static, idle: Duration, slot: OwnedSemaphorePermit) -> Self {
        Self { wire: Box::new(wire), idle, moved: Instant::now(), alarm: None, _slot: slot }
    }

    /// Passes on what the wire said, unless it has said nothing for too long.
    fn watched<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.moved = Instant::now();
            return polled;
        }
        // The alarm is set once and put off when it rings, which costs nothing while bytes flow.
        loop {
            let due = self.moved + self.idle;
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if due <= Instant::now() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the bulk stream stands still")));
            }
            alarm.as_mut().reset(due);
        }
    }
}

impl fmt::Debug for BulkStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkStream").finish_non_exhaustive()
    }
}

impl AsyncRead for BulkStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.wire).poll_read(cx, buf);
        self.watched(polled, cx)
    }
}

impl AsyncWrite for BulkStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.wire).poll_write(cx, buf);
        self.watched(polled, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.wire).poll_flush(cx);
        self.watched(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.wire).poll_shutdown(cx);
        self.watched(polled, cx)
    }
}

/// Opens a bulk stream to a connected peer, as often as it takes.
pub(super) async fn open(control: Control, node: NodeId, peer: PeerId, slots: Arc<Semaphore>) -> Result<BulkStream, NetError> {
    let mut last = NetError::Busy(node);
    let opening = async {
        let slot = slots.acquire_owned().await.map_err(|_| NetError::NotConnected(node))?;
        loop {
            match open_once(control.clone(), node, peer).await {
                Ok(wire) => return Ok(BulkStream::new(wire, BULK_IDLE_TIMEOUT, slot)),
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => last = error,
            }
            sleep(STREAM_RETRY.mul_f64(jitter())).await;
        }
    };
    let outcome = timeout(BULK_OPEN_TIMEOUT, opening).await;
    outcome.unwrap_or(Err(last))
}

fn is_final(error: &NetError) -> bool {
    matches!(error, NetError::NotConnected(_))
}

async fn open_once(control: Control, node: NodeId, peer: PeerId) -> Result<Wire, NetError> {
    let refused = |reason: String| NetError::Refused { node, reason };
    let mut wire = open_stream(control, peer, PROTOCOL).await.map_err(|error| match error {
        OpenError::TimedOut => NetError::TimedOut { node, doing: "opening a bulk stream" },
        other => refused(other.to_string()),
    })?;
    match timeout(STREAM_TIMEOUT, frame::read(&mut wire, Kind::Ready)).await {
        Ok(Ok(_)) => Ok(wire),
        Ok(Err(error)) => Err(refused(error.to_string())),
        Err(_) => Err(NetError::TimedOut { node, doing: "accepting a bulk stream" }),
    }
}

/// Greets the opener of a bulk stream, or tells it to come later.
pub(super) async fn accept(mut wire: Wire, slots: Option<Arc<Semaphore>>) -> Option<BulkStream> {
    let slot = slots.ok_or("not connected yet").and_then(|slots| slots.try_acquire_owned().map_err(|_| "too many bulk streams"));
    match slot {
        Ok(slot) => {
            timeout(STREAM_TIMEOUT, frame::write(&mut wire, Kind::Ready, &[])).await.ok()?.ok()?;
            Some(BulkStream::new(wire, BULK_IDLE_TIMEOUT, slot))
        }
        Err(reason) => {
            // Unheard, the opener sees the stream end and tries again as well.
            timeout(STREAM_TIMEOUT, frame::write_bye(&mut wire, reason)).await.ok();
            None
        }
    }
}

/// Why the transport gave no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The peer does not speak the protocol.
    #[error("the peer does not speak {0}")]
    Unsupported(StreamProtocol),
    /// The connection is gone, or going.
    #[error("no stream: {0}")]
    Broken(String),
    /// It took too long, which may be for ever.
    #[error("opening a stream took too long")]
    TimedOut,
}

/// Opens a stream under a timeout, without which it may never return.
pub(super) async fn open_stream(mut control: Control, peer: PeerId, protocol: StreamProtocol) -> Result<Wire, OpenError> {
    match timeout(STREAM_TIMEOUT, control.open_stream(peer, protocol)).await {
        Ok(Ok(stream)) => Ok(stream.compat()),
        Ok(Err(OpenStreamError::UnsupportedProtocol(protocol))) => Err(OpenError::Unsupported(protocol)),
        Ok(Err(error)) => Err(OpenError::Broken(error.to_string())),
        Err(_) => Err(OpenError::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair(idle: Duration) -> (BulkStream, tokio::io::DuplexStream) {
        let (wire, other) = tokio::io::duplex(4);
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        (BulkStream::new(wire, idle, slot), other)
    }

    #[tokio::test]
    async fn a_stream_that_stands_still_fails_whether_read_or_written() {
        let (mut stream, _other) = pair(Duration::from_millis(20));
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut stream, _other) = pair(Duration::from_millis(20));
        assert_eq!(stream.write_all(b"too much for four").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_stream_that_moves_does_not_fail() {
        let (mut stream, mut other) = pair(BULK_IDLE_TIMEOUT);
        for n in 0..100 {
            other.write_u8(n).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), n);
        }
        assert!(format!("{stream:?}").contains("BulkStream"));
    }
}
