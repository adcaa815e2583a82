//! The snapshot of the last commit, made once and shared by all who read until the next: to make one opens every table, which costs as
//! much as twenty look-ups.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use redb::{Database, ReadableDatabase};

use crate::error::StoreError;
use crate::store::Snapshot;
use crate::tables::{Reading, Tables};

/// Where it is kept. Whoever has committed says so.
#[derive(Default)]
pub(crate) struct Latest {
    present: Mutex<Present>,
}

#[derive(Default)]
struct Present {
    /// How often it has been forgotten.
    forgotten: u64,
    /// It, and what it is a snapshot of.
    snapshot: Option<(Weak<Database>, Arc<Snapshot>)>,
}

/// When somebody began to make a snapshot: what has been forgotten by then.
#[derive(Debug, PartialEq, Eq)]
struct Begun(u64);

impl Latest {
    /// The present state of `database`.
    pub(crate) fn of(&self, database: &Arc<Database>) -> Result<Arc<Snapshot>, StoreError> {
        match self.kept(database) {
            Ok(snapshot) => Ok(snapshot),
            Err(begun) => {
                let snapshot = Arc::new(Tables::<Reading>::open(&database.begin_read()?)?);
                self.keep(&begun, database, &snapshot);
                Ok(snapshot)
            }
        }
    }

    /// Whoever asks from now on gets another one.
    pub(crate) fn forget(&self) {
        let mut present = self.present();
        present.forgotten = present.forgotten.wrapping_add(1);
        let snapshot = present.snapshot.take();
        drop(present);
        // Nobody else need wait until it is closed.
        drop(snapshot);
    }

    /// What is kept of `database`; if that is nothing, the beginning of making it.
    fn kept(&self, database: &Arc<Database>) -> Result<Arc<Snapshot>, Begun> {
        let present = self.present();
        match &present.snapshot {
            Some((of, snapshot)) if std::ptr::eq(of.as_ptr(), Arc::as_ptr(database)) => Ok(Arc::clone(snapshot)),
            _ => Err(Begun(present.forgotten)),
        }
    }

    /// Keeps it, unless somebody has committed since it was begun: it may be of before that.
    fn keep(&self, begun: &Begun, database: &Arc<Database>, snapshot: &Arc<Snapshot>) {
        let mut present = self.present();
        if present.forgotten == begun.0 {
            present.snapshot = Some((Arc::downgrade(database), Arc::clone(snapshot)));
        }
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use redb::Builder;
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::fs::RealFs;
    use crate::scrub::ScrubState;
    use crate::store::Store;
    use crate::testing::TestHome;

    fn note(home: &TestHome, rotten: u64) {
        home.write(|txn| txn.put_scrub_state(&ScrubState { rotten, ..ScrubState::default() }));
    }

    fn noted(snapshot: &Snapshot) -> u64 {
        snapshot.scrub_state().unwrap().rotten
    }

    #[test]
    fn between_two_commits_there_is_one_snapshot_and_after_a_commit_another() {
        let home = TestHome::new();
        let before = home.snapshot();
        assert!(Arc::ptr_eq(&before, &home.snapshot()));
        note(&home, 1);
        let after = home.snapshot();
        assert!(Arc::ptr_eq(&after, &home.snapshot()));
        assert_eq!((noted(&before), noted(&after)), (0, 1));
        // What is not committed changes nothing.
        assert_eq!(home.write(|txn| txn.scrub_state()).rotten, 1);
        assert!(Arc::ptr_eq(&after, &home.snapshot()));
    }

    #[test]
    fn what_was_begun_before_a_commit_is_not_kept_for_those_who_ask_after_it() {
        let (latest, home) = (Latest::default(), TestHome::new());
        let database = Arc::new(Builder::new().create_with_backend(InMemoryBackend::new()).unwrap());
        let begun = latest.kept(&database).err().unwrap();
        let old = home.snapshot();
        latest.forget();
        latest.keep(&begun, &database, &old);
        let begun = latest.kept(&database).err().expect("what is from before the commit is not kept");
        latest.keep(&begun, &database, &old);
        assert!(Arc::ptr_eq(&latest.kept(&database).ok().unwrap(), &old));
        let opened_again = Arc::new(Builder::new().create_with_backend(InMemoryBackend::new()).unwrap());
        assert!(latest.kept(&opened_again).is_err(), "it is of another database");
    }

    #[test]
    fn whoever_asks_after_a_commit_sees_it_whatever_others_do() {
        let home = TestHome::new();
        let (store, committed) = (&home.store, &AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(move || {
                    while committed.load(Ordering::SeqCst) < 300 {
                        let at_least = committed.load(Ordering::SeqCst);
                        let found = noted(&store.snapshot().unwrap());
                        assert!(found >= at_least, "{found} although {at_least} had been committed");
                    }
                });
            }
            for rotten in 1..=300 {
                store.write(|txn| txn.put_scrub_state(&ScrubState { rotten, ..ScrubState::default() })).unwrap();
                committed.store(rotten, Ordering::SeqCst);
            }
        });
    }

    #[test]
    fn what_is_kept_for_others_holds_up_no_page_of_the_index() {
        let grown = |looks: bool, keeps: bool| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("index");
            let store = Store::open_at(&path, Arc::new(RealFs::new(folder.path()))).unwrap();
            let kept = keeps.then(|| store.snapshot().unwrap());
            for rotten in 0..400 {
                if looks {
                    store.snapshot().unwrap();
                }
                store.write(|txn| txn.put_scrub_state(&ScrubState { rotten, ..ScrubState::default() })).unwrap();
            }
            drop(kept);
            std::fs::metadata(path).unwrap().len()
        };
        let plain = grown(false, false);
        assert!(grown(true, false) <= plain, "looking in between makes it larger");
        assert!(grown(false, true) > plain, "a snapshot that is kept all the time pins pages");
    }
}
