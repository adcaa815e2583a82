//! Which folders are known to be durable: a blob's record may only follow when every folder above its file will survive.
//!
//! That a folder exists says nothing: another thread, or an earlier life of this process, may have made it and died before its
//! parent was synced. So a folder counts as durable only after *this* instance synced its parent, once.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::HomePath;

/// The folders whose names this instance has made durable. They are never removed, so none leaves the set.
#[derive(Debug, Default)]
pub struct DurableFolders {
    known: Mutex<BTreeSet<HomePath>>,
}

impl DurableFolders {
    /// Creates folders and all above them with `create`, and makes their names durable with `sync` of their parents.
    ///
    /// Two threads may do this for the same folder at once: neither relies on the other.
    pub(super) fn ensure(
        &self,
        folders: &[HomePath],
        create: &dyn Fn(&HomePath) -> io::Result<()>,
        sync: &dyn Fn(&HomePath) -> io::Result<()>,
    ) -> io::Result<()> {
        // Ascending order puts every folder behind its parent.
        let wanted = self.unknown_among(folders);
        wanted.iter().try_for_each(create)?;
        let parents: BTreeSet<_> = wanted.iter().filter_map(HomePath::parent).collect();
        parents.iter().try_for_each(sync)?;
        self.known().extend(wanted);
        Ok(())
    }

    fn unknown_among(&self, folders: &[HomePath]) -> BTreeSet<HomePath> {
        let known = self.known();
        let mut wanted = BTreeSet::new();
        for folder in folders {
            let mut next = Some(folder.clone());
            while let Some(path) = next.filter(|path| *path != HomePath::home() && !known.contains(path)) {
                next = path.parent();
                wanted.insert(path);
            }
        }
        wanted
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<HomePath>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn path(text: &str) -> HomePath {
        HomePath::parse(text).unwrap()
    }

    #[test]
    fn each_folder_is_made_once_and_each_parent_synced_once() {
        let folders = DurableFolders::default();
        let calls = RefCell::new(Vec::new());
        let create = |path: &HomePath| {
            calls.borrow_mut().push(format!("+{path}"));
            Ok(())
        };
        let sync = |path: &HomePath| {
            calls.borrow_mut().push(format!("!{path}"));
            Ok(())
        };
        folders.ensure(&[path("b/2"), path("b/1"), path("b/1/x")], &create, &sync).unwrap();
        assert_eq!(calls.take(), ["+b", "+b/1", "+b/1/x", "+b/2", "!.", "!b", "!b/1"]);
        folders.ensure(&[path("b/1/x"), path("b/3")], &create, &sync).unwrap();
        assert_eq!(calls.take(), ["+b/3", "!b"]);
    }

    #[test]
    fn a_folder_whose_parent_failed_to_sync_is_not_taken_for_durable() {
        let folders = DurableFolders::default();
        let failing = |_: &HomePath| Err(io::Error::other("sync failed"));
        folders.ensure(&[path("a")], &|_| Ok(()), &failing).unwrap_err();
        let synced = RefCell::new(0);
        let sync = |_: &HomePath| {
            *synced.borrow_mut() += 1;
            Ok(())
        };
        folders.ensure(&[path("a")], &|_| Ok(()), &sync).unwrap();
        assert_eq!(synced.take(), 1);
    }
}
