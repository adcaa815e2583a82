//! Putting blobs: many paths share a transaction, large files stream, and each gets an answer of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_protocol::json;
use keepwell_protocol::name::{FileName, Label};
use keepwell_store::audit::Note;
use keepwell_store::fs::FileReader;
use keepwell_store::ingest::{Body, IngestId, Ingested, adopt, ingest, ingest_path};
use keepwell_store::place::Placed;

use super::Node;
use super::collision::{self, collision};
use super::{leases, quota};
use crate::engine::{LeaseUse, PutBlob, PutOutcome, Stored};
use crate::failure::{Code, Failure};
use crate::limits::{PUT_BATCH_BLOBS, PUT_BATCH_BYTES};

/// What holds for every blob of a put.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// Blobs that each of them refers to.
    pub links: Vec<BlobId>,
    /// Whether to read them as JSON and link them to what they name.
    pub scan_json: bool,
    /// The one blob that is wanted: any other is refused.
    pub expected: Option<BlobId>,
    /// The lease that they shall be under. If it cannot be used, nothing more is put.
    pub lease: Option<LeaseUse>,
}

/// A blob that is held now.
#[derive(Debug, Clone)]
pub struct Held {
    /// The number that its putter gave it.
    pub number: usize,
    /// What it is.
    pub fact: BlobFact,
    /// Whether it was here before.
    pub existed: bool,
}

/// What became of a blob, with the number that its putter gave it.
pub type Outcome = Result<Held, (usize, Failure)>;

/// The outcome of a put of one blob.
pub fn only(outcomes: Vec<Outcome>) -> Result<Held, Failure> {
    let outcome = outcomes.into_iter().next().ok_or_else(|| Failure::new(Code::Internal, "a put was not answered"))?;
    outcome.map_err(|(_, failure)| failure)
}

/// Told how many more bytes have been read.
pub type Progress<'a> = dyn FnMut(u64) + 'a;

/// Takes blobs in, and records them in batches.
pub struct Putter<'a> {
    node: &'a dyn Node,
    options: PutOptions,
    progress: &'a mut Progress<'a>,
    waiting: Vec<Waiting>,
    blobs: Vec<Ingested>,
    bytes: u64,
    outcomes: Vec<Outcome>,
}

/// A blob whose bytes are safe and which is not recorded yet.
struct Waiting {
    number: usize,
    fact: BlobFact,
    children: Vec<BlobId>,
}

/// The label of what is stored from a path: its last name.
pub fn label_of(path: &Path) -> Option<Label> {
    let name = path.file_name()?.to_string_lossy();
    FileName::parse(&name).ok().map(Label::from)
}

impl<'a> Putter<'a> {
    /// A putter on `node`.
    pub fn new(node: &'a dyn Node, options: PutOptions, progress: &'a mut Progress<'a>) -> Self {
        Putter { node, options, progress, waiting: Vec::new(), blobs: Vec::new(), bytes: 0, outcomes: Vec::new() }
    }

    /// Puts a file. What comes back is final: blobs of this and earlier calls.
    pub fn put_path(&mut self, number: usize, path: &Path) -> Result<Vec<Outcome>, Failure> {
        let node = self.node;
        self.check_lease()?;
        let taken = {
            let mut report = deltas(self.progress);
            ingest_path(node.store().fs(), node.new_ingest(), path, &mut report)
        };
        self.take(number, taken.map_err(|error| Failure::from(error).about("path", path.display().to_string())), Vec::new())
    }

    /// Puts what a stream gives.
    pub fn put_stream(&mut self, number: usize, source: &mut dyn Read) -> Result<Vec<Outcome>, Failure> {
        let node = self.node;
        self.check_lease()?;
        let taken = {
            let mut report = deltas(self.progress);
            ingest(node.store().fs(), node.new_ingest(), source, &mut report)
        };
        self.take(number, taken.map_err(Failure::from), Vec::new())
    }

    /// Puts a file that somebody else wrote and synced in `ingest/`. It goes, whatever becomes of it.
    pub fn put_ingest(&mut self, number: usize, id: IngestId, children: Vec<BlobId>) -> Result<Vec<Outcome>, Failure> {
        let taken = adopt(self.node.store().fs(), id, &mut |_| ());
        self.take(number, taken.map_err(Failure::from), children)
    }

    /// Puts what has been uploaded. It is there as before if it is not stored.
    pub fn put_upload(&mut self, number: usize, name: &str) -> Result<Vec<Outcome>, Failure> {
        self.check_lease()?;
        let taken = self.node.store().adopt_upload(name, &mut |_| ());
        self.take(number, taken.map_err(Failure::from), Vec::new())
    }

    /// Puts a few bytes, recorded with others when there are enough of them.
    pub fn put_small(&mut self, number: usize, mut bytes: &[u8], children: Vec<BlobId>) -> Result<Vec<Outcome>, Failure> {
        let taken = ingest(self.node.store().fs(), self.node.new_ingest(), &mut bytes, &mut |_| ());
        self.take(number, taken.map_err(Failure::from), children)
    }

    /// Puts bytes that link to `children` besides what the options say.
    pub fn put_bytes(&mut self, number: usize, mut bytes: &[u8], children: Vec<BlobId>) -> Result<Vec<Outcome>, Failure> {
        let taken = ingest(self.node.store().fs(), self.node.new_ingest(), &mut bytes, &mut |_| ())?;
        self.wait(number, taken, children);
        self.flush()
    }

    /// Records what is still waiting.
    pub fn finish(mut self) -> Result<Vec<Outcome>, Failure> {
        self.flush()
    }

    /// A failure that is not the item's own ends the put: the next item would meet it too.
    fn take(&mut self, number: usize, taken: Result<Ingested, Failure>, children: Vec<BlobId>) -> Result<Vec<Outcome>, Failure> {
        let checked = taken.and_then(|blob| self.check_expected(blob));
        let scanned = checked.and_then(|blob| Ok((self.scan(&blob)?, blob)));
        match scanned {
            Ok((named, blob)) => self.wait(number, blob, [children, named].concat()),
            Err(failure) if failure.ends_all() => return Err(failure),
            Err(failure) => self.outcomes.push(Err((number, failure))),
        }
        if self.waiting.len() >= PUT_BATCH_BLOBS || self.bytes >= PUT_BATCH_BYTES { self.flush() } else { Ok(Vec::new()) }
    }

    fn wait(&mut self, number: usize, blob: Ingested, children: Vec<BlobId>) {
        let fact = blob.fact();
        self.bytes += fact.size_bytes;
        self.waiting.push(Waiting { number, fact, children });
        self.blobs.push(blob);
    }

    /// What cannot be put need not be read.
    fn check_lease(&self) -> Result<(), Failure> {
        self.options.lease.as_ref().map_or(Ok(()), |used| leases::check_use(self.node, used))
    }

    fn check_expected(&self, blob: Ingested) -> Result<Ingested, Failure> {
        let found = blob.fact().sha1;
        match self.options.expected {
            Some(expected) if expected != found => {
                Err(Failure::new(Code::Integrity, format!("the bytes have the SHA-1 {found}, not {expected}"))
                    .hint("check that all of the bytes were sent, and nothing else")
                    .about("sha1", found.to_string()))
            }
            _ => Ok(blob),
        }
    }

    /// The blobs that this one names, if it is to be read for them.
    fn scan(&self, blob: &Ingested) -> Result<Vec<BlobId>, Failure> {
        if !self.options.scan_json {
            return Ok(Vec::new());
        }
        let bytes = read_ingested(self.node, blob)?;
        let document = json::parse_document(&bytes)?;
        if let Some((pointer, error)) = json::malformed_links(&document).into_iter().next() {
            return Err(Failure::from(error).about("pointer", pointer));
        }
        Ok(json::links(&document).into_iter().map(|(_, uri)| uri.sha1).collect())
    }

    fn flush(&mut self) -> Result<Vec<Outcome>, Failure> {
        let waiting = std::mem::take(&mut self.waiting);
        let blobs = std::mem::take(&mut self.blobs);
        self.bytes = 0;
        let mut outcomes = std::mem::take(&mut self.outcomes);
        if !waiting.is_empty() {
            self.check_lease()?;
            outcomes.extend(record(self.node, &self.options, waiting, blobs)?);
        }
        outcomes.sort_by_key(|outcome| match outcome {
            Ok(held) => held.number,
            Err((number, _)) => *number,
        });
        Ok(outcomes)
    }
}

/// Places and records blobs in one transaction, and tells what became of each.
fn record(node: &dyn Node, options: &PutOptions, waiting: Vec<Waiting>, blobs: Vec<Ingested>) -> Result<Vec<Outcome>, Failure> {
    let mut taken = BTreeMap::new();
    let snapshot = node.store().snapshot()?;
    let is_limited = node.settings().max_size_bytes.is_some();
    let (mut free, mut new_bytes) = (Vec::with_capacity(blobs.len()), 0);
    for blob in blobs {
        match collision::taken(&snapshot, &blob.fact())? {
            Some(other) => drop(taken.insert(blob.fact(), other)),
            None => {
                if is_limited && snapshot.blob(&blob.fact().sha1)?.is_none() {
                    new_bytes += blob.fact().size_bytes;
                }
                free.push(blob);
            }
        }
    }
    drop(snapshot);
    quota::leave_room(node, new_bytes)?;
    let children: BTreeMap<BlobId, &Waiting> = waiting.iter().rev().map(|waiting| (waiting.fact.sha1, waiting)).collect();
    let children_of = |sha1: &BlobId| {
        let own = children.get(sha1).map(|waiting| waiting.children.as_slice()).unwrap_or_default();
        distinct(options.links.iter().chain(own))
    };
    let outcomes = place_and_record(node, free, &children_of, options.lease.as_ref())?;
    let mut seen = BTreeSet::new();
    let told = |waiting: Waiting| match taken.get(&waiting.fact) {
        Some(kept) => Ok(Err((waiting.number, refused(node, waiting.fact, *kept)))),
        None => outcome(node, &outcomes, waiting, &mut seen),
    };
    waiting.into_iter().map(told).collect()
}

/// Places and records blobs: what became of each. Those that were here before are put all the same, so that what had rotten is whole again,
/// and what is deleted meanwhile is recorded anew.
fn place_and_record(
    node: &dyn Node,
    blobs: Vec<Ingested>,
    children_of: &dyn Fn(&BlobId) -> Vec<BlobId>,
    lease: Option<&LeaseUse>,
) -> Result<BTreeMap<BlobId, PutOutcome>, Failure> {
    // What collides is dropped with the rest of the placement: the record that it collides with is the one to name.
    let placed = node.store().place(blobs)?.placed;
    let ids: Vec<BlobId> = placed.iter().map(|placed| placed.fact().sha1).collect();
    let with_children = |placed: Placed| PutBlob { children: children_of(&placed.fact().sha1), blob: Stored::New(placed) };
    let outcomes = node.put(placed.into_iter().map(with_children).collect(), lease.cloned())?;
    Ok(ids.into_iter().zip(outcomes).collect())
}

/// Another blob of this SHA-1 is kept: that is told, and remembered. If it cannot be remembered, it is told all the same.
fn refused(node: &dyn Node, fact: BlobFact, kept: BlobFact) -> Failure {
    node.note(Note::Collided { kept, refused: fact }).ok();
    collision(&fact, &kept)
}

fn outcome(
    node: &dyn Node,
    outcomes: &BTreeMap<BlobId, PutOutcome>,
    waiting: Waiting,
    seen: &mut BTreeSet<BlobId>,
) -> Result<Outcome, Failure> {
    let Waiting { number, fact, .. } = waiting;
    Ok(match outcomes.get(&fact.sha1) {
        Some(PutOutcome::Held { fact: kept, existed }) if *kept == fact => {
            Ok(Held { number, fact, existed: *existed || !seen.insert(fact.sha1) })
        }
        Some(PutOutcome::Held { fact: kept, .. } | PutOutcome::Collision { kept }) => Err((number, refused(node, fact, *kept))),
        Some(PutOutcome::Gone { sha1 }) => {
            let message = format!("blob {sha1} was deleted while it was put");
            Err((number, Failure::new(Code::Internal, message).hint("put it again")))
        }
        Some(PutOutcome::Missing { sha1, children }) => {
            let message =
                format!("blob {sha1} links, itself or through others, to {} blobs that are not stored here", children.len());
            Err((number, Failure::no_provider(message, children)))
        }
        None => {
            let kept = node.store().snapshot()?.blob(&fact.sha1)?.map(|record| record.fact(fact.sha1));
            Err((number, refused(node, fact, kept.unwrap_or(fact))))
        }
    })
}

fn distinct<'a>(ids: impl Iterator<Item = &'a BlobId>) -> Vec<BlobId> {
    let mut seen = BTreeSet::new();
    ids.filter(|id| seen.insert(**id)).copied().collect()
}

fn read_ingested(node: &dyn Node, blob: &Ingested) -> Result<Vec<u8>, Failure> {
    let limit = keepwell_protocol::limits::MAX_SCAN_BYTES as u64;
    let file = match blob.body() {
        Body::Inline(bytes) => return Ok(bytes.clone()),
        Body::File(file) => file.path(),
    };
    let mut bytes = Vec::new();
    // One byte past the limit is enough for the reader of JSON to refuse it.
    let file = node.store().fs().open(&file);
    let read = file.and_then(|file| FileReader::new(&*file).take(limit + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::new(Code::Internal, format!("cannot read the blob back: {error}")))?;
    Ok(bytes)
}

/// Turns "so many in all" into "so many more".
pub(crate) fn deltas<'p>(progress: &'p mut Progress<'_>) -> impl FnMut(u64) + 'p {
    let mut before = 0;
    move |done| {
        progress(done - before);
        before = done;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PUT_GRACE_MS;
    use crate::local::Local;
    use keepwell_protocol::units::DurationMs;
    use std::fs;

    fn local(folder: &Path) -> Local {
        let (network, name) = ("lab".parse().unwrap(), "ada".parse().unwrap());
        Local::init(&folder.join("home"), DurationMs(0), None, network, name).unwrap()
    }

    #[test]
    fn a_batch_is_recorded_when_it_has_put_batch_blobs() {
        let folder = tempfile::tempdir().unwrap();
        let local = local(folder.path());
        let path = folder.path().join("a");
        let mut progress = |_| ();
        let mut putter = Putter::new(&local, PutOptions::default(), &mut progress);
        for number in 0..PUT_BATCH_BLOBS - 1 {
            fs::write(&path, number.to_string()).unwrap();
            assert!(putter.put_path(number, &path).unwrap().is_empty());
        }
        let outcomes = putter.put_path(PUT_BATCH_BLOBS - 1, &path).unwrap();
        assert_eq!(outcomes.len(), PUT_BATCH_BLOBS);
        let existed: Vec<bool> = outcomes.iter().map(|outcome| outcome.as_ref().unwrap().existed).collect();
        assert_eq!(existed.iter().filter(|existed| **existed).count(), 1, "the last file was put twice");
        assert!(putter.finish().unwrap().is_empty());
    }

    #[test]
    fn a_put_keeps_a_blob_for_put_grace_also_one_that_is_here() {
        let folder = tempfile::tempdir().unwrap();
        let local = local(folder.path());
        let path = folder.path().join("a");
        fs::write(&path, b"a").unwrap();
        let grace_until_ms = || {
            let mut progress = |_| ();
            let mut putter = Putter::new(&local, PutOptions::default(), &mut progress);
            putter.put_path(0, &path).unwrap();
            let before_ms = local.now_ms();
            let put = putter.finish().unwrap().pop().unwrap().unwrap();
            let record = local.store().snapshot().unwrap().blob(&put.fact.sha1).unwrap().unwrap();
            assert!((before_ms + PUT_GRACE_MS..=local.now_ms() + PUT_GRACE_MS).contains(&record.grace_until_ms));
            record.grace_until_ms
        };
        let first_ms = grace_until_ms();
        while local.now_ms() + PUT_GRACE_MS == first_ms {
            std::thread::yield_now();
        }
        assert!(grace_until_ms() > first_ms);
    }

    #[test]
    fn a_batch_is_recorded_when_it_has_put_batch_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let local = local(folder.path());
        let path = folder.path().join("a");
        fs::write(&path, b"a").unwrap();
        let mut progress = |_| ();
        let mut putter = Putter::new(&local, PutOptions::default(), &mut progress);
        putter.bytes = PUT_BATCH_BYTES - 2;
        assert!(putter.put_path(0, &path).unwrap().is_empty());
        assert_eq!(putter.put_path(1, &path).unwrap().len(), 2);
    }

    #[test]
    fn what_fails_alone_fails_alone() {
        let folder = tempfile::tempdir().unwrap();
        let local = local(folder.path());
        fs::write(folder.path().join("a"), b"a").unwrap();
        let mut progress = |_| ();
        let mut putter = Putter::new(&local, PutOptions::default(), &mut progress);
        putter.put_path(0, &folder.path().join("missing")).unwrap();
        putter.put_path(1, folder.path()).unwrap();
        putter.put_path(2, &folder.path().join("a")).unwrap();
        let outcomes = putter.finish().unwrap();
        let codes: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err().map(|(_, failure)| failure.code)).collect();
        assert_eq!(codes, [Some(Code::NotFound), Some(Code::Usage), None]);
    }
}
