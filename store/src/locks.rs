//! One lock per blob, in memory: a file that is being placed is never removed by the worker that unlinks.
//!
//! Whoever moves a blob's file into place holds its lock until the record is committed; whoever removes the file takes the same
//! lock and looks at the unlink queue again under it.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use keepwell_protocol::id::BlobId;

/// The locks of one home. Clones share them.
///
/// Whoever needs several takes them in ascending order of id and holds no other meanwhile; else two holders could wait for
/// each other for ever.
#[derive(Debug, Clone, Default)]
pub struct BlobLocks {
    table: Arc<Table>,
}

#[derive(Debug, Default)]
struct Table {
    held: Mutex<BTreeSet<BlobId>>,
    freed: Condvar,
}

impl BlobLocks {
    /// Takes the lock of one blob, waiting until it is free. A thread that holds it already waits for ever.
    pub fn lock(&self, id: BlobId) -> BlobGuard {
        let mut held = self.table.held();
        while !held.insert(id) {
            held = self.table.freed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        drop(held);
        self.guard(id)
    }

    /// Takes the lock of one blob if it is free.
    pub fn try_lock(&self, id: BlobId) -> Option<BlobGuard> {
        let taken = self.table.held().insert(id);
        taken.then(|| self.guard(id))
    }

    fn guard(&self, id: BlobId) -> BlobGuard {
        BlobGuard { table: Arc::clone(&self.table), id }
    }
}

impl Table {
    /// A panic elsewhere cannot leave the set half changed, so a poisoned mutex is as good as a sound one.
    fn held(&self) -> MutexGuard<'_, BTreeSet<BlobId>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lock of one blob, held until this is dropped. May travel to another thread.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct BlobGuard {
    table: Arc<Table>,
    id: BlobId,
}

impl BlobGuard {
    /// The blob that is locked.
    pub fn id(&self) -> BlobId {
        self.id
    }
}

impl Drop for BlobGuard {
    fn drop(&mut self) {
        self.table.held().remove(&self.id);
        self.table.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const A: BlobId = BlobId([1; 20]);
    const B: BlobId = BlobId([2; 20]);

    #[test]
    fn a_held_lock_is_refused_until_it_is_dropped() {
        let locks = BlobLocks::default();
        let guard = locks.clone().lock(A);
        assert_eq!(guard.id(), A);
        assert!(locks.try_lock(A).is_none());
        assert!(locks.try_lock(B).is_some(), "another blob is free");
        drop(guard);
        assert!(locks.try_lock(A).is_some());
    }

    #[test]
    fn a_guard_travels_to_another_thread_and_frees_the_lock_there() {
        let locks = BlobLocks::default();
        let guard = locks.lock(A);
        let freer = std::thread::spawn(move || drop(guard));
        drop(locks.lock(A));
        freer.join().unwrap();
    }

    #[test]
    fn holders_of_one_lock_exclude_each_other() {
        let locks = BlobLocks::default();
        let inside = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let guard = locks.lock(A);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        drop(guard);
                    }
                });
            }
        });
    }
}
