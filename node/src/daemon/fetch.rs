//! Fetching what is missing here: the closure of what is asked for, from whoever holds it, one holder after the other.
//!
//! What is wanted follows from the catalog: sizes and BLAKE3 come with refs, link facts and holdings, so every byte that arrives has
//! something to be verified against. A holder that lacks a blob, lies about it or goes away is passed over for the next.

mod progress;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use keepwell_protocol::id::{BlobFact, BlobId, NodeId};
use keepwell_protocol::limits::MAX_SMALL_BYTES;
use keepwell_store::audit::Note;
use keepwell_store::error::StoreError;
use keepwell_store::ingest::Ingested;
use keepwell_store::locks::BlobLocks;
use keepwell_store::place::Placement;
use keepwell_store::store::Snapshot;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::engine::{PutBlob, PutOutcome, Stored};
use crate::failure::{Code, Failure};
use crate::limits::{FETCH_BATCH_BLOBS, FETCH_BATCH_BYTES};
use crate::service::backend::Extent;
use crate::service::read::recorded;
use crate::service::{Node, collision, quota};
use crate::transfer::fetch::{FetchError, Fetched, Fetcher};

pub use progress::Progress;

/// A stream that a member answers on.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A stream being opened.
pub type Opening<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Whoever can open streams to members.
pub trait Streams: Send + Sync {
    /// The members that can be asked now.
    fn connected(&self) -> Vec<NodeId>;
    /// Opens a stream to one of them.
    fn open(&self, to: NodeId) -> Opening<'_>;
}

/// A blob that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// What it is.
    pub fact: BlobFact,
    /// Bytes that came over the network: fewer than its size if a part was here.
    pub received_bytes: u64,
    /// From whom.
    pub from: NodeId,
}

/// What became of a fetch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What came.
    pub arrived: Vec<Arrived>,
    /// What did not, and why: a line for each holder that was tried.
    pub failed: BTreeMap<BlobId, Vec<String>>,
    /// Those of it that are not what is meant, and of which another one of the same SHA-1 is here.
    pub collided: BTreeSet<BlobId>,
}

/// What is still to come, and who may have it.
#[derive(Debug)]
struct Wanted {
    fact: BlobFact,
    holders: Vec<NodeId>,
}

/// Fetches into one node.
pub struct Fetch<'a> {
    node: Arc<dyn Node + Send + Sync>,
    streams: &'a dyn Streams,
    /// Blobs that some fetch of this daemon is at: one at a time.
    busy: BlobLocks,
    progress: Progress,
    outcome: Outcome,
}

impl<'a> Fetch<'a> {
    /// A fetch into `node`, which counts in `progress`. All fetches of a daemon share `busy`.
    pub fn new(node: Arc<dyn Node + Send + Sync>, streams: &'a dyn Streams, busy: BlobLocks, progress: Progress) -> Fetch<'a> {
        Fetch { node, streams, busy, progress, outcome: Outcome::default() }
    }

    /// Fetches everything of `roots`, to this extent, that is not here.
    ///
    /// # Errors
    /// When this node's disk fails or is full; what came before that stays. Blobs that nobody gave are in the outcome.
    pub async fn run(mut self, roots: &[BlobId], extent: Extent) -> Result<Outcome, Failure> {
        let mut wanted = self.look(roots, extent)?;
        let wanted_bytes = wanted.values().map(|wanted| wanted.fact.size_bytes).sum();
        quota::leave_room(&*self.node, wanted_bytes)?;
        self.progress.want(wanted_bytes);
        while let Some(holder) = next_holder(&wanted) {
            self.ask_holder(holder, &mut wanted).await?;
        }
        for (id, _) in wanted {
            self.outcome.failed.entry(id).or_default();
        }
        Ok(self.outcome)
    }

    fn look(&mut self, roots: &[BlobId], extent: Extent) -> Result<BTreeMap<BlobId, Wanted>, Failure> {
        let snapshot = self.node.store().snapshot()?;
        let connected: BTreeSet<NodeId> = self.streams.connected().into_iter().collect();
        let Missing { missing, unknown, collided } = missing(&snapshot, roots, extent)?;
        for id in &collided {
            self.outcome.failed.entry(*id).or_default().push(first_is_kept(*id));
        }
        self.outcome.collided = collided;
        for id in unknown {
            self.outcome.failed.entry(id).or_default().push("no member says what it is".into());
        }
        let wanted = missing.into_iter().map(|fact| {
            let holders = snapshot
                .holders(&fact.sha1)?
                .into_iter()
                .filter(|holding| holding.fact == fact && connected.contains(&holding.node));
            Ok((fact.sha1, Wanted { fact, holders: holders.map(|holding| holding.node).collect() }))
        });
        wanted.collect::<Result<_, StoreError>>().map_err(Failure::from)
    }

    /// Takes from one holder whatever it is the next one for.
    async fn ask_holder(&mut self, holder: NodeId, wanted: &mut BTreeMap<BlobId, Wanted>) -> Result<(), Failure> {
        let mine: Vec<BlobFact> = wanted.values().filter(|w| w.holders.first() == Some(&holder)).map(|w| w.fact).collect();
        let stream = match self.streams.open(holder).await {
            Ok(stream) => stream,
            Err(error) => {
                for fact in mine {
                    self.pass_over(holder, fact.sha1, &error.to_string(), wanted);
                }
                return Ok(());
            }
        };
        let mut fetcher = Fetcher::new(Arc::clone(self.node.store()), stream);
        let (small, large): (Vec<BlobFact>, Vec<BlobFact>) =
            mine.into_iter().partition(|fact| fact.size_bytes <= MAX_SMALL_BYTES);
        for batch in batches(small) {
            let node = Arc::clone(&self.node);
            let outcomes = fetcher.small(&batch, || node.new_ingest()).await;
            let outcomes = match outcomes {
                Ok(outcomes) => outcomes,
                Err(error) => batch.iter().map(|_| Err(FetchError::Stream(io::Error::other(error.to_string())))).collect(),
            };
            let arrived = batch.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
            self.progress.add(arrived.map(|(fact, _)| fact.size_bytes).sum());
            self.take(holder, batch.into_iter().zip(outcomes).collect(), wanted).await?;
        }
        for fact in large {
            match self.one_large(&mut fetcher, fact).await? {
                Some(outcome) => self.take(holder, vec![(fact, outcome)], wanted).await?,
                None => {
                    self.progress.add(fact.size_bytes);
                    wanted.remove(&fact.sha1);
                }
            }
        }
        Ok(())
    }

    /// Fetches a large blob, alone of all fetches of this daemon. None if another brought it meanwhile.
    async fn one_large(
        &self,
        fetcher: &mut Fetcher<Box<dyn Stream>>,
        fact: BlobFact,
    ) -> Result<Option<Result<Fetched, FetchError>>, Failure> {
        let (busy, node) = (self.busy.clone(), Arc::clone(&self.node));
        let waited = tokio::task::spawn_blocking(move || {
            let guard = busy.lock(fact.sha1);
            let here = node.store().snapshot()?.blob(&fact.sha1)?.is_some();
            Ok::<_, StoreError>((!here).then_some(guard))
        });
        let Some(guard) = waited.await.map_err(internal)?? else { return Ok(None) };
        let (guard, part) = (Arc::new(guard), self.progress.part());
        let (held, reached) = (Arc::clone(&guard), part.clone());
        let outcome = fetcher
            .large(fact, self.node.new_ingest(), move |done_bytes| {
                // Whoever writes keeps the blob to itself to the end, also when nobody waits for this fetch any more.
                let _held = &held;
                reached.reached(done_bytes);
            })
            .await;
        if outcome.is_err() {
            // The next holder begins with what is here, and counts it anew.
            part.reached(0);
        }
        Ok(Some(outcome))
    }

    /// Records what came, and passes the holder over for the rest.
    async fn take(
        &mut self,
        holder: NodeId,
        outcomes: Vec<(BlobFact, Result<Fetched, FetchError>)>,
        wanted: &mut BTreeMap<BlobId, Wanted>,
    ) -> Result<(), Failure> {
        let (mut blobs, mut arrived) = (Vec::new(), Vec::new());
        for (fact, outcome) in outcomes {
            match outcome {
                Ok(Fetched { blob, received_bytes }) => {
                    blobs.push(blob);
                    arrived.push(Arrived { fact, received_bytes, from: holder });
                }
                Err(FetchError::Disk(error)) => return Err(error.into()),
                Err(error) => self.pass_over(holder, fact.sha1, &error.to_string(), wanted),
            }
        }
        let node = Arc::clone(&self.node);
        let refused = tokio::task::spawn_blocking(move || record(&*node, blobs)).await.map_err(internal)??;
        for arrived in arrived {
            let id = arrived.fact.sha1;
            wanted.remove(&id);
            match refused.get(&id) {
                Some(reason) => self.outcome.failed.entry(id).or_default().push(reason.clone()),
                None => self.outcome.arrived.push(arrived),
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, holder: NodeId, id: BlobId, reason: &str, wanted: &mut BTreeMap<BlobId, Wanted>) {
        self.outcome.failed.entry(id).or_default().push(format!("{holder}: {reason}"));
        if let Some(wanted) = wanted.get_mut(&id) {
            wanted.holders.retain(|other| *other != holder);
        }
    }
}

/// The holder to ask next: that of the first blob that has one.
fn next_holder(wanted: &BTreeMap<BlobId, Wanted>) -> Option<NodeId> {
    wanted.values().find_map(|wanted| wanted.holders.first().copied())
}

/// What is not here of roots and what they link to.
#[derive(Default)]
struct Missing {
    missing: Vec<BlobFact>,
    /// Nobody knows its BLAKE3.
    unknown: Vec<BlobId>,
    /// Another blob of the same SHA-1 is here.
    collided: BTreeSet<BlobId>,
}

/// What is not here of `roots`, to this extent.
fn missing(snapshot: &Snapshot, roots: &[BlobId], extent: Extent) -> Result<Missing, StoreError> {
    let (mut found, mut seen) = (Missing::default(), BTreeSet::new());
    let mut due: Vec<(BlobId, Option<BlobFact>)> = roots.iter().map(|id| (*id, None)).collect();
    while let Some((id, fact)) = due.pop() {
        if !seen.insert(id) {
            continue;
        }
        if extent == Extent::Closure {
            due.extend(snapshot.children(&id)?.into_iter().map(|child| (child.sha1, Some(child))));
        }
        if let Some(record) = snapshot.blob(&id)? {
            let meant = fact.map_or_else(|| collision::named(snapshot, &id), |fact| Ok(vec![fact]))?;
            if meant.iter().any(|meant| *meant != record.fact(id)) {
                found.collided.insert(id);
            }
            continue;
        }
        match fact.map_or_else(|| recorded(snapshot, &id), |fact| Ok(Some(fact)))? {
            Some(fact) => found.missing.push(fact),
            None => found.unknown.push(id),
        }
    }
    Ok(found)
}

fn batches(small: Vec<BlobFact>) -> Vec<Vec<BlobFact>> {
    let mut batches: Vec<Vec<BlobFact>> = Vec::new();
    let mut bytes = 0;
    for fact in small {
        let full =
            batches.last().is_none_or(|batch| batch.len() >= FETCH_BATCH_BLOBS || bytes + fact.size_bytes > FETCH_BATCH_BYTES);
        if full {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += fact.size_bytes;
        if let Some(batch) = batches.last_mut() {
            batch.push(fact);
        }
    }
    batches
}

/// Places and records what came; what was refused, and why.
fn record(node: &dyn Node, blobs: Vec<Ingested>) -> Result<BTreeMap<BlobId, String>, Failure> {
    if blobs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let Placement { placed, collided, .. } = node.store().place(blobs)?;
    for blob in &collided {
        if let Some(kept) = node.store().snapshot()?.blob(&blob.fact().sha1)? {
            node.note(Note::Collided { kept: kept.fact(blob.fact().sha1), refused: blob.fact() })?;
        }
    }
    let collision = |id: BlobId| (id, first_is_kept(id));
    let mut refused: BTreeMap<BlobId, String> = collided.iter().map(|blob| collision(blob.fact().sha1)).collect();
    let puts = placed.into_iter().map(|placed| PutBlob { blob: Stored::New(placed), children: Vec::new() }).collect();
    for outcome in node.put(puts, None)? {
        match outcome {
            PutOutcome::Held { .. } => {}
            PutOutcome::Collision { kept } => refused.extend([collision(kept.sha1)]),
            PutOutcome::Gone { sha1 } => refused.extend([(sha1, "it was deleted while it was fetched".to_owned())]),
            PutOutcome::Missing { sha1, .. } => refused.extend([(sha1, "what it refers to is missing".to_owned())]),
        }
    }
    Ok(refused)
}

fn first_is_kept(id: BlobId) -> String {
    format!("another blob with the SHA-1 {id} is stored here; the first is kept")
}

fn internal(error: tokio::task::JoinError) -> Failure {
    Failure::new(Code::Internal, format!("a worker failed: {error}"))
}

#[cfg(test)]
mod tests;
