//! Bytes on their way in: a request's body, read by a thread that hashes and writes.

use std::io::{self, Read};

use axum::body::{Body, Bytes};
use futures::StreamExt;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::answer::{ApiError, blocking};
use super::gate::Slot;
use crate::failure::Failure;
use crate::limits::PIECES_AHEAD;

/// A piece of a body. Its end is said, so that a client that goes away is not mistaken for one that is done.
enum Piece {
    Bytes(Bytes),
    End,
    Broken(io::Error),
}

/// Lets `work` read the body to its end.
pub(super) async fn upload<T: Send + 'static>(
    slot: Slot,
    body: Body,
    work: impl FnOnce(&mut dyn Read) -> Result<T, Failure> + Send + 'static,
) -> Result<T, ApiError> {
    let (pieces, queue) = channel(PIECES_AHEAD);
    let worker = blocking(slot, move || work(&mut BodyReader { queue, piece: Bytes::new(), ended: false }));
    let (outcome, ()) = futures::join!(worker, pump(body, pieces));
    outcome
}

/// When the worker wants no more, the rest is read and dropped: only then does the client read why.
async fn pump(body: Body, pieces: Sender<Piece>) {
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(bytes) => drop(pieces.send(Piece::Bytes(bytes)).await),
            Err(error) => return drop(pieces.send(Piece::Broken(io::Error::other(error))).await),
        }
    }
    drop(pieces.send(Piece::End).await);
}

struct BodyReader {
    queue: Receiver<Piece>,
    piece: Bytes,
    ended: bool,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.queue.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.piece = bytes,
                Some(Piece::End) => self.ended = true,
                Some(Piece::Broken(error)) => return Err(error),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client went away")),
            }
        }
        let taken = self.piece.split_to(self.piece.len().min(buffer.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
