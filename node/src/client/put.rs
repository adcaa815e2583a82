//! Putting through the daemon: files go into `ingest/` from here, small ones along with the request, and many share one.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use axum::body::Bytes;
use axum::http::{Method, Response};
use data_encoding::BASE64;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_store::fs::SharedFs;
use keepwell_store::ingest::{Body as Written, IngestId, copy_path, copy_stream};
use keepwell_store::limits::INLINE_MAX_BYTES;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, channel};

use super::{Body, Client, encoded, not_understood, request};
use crate::failure::Failure;
use crate::limits::{COMMIT_INLINE_BYTES, MAX_NEW_INGESTS, PIECES_AHEAD, PUT_BATCH_BLOBS, PUT_BATCH_BYTES, SEND_PIECE_BYTES};
use crate::service::backend::Puts;
use crate::service::put::{Held, Outcome, Progress, PutOptions, deltas};
use crate::service::types::HeldLine;

/// A put that is under way.
pub(super) struct RemotePutter<'a> {
    client: &'a Client,
    options: PutOptions,
    progress: &'a mut Progress<'a>,
    waiting: Vec<Waiting>,
    inline_bytes: usize,
    bytes: u64,
    outcomes: Vec<Outcome>,
    names: Vec<IngestId>,
    names_asked: usize,
}

/// A blob whose bytes are safe, or small, and of which the daemon has not been told.
struct Waiting {
    number: usize,
    bytes: Written,
    children: Vec<BlobId>,
}

#[derive(Deserialize)]
struct IngestList {
    ingests: Vec<IngestLine>,
}

#[derive(Deserialize)]
struct IngestLine {
    id: String,
}

#[derive(Deserialize)]
struct CommitList {
    blobs: Vec<Value>,
}

impl<'a> RemotePutter<'a> {
    pub(super) fn new(client: &'a Client, options: PutOptions, progress: &'a mut Progress<'a>) -> Self {
        let (waiting, outcomes, names) = (Vec::new(), Vec::new(), Vec::new());
        RemotePutter { client, options, progress, waiting, inline_bytes: 0, bytes: 0, outcomes, names, names_asked: 0 }
    }

    /// Copies a file to where the daemon will take it in.
    fn hand_over(&mut self, files: &SharedFs, path: &Path) -> Result<Written, Failure> {
        let (client, names, asked) = (self.client, &mut self.names, &mut self.names_asked);
        let mut report = deltas(self.progress);
        copy_path(files, path, || new_name(client, names, asked), &mut report)
    }

    fn take(&mut self, number: usize, taken: Result<Written, Failure>, children: Vec<BlobId>) -> Result<Vec<Outcome>, Failure> {
        match taken {
            Ok(bytes) => {
                if let Written::Inline(bytes) = &bytes {
                    self.inline_bytes += bytes.len();
                }
                self.waiting.push(Waiting { number, bytes, children });
            }
            Err(failure) if failure.ends_all() => return Err(failure),
            Err(failure) => self.outcomes.push(Err((number, failure))),
        }
        let is_full = self.waiting.len() >= PUT_BATCH_BLOBS
            || self.bytes >= PUT_BATCH_BYTES
            || self.inline_bytes + INLINE_MAX_BYTES > COMMIT_INLINE_BYTES;
        if is_full { self.flush() } else { Ok(Vec::new()) }
    }

    fn flush(&mut self) -> Result<Vec<Outcome>, Failure> {
        let waiting = std::mem::take(&mut self.waiting);
        (self.inline_bytes, self.bytes) = (0, 0);
        let mut outcomes = std::mem::take(&mut self.outcomes);
        if !waiting.is_empty() {
            let answer = self.commit(&waiting)?;
            if answer.len() != waiting.len() {
                return Err(not_understood("another number of blobs than were put"));
            }
            for (waiting, told) in waiting.iter().zip(answer) {
                outcomes.push(outcome(waiting.number, told)?);
            }
        }
        outcomes.sort_by_key(|outcome| match outcome {
            Ok(held) => held.number,
            Err((number, _)) => *number,
        });
        Ok(outcomes)
    }

    fn commit(&self, waiting: &[Waiting]) -> Result<Vec<Value>, Failure> {
        let items = waiting.iter().map(|waiting| {
            let links = texts(&waiting.children);
            match &waiting.bytes {
                Written::Inline(bytes) => json!({ "base64": BASE64.encode(bytes), "links": links }),
                Written::File(file) => json!({ "ingest": file.id().to_string(), "links": links }),
            }
        });
        let scan = self.options.scan_json.then_some("json");
        let (lease, owner) = (self.options.lease.as_ref().map(|used| used.lease.to_string()), self.owner());
        let (items, links) = (items.collect::<Vec<_>>(), texts(&self.options.links));
        let body = json!({ "items": items, "links": links, "scan": scan, "lease": lease, "owner": owner });
        Ok(self.client.ask_with::<CommitList>(Method::POST, "/ingests/commit", &[], &body)?.blobs)
    }

    fn streamed(&mut self, number: usize, source: &mut dyn Read, children: &[BlobId]) -> Result<Outcome, Failure> {
        match self.send_stream(source, children) {
            Ok(line) => Ok(Ok(held(number, &line)?)),
            Err(failure) if failure.ends_all() => Err(failure),
            Err(failure) => Ok(Err((number, failure))),
        }
    }

    /// Who puts under a lease.
    fn owner(&self) -> Option<&str> {
        self.options.lease.as_ref().map(|used| used.owner.as_str())
    }

    /// Sends a stream as it comes.
    fn send_stream(&mut self, source: &mut dyn Read, children: &[BlobId]) -> Result<HeldLine, Failure> {
        let links = self.options.links.iter().chain(children);
        let mut query: Vec<String> = links.map(|id| format!("link={}", encoded(&id.to_string()))).collect();
        query.extend(self.options.scan_json.then(|| "scan=json".to_owned()));
        query.extend(self.options.lease.as_ref().map(|used| format!("lease={}", used.lease)));
        query.extend(self.owner().map(|owner| format!("owner={}", encoded(owner))));
        let path = format!("/blobs?{}", query.join("&"));
        let response = self.client.stream(&path, source, self.progress)?;
        self.client.read(response.into_body())
    }
}

/// A name for a file in `ingest/`. Each request asks for twice as many as the one before.
fn new_name(client: &Client, names: &mut Vec<IngestId>, asked: &mut usize) -> Result<IngestId, Failure> {
    if names.is_empty() {
        *asked = (*asked * 2).clamp(1, MAX_NEW_INGESTS);
        let list: IngestList = client.ask(Method::POST, &format!("/ingests?count={asked}"), &[])?;
        let parsed = list.ingests.iter().map(|line| line.id.parse()).collect::<Result<Vec<_>, _>>();
        *names = parsed.map_err(|error: keepwell_store::ingest::ParseIngestIdError| not_understood(&error.to_string()))?;
    }
    names.pop().ok_or_else(|| not_understood("no ingest was given"))
}

impl Puts for RemotePutter<'_> {
    fn put_path(&mut self, number: usize, path: &Path) -> Result<Vec<Outcome>, Failure> {
        let Some(files) = self.client.files.clone() else {
            let mut file = File::open(path).map_err(|error| Failure::file("cannot open", path, &error))?;
            return self.put_stream(number, &mut file);
        };
        let taken = self.hand_over(&files, path);
        self.bytes += path.metadata().map_or(0, |found| found.len());
        self.take(number, taken.map_err(|failure| failure.about("path", path.display().to_string())), Vec::new())
    }

    /// What waits goes first, so that blobs are recorded in the order in which they are put.
    fn put_stream(&mut self, number: usize, source: &mut dyn Read) -> Result<Vec<Outcome>, Failure> {
        let mut outcomes = self.flush()?;
        outcomes.push(self.streamed(number, source, &[])?);
        Ok(outcomes)
    }

    fn put_bytes(&mut self, number: usize, bytes: &[u8], children: Vec<BlobId>) -> Result<Vec<Outcome>, Failure> {
        if bytes.len() <= INLINE_MAX_BYTES {
            let mut outcomes = self.take(number, Ok(Written::Inline(bytes.to_vec())), children)?;
            outcomes.extend(self.flush()?);
            return Ok(outcomes);
        }
        let Some(files) = self.client.files.clone() else {
            let mut outcomes = self.flush()?;
            outcomes.push(self.streamed(number, &mut &*bytes, &children)?);
            return Ok(outcomes);
        };
        let (client, names, asked) = (self.client, &mut self.names, &mut self.names_asked);
        let taken = copy_stream(&files, &mut &*bytes, || new_name(client, names, asked));
        let mut outcomes = self.take(number, taken, children)?;
        outcomes.extend(self.flush()?);
        Ok(outcomes)
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Outcome>, Failure> {
        self.flush()
    }
}

fn texts(ids: &[BlobId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn outcome(number: usize, told: Value) -> Result<Outcome, Failure> {
    if let Some(failure) = Failure::from_json(&told) {
        return Ok(Err((number, failure)));
    }
    let line: HeldLine = serde_json::from_value(told).map_err(|error| not_understood(&error.to_string()))?;
    Ok(Ok(held(number, &line)?))
}

fn held(number: usize, line: &HeldLine) -> Result<Held, Failure> {
    let id = |error: keepwell_protocol::id::ParseIdError| not_understood(&error.to_string());
    let fact = BlobFact { sha1: line.sha1.parse().map_err(id)?, b3: line.b3.parse().map_err(id)?, size_bytes: line.size_bytes };
    Ok(Held { number, fact, existed: line.existed })
}

impl Client {
    /// Sends what `source` gives as the body of a POST, piece by piece.
    fn stream(&self, path: &str, source: &mut dyn Read, progress: &mut Progress<'_>) -> Result<Response<Incoming>, Failure> {
        let (pieces, queue) = channel::<Piece>(PIECES_AHEAD);
        let body: Body = StreamBody::new(stream::unfold(queue, next_frame)).boxed_unsync();
        let asked = request(Method::POST, path, &[], body)?;
        let mut failed = None;
        let sent = self.send_while(asked, async {
            let mut buffer = vec![0; SEND_PIECE_BYTES];
            // Whoever wants no more has an answer, or is gone; both are told by the answer.
            while let Ok(room) = pieces.reserve().await {
                match source.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        progress(count as u64);
                        room.send(Ok(Bytes::copy_from_slice(&buffer[..count])));
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        room.send(Err(io::ErrorKind::BrokenPipe.into()));
                        failed = Some(keepwell_store::ingest::IngestError::Read(error));
                        break;
                    }
                }
            }
            drop(pieces);
        });
        match failed {
            Some(error) => Err(error.into()),
            None => sent,
        }
    }
}

type Piece = io::Result<Bytes>;

async fn next_frame(mut queue: Receiver<Piece>) -> Option<(io::Result<Frame<Bytes>>, Receiver<Piece>)> {
    let piece = queue.recv().await?;
    Some((piece.map(Frame::data), queue))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Served;

    #[test]
    fn what_is_small_is_sent_before_it_has_commit_inline_bytes() {
        let served = Served::start();
        let mut silent = |_| ();
        let mut putter = RemotePutter::new(&served.client, PutOptions::default(), &mut silent);
        let full = COMMIT_INLINE_BYTES / INLINE_MAX_BYTES;
        for number in 0..full - 1 {
            let taken = Ok(Written::Inline(vec![0; INLINE_MAX_BYTES]));
            assert!(putter.take(number, taken, Vec::new()).unwrap().is_empty());
        }
        assert!(putter.take(full - 1, Ok(Written::Inline(Vec::new())), Vec::new()).unwrap().is_empty());
        let outcomes = putter.take(full, Ok(Written::Inline(vec![1])), Vec::new()).unwrap();
        assert_eq!(outcomes.len(), full + 1);
    }

    #[test]
    fn files_large_and_small_go_in_few_requests_and_leave_nothing_behind() {
        let served = Served::start();
        let mut silent = |_| ();
        let mut putter = Box::new(RemotePutter::new(&served.client, PutOptions::default(), &mut silent));
        let sizes = [0, INLINE_MAX_BYTES, INLINE_MAX_BYTES + 1, 3 << 20, INLINE_MAX_BYTES + 1];
        for (number, size) in sizes.into_iter().enumerate() {
            let path = served.folder.path().join(number.to_string());
            std::fs::write(&path, vec![9; size]).unwrap();
            assert!(putter.put_path(number, &path).unwrap().is_empty());
        }
        assert!(putter.put_path(sizes.len(), served.folder.path()).unwrap().is_empty());
        let outcomes = putter.finish().unwrap();
        let held: Vec<_> = outcomes[..sizes.len()].iter().map(|outcome| outcome.as_ref().unwrap()).collect();
        assert_eq!(held.iter().map(|held| held.fact.size_bytes).collect::<Vec<_>>(), sizes.map(|size| size as u64));
        assert_eq!(held.iter().map(|held| held.existed).collect::<Vec<_>>(), [false, false, false, false, true]);
        assert_eq!(outcomes[sizes.len()].as_ref().unwrap_err().1.code, crate::failure::Code::Usage);
        assert_eq!(served.ingests(), 0);
    }
}
