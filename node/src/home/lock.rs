//! The lock of a home: one process at a time works on it, and says in the lock file who it is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use keepwell_protocol::units::DurationMs;
use keepwell_store::error::is_no_space;

use crate::limits::LOCK_POLL_MS;

/// Bytes of the lock file that are shown: what else stands there is not ours.
const SHOWN_BYTES: u64 = 200;
/// Mode of the lock file.
const MODE: u32 = 0o600;

/// Why the lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the home {} is in use by {holder}", home.display())]
    Busy {
        /// The home.
        home: PathBuf,
        /// The process, as it named itself.
        holder: String,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {}", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The lock, held until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

impl HomeLock {
    /// Takes the lock of `home`, waiting up to `wait` for another process to give it up.
    pub fn acquire(home: &Path, wait: DurationMs) -> Result<HomeLock, LockError> {
        let path = super::lock_file(home);
        let failed = |source| LockError::File { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(MODE);
        let mut file = options.open(&path).map_err(failed)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if start.elapsed() >= Duration::from_millis(wait.0) => {
                    return Err(LockError::Busy { home: home.to_owned(), holder: holder(&mut file) });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(LOCK_POLL_MS)),
            }
        }
        match name_holder(&mut file) {
            // The lock holds without its message, and a home on a full disk can be read.
            Err(error) if is_no_space(&error) => {}
            named => named.map_err(failed)?,
        }
        Ok(HomeLock { _file: file })
    }
}

/// Who has the lock of `home`, as it named itself; none if it is free. Looking takes nothing and makes nothing.
pub fn holder_of(home: &Path) -> Result<Option<String>, LockError> {
    let path = super::lock_file(home);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|source| LockError::File { path: path.clone(), source })?,
    };
    match file.try_lock_shared() {
        // Given up again when the file is closed, at the end of this function.
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(holder(&mut file))),
        Err(TryLockError::Error(source)) => Err(LockError::File { path, source }),
    }
}

/// Writes who holds the lock, for whoever finds it taken. It is a message, not the lock: it may outlive its process.
fn name_holder(file: &mut File) -> io::Result<()> {
    let command: Vec<String> = std::env::args().skip(1).take(2).collect();
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("process {} (keepwell {})\n", std::process::id(), command.join(" ")).as_bytes())
}

fn holder(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.take(SHOWN_BYTES).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes).trim().escape_debug().to_string();
    if read.is_err() || text.is_empty() { "another process".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let home = tempfile::tempdir().unwrap();
        let held = HomeLock::acquire(home.path(), DurationMs(0)).unwrap();
        let error = HomeLock::acquire(home.path(), DurationMs(0)).unwrap_err();
        let expected = format!("in use by process {} (keepwell", std::process::id());
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(holder_of(home.path()).unwrap().is_some_and(|holder| error.to_string().ends_with(&holder)));
        drop(held);
        assert_eq!(holder_of(home.path()).unwrap(), None);
        assert!(HomeLock::acquire(home.path(), DurationMs(0)).is_ok());
    }

    #[test]
    fn one_that_is_given_up_in_time_is_got() {
        let home = tempfile::tempdir().unwrap();
        let held = HomeLock::acquire(home.path(), DurationMs(0)).unwrap();
        let start = Instant::now();
        let waited = thread::scope(|scope| {
            let waiter = scope.spawn(|| HomeLock::acquire(home.path(), DurationMs(crate::limits::LOCK_WAIT_MS)));
            drop(held);
            waiter.join().unwrap()
        });
        assert!(waited.is_ok(), "tried every {} ms for {:?}", LOCK_POLL_MS, start.elapsed());
    }
}
