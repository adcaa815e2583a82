//! How far a fetch has come, for whoever watches it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one fetch. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    wanted_bytes: AtomicU64,
    done_bytes: AtomicU64,
}

impl Progress {
    /// Bytes of all blobs that were missing when the fetch began; 0 before that is known.
    pub fn wanted_bytes(&self) -> u64 {
        self.0.wanted_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of them that are here now. What turns out not to be of use is taken off again.
    pub fn done_bytes(&self) -> u64 {
        self.0.done_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn want(&self, bytes: u64) {
        self.0.wanted_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.0.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The share of one blob, of which nothing is here yet.
    pub(super) fn part(&self) -> Part {
        Part { of: self.clone(), done_bytes: Arc::default() }
    }
}

/// How far one blob of a fetch has come. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    of: Progress,
    done_bytes: Arc<AtomicU64>,
}

impl Part {
    /// So many bytes of the blob are here.
    pub(super) fn reached(&self, done_bytes: u64) {
        let before = self.done_bytes.swap(done_bytes, Ordering::Relaxed);
        self.of.0.done_bytes.fetch_add(done_bytes.wrapping_sub(before), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_that_is_begun_again_counts_once() {
        let progress = Progress::default();
        progress.want(100);
        progress.add(10);
        let part = progress.part();
        part.reached(40);
        part.clone().reached(90);
        assert_eq!((progress.done_bytes(), progress.wanted_bytes()), (100, 100));
        part.reached(0);
        assert_eq!(progress.done_bytes(), 10);
    }
}
