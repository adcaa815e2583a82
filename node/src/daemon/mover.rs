//! Moving the files of deleted blobs, on threads of their own: one that hangs holds up no step, and no other file.
//!
//! The movers take errands from a queue that they share, one at a time. What was moved goes on at once to one more thread, which syncs and
//! notes whatever has come together. So a call that never returns keeps its own thread and its own blob, and nothing else. What has failed
//! stays in the store's queue, with the reason, and is tried again after a while that doubles each time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keepwell_protocol::id::BlobId;
use keepwell_store::error::StoreError;
use keepwell_store::ingest::{IngestId, remove_leftover};
use keepwell_store::store::Store;
use keepwell_store::trash::Retrieved;
use keepwell_store::unlink::{Move, Moved, Unlinked};

use super::driver::now_ms;
use crate::failure::{Code, Failure};
use crate::limits::{HUNG_AFTER, MOVERS, STOP_GRACE, TRASH_PORTION, UNLINK_LOOKS_PER_TICK, UNLINK_RETRY_MAX_MS, UNLINK_RETRY_MS};

/// What a mover has to tell.
pub(super) enum Report {
    /// A blob in the trash is back in its place.
    Retrieved(Retrieved),
    /// The index has failed.
    Failed(StoreError),
}

/// The running threads. What they have not begun when this is dropped is taken up by the next start.
pub(super) struct Mover {
    shared: Arc<Shared>,
    /// Those that move, by number.
    movers: Vec<JoinHandle<()>>,
    /// The one that notes.
    noter: Option<JoinHandle<()>>,
}

struct Shared {
    store: Arc<Store>,
    work: Mutex<Work>,
    /// An errand is due, or all is over.
    due: Condvar,
    /// A mover has done something, or what was moved is noted, or all is over.
    done: Condvar,
    report: Box<dyn Fn(Report) + Send + Sync>,
}

#[derive(Default)]
struct Work {
    due: VecDeque<Errand>,
    /// Blobs that are due, under way, or moved and not noted yet.
    taken: BTreeSet<BlobId>,
    /// When each of those that have failed was last tried, in Unix milliseconds.
    tried_ms: BTreeMap<BlobId, u64>,
    /// Blobs that somebody else had in hand, for the next tick.
    put_off: Vec<BlobId>,
    /// What each mover is at, and since when.
    under_way: BTreeMap<usize, (Errand, Instant)>,
    moved: Vec<Moved>,
    is_noting: bool,
    /// Where the next look at what has failed begins.
    look_from: Option<BlobId>,
    is_over: bool,
}

/// One thing to do with files.
#[derive(Debug, Clone, Copy)]
enum Errand {
    Unlink(BlobId),
    Retrieve(BlobId),
    Discard(IngestId),
    Empty { until_ms: u64, enough_bytes: u64 },
}

/// A handle to ask how the movers do.
#[derive(Clone)]
pub struct Movers(Arc<Shared>);

impl Mover {
    /// Starts the threads on this disk.
    pub(super) fn start(store: Arc<Store>, report: impl Fn(Report) + Send + Sync + 'static) -> Result<Mover, Failure> {
        let (work, due, done) = (Mutex::default(), Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { store, work, due, done, report: Box::new(report) });
        let mut mover = Mover { shared: Arc::clone(&shared), movers: Vec::new(), noter: None };
        for number in 0..MOVERS {
            let shared = Arc::clone(&shared);
            mover.movers.push(spawn("move", move || shared.move_files(number))?);
        }
        mover.noter = Some(spawn("note", move || shared.note_moved())?);
        Ok(mover)
    }

    /// For whoever asks how they do.
    pub(super) fn handle(&self) -> Movers {
        Movers(Arc::clone(&self.shared))
    }

    /// Moves the file of a deleted blob to the trash.
    pub(super) fn unlink(&self, blob: BlobId) {
        let mut work = self.shared.work();
        if work.taken.insert(blob) {
            self.shared.add(&mut work, Errand::Unlink(blob));
        }
    }

    /// Brings a blob back from the trash, and reports it.
    pub(super) fn retrieve(&self, blob: BlobId) {
        self.shared.add(&mut self.shared.work(), Errand::Retrieve(blob));
    }

    /// Removes the file of an upload that has ended.
    pub(super) fn discard(&self, ingest: IngestId) {
        self.shared.add(&mut self.shared.work(), Errand::Discard(ingest));
    }

    /// Removes a portion of the trash for good, and no more once so many bytes have gone. While one is at that, nothing: two would remove more.
    pub(super) fn empty(&self, until_ms: u64, enough_bytes: u64) {
        let mut work = self.shared.work();
        let under_way = work.under_way.values().map(|(errand, _)| errand);
        if !work.due.iter().chain(under_way).any(|errand| matches!(errand, Errand::Empty { .. })) {
            self.shared.add(&mut work, Errand::Empty { until_ms, enough_bytes });
        }
    }

    /// As time passes: what somebody had in hand is tried again, and so is what has failed long enough ago.
    pub(super) fn tick(&self, now_ms: u64) -> Result<(), StoreError> {
        let mut work = self.shared.work();
        for blob in std::mem::take(&mut work.put_off) {
            self.shared.add(&mut work, Errand::Unlink(blob));
        }
        let from = work.look_from.unwrap_or(BlobId([0; BlobId::LEN]));
        let rows = self.shared.store.snapshot()?.queued_unlinks_from(&from, UNLINK_LOOKS_PER_TICK)?;
        work.look_from = rows.last().map(|(id, _)| *id).filter(|_| rows.len() == UNLINK_LOOKS_PER_TICK);
        for (id, row) in rows {
            if is_due(row.attempts, work.tried_ms.get(&id).copied(), now_ms) && work.taken.insert(id) {
                self.shared.add(&mut work, Errand::Unlink(id));
            }
        }
        Ok(())
    }
}

fn is_hung(elapsed: Duration) -> bool {
    elapsed >= HUNG_AFTER
}

/// Whether a queued removal is to be tried now: the more often in vain, the longer it is left alone. Also when the clock was set back.
fn is_due(attempts: u32, tried_ms: Option<u64>, now_ms: u64) -> bool {
    let factor = 1u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX);
    let wait_ms = UNLINK_RETRY_MS.saturating_mul(factor).min(UNLINK_RETRY_MAX_MS);
    tried_ms.is_none_or(|tried_ms| now_ms.abs_diff(tried_ms) >= wait_ms)
}

impl Drop for Mover {
    fn drop(&mut self) {
        let mut work = self.shared.work();
        work.is_over = true;
        work.due.clear();
        self.shared.due.notify_all();
        self.shared.done.notify_all();
        // Whoever hangs is not waited for: it ends with the process, and its errand stays in the store's queue.
        let is_busy = |work: &mut Work| work.is_noting || !work.moved.is_empty() || !work.under_way.is_empty();
        let waited = self.shared.done.wait_timeout_while(work, STOP_GRACE, is_busy);
        let work = waited.unwrap_or_else(PoisonError::into_inner).0;
        let hanging: Vec<usize> = work.under_way.keys().copied().collect();
        let is_noting = work.is_noting || !work.moved.is_empty();
        drop(work);
        // The home is free for others only when nobody uses it here any more. A thread that panicked does not.
        let movers = std::mem::take(&mut self.movers).into_iter().enumerate();
        movers.filter(|(number, _)| !hanging.contains(number)).for_each(|(_, thread)| drop(thread.join()));
        if hanging.is_empty() && !is_noting {
            self.noter.take().map(JoinHandle::join);
        }
    }
}

impl Movers {
    /// What has been under way for so long that it may never end, in words.
    pub fn hung(&self) -> Vec<String> {
        let work = self.0.work();
        let long = work.under_way.values().filter(|(_, since)| is_hung(since.elapsed()));
        long.map(|(errand, since)| format!("{} for {} s", errand.told(), since.elapsed().as_secs())).collect()
    }
}

impl Errand {
    fn told(self) -> String {
        match self {
            Errand::Unlink(blob) => format!("moving {blob} to the trash"),
            Errand::Retrieve(blob) => format!("bringing {blob} back from the trash"),
            Errand::Discard(ingest) => format!("removing the upload {ingest}"),
            Errand::Empty { .. } => "emptying the trash".to_owned(),
        }
    }
}

impl Shared {
    /// A panic elsewhere cannot leave the queue half changed.
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, work: &mut Work, errand: Errand) {
        work.due.push_back(errand);
        self.due.notify_one();
    }

    /// The life of a mover.
    fn move_files(&self, number: usize) {
        while let Some(errand) = self.next(number) {
            let outcome = self.run(errand);
            let mut work = self.work();
            work.under_way.remove(&number);
            match (outcome, errand) {
                (Ok(Move::Tried(moved)), _) => work.moved.push(moved),
                (Ok(Move::Busy), Errand::Unlink(blob)) => work.put_off.push(blob),
                (Ok(_), Errand::Unlink(blob)) => drop(work.taken.remove(&blob)),
                (Ok(_), _) => {}
                (Err(error), errand) => {
                    if let Errand::Unlink(blob) = errand {
                        work.taken.remove(&blob);
                    }
                    self.failed(error);
                }
            }
            self.done.notify_all();
        }
    }

    fn next(&self, number: usize) -> Option<Errand> {
        let mut work = self.work();
        loop {
            if work.is_over {
                return None;
            }
            if let Some(errand) = work.due.pop_front() {
                work.under_way.insert(number, (errand, Instant::now()));
                return Some(errand);
            }
            work = self.due.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self, errand: Errand) -> Result<Move, StoreError> {
        match errand {
            Errand::Unlink(blob) => return self.store.try_move(&blob),
            Errand::Retrieve(blob) => match self.store.try_retrieve(&blob) {
                Ok(retrieved) => drop(retrieved.map(|retrieved| (self.report)(Report::Retrieved(retrieved)))),
                // It lies in the trash as before, and is looked for again.
                Err(error) => {
                    eprintln!("warning: blob {blob} is needed again and cannot be brought back from the trash: {error}")
                }
            },
            // It may have become a blob. What cannot be removed is a leftover at the next start.
            Errand::Discard(ingest) => drop(remove_leftover(self.store.fs(), ingest)),
            Errand::Empty { until_ms, enough_bytes } => {
                self.store.empty_some_trash(until_ms, TRASH_PORTION, enough_bytes)?;
            }
        }
        Ok(Move::NotQueued)
    }

    /// The life of the thread that notes.
    fn note_moved(&self) {
        loop {
            let mut work = self.work();
            while work.moved.is_empty() && !work.is_over {
                work = self.done.wait(work).unwrap_or_else(PoisonError::into_inner);
            }
            let moved = std::mem::take(&mut work.moved);
            if moved.is_empty() && work.under_way.is_empty() {
                return;
            }
            if moved.is_empty() {
                // It is over, and what is still under way may come yet.
                drop(self.done.wait(work));
                continue;
            }
            work.is_noting = true;
            drop(work);
            let (blobs, now_ms) = (moved.iter().map(Moved::blob).collect::<Vec<_>>(), now_ms());
            let noted = self.store.note_moved(moved, now_ms);
            let mut work = self.work();
            work.is_noting = false;
            for (blob, outcome) in blobs.iter().zip(noted.iter().flatten()) {
                match outcome {
                    Unlinked::Failed(_) => drop(work.tried_ms.insert(*blob, now_ms)),
                    Unlinked::Done | Unlinked::NotQueued => drop(work.tried_ms.remove(blob)),
                }
            }
            work.taken.retain(|blob| !blobs.contains(blob));
            self.done.notify_all();
            drop(work);
            if let Err(error) = noted {
                self.failed(error);
            }
        }
    }

    /// A full disk is told when the engine meets it; what could not be noted stays queued.
    fn failed(&self, error: StoreError) {
        if !matches!(error, StoreError::NoSpace) && !self.store.has_met_full() {
            (self.report)(Report::Failed(error));
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|error| Failure::new(Code::Internal, format!("cannot start a thread that moves files: {error}")))
}

#[cfg(test)]
mod tests;
