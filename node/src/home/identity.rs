//! `identity.key`: the 32 bytes that a node signs with. Whoever can read them can speak as this node.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ed25519_dalek::{SECRET_KEY_LENGTH, SigningKey};
use zeroize::Zeroizing;

use crate::files::{Overwrite, write_whole};

/// Mode of the file: its user's alone.
const MODE: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// Why there is no identity to start with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else may have read it.
    #[error("{} may be read by others (mode {mode:03o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Not a key.
    #[error("{} is not a key: it has not {SECRET_KEY_LENGTH} bytes", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

/// Makes a key from these random bytes and writes it, durably. A key that is there is never replaced.
pub fn create(path: &Path, seed: &Zeroizing<[u8; SECRET_KEY_LENGTH]>) -> Result<SigningKey, IdentityError> {
    write_whole(path, seed.as_slice(), MODE, Overwrite::No).map_err(|source| IdentityError::File {
        what: "write",
        path: path.to_owned(),
        source,
    })?;
    Ok(SigningKey::from_bytes(seed))
}

/// Reads a key; none when there is no file.
pub fn load(path: &Path) -> Result<Option<SigningKey>, IdentityError> {
    let failed = |source| IdentityError::File { what: "read", path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let found = file.metadata().map_err(failed)?;
    let mode = found.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    if found.len() != SECRET_KEY_LENGTH as u64 {
        return Err(IdentityError::NotAKey { path: path.to_owned() });
    }
    let mut seed = Zeroizing::new([0; SECRET_KEY_LENGTH]);
    file.read_exact(seed.as_mut_slice()).map_err(failed)?;
    Ok(Some(SigningKey::from_bytes(&seed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};

    #[test]
    fn a_key_is_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        assert!(load(&path).unwrap().is_none());
        let key = create(&path, &Zeroizing::new([7; SECRET_KEY_LENGTH])).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(load(&path).unwrap().unwrap().to_bytes(), key.to_bytes());
        assert!(create(&path, &Zeroizing::new([8; SECRET_KEY_LENGTH])).is_err(), "never replaced");
        assert_eq!(load(&path).unwrap().unwrap().to_bytes(), key.to_bytes());
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_cut_short_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        create(&path, &Zeroizing::new([7; SECRET_KEY_LENGTH])).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(&path), Err(IdentityError::Exposed { mode: 0o640, .. })));
        fs::write(&path, b"short").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(load(&path), Err(IdentityError::NotAKey { .. })));
    }
}
