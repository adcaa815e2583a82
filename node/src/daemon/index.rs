//! Reading the index on a thread of its own, at a pace, to find damage in it: when the daemon starts, and then every [`INDEX_CHECK_EVERY`].
//!
//! Nobody waits for it. When it finds some, the engine hears of it and deletes nothing from then on (`service/index`). A check that comes to
//! nothing, because too much was written meanwhile or the disk was full, is made again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use keepwell_store::index::check::{CheckPace, IndexCheck, Unfinished};

use super::driver::Driver;
use super::scrub::{Debt, End};
use crate::failure::{Code, Failure};
use crate::limits::{INDEX_CHECK_EVERY, INDEX_CHECK_RATE_BYTES, INDEX_CHECK_RETRY};
use crate::service::index;

/// The running thread. It ends when this is dropped, in the middle of a check if need be.
pub struct IndexChecker {
    end: Arc<End>,
    thread: Option<JoinHandle<()>>,
}

impl IndexChecker {
    /// Starts it for the home in this folder, which `driver` works on.
    pub fn start(driver: Driver, home: PathBuf) -> Result<IndexChecker, Failure> {
        let end = Arc::new(End::default());
        let until = Arc::clone(&end);
        let spawned = std::thread::Builder::new().name("index".into()).spawn(move || run(&driver, &home, &until));
        let thread = spawned
            .map_err(|error| Failure::new(Code::Internal, format!("cannot start the thread that reads the index: {error}")))?;
        Ok(IndexChecker { end, thread: Some(thread) })
    }
}

impl Drop for IndexChecker {
    fn drop(&mut self) {
        self.end.tell();
        // A thread that panicked reads nothing any more.
        self.thread.take().map(JoinHandle::join);
    }
}

fn run(driver: &Driver, home: &Path, end: &Arc<End>) {
    let mut told = String::new();
    loop {
        let found = index::check(driver, home, pace(end));
        let warning = match &found {
            Ok(IndexCheck::Whole | IndexCheck::Unfinished(Unfinished::Stopped)) => None,
            Ok(IndexCheck::Unfinished(why)) => {
                Some(format!("the index was not read to its end: {why}; until it is, what was deleted keeps its space"))
            }
            Ok(IndexCheck::Damaged(why)) => {
                Some(format!("damage was found in the index, so nothing is deleted here: {why}; {}", index::NEXT_STEP))
            }
            // If the disk has failed, the engine meets that too, and ends the daemon.
            Err(failure) => Some(format!("the index could not be checked, or what was found not be noted: {}", failure.message)),
        };
        if let Some(warning) = warning.filter(|warning| *warning != told) {
            eprintln!("warning: {warning}");
            told = warning;
        }
        if end.wait(next_after(&found)) {
            return;
        }
    }
}

/// How long to wait after what a check came to.
fn next_after(found: &Result<IndexCheck, Failure>) -> Duration {
    match found {
        Ok(IndexCheck::Whole | IndexCheck::Damaged(_)) => INDEX_CHECK_EVERY,
        Ok(IndexCheck::Unfinished(_)) | Err(_) => INDEX_CHECK_RETRY,
    }
}

/// Takes naps, and ends the check when all is over.
fn pace(end: &Arc<End>) -> CheckPace {
    let (mut debt, end) = (Debt::at(INDEX_CHECK_RATE_BYTES), Arc::clone(end));
    Box::new(move |bytes| match end.wait(debt.nap_after(bytes).unwrap_or_default()) {
        true => Err(io::ErrorKind::Other.into()),
        false => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::limits::SCRUB_NAP;

    #[test]
    fn what_has_a_verdict_waits_for_index_check_every_and_what_has_none_for_index_check_retry() {
        let damaged = Ok(IndexCheck::Damaged("a page".into()));
        assert_eq!([next_after(&Ok(IndexCheck::Whole)), next_after(&damaged)], [INDEX_CHECK_EVERY; 2]);
        let failed = Err(Failure::new(Code::Internal, "no"));
        assert_eq!(
            [next_after(&Ok(IndexCheck::Unfinished(Unfinished::Overwritten))), next_after(&failed)],
            [INDEX_CHECK_RETRY; 2]
        );
    }

    #[test]
    fn index_check_rate_bytes_take_a_second_in_naps_and_the_end_ends_them() {
        let end = Arc::new(End::default());
        let mut pace = pace(&end);
        let bytes_of_a_nap = usize::try_from(u128::from(INDEX_CHECK_RATE_BYTES) * SCRUB_NAP.as_millis() / 1_000).unwrap();
        let began = Instant::now();
        pace(bytes_of_a_nap + 1).unwrap();
        assert!(began.elapsed() >= SCRUB_NAP);
        end.tell();
        assert!(pace(0).is_err());
    }
}
