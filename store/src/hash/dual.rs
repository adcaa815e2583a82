//! SHA-1 and BLAKE3 of one read.
//!
//! The calling thread reads and hands each buffer to the sink (which writes the destination file), so it mostly waits; a second
//! thread computes BLAKE3 and a third SHA-1, the slowest of all. A fixed number of buffers goes round from one to the next, so
//! memory is bounded and nothing is allocated per buffer. Small inputs are hashed where they are: a thread would cost more.

use std::io::{self, Read};
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use keepwell_protocol::id::{BlobFact, BlobId};
use sha1::{Digest, Sha1};

use super::groups::{GroupHasher, Outboard};
use crate::fs::{PageBuffer, read_full};
use crate::limits::{COPY_BUFFER_BYTES, COPY_BUFFERS, FIRST_BUFFER_BYTES, THREADS_FROM_BYTES};

/// What one read of a blob's bytes found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// Name, BLAKE3 and size.
    pub fact: BlobFact,
    /// The group values.
    pub outboard: Outboard,
}

/// Why a read was not hashed to its end.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The source failed.
    #[error("cannot read the bytes")]
    Read(#[source] io::Error),
    /// The sink refused.
    #[error("cannot write the bytes")]
    Sink(#[source] io::Error),
    /// The operating system gave no second thread.
    #[error("cannot start the hashing thread")]
    Thread(#[source] io::Error),
}

/// Where the bytes go while they are hashed.
pub type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// Reads `source` to its end, hashes it both ways, and gives every piece to `sink` in order.
///
/// A blob below `THREADS_FROM_BYTES` is one piece; else each has `COPY_BUFFER_BYTES` but for the last. Pieces of that size begin
/// at a page of memory. An empty source gives no piece.
///
/// # Errors
/// The first failure of the source or the sink; what the sink has taken by then is the caller's to undo.
pub fn hash_stream(source: &mut dyn Read, sink: &mut Sink<'_>) -> Result<Hashed, HashError> {
    let first = first_piece(source)?;
    if first.is_full() { hash_in_threads(first, source, sink) } else { hash_here(first.bytes(), sink) }
}

/// The hashes of bytes in memory.
pub fn hash_bytes(bytes: &[u8]) -> Hashed {
    let mut b3 = GroupHasher::new();
    b3.update(bytes);
    hashed(b3, BlobId(Sha1::digest(bytes).into()), bytes.len() as u64)
}

fn hashed(b3: GroupHasher, sha1: BlobId, size_bytes: u64) -> Hashed {
    let (b3, outboard) = b3.finish();
    Hashed { fact: BlobFact { sha1, b3, size_bytes }, outboard }
}

fn hash_here(bytes: &[u8], sink: &mut Sink<'_>) -> Result<Hashed, HashError> {
    if !bytes.is_empty() {
        sink(bytes).map_err(HashError::Sink)?;
    }
    Ok(hash_bytes(bytes))
}

fn hash_in_threads(first: Piece, source: &mut dyn Read, sink: &mut Sink<'_>) -> Result<Hashed, HashError> {
    thread::scope(|scope| {
        let (to_b3, read) = sync_channel(COPY_BUFFERS);
        let (to_sha1, passed_on) = sync_channel(COPY_BUFFERS);
        let (to_reader, emptied) = sync_channel(COPY_BUFFERS);
        let lane = |name: &str| thread::Builder::new().name(name.into());
        // Each lane drops its channel ends when it is done, which ends the next; the reading lane is the first.
        let b3 = lane("blake3").spawn_scoped(scope, move || b3_lane(&read, &to_sha1)).map_err(HashError::Thread)?;
        let sha1 = lane("sha1").spawn_scoped(scope, move || sha1_lane(&passed_on, &to_reader)).map_err(HashError::Thread)?;
        let size_bytes = read_lane(first, source, sink, Ring { to_b3, emptied, made: 1 });
        let b3 = b3.join().unwrap_or_else(|panic| resume_unwind(panic));
        let sha1 = sha1.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok(hashed(b3, sha1, size_bytes?))
    })
}

/// Gives the bytes read. What this is given is dropped at its end, also when it fails: the other lanes end then.
fn read_lane(first: Piece, source: &mut dyn Read, sink: &mut Sink<'_>, mut ring: Ring) -> Result<u64, HashError> {
    let mut size_bytes = 0;
    let mut piece = first;
    while piece.len > 0 {
        sink(piece.bytes()).map_err(HashError::Sink)?;
        size_bytes += piece.len as u64;
        let ended = !piece.is_full();
        let Some(next) = ring.pass_on(piece) else { break };
        piece = next;
        if ended {
            break;
        }
        piece.len = 0;
        piece.fill(source)?;
    }
    Ok(size_bytes)
}

fn b3_lane(read: &Receiver<Piece>, to_sha1: &SyncSender<Piece>) -> GroupHasher {
    let mut b3 = GroupHasher::new();
    for piece in read {
        b3.update(piece.bytes());
        // The next lane ends before this one by a panic alone, which joining it tells.
        to_sha1.send(piece).ok();
    }
    b3
}

fn sha1_lane(passed_on: &Receiver<Piece>, to_reader: &SyncSender<Piece>) -> BlobId {
    let mut sha1 = Sha1::new();
    for piece in passed_on {
        sha1.update(piece.bytes());
        // The reader is gone after its last piece and needs no buffer back.
        to_reader.send(piece).ok();
    }
    BlobId(sha1.finalize().into())
}

/// The buffers that circulate, as the reading thread sees them.
struct Ring {
    to_b3: SyncSender<Piece>,
    emptied: Receiver<Piece>,
    made: usize,
}

impl Ring {
    /// Gives a piece to the other threads and takes an empty one; `None` when one of them has died, which joining it will tell.
    fn pass_on(&mut self, piece: Piece) -> Option<Piece> {
        self.to_b3.send(piece).ok()?;
        match self.emptied.try_recv() {
            Ok(empty) => Some(empty),
            Err(_) if self.made < COPY_BUFFERS => {
                self.made += 1;
                Some(Piece::of(COPY_BUFFER_BYTES))
            }
            Err(_) => self.emptied.recv().ok(),
        }
    }
}

/// A buffer and how much of it is filled.
struct Piece {
    buffer: PageBuffer,
    len: usize,
}

impl Piece {
    fn of(bytes: usize) -> Self {
        Self { buffer: PageBuffer::zeroed(bytes), len: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    fn is_full(&self) -> bool {
        self.len == self.buffer.len()
    }

    /// Reads until the buffer is full or the source ends.
    fn fill(&mut self, source: &mut dyn Read) -> Result<(), HashError> {
        self.len += read_full(source, &mut self.buffer[self.len..]).map_err(HashError::Read)?;
        Ok(())
    }
}

fn first_piece(source: &mut dyn Read) -> Result<Piece, HashError> {
    let mut piece = Piece::of(FIRST_BUFFER_BYTES);
    piece.fill(source)?;
    if !piece.is_full() {
        return Ok(piece);
    }
    let mut larger = Piece::of(THREADS_FROM_BYTES);
    larger.buffer[..piece.len].copy_from_slice(piece.bytes());
    larger.len = piece.len;
    larger.fill(source)?;
    Ok(larger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const BUFFER: usize = COPY_BUFFER_BYTES;
    const THREAD: usize = THREADS_FROM_BYTES;

    fn bytes_of(size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(b"dual").finalize_xof().fill(&mut bytes);
        bytes
    }

    /// Reads in odd small pieces, is interrupted now and then, and fails after `fail_after` bytes.
    struct Awkward<'a> {
        bytes: &'a [u8],
        calls: usize,
        fail_after: Option<usize>,
    }

    impl Read for Awkward<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(3) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.fail_after.is_some_and(|left| left == 0) {
                return Err(io::Error::other("the source broke"));
            }
            let count = buf.len().min(77_777).min(self.bytes.len()).min(self.fail_after.unwrap_or(usize::MAX));
            buf[..count].copy_from_slice(&self.bytes[..count]);
            self.bytes = &self.bytes[count..];
            self.fail_after = self.fail_after.map(|left| left - count);
            Ok(count)
        }
    }

    #[test]
    fn both_hashes_are_those_of_the_bytes_at_every_edge_of_the_buffers() {
        for size in [
            0,
            1,
            FIRST_BUFFER_BYTES - 1,
            FIRST_BUFFER_BYTES,
            FIRST_BUFFER_BYTES + 1,
            THREAD - 1,
            THREAD,
            THREAD + 1,
            THREAD + BUFFER,
            2 * THREAD + COPY_BUFFERS * BUFFER + 5,
        ] {
            let bytes = bytes_of(size);
            let mut written = Vec::new();
            let mut source = Awkward { bytes: &bytes, calls: 0, fail_after: None };
            let hashed = hash_stream(&mut source, &mut |piece| {
                written.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
            assert_eq!(written, bytes, "{size}");
            assert_eq!(hashed.fact.size_bytes, size as u64);
            assert_eq!(hashed.fact.sha1.as_bytes()[..], Sha1::digest(&bytes)[..], "{size}");
            assert_eq!(hashed.fact.b3.as_bytes(), blake3::hash(&bytes).as_bytes(), "{size}");
            assert_eq!(hashed, hash_bytes(&bytes));
        }
    }

    #[test]
    fn the_pieces_depend_on_the_size_alone() {
        let bytes = bytes_of(THREAD + 12 * BUFFER + 1);
        for _ in 0..20 {
            let mut sizes = Vec::new();
            hash_stream(&mut bytes.as_slice(), &mut |piece| {
                sizes.push(piece.len());
                Ok(())
            })
            .unwrap();
            assert_eq!(sizes, [vec![THREAD], vec![BUFFER; 12], vec![1]].concat());
        }
    }

    #[test]
    fn a_failing_source_is_reported_and_joins_the_thread() {
        let bytes = bytes_of(THREAD + 6 * BUFFER);
        for fail_after in [0, 10, THREAD, THREAD + 5 * BUFFER + 1] {
            let mut source = Awkward { bytes: &bytes, calls: 0, fail_after: Some(fail_after) };
            let error = hash_stream(&mut source, &mut |_| Ok(())).unwrap_err();
            assert!(matches!(error, HashError::Read(_)), "{fail_after}: {error}");
        }
    }

    #[test]
    fn a_refusing_sink_stops_the_read() {
        let bytes = bytes_of(THREAD + 6 * BUFFER);
        for allowed in [0, 1, 4] {
            let taken = Cell::new(0);
            let mut sink = |_: &[u8]| {
                taken.set(taken.get() + 1);
                if taken.get() > allowed { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
            };
            let error = hash_stream(&mut bytes.as_slice(), &mut sink).unwrap_err();
            assert!(matches!(error, HashError::Sink(_)), "{error}");
            assert_eq!(taken.get(), allowed + 1);
        }
    }
}
