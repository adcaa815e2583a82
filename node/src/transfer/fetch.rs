//! Fetching over a bulk stream: questions run ahead of the answers, every answer is verified before it counts.

use std::io::{self, Read};
use std::sync::Arc;

use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_protocol::limits::{MAX_RANGE_BYTES, MAX_SMALL_BLOBS, MAX_SMALL_BYTES};
use keepwell_protocol::transfer::{BulkError, BulkReply, BulkRequest};
use keepwell_store::error::StoreError;
use keepwell_store::fs::PageBuffer;
use keepwell_store::hash::Shape;
use keepwell_store::ingest::{IngestError, IngestId, Ingested, ingest};
use keepwell_store::limits::SPAN_BYTES;
use keepwell_store::partial::{Need, Partial, PartialError};
use keepwell_store::store::Store;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{blocking, read_frame, write_frame};
use crate::limits::{BULK_ANSWER_TIMEOUT, QUESTIONS_AHEAD};

/// Why a blob did not come over this stream. Whatever came and verified is kept.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The other node does not hold it, or no longer.
    #[error("the node does not hold it")]
    Absent,
    /// The other node sent something else: do not ask it again.
    #[error("the node sent bytes that do not verify: {0}")]
    Lied(String),
    /// The verified whole has another SHA-1 than the catalog says.
    #[error("the bytes that the catalog's BLAKE3 stands for hash to {found}, not to {wanted}")]
    Collision {
        /// The blob asked for.
        wanted: BlobId,
        /// What its bytes hash to.
        found: BlobId,
    },
    /// The stream broke or the answer took too long.
    #[error("the stream failed: {0}")]
    Stream(#[from] io::Error),
    /// This node's disk failed or is full.
    #[error(transparent)]
    Disk(#[from] StoreError),
}

impl From<PartialError> for FetchError {
    fn from(error: PartialError) -> Self {
        match error {
            PartialError::WrongSha1 { wanted, found } => FetchError::Collision { wanted, found },
            PartialError::Store(error) => FetchError::Disk(error),
            other => FetchError::Lied(other.to_string()),
        }
    }
}

impl From<BulkError> for FetchError {
    fn from(error: BulkError) -> Self {
        FetchError::Lied(error.to_string())
    }
}

/// A blob that has been fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The blob, verified, durable and not yet placed.
    pub blob: Ingested,
    /// Bytes of it that came over the stream.
    pub received_bytes: u64,
}

/// A stream to a node that serves, kept for one fetch after the other.
pub struct Fetcher<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    store: Arc<Store>,
}

/// An answer on its way to the disk.
enum Piece {
    SpanValues(Vec<[u8; 32]>),
    GroupValues(u32, Vec<[u8; 32]>),
    /// From which offset, in how much of the buffer.
    Bytes(u64, PageBuffer, usize),
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Fetcher<S> {
    /// Fetches over `stream` into `store`.
    pub fn new(store: Arc<Store>, stream: S) -> Fetcher<S> {
        let (reader, writer) = split(stream);
        Fetcher { reader, writer, store }
    }

    /// Fetches blobs of up to [`MAX_SMALL_BYTES`] each; an outcome for each, in order. `draw` names their ingests.
    pub async fn small(
        &mut self,
        facts: &[BlobFact],
        mut draw: impl FnMut() -> IngestId,
    ) -> Result<Vec<Result<Fetched, FetchError>>, FetchError> {
        let requests = facts.chunks(MAX_SMALL_BLOBS).map(|part| BulkRequest::Small(part.iter().map(|fact| fact.sha1).collect()));
        let frames: Vec<Vec<u8>> = requests.map(|request| request.encode()).collect();
        let Fetcher { reader, writer, store } = self;
        let ask = async {
            for frame in frames {
                write_frame(writer, &frame).await?;
            }
            writer.flush().await.map_err(FetchError::from)
        };
        let hear = async {
            let mut outcomes = Vec::with_capacity(facts.len());
            for fact in facts {
                outcomes.push(match read_bytes(reader, MAX_SMALL_BYTES).await? {
                    Some(bytes) => take_small(store, *fact, draw(), bytes),
                    None => Err(FetchError::Absent),
                });
            }
            Ok(outcomes)
        };
        tokio::try_join!(ask, hear).map(|(_, outcomes)| outcomes)
    }

    /// Fetches one blob of any size, or the rest of it. `progress` is told of the bytes that are here so far.
    pub async fn large(
        &mut self,
        fact: BlobFact,
        fresh: IngestId,
        mut progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<Fetched, FetchError> {
        let store = Arc::clone(&self.store);
        let partial = blocking(move || Partial::begin(&store, fact, fresh)).await??;
        let resumed_bytes = partial.resumed_bytes();
        let questions = plan(&partial);
        let (pieces, mut incoming) = mpsc::channel(QUESTIONS_AHEAD);
        let (spent, buffers) = mpsc::channel(QUESTIONS_AHEAD);
        let gathering = tokio::task::spawn_blocking(move || -> Result<Ingested, PartialError> {
            let mut partial = partial;
            progress(partial.done_bytes());
            while let Some(piece) = incoming.blocking_recv() {
                if let Some(buffer) = take(&mut partial, piece)? {
                    // One that nobody needs again is dropped.
                    spent.try_send(buffer).ok();
                }
                progress(partial.done_bytes());
            }
            if partial.needs() == Need::Nothing {
                partial.finish()
            } else {
                Err(PartialError::OutOfTurn { wanted: partial.done_bytes(), found: 0 })
            }
        });
        let heard = self.hear(questions, pieces, buffers).await;
        let gathered = gathering.await.map_err(io::Error::other)?;
        match (heard, gathered) {
            // The disk's or the verifier's word explains more than the broken-off stream that follows from it.
            (_, Err(error)) if !matches!(error, PartialError::OutOfTurn { .. }) => Err(error.into()),
            (Err(error), _) => Err(error),
            (Ok(()), gathered) => Ok(Fetched { blob: gathered?, received_bytes: fact.size_bytes - resumed_bytes }),
        }
    }

    /// Asks `questions` and passes the answers on; at most [`QUESTIONS_AHEAD`] are open at once.
    async fn hear(
        &mut self,
        questions: impl Iterator<Item = BulkRequest>,
        pieces: mpsc::Sender<Piece>,
        mut buffers: mpsc::Receiver<PageBuffer>,
    ) -> Result<(), FetchError> {
        let (asked, mut open) = mpsc::channel::<BulkRequest>(QUESTIONS_AHEAD);
        let Fetcher { reader, writer, .. } = self;
        let ask = async move {
            for question in questions {
                write_frame(writer, &question.encode()).await?;
                writer.flush().await?;
                if asked.send(question).await.is_err() {
                    break;
                }
            }
            Ok::<_, FetchError>(())
        };
        let hear = async move {
            while let Some(question) = open.recv().await {
                let piece = read_answer(reader, question, &mut buffers).await?;
                if pieces.send(piece).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        tokio::try_join!(ask, hear).map(drop)
    }
}

/// Everything that is to be asked for a partial, in order: group values one span ahead of the bytes that need them.
fn plan(partial: &Partial) -> impl Iterator<Item = BulkRequest> + use<> {
    let BlobFact { sha1: blob, size_bytes, .. } = partial.fact();
    let done_bytes = partial.done_bytes();
    let spans = u32::try_from(Shape::of(size_bytes).spans()).unwrap_or(u32::MAX);
    let first = u32::try_from(done_bytes / SPAN_BYTES as u64).unwrap_or(u32::MAX);
    let lacking: Vec<bool> = (0..spans).map(|span| partial.lacks_group_values(span)).collect();
    let span_values = (partial.needs() == Need::SpanValues).then_some(BulkRequest::SpanValues(blob));
    let spans = (first..spans).filter(move |_| done_bytes < size_bytes).flat_map(move |span| {
        let values = lacking[span as usize].then_some(BulkRequest::GroupValues { blob, span });
        values.into_iter().chain(ranges(blob, span, done_bytes, size_bytes))
    });
    span_values.into_iter().chain(spans)
}

fn ranges(blob: BlobId, span: u32, done_bytes: u64, size_bytes: u64) -> impl Iterator<Item = BulkRequest> {
    let start = (u64::from(span) * SPAN_BYTES as u64).max(done_bytes);
    let end = ((u64::from(span) + 1) * SPAN_BYTES as u64).min(size_bytes);
    (start..end).step_by(MAX_RANGE_BYTES).map(move |offset_bytes| {
        let length_bytes = u32::try_from((end - offset_bytes).min(MAX_RANGE_BYTES as u64)).unwrap_or(0);
        BulkRequest::Range { blob, offset_bytes, length_bytes }
    })
}

/// Reads an answer; bytes into a buffer that has been used before, if there is one.
async fn read_answer(
    reader: &mut (impl AsyncRead + Unpin),
    question: BulkRequest,
    buffers: &mut mpsc::Receiver<PageBuffer>,
) -> Result<Piece, FetchError> {
    match question {
        BulkRequest::SpanValues(_) => Ok(Piece::SpanValues(read_values(reader).await?)),
        BulkRequest::GroupValues { span, .. } => Ok(Piece::GroupValues(span, read_values(reader).await?)),
        BulkRequest::Range { offset_bytes, length_bytes, .. } => {
            let length = read_length(reader, length_bytes.into()).await?.ok_or(FetchError::Absent)?;
            let mut buffer = buffers.try_recv().unwrap_or_else(|_| PageBuffer::zeroed(MAX_RANGE_BYTES));
            read_all(reader, &mut buffer[..length]).await?;
            Ok(Piece::Bytes(offset_bytes, buffer, length))
        }
        BulkRequest::Small(_) => Err(FetchError::Lied("a small blob where a range was asked for".into())),
    }
}

async fn read_head(reader: &mut (impl AsyncRead + Unpin)) -> Result<BulkReply, FetchError> {
    let frame = timeout(BULK_ANSWER_TIMEOUT, read_frame(reader)).await.map_err(io::Error::from)??;
    let frame = frame.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    Ok(BulkReply::decode(&frame)?)
}

async fn read_values(reader: &mut (impl AsyncRead + Unpin)) -> Result<Vec<[u8; 32]>, FetchError> {
    match read_head(reader).await? {
        BulkReply::Values(values) => Ok(values),
        BulkReply::Absent => Err(FetchError::Absent),
        BulkReply::Bytes(_) => Err(FetchError::Lied("bytes where values were asked for".into())),
    }
}

async fn read_bytes(reader: &mut (impl AsyncRead + Unpin), most_bytes: u64) -> Result<Option<Vec<u8>>, FetchError> {
    let Some(length) = read_length(reader, most_bytes).await? else { return Ok(None) };
    let mut bytes = vec![0; length];
    read_all(reader, &mut bytes).await?;
    Ok(Some(bytes))
}

/// How many bytes follow, at most so many; none if the node does not hold them.
async fn read_length(reader: &mut (impl AsyncRead + Unpin), most_bytes: u64) -> Result<Option<usize>, FetchError> {
    match read_head(reader).await? {
        BulkReply::Absent => Ok(None),
        BulkReply::Bytes(length) if u64::from(length) <= most_bytes => Ok(Some(length as usize)),
        _ => Err(FetchError::Lied("something else than the bytes that were asked for".into())),
    }
}

async fn read_all(reader: &mut (impl AsyncRead + Unpin), bytes: &mut [u8]) -> Result<(), FetchError> {
    timeout(BULK_ANSWER_TIMEOUT, reader.read_exact(bytes)).await.map_err(io::Error::from)??;
    Ok(())
}

/// Takes an answer. A buffer comes back, to be used again.
fn take(partial: &mut Partial, piece: Piece) -> Result<Option<PageBuffer>, PartialError> {
    match piece {
        Piece::SpanValues(values) => partial.take_span_values(values).map(|()| None),
        Piece::GroupValues(span, values) => partial.take_group_values(span, values).map(|()| None),
        Piece::Bytes(offset_bytes, buffer, length) => {
            partial.take_bytes(offset_bytes, &buffer[..length])?;
            Ok(Some(buffer))
        }
    }
}

fn take_small(store: &Store, fact: BlobFact, id: IngestId, bytes: Vec<u8>) -> Result<Fetched, FetchError> {
    let source: &mut dyn Read = &mut bytes.as_slice();
    let blob = ingest(store.fs(), id, source, &mut |_| {}).map_err(|error| match error {
        IngestError::DiskFull(_) => FetchError::Disk(StoreError::NoSpace),
        other => FetchError::Stream(io::Error::other(other)),
    })?;
    let found = blob.fact();
    if found == fact {
        return Ok(Fetched { received_bytes: bytes.len() as u64, blob });
    }
    if found.b3 == fact.b3 {
        return Err(FetchError::Collision { wanted: fact.sha1, found: found.sha1 });
    }
    Err(FetchError::Lied(format!("asked for {}, got {}", fact.sha1, found.sha1)))
}
