//! Frames on a stream: a kind, a length, and so many bytes.
//!
//! All three protocols speak in them; who sends which is up to `link`, `bulk` and `join`.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::limits::{MAX_JOIN_BYTES, MAX_REASON_BYTES};
use keepwell_protocol::id::NetworkId;
use keepwell_protocol::limits::MAX_MESSAGE_BYTES;

/// Bytes before a frame's body: its kind, and the length of the body, big-endian.
pub(super) const HEADER_BYTES: usize = 5;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Opens a control channel: the sender's network. Answered by the same.
    Hello,
    /// The opener has seen the answer: the channel works both ways. Also accepts a bulk stream.
    Ready,
    /// A message of the engine's.
    Message,
    /// A request to join, and its answer.
    Join,
    /// The sender closes, and why.
    Bye,
    /// The sender cannot serve this stream now, but will soon.
    Later,
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The stream is at its end, or broken.
    #[error("the stream broke: {0}")]
    Broken(#[from] io::Error),
    /// Not a frame.
    #[error("frame of unknown kind {0}")]
    UnknownKind(u8),
    /// A frame that has no place here.
    #[error("unexpected {0:?} frame")]
    Unexpected(Kind),
    /// Past the limit of its kind.
    #[error("{kind:?} frame of {len} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Its kind.
        kind: Kind,
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The other side closed, and said why.
    #[error("the peer closed: {0}")]
    Bye(String),
    /// The other side cannot serve this stream now.
    #[error("the peer is busy")]
    Later,
}

impl Kind {
    const ALL: [Kind; 6] = [Kind::Hello, Kind::Ready, Kind::Message, Kind::Join, Kind::Bye, Kind::Later];

    fn code(self) -> u8 {
        match self {
            Kind::Hello => 1,
            Kind::Ready => 2,
            Kind::Message => 3,
            Kind::Join => 4,
            Kind::Bye => 5,
            Kind::Later => 6,
        }
    }

    /// Bytes that the body of such a frame may have.
    pub(super) fn max_bytes(self) -> usize {
        match self {
            Kind::Hello => NetworkId::LEN,
            Kind::Ready | Kind::Later => 0,
            Kind::Message => MAX_MESSAGE_BYTES,
            Kind::Join => MAX_JOIN_BYTES,
            Kind::Bye => MAX_REASON_BYTES,
        }
    }
}

impl FrameError {
    /// Whether the peer broke the protocol, rather than the stream.
    pub(super) fn is_violation(&self) -> bool {
        !matches!(self, FrameError::Broken(_) | FrameError::Bye(_) | FrameError::Later)
    }
}

/// The start of a frame with a body of `len` bytes.
pub(super) fn header(kind: Kind, len: usize) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [kind.code(), a, b, c, d]
}

/// Writes one frame. The caller keeps the body within the limit of its kind.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), kind: Kind, body: &[u8]) -> io::Result<()> {
    debug_assert!(body.len() <= kind.max_bytes(), "{kind:?} frame of {} bytes", body.len());
    let frame = [&header(kind, body.len()), body].concat();
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// Says why this side closes.
pub(super) async fn write_bye(stream: &mut (impl AsyncWrite + Unpin), reason: &str) -> io::Result<()> {
    let end = (0..=reason.len().min(MAX_REASON_BYTES)).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    write(stream, Kind::Bye, &reason.as_bytes()[..end]).await
}

/// Reads one frame that must be of a kind, or a reason to close.
///
/// The body's buffer grows with what arrives, not with what is claimed.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin), wanted: Kind) -> Result<Vec<u8>, FrameError> {
    let mut head = [0; HEADER_BYTES];
    stream.read_exact(&mut head).await?;
    let [code, len @ ..] = head;
    let kind = Kind::ALL.into_iter().find(|kind| kind.code() == code).ok_or(FrameError::UnknownKind(code))?;
    if kind != wanted && !matches!(kind, Kind::Bye | Kind::Later) {
        return Err(FrameError::Unexpected(kind));
    }
    let (len, max) = (usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX), kind.max_bytes());
    if len > max {
        return Err(FrameError::TooLarge { kind, len, max });
    }
    let mut body = Vec::new();
    stream.take(len as u64).read_to_end(&mut body).await?;
    if body.len() < len {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    match kind {
        Kind::Bye => Err(FrameError::Bye(String::from_utf8_lossy(&body).into_owned())),
        Kind::Later => Err(FrameError::Later),
        _ => Ok(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passed_on(bytes: &[u8], wanted: Kind) -> Result<Vec<u8>, FrameError> {
        read(&mut &bytes[..], wanted).await
    }

    async fn written(kind: Kind, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, kind, body).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_frame_round_trips_up_to_the_limit_of_its_kind() {
        for kind in [Kind::Hello, Kind::Ready, Kind::Message, Kind::Join] {
            let body = vec![7; kind.max_bytes()];
            assert_eq!(passed_on(&written(kind, &body).await, kind).await.unwrap(), body);
            let past = header(kind, kind.max_bytes() + 1);
            assert!(matches!(passed_on(&past, kind).await, Err(FrameError::TooLarge { .. })), "{kind:?}");
        }
        assert_eq!((Kind::Message.max_bytes(), Kind::Join.max_bytes()), (MAX_MESSAGE_BYTES, MAX_JOIN_BYTES));
    }

    #[tokio::test]
    async fn a_reason_is_cut_to_max_reason_bytes_at_a_letter() {
        let mut bytes = Vec::new();
        write_bye(&mut bytes, &"ä".repeat(MAX_REASON_BYTES)).await.unwrap();
        let Err(FrameError::Bye(reason)) = passed_on(&bytes, Kind::Message).await else { panic!("no reason") };
        assert_eq!(reason, "ä".repeat(MAX_REASON_BYTES / 2));
        assert!(matches!(
            passed_on(&header(Kind::Bye, MAX_REASON_BYTES + 1), Kind::Message).await,
            Err(FrameError::TooLarge { .. })
        ));
    }

    #[tokio::test]
    async fn nonsense_and_misplaced_frames_are_violations_and_an_early_end_is_not() {
        assert!(passed_on(&[99, 0, 0, 0, 0], Kind::Message).await.unwrap_err().is_violation());
        assert!(passed_on(&written(Kind::Join, b"x").await, Kind::Message).await.unwrap_err().is_violation());
        let whole = written(Kind::Message, b"abc").await;
        for cut in 0..whole.len() {
            assert!(matches!(passed_on(&whole[..cut], Kind::Message).await, Err(FrameError::Broken(_))), "{cut}");
        }
    }
}
