//! Scrubbing on a thread of its own, at a pace, and fetching again what it has found lost.
//!
//! The thread reads between pauses; nothing waits for it. What was lost here and a ref needs is asked of the other members at once, and
//! again every [`REPAIR_EVERY`] as long as nobody gives it; a start takes that up from the audit log.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keepwell_protocol::id::BlobId;
use keepwell_store::audit::Note;
use tokio::runtime::Handle;

use super::Daemon;
use super::fetch::Progress;
use crate::failure::{Code, Failure};
use crate::limits::{REPAIR_EVERY, SCRUB_NAP};
use crate::service::Node;
use crate::service::backend::Extent;
use crate::service::scrub::{self, Portion};

/// How a daemon scrubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubKeys {
    /// Within how long everything is read, in milliseconds.
    pub period_ms: u64,
    /// Bytes in a second at most.
    pub rate_bytes: u64,
}

/// The running thread. It ends when this is dropped, in the middle of a blob if need be.
pub struct Scrubber {
    end: Arc<End>,
    thread: Option<JoinHandle<()>>,
}

/// Says when all is over.
#[derive(Default)]
pub(super) struct End {
    is_over: Mutex<bool>,
    changed: Condvar,
    told: tokio::sync::Notify,
}

impl Scrubber {
    /// Starts it on `daemon`, whose other tasks run on `runtime`.
    pub fn start(daemon: Arc<Daemon>, runtime: Handle, keys: ScrubKeys) -> Result<Scrubber, Failure> {
        let end = Arc::new(End::default());
        let mut running = Running {
            daemon,
            runtime,
            keys,
            end: Arc::clone(&end),
            lost: BTreeSet::new(),
            is_lost_known: false,
            repaired: Instant::now(),
        };
        let spawned = std::thread::Builder::new().name("scrub".into()).spawn(move || running.run());
        let thread =
            spawned.map_err(|error| Failure::new(Code::Internal, format!("cannot start the thread that scrubs: {error}")))?;
        Ok(Scrubber { end, thread: Some(thread) })
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        self.end.tell();
        // A thread that panicked reads nothing any more.
        self.thread.take().map(JoinHandle::join);
    }
}

impl End {
    /// Ends all waits, now and from now on.
    pub(super) fn tell(&self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
        self.told.notify_one();
    }

    /// Waits for so long, or until it is over; whether it is.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_over, pause, |is_over| !*is_over);
        *waited.map_or_else(|poisoned| poisoned.into_inner().0, |(is_over, _)| is_over)
    }
}

/// How long to pause for what has been read.
pub(super) struct Debt {
    rate_bytes: u64,
    owed: Duration,
}

impl Debt {
    /// None as yet, of whoever reads so many bytes in a second.
    pub(super) fn at(rate_bytes: u64) -> Debt {
        Debt { rate_bytes, owed: Duration::ZERO }
    }

    /// The pause that is due after so many more bytes; none as long as it would be shorter than [`SCRUB_NAP`].
    pub(super) fn nap_after(&mut self, bytes: usize) -> Option<Duration> {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.rate_bytes.max(1));
        self.owed = self.owed.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        (self.owed >= SCRUB_NAP).then(|| std::mem::take(&mut self.owed))
    }
}

/// Whether what is lost is to be asked for again, so long after it was last.
fn is_repair_due(since: Duration) -> bool {
    since >= REPAIR_EVERY
}

struct Running {
    daemon: Arc<Daemon>,
    runtime: Handle,
    keys: ScrubKeys,
    end: Arc<End>,
    /// What was lost here, and is to be fetched again.
    lost: BTreeSet<BlobId>,
    /// Whether that is all of it: after a start, or a failure, the audit log knows more.
    is_lost_known: bool,
    /// When that was last tried.
    repaired: Instant,
}

impl Running {
    fn run(&mut self) {
        let mut is_told = false;
        loop {
            let over = match self.turn() {
                Ok(over) => over,
                // A full disk may have room again. If the disk has failed, the engine meets that too, and ends the daemon.
                Err(failure) => {
                    if !std::mem::replace(&mut is_told, true) {
                        eprintln!("warning: what is held cannot be read again to find rot: {}", failure.message);
                    }
                    self.is_lost_known = false;
                    self.end.wait(REPAIR_EVERY)
                }
            };
            if over {
                return;
            }
        }
    }

    /// Reads a portion, or waits for a while; whether it is over.
    fn turn(&mut self) -> Result<bool, Failure> {
        let snapshot = self.daemon.driver().store().snapshot()?;
        if !self.is_lost_known {
            self.lost = scrub::lost(&snapshot)?;
            self.is_lost_known = true;
        }
        let wait_ms = scrub::wait_ms(&snapshot, self.keys.period_ms, self.daemon.driver().now_ms())?;
        let rate_bytes = scrub::rate_bytes(&snapshot, self.keys.period_ms, self.keys.rate_bytes)?;
        drop(snapshot);
        if wait_ms == 0 {
            self.portion(rate_bytes)?;
        } else if self.end.wait(Duration::from_millis(wait_ms).min(REPAIR_EVERY)) {
            return Ok(true);
        }
        if !self.lost.is_empty() && is_repair_due(self.repaired.elapsed()) {
            self.repair()?;
        }
        Ok(self.end.wait(Duration::ZERO))
    }

    fn portion(&mut self, rate_bytes: u64) -> Result<(), Failure> {
        let (mut debt, end) = (Debt::at(rate_bytes), Arc::clone(&self.end));
        let mut pace = |bytes: usize| {
            let is_over = debt.nap_after(bytes).is_some_and(|nap| end.wait(nap));
            if is_over { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
        };
        let node = self.daemon.driver().clone();
        let Portion { lost, .. } = scrub::portion(&node, &mut pace)?;
        if lost.is_empty() {
            return Ok(());
        }
        for blob in &lost {
            eprintln!("warning: the bytes of blob {blob} here are lost or not what was stored: they are in quarantine");
        }
        self.lost.extend(lost);
        self.repair()
    }

    /// Fetches what a ref needs and is not here any more. What nobody gives now is asked for again.
    fn repair(&mut self) -> Result<(), Failure> {
        self.repaired = Instant::now();
        for blob in std::mem::take(&mut self.lost) {
            let snapshot = self.daemon.driver().store().snapshot()?;
            if snapshot.blob(&blob)?.is_some() {
                continue;
            }
            let is_live = snapshot.is_live(&blob)?;
            drop(snapshot);
            if is_live && !self.fetch(blob)? {
                self.lost.insert(blob);
            }
        }
        Ok(())
    }

    /// Whether it is here again.
    fn fetch(&self, blob: BlobId) -> Result<bool, Failure> {
        let roots = [blob];
        let fetching = self.daemon.fetch(&roots, Extent::Flat, Progress::default());
        let outcome = self.runtime.block_on(async {
            tokio::select! {
                outcome = fetching => outcome.ok(),
                () = self.end.told.notified() => {
                    // Whoever ends us has told once; the next wait is to hear it too.
                    self.end.told.notify_one();
                    None
                }
            }
        });
        let from = outcome.into_iter().flat_map(|outcome| outcome.arrived).find(|arrived| arrived.fact.sha1 == blob);
        let Some(arrived) = from else { return Ok(self.daemon.driver().store().snapshot()?.blob(&blob)?.is_some()) };
        self.daemon.driver().note(Note::Repaired { blob, from: vec![arrived.from] })?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_gathered_until_they_are_as_long_as_scrub_nap() {
        let mut debt = Debt::at(1_000);
        let bytes = usize::try_from(SCRUB_NAP.as_millis()).unwrap();
        assert_eq!(debt.nap_after(bytes - 1), None);
        assert_eq!(debt.nap_after(1), Some(SCRUB_NAP));
        assert_eq!(debt.nap_after(2_000), Some(Duration::from_secs(2)));
        assert_eq!(debt.nap_after(0), None);
    }

    #[test]
    fn what_is_lost_is_asked_for_again_after_repair_every() {
        assert!(is_repair_due(REPAIR_EVERY) && !is_repair_due(REPAIR_EVERY - Duration::from_millis(1)));
    }
}
