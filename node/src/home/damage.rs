//! The note that damage was found in the home's index. It lies beside the index, since that is what cannot be relied on.
//!
//! As long as it is there nothing is deleted here. `fsck --verify` takes it away when it finds nothing wrong any more; whoever restores the
//! index by other means can, too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use keepwell_protocol::units::TimeMs;

use crate::failure::Failure;
use crate::files::{Overwrite, sync_folder, write_whole};

const MODE: u32 = 0o600;
/// More than any note has (bytes).
const MAX_SHOWN: usize = 1_000;

fn file(home: &Path) -> PathBuf {
    home.join("index.damaged")
}

/// What was found, and when; none if nothing was. A note that cannot be read is one all the same.
pub fn read(home: &Path) -> Option<String> {
    match fs::read(file(home)) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_SHOWN)]);
            Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
                .map(|text| if text.is_empty() { "the note about it is empty".to_owned() } else { text })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("the note about it cannot be read: {error}")),
    }
}

/// Remembers durably what was found, unless something was before: the first is what happened.
pub fn note(home: &Path, now_ms: u64, why: &str) -> Result<(), Failure> {
    let at = TimeMs::from_unix_ms(now_ms).map_or_else(|_| format!("{now_ms} ms"), |time| time.to_string());
    let file = file(home);
    let written = match write_whole(&file, format!("{at} {why}\n").as_bytes(), MODE, Overwrite::No) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        written => written,
    };
    written.and_then(|()| sync_folder(home)).map_err(|error| Failure::file("cannot write", &file, &error))
}

/// Takes the note away; whether there was one.
pub fn clear(home: &Path) -> Result<bool, Failure> {
    let file = file(home);
    match fs::remove_file(&file) {
        Ok(()) => sync_folder(home).map(|()| true).map_err(|error| Failure::file("cannot sync", home, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::file("cannot remove", &file, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_finding_is_kept_until_it_is_taken_away() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!((read(home.path()), clear(home.path()).unwrap()), (None, false));
        note(home.path(), 0, "parts of it are not what was written").unwrap();
        note(home.path(), 1, "something else").unwrap();
        assert_eq!(read(home.path()).unwrap(), "1970-01-01T00:00:00Z parts of it are not what was written");
        assert!(clear(home.path()).unwrap());
        assert_eq!(read(home.path()), None);
    }

    #[test]
    fn a_note_that_is_empty_or_cannot_be_read_is_one_all_the_same() {
        let home = tempfile::tempdir().unwrap();
        fs::write(file(home.path()), "").unwrap();
        assert!(read(home.path()).unwrap().contains("empty"));
        fs::remove_file(file(home.path())).unwrap();
        fs::create_dir(file(home.path())).unwrap();
        assert!(read(home.path()).unwrap().contains("cannot be read"));
    }
}
