//! What can go wrong with a disk, told apart by what the caller can do about it.

use std::io;
use std::path::PathBuf;

use keepwell_protocol::wire::WireError;

/// A failed store operation. Unless it says otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full, or a quota is used up.
    #[error("no space left on the disk of this home")]
    NoSpace,
    /// A file could not be read or written.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file, relative to the home.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The index failed. After an I/O error it refuses all further work until it is opened again.
    #[error("index: {0}")]
    Index(redb::Error),
    /// Parts of the index are not what was written, so that it cannot be opened or read.
    #[error("the index is damaged: {0}")]
    Damaged(String),
    /// A row that this program wrote cannot be read back.
    #[error("unreadable row in table `{table}`: {source}")]
    Unreadable {
        /// Of which table.
        table: &'static str,
        /// What is wrong with it.
        source: WireError,
    },
    /// Tables contradict each other.
    #[error("the index is inconsistent: {0}")]
    Inconsistent(String),
    /// Made by a later version.
    #[error("this home has format {found}; this build reads format {expected}")]
    Format {
        /// The format found.
        found: u32,
        /// The format this build reads.
        expected: u32,
    },
}

impl StoreError {
    /// A failed file operation; a full disk is told apart.
    pub fn file(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> StoreError {
        if is_no_space(&source) { StoreError::NoSpace } else { StoreError::File { what, path: path.into(), source } }
    }
}

/// Whether an I/O error says that the disk is full or a quota used up.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Io(source) if is_no_space(&source) => StoreError::NoSpace,
            redb::Error::Corrupted(what) => StoreError::Damaged(what),
            other => StoreError::Index(other),
        }
    }
}
