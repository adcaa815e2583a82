//! A home: the folder in which one node keeps everything. Finding it, making it, and opening it for one process.
//!
//! A home exists once its index says what it is, in one transaction; all else is made before, in an order in which any half can be
//! finished by a second `init`. No command but `init` works on a half.

pub mod config;
pub mod damage;
pub mod identity;
pub mod lock;
pub mod owner;

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use keepwell_protocol::units::{DurationMs, SizeBytes};
use keepwell_store::error::StoreError;
use keepwell_store::fs::{NetworkFsError, RealFs, refuse_network_filesystem};
use keepwell_store::home::DiskPlace;
use keepwell_store::store::Store;
use zeroize::Zeroizing;

use crate::failure::{Code, Failure, with_sources};
use crate::files::{Overwrite, folder_of, sync_folder, write_whole};
use config::{ConfigError, Origin};
use identity::IdentityError;
use lock::{HomeLock, LockError};

/// Mode of the home's folder: what is in it is its user's alone.
const MODE: u32 = 0o700;
const MODE_CONFIG: u32 = 0o600;
/// The index while it is made.
const INDEX_PART: &str = ".keepwell-index.part";
/// What a home may hold before it is whole: anything else was not made by us.
const OURS: [&str; 7] = ["config.toml", "identity.key", "index.redb", "lock", "blobs", "ingest", "trash"];

/// Why a home cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither a flag nor the environment says where it is.
    #[error("there is no place for a home: none of --home, KEEPWELL_HOME, XDG_DATA_HOME and HOME is set")]
    NoPlace,
    /// Nothing was made there.
    #[error("there is no keepwell home at {}", .0.display())]
    Absent(PathBuf),
    /// Its making was broken off.
    #[error("the home at {} was not made to its end", .0.display())]
    NotMade(PathBuf),
    /// One was made there before.
    #[error("there is a keepwell home at {} already", .0.display())]
    Exists(PathBuf),
    /// Something else is there.
    #[error("{} holds something else than a keepwell home: {name}", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What is in it.
        name: String,
    },
    /// The folder cannot be used.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It lies where nothing can be kept.
    #[error(transparent)]
    NetworkFs(#[from] NetworkFsError),
    /// Another process is using it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Its settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its key is missing or wrong.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a home is, and who said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The folder.
    pub path: PathBuf,
    /// Who said so.
    pub origin: Origin,
}

/// An opened home. Its lock is held as long as this lives.
#[derive(Debug)]
pub struct OpenHome {
    /// Its folder.
    pub path: PathBuf,
    /// Its key.
    pub key: SigningKey,
    /// Its store.
    pub store: Arc<Store>,
    /// Where its index lies.
    pub place: DiskPlace,
    /// Held, not used.
    pub lock: HomeLock,
}

/// Where the home is: the flag, else `KEEPWELL_HOME`, else `$XDG_DATA_HOME/keepwell`, else `~/.local/share/keepwell`.
pub fn locate(flag: Option<&Path>, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Location, HomeError> {
    let set = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let found = flag.map(|path| (path.to_owned(), Origin::Flag("--home")));
    let found = found.or_else(|| Some((set("KEEPWELL_HOME")?, Origin::Env("KEEPWELL_HOME"))));
    // A relative XDG_DATA_HOME is to be ignored, says its specification.
    let data = || set("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let data = || data().or_else(|| Some(set("HOME")?.join(".local/share")));
    let found = found.or_else(|| Some((data()?.join("keepwell"), Origin::Default)));
    let (path, origin) = found.ok_or(HomeError::NoPlace)?;
    let path = std::path::absolute(&path).map_err(|source| HomeError::File { what: "use", path, source })?;
    Ok(Location { path, origin })
}

/// Opens a whole home.
pub fn open(path: &Path, wait: DurationMs) -> Result<OpenHome, HomeError> {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Err(HomeError::Absent(path.to_owned()));
    }
    if !path.is_dir() {
        return Err(HomeError::Foreign { path: path.to_owned(), name: "it is not a directory".into() });
    }
    refuse_network_filesystem(path)?;
    // Before the lock: looking must leave nothing behind in a folder that is not ours. A home from a backup may lack its lock.
    if !lock_file(path).exists() && !index_file(path).exists() {
        return Err(HomeError::Absent(path.to_owned()));
    }
    let lock = HomeLock::acquire(path, wait)?;
    let not_made = || HomeError::NotMade(path.to_owned());
    if !index_file(path).exists() {
        return Err(not_made());
    }
    let home = open_locked(path, lock, |_| Err(not_made()))?;
    if home.store.snapshot()?.home()?.is_none() {
        return Err(not_made());
    }
    Ok(home)
}

/// Makes everything of a home but what its index says of it, or takes up where a broken-off `init` ended.
///
/// The caller writes the index; until that is durable, there is no home.
pub fn prepare(
    path: &Path,
    wait: DurationMs,
    max_size: Option<SizeBytes>,
    seed: impl FnOnce() -> Zeroizing<[u8; 32]>,
) -> Result<OpenHome, HomeError> {
    make_folder(path)?;
    refuse_network_filesystem(path)?;
    refuse_foreign(path)?;
    let lock = HomeLock::acquire(path, wait)?;
    make_index(path)?;
    let home = open_locked(path, lock, |key_file| Ok(identity::create(key_file, &seed())?))?;
    if home.store.snapshot()?.home()?.is_some() {
        return Err(HomeError::Exists(path.to_owned()));
    }
    let config = config_file(path);
    write_whole(&config, config::first_text(max_size).as_bytes(), MODE_CONFIG, Overwrite::Yes)
        .map_err(|source| HomeError::File { what: "write", path: config, source })?;
    let sync =
        |folder: &Path| sync_folder(folder).map_err(|source| HomeError::File { what: "sync", path: folder.to_owned(), source });
    sync(path)?;
    sync(folder_of(path))?;
    Ok(home)
}

/// Where the settings are.
pub fn config_file(home: &Path) -> PathBuf {
    home.join("config.toml")
}

pub(crate) fn lock_file(home: &Path) -> PathBuf {
    home.join("lock")
}

pub(crate) fn key_file(home: &Path) -> PathBuf {
    home.join("identity.key")
}

pub(crate) fn index_file(home: &Path) -> PathBuf {
    home.join("index.redb")
}

/// Key, index and files of a home whose lock is held. `no_key` says what to do without a key.
fn open_locked(
    path: &Path,
    lock: HomeLock,
    no_key: impl FnOnce(&Path) -> Result<SigningKey, HomeError>,
) -> Result<OpenHome, HomeError> {
    let key_file = key_file(path);
    let key = match identity::load(&key_file)? {
        Some(key) => key,
        None => no_key(&key_file)?,
    };
    let index = index_file(path);
    let store = Arc::new(Store::open_at(&index, Arc::new(RealFs::new(path)))?);
    let found = fs::metadata(&index).map_err(|source| HomeError::File { what: "look at", path: index, source })?;
    let place = DiskPlace { device: found.dev(), inode: found.ino() };
    Ok(OpenHome { path: path.to_owned(), key, store, place, lock })
}

/// Makes an empty index, unless there is one. It gets its name when it is whole: a kill must leave no half of one under it.
fn make_index(home: &Path) -> Result<(), HomeError> {
    let (index, part) = (index_file(home), home.join(INDEX_PART));
    if index.exists() {
        return Ok(());
    }
    let failed = |what| move |source| HomeError::File { what, path: index_file(home), source };
    match fs::remove_file(&part) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed.map_err(failed("make"))?,
    }
    drop(Store::open_at(&part, Arc::new(RealFs::new(home)))?);
    fs::File::open(&part).and_then(|file| file.sync_all()).map_err(failed("sync"))?;
    fs::rename(&part, &index).and_then(|()| sync_folder(home)).map_err(failed("make"))
}

fn make_folder(path: &Path) -> Result<(), HomeError> {
    let failed = |source| HomeError::File { what: "make", path: path.to_owned(), source };
    let parent = folder_of(path);
    fs::create_dir_all(parent).map_err(failed)?;
    match DirBuilder::new().mode(MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other.map_err(failed),
    }
}

fn refuse_foreign(path: &Path) -> Result<(), HomeError> {
    let failed = |source| HomeError::File { what: "list", path: path.to_owned(), source };
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let is_part = name.starts_with(".keepwell-") && name.ends_with(".part");
        // What is no home yet and was not made by us; a whole home may hold more than this, and is told apart by its index.
        if !is_part && !OURS.contains(&name.as_str()) && !index_file(path).exists() {
            return Err(HomeError::Foreign { path: path.to_owned(), name });
        }
    }
    Ok(())
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        let message = with_sources(&error);
        match error {
            HomeError::NoPlace => Failure::usage(message).hint("pass --home DIR"),
            HomeError::Absent(_) => Failure::usage(message).hint("make one with `keepwell init`, or name another with --home"),
            HomeError::NotMade(_) => Failure::usage(message).hint("run `keepwell init` on it once more"),
            HomeError::Exists(path) => Failure::new(Code::Exists, message)
                .hint("use it as it is, or name another folder with --home")
                .about("home", path.display().to_string()),
            HomeError::Foreign { .. } => Failure::new(Code::Exists, message).hint("name an empty or new folder with --home"),
            HomeError::File { what: _, path, source } => Failure { message, ..Failure::file("", &path, &source) },
            HomeError::NetworkFs(_) => Failure::usage(message).hint("choose a folder on a local disk with --home"),
            HomeError::Lock(LockError::Busy { holder, .. }) => {
                Failure::new(Code::HomeBusy, message).hint("wait for that process, or stop it").about("holder", holder)
            }
            HomeError::Lock(LockError::File { path, source }) => Failure { message, ..Failure::file("", &path, &source) },
            HomeError::Config(_) => Failure::usage(message).hint("mend it, then run `keepwell config check`"),
            HomeError::Identity(IdentityError::Exposed { path, .. }) => Failure::new(Code::Unsafe, message)
                .hint(format!("if nobody else can have read it: chmod 600 {}; else make a new home", path.display())),
            HomeError::Identity(IdentityError::NotAKey { .. }) => {
                Failure::new(Code::Integrity, message).hint("put back the identity.key of this home from a backup")
            }
            HomeError::Identity(IdentityError::File { path, source, .. }) => {
                Failure { message, ..Failure::file("", &path, &source) }
            }
            HomeError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(flag: Option<&str>, env: &[(&str, &str)]) -> Result<Location, HomeError> {
        let look = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        locate(flag.map(Path::new), &look)
    }

    #[test]
    fn a_home_is_where_the_nearest_voice_says() {
        let env = [("KEEPWELL_HOME", "/k"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        let path = |flag, from: usize| located(flag, &env[from..]).unwrap().path.display().to_string();
        assert_eq!(path(Some("/f"), 0), "/f");
        assert_eq!(path(None, 0), "/k");
        assert_eq!(path(None, 1), "/x/keepwell");
        assert_eq!(path(None, 2), "/h/.local/share/keepwell");
        assert!(matches!(located(None, &[]), Err(HomeError::NoPlace)));
        assert_eq!(
            located(None, &[("XDG_DATA_HOME", "rel"), ("HOME", "/h")]).unwrap().path,
            Path::new("/h/.local/share/keepwell")
        );
    }

    fn seed() -> Zeroizing<[u8; 32]> {
        Zeroizing::new([7; 32])
    }

    #[test]
    fn a_half_home_is_no_home_and_is_taken_up_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home");
        assert!(matches!(open(&path, DurationMs(0)), Err(HomeError::Absent(_))));
        let first = prepare(&path, DurationMs(0), None, seed).unwrap();
        let key = first.key.to_bytes();
        drop(first);
        assert!(matches!(open(&path, DurationMs(0)), Err(HomeError::NotMade(_))), "its index says nothing");
        fs::remove_file(index_file(&path)).unwrap();
        assert!(matches!(open(&path, DurationMs(0)), Err(HomeError::NotMade(_))), "it has no index");
        let second = prepare(&path, DurationMs(0), None, || panic!("there is a key")).unwrap();
        assert_eq!(second.key.to_bytes(), key);
    }

    #[test]
    fn an_index_whose_making_was_killed_is_made_anew_and_one_that_is_there_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home");
        fs::create_dir(&path).unwrap();
        fs::write(path.join(INDEX_PART), [0; 4096]).unwrap();
        drop(prepare(&path, DurationMs(0), None, seed).unwrap());
        assert!(!path.join(INDEX_PART).exists());
        fs::write(index_file(&path), [0; 4096]).unwrap();
        assert!(prepare(&path, DurationMs(0), None, || panic!("there is a key")).is_err());
        assert_eq!(fs::read(index_file(&path)).unwrap(), [0; 4096], "what cannot be read is not thrown away");
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), b"").unwrap();
        assert!(matches!(prepare(folder.path(), DurationMs(0), None, seed), Err(HomeError::Foreign { .. })));
        assert!(matches!(open(folder.path(), DurationMs(0)), Err(HomeError::Absent(_))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
