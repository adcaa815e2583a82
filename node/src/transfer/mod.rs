//! Moving the bytes of blobs between nodes over one long-lived stream: many questions under way, answers in order.
//!
//! This knows stores and streams, and neither libp2p nor the engine: whoever has a stream may serve on it or fetch over it. What
//! arrives is verified before it counts, and kept when the stream breaks: the next stream, to whichever holder, goes on from there.

pub mod fetch;
pub mod serve;

use std::io;

use keepwell_protocol::limits::MAX_BULK_FRAME_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Writes a frame: its length in four bytes, most significant first, then the frame.
async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    stream.write_all(&framed_length(frame)?).await?;
    stream.write_all(frame).await
}

/// Reads a frame; none at the orderly end of the stream.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_BULK_FRAME_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame of {length} bytes exceeds the limit")));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(Some(frame))
}

fn framed_length(frame: &[u8]) -> io::Result<[u8; 4]> {
    let length = u32::try_from(frame.len()).ok().filter(|length| *length as usize <= MAX_BULK_FRAME_BYTES);
    length.map(u32::to_be_bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame too large"))
}

/// Runs disk work where it may block. A panic there becomes an error here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
