//! The Unix socket of a home: where it is, who may talk on it, and what becomes of one that nobody answers on.

use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

use crate::failure::{Code, Failure};
use crate::limits::MAX_SOCKET_PATH_BYTES;

/// Who may connect, by the file's permissions: its user.
const MODE: u32 = 0o600;
const MODE_FOLDER: u32 = 0o700;
/// The user who may do anything on the machine, and reads our files anyway.
const ROOT: u32 = 0;

/// Where the socket of a home is: in it, or, where that path is too long for a socket, under a name made of it in `runtime`
/// (`$XDG_RUNTIME_DIR`). None if there is no such folder either.
pub fn path_of(home: &Path, runtime: Option<&Path>) -> Option<PathBuf> {
    // However the home is spelled, it has one socket.
    let home = fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
    let fits = |path: &PathBuf| path.as_os_str().len() <= MAX_SOCKET_PATH_BYTES;
    let hash = blake3::hash(home.as_os_str().as_encoded_bytes()).to_hex();
    let elsewhere = || Some(runtime?.join("keepwell").join(format!("{}.sock", &hash[..32])));
    Some(home.join("api.sock")).filter(fits).or_else(|| elsewhere().filter(fits))
}

/// Listens on `path`. The caller holds the home's lock: a socket on which nobody answers is then a dead daemon's.
pub fn bind(path: &Path) -> Result<Guarded, Failure> {
    let failed = |error: io::Error| Failure::file("cannot listen on", path, &error);
    if StdUnixStream::connect(path).is_ok() {
        return Err(Failure::new(Code::HomeBusy, format!("another process answers on {}", path.display())).hint("stop it"));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(MODE_FOLDER).create(folder).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed)?;
    Ok(Guarded { listener, user: own_user().map_err(failed)?, path: path.to_owned() })
}

/// The user id of this process, as another process on a socket is told it.
pub(crate) fn own_user() -> io::Result<u32> {
    Ok(UnixStream::pair()?.0.peer_cred()?.uid())
}

/// The user at the other end of a connection, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User(pub u32);

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}", self.0)
    }
}

impl Connected<IncomingStream<'_, Guarded>> for User {
    fn connect_info(stream: IncomingStream<'_, Guarded>) -> User {
        // Somebody whom the kernel does not know any more was let in, so it was this user or root.
        User(stream.io().peer_cred().map_or(ROOT, |peer| peer.uid()))
    }
}

/// A listening socket that lets in this user and root, and is removed when dropped.
#[derive(Debug)]
pub struct Guarded {
    listener: UnixListener,
    user: u32,
    path: PathBuf,
}

impl Listener for Guarded {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            if stream.peer_cred().is_ok_and(|peer| peer.uid() == self.user || peer.uid() == ROOT) {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // One that stays behind is removed by the next daemon.
        fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_max_socket_path_bytes_is_used_and_a_longer_one_is_not() {
        let runtime = Path::new("/run/user/1");
        let home = |bytes: usize| PathBuf::from(format!("/{}", "h".repeat(bytes - "//api.sock".len())));
        let fits = path_of(&home(MAX_SOCKET_PATH_BYTES), Some(runtime)).unwrap();
        assert!(fits.ends_with("api.sock"));
        assert_eq!(fits.as_os_str().len(), MAX_SOCKET_PATH_BYTES);
        let long = home(MAX_SOCKET_PATH_BYTES + 1);
        let elsewhere = path_of(&long, Some(runtime)).unwrap();
        assert!(elsewhere.starts_with("/run/user/1/keepwell"), "{}", elsewhere.display());
        assert_eq!(path_of(&long, Some(runtime)).unwrap(), elsewhere);
        assert_eq!(path_of(&long, None), None);
    }

    #[tokio::test]
    async fn a_dead_socket_is_taken_over_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keepwell/api.sock");
        let first = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(bind(&path).unwrap_err().code, Code::HomeBusy);
        let Guarded { listener, .. } = &first;
        assert!(listener.local_addr().is_ok());
        drop(first);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead socket stays behind");
        assert!(bind(&path).is_ok());
    }
}
