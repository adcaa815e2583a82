//! Taking bytes in: one read makes a blob that is verified, durable and not yet visible.
//!
//! A small blob stays in memory until its record carries it; a larger one is a synced, read-only file in `ingest/`. Nothing here
//! makes a blob visible: [`crate::place`] moves the file, the record does the rest. Files are copied or cloned, never hard-linked,
//! so that no later change of the original reaches the store.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use keepwell_protocol::id::BlobFact;
use rustix::fs::OFlags;

use crate::fs::{BlobFile, FileReader, HomePath, PageBuffer, RealFile, SharedFs, is_disk_full, read_full};
use crate::hash::{HashError, Hashed, Outboard, hash_stream};
use crate::layout;
use crate::limits::{COPY_BUFFER_BYTES, INLINE_MAX_BYTES};

/// The name of one ingest, drawn by the caller: 16 random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IngestId(pub [u8; 16]);

impl fmt::Display for IngestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is not 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an ingest: expected 32 lower-case hexadecimal digits")]
pub struct ParseIngestIdError;

impl FromStr for IngestId {
    type Err = ParseIngestIdError;

    fn from_str(text: &str) -> Result<Self, ParseIngestIdError> {
        let number = u128::from_str_radix(text, 16).map_err(|_| ParseIngestIdError)?;
        let id = Self(number.to_be_bytes());
        // One id has one name, so that a file in `ingest/` is found again: no sign, no capital, no missing digit.
        if id.to_string() == text { Ok(id) } else { Err(ParseIngestIdError) }
    }
}

/// Why bytes were not taken in. Nothing of them is left.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// There is nothing of that name.
    #[error("{} does not exist", path.display())]
    Missing {
        /// As given.
        path: PathBuf,
    },
    /// A folder is not a blob.
    #[error("{} is a directory", path.display())]
    Directory {
        /// As given.
        path: PathBuf,
    },
    /// Pipes, sockets and devices have no bytes of their own.
    #[error("{} is a {kind}, not a regular file", path.display())]
    NotRegular {
        /// As given.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The input failed on the way.
    #[error("cannot read the input")]
    Read(#[source] io::Error),
    /// The disk or the quota is full.
    #[error("no space left for the blob")]
    DiskFull(#[source] io::Error),
    /// The home's disk failed.
    #[error("cannot write the blob")]
    Write(#[source] io::Error),
    /// The operating system is short of threads.
    #[error("cannot start the hashing thread")]
    Thread(#[source] io::Error),
}

impl IngestError {
    fn writing(error: io::Error) -> Self {
        if is_disk_full(&error) { Self::DiskFull(error) } else { Self::Write(error) }
    }
}

impl From<HashError> for IngestError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Read(source) => Self::Read(source),
            HashError::Sink(source) => Self::writing(source),
            HashError::Thread(source) => Self::Thread(source),
        }
    }
}

/// A file in `ingest/` that belongs to whoever holds this, and is removed when this is dropped.
pub struct IngestFile {
    fs: SharedFs,
    id: IngestId,
    is_ours: bool,
}

impl IngestFile {
    /// The name of the ingest.
    pub fn id(&self) -> IngestId {
        self.id
    }

    /// Where the file is.
    pub fn path(&self) -> HomePath {
        layout::ingest_file(&self.id)
    }

    fn new(fs: &SharedFs, id: IngestId) -> Self {
        Self { fs: Arc::clone(fs), id, is_ours: true }
    }

    /// Moves the file to its place; from then on its removal is not ours.
    pub(crate) fn move_to(mut self, path: &HomePath) -> io::Result<()> {
        self.fs.rename(&self.path(), path)?;
        self.is_ours = false;
        Ok(())
    }
}

impl Drop for IngestFile {
    fn drop(&mut self) {
        if self.is_ours {
            // A file that cannot be removed now is found among the leftovers at the next start.
            self.fs.unlink(&self.path()).ok();
        }
    }
}

impl fmt::Debug for IngestFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IngestFile({})", self.id)
    }
}

/// Where the bytes of an ingested blob are.
#[derive(Debug)]
pub enum Body {
    /// In memory: at most `INLINE_MAX_BYTES`.
    Inline(Vec<u8>),
    /// In a synced, read-only file.
    File(IngestFile),
}

/// A blob whose bytes are hashed and safe, but which nobody can see yet.
///
/// Life: made by an ingest, then placed ([`crate::place::place`]) or discarded. Dropping it removes its file.
#[derive(Debug)]
#[must_use = "dropping an ingested blob removes its bytes"]
pub struct Ingested {
    pub(crate) fact: BlobFact,
    pub(crate) body: Body,
    pub(crate) outboard: Outboard,
}

impl Ingested {
    /// Name, BLAKE3 and size.
    pub fn fact(&self) -> BlobFact {
        self.fact
    }

    /// Where the bytes are.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The group values.
    pub fn outboard(&self) -> &Outboard {
        &self.outboard
    }

    /// A blob whose bytes a fetch has gathered in `ingest/<id>`, verified and made durable.
    pub(crate) fn gathered(fs: &SharedFs, id: IngestId, fact: BlobFact, outboard: Outboard) -> Ingested {
        Ingested { fact, body: Body::File(IngestFile::new(fs, id)), outboard }
    }

    /// Gives the bytes up: the blob is there already, or is not wanted after all.
    pub fn discard(self) {}
}

/// Called with the number of bytes done so far, at least once every MiB.
pub type Progress<'a> = dyn FnMut(u64) + 'a;

/// Takes in everything that `source` gives.
///
/// # Errors
/// `Read`, `DiskFull`, `Write` or `Thread`; nothing is left in `ingest/` then. An `id` in use is a `Write` error.
pub fn ingest(fs: &SharedFs, id: IngestId, source: &mut dyn Read, progress: &mut Progress<'_>) -> Result<Ingested, IngestError> {
    let mut target = Target::new(fs, id);
    target.copy(source, progress)
}

/// Takes in a file from outside the home: a clone where the file system can share bytes, else a copy.
///
/// A file that changes meanwhile gives whatever was read.
///
/// # Errors
/// `Missing`, `Directory`, `NotRegular` or `Unreadable` for the path, else as for [`ingest`].
pub fn ingest_path(fs: &SharedFs, id: IngestId, path: &Path, progress: &mut Progress<'_>) -> Result<Ingested, IngestError> {
    let (source, size_bytes) = open_regular(path)?;
    let mut target = Target::new(fs, id);
    if size_bytes > INLINE_MAX_BYTES as u64
        && let Some(clone) = target.clone_of(&source)?
    {
        return adopt_file(clone, progress);
    }
    target.copy(&mut FileReader::new(&RealFile::new(source)), progress)
}

/// Copies a file from outside the home into `ingest/`, synced and unhashed: for a client whose daemon takes it in ([`adopt`]).
///
/// A small one comes back in memory, and no name is asked for. Dropping a [`Body::File`] removes what is still there.
///
/// # Errors
/// As for [`ingest_path`], and those of `new_id`.
pub fn copy_path<E: From<IngestError>>(
    fs: &SharedFs,
    path: &Path,
    new_id: impl FnOnce() -> Result<IngestId, E>,
    progress: &mut Progress<'_>,
) -> Result<Body, E> {
    let (source, _) = open_regular(path)?;
    let source = RealFile::new(source);
    copy_unhashed(fs, &mut FileReader::new(&source), Some(source.file()), new_id, progress)
}

/// As [`copy_path`], for what a stream gives.
///
/// # Errors
/// As for [`ingest`], and those of `new_id`.
pub fn copy_stream<E: From<IngestError>>(
    fs: &SharedFs,
    source: &mut dyn Read,
    new_id: impl FnOnce() -> Result<IngestId, E>,
) -> Result<Body, E> {
    copy_unhashed(fs, source, None, new_id, &mut |_| ())
}

fn copy_unhashed<E: From<IngestError>>(
    fs: &SharedFs,
    source: &mut dyn Read,
    file: Option<&File>,
    new_id: impl FnOnce() -> Result<IngestId, E>,
    progress: &mut Progress<'_>,
) -> Result<Body, E> {
    let mut first = Vec::new();
    source.take(INLINE_MAX_BYTES as u64 + 1).read_to_end(&mut first).map_err(IngestError::Read)?;
    if first.len() <= INLINE_MAX_BYTES {
        progress(first.len() as u64);
        return Ok(Body::Inline(first));
    }
    let mut target = Target::new(fs, new_id()?);
    let clone = file.map_or(Ok(None), |file| target.clone_of(file))?;
    let written = match clone {
        Some(clone) => clone,
        None => target.copy_rest(first, source, progress)?,
    };
    Ok(Body::File(written.seal().map_err(IngestError::writing)?))
}

/// Takes in a file that somebody else wrote to `ingest/<id>`: a whole fetch, or a client with the daemon's user id.
///
/// # Errors
/// As for [`ingest`]. The file is removed then, as it is when the blob is dropped.
pub fn adopt(fs: &SharedFs, id: IngestId, progress: &mut Progress<'_>) -> Result<Ingested, IngestError> {
    let file = fs.open(&layout::ingest_file(&id)).map_err(IngestError::Read)?;
    adopt_file(Written { owner: IngestFile::new(fs, id), file }, progress)
}

/// As [`adopt`], for a file that somebody else removes if the blob is not placed.
///
/// # Errors
/// As for [`ingest`]. The file is still there then.
pub(crate) fn adopt_shared(fs: &SharedFs, id: IngestId, progress: &mut Progress<'_>) -> Result<Ingested, IngestError> {
    let file = fs.open(&layout::ingest_file(&id)).map_err(IngestError::Read)?;
    adopt_file(Written { owner: IngestFile { fs: Arc::clone(fs), id, is_ours: false }, file }, progress)
}

/// Ingests that an earlier life of the process left behind, for the caller to resume ([`adopt`]) or remove.
///
/// # Errors
/// Those of the file system; a home without `ingest/` has no leftovers.
pub fn leftovers(fs: &SharedFs) -> io::Result<Vec<IngestId>> {
    match fs.list(&layout::ingest_folder()) {
        Ok(entries) => Ok(entries.iter().filter_map(|entry| entry.name.parse().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Removes a leftover.
///
/// # Errors
/// Those of the file system.
pub fn remove_leftover(fs: &SharedFs, id: IngestId) -> io::Result<()> {
    fs.unlink(&layout::ingest_file(&id))
}

/// Where an ingest puts its bytes. The file appears with the first bytes that are too many for memory.
struct Target<'a> {
    fs: &'a SharedFs,
    id: IngestId,
    inline: Vec<u8>,
    written: Option<Written>,
}

struct Written {
    owner: IngestFile,
    file: Box<dyn BlobFile>,
}

impl<'a> Target<'a> {
    fn new(fs: &'a SharedFs, id: IngestId) -> Self {
        Self { fs, id, inline: Vec::new(), written: None }
    }

    fn create(&self) -> io::Result<Written> {
        self.fs.create_folders(&[layout::ingest_folder()])?;
        let file = self.fs.create_new(&layout::ingest_file(&self.id))?;
        Ok(Written { owner: IngestFile::new(self.fs, self.id), file })
    }

    /// The file as a clone of `source`; `None` when the bytes must be copied, into the file that is there now.
    ///
    /// Either way what does not fit is refused before it is begun.
    fn clone_of(&mut self, source: &File) -> Result<Option<Written>, IngestError> {
        let size_bytes = source.metadata().map_err(IngestError::Read)?.len();
        self.fs.leave_room(size_bytes).map_err(IngestError::writing)?;
        let written = self.create().map_err(IngestError::writing)?;
        if written.file.clone_from_file(source).map_err(IngestError::writing)? {
            return Ok(Some(written));
        }
        self.written = Some(written);
        Ok(None)
    }

    fn copy(&mut self, source: &mut dyn Read, progress: &mut Progress<'_>) -> Result<Ingested, IngestError> {
        let mut done_bytes = 0;
        let hashed = hash_stream(source, &mut |piece| {
            self.take(piece, done_bytes)?;
            done_bytes += piece.len() as u64;
            progress(done_bytes);
            Ok(())
        })?;
        self.finish(hashed)
    }

    fn copy_rest(&mut self, first: Vec<u8>, source: &mut dyn Read, progress: &mut Progress<'_>) -> Result<Written, IngestError> {
        let written = self.written.take().map_or_else(|| self.create(), Ok).map_err(IngestError::writing)?;
        let (mut buffer, mut count, mut done_bytes) = (PageBuffer::zeroed(COPY_BUFFER_BYTES), first.len(), 0);
        buffer[..count].copy_from_slice(&first);
        loop {
            count += read_full(source, &mut buffer[count..]).map_err(IngestError::Read)?;
            if count == 0 {
                break;
            }
            self.fs.leave_room(count as u64).map_err(IngestError::writing)?;
            written.file.write_all_at(&buffer[..count], done_bytes).map_err(IngestError::writing)?;
            done_bytes += count as u64;
            progress(done_bytes);
            if count < buffer.len() {
                break;
            }
            count = 0;
        }
        Ok(written)
    }

    /// A first piece that would fit in memory is the whole blob: see [`hash_stream`].
    fn take(&mut self, piece: &[u8], offset_bytes: u64) -> io::Result<()> {
        if self.written.is_none() && piece.len() <= INLINE_MAX_BYTES && offset_bytes == 0 {
            self.inline = piece.to_vec();
            return Ok(());
        }
        self.fs.leave_room(piece.len() as u64)?;
        let written = match self.written.take() {
            Some(written) => written,
            None => self.create()?,
        };
        self.written.insert(written).file.write_all_at(piece, offset_bytes)
    }

    fn finish(&mut self, hashed: Hashed) -> Result<Ingested, IngestError> {
        let body = match self.written.take() {
            None => Body::Inline(std::mem::take(&mut self.inline)),
            Some(written) => written.into_body(hashed.fact)?,
        };
        Ok(Ingested { fact: hashed.fact, body, outboard: hashed.outboard })
    }
}

impl Written {
    fn into_body(self, fact: BlobFact) -> Result<Body, IngestError> {
        if fact.size_bytes <= INLINE_MAX_BYTES as u64 {
            return self.read_small(fact).map(Body::Inline);
        }
        self.seal().map(Body::File).map_err(IngestError::writing)
    }

    /// Nobody writes to the file from here on, and its bytes and mode outlast a power cut.
    fn seal(self) -> io::Result<IngestFile> {
        self.file.set_read_only()?;
        self.file.sync()?;
        Ok(self.owner)
    }

    /// The bytes of a file that turned out to be small; the file goes.
    fn read_small(self, fact: BlobFact) -> Result<Vec<u8>, IngestError> {
        let mut bytes = vec![0; INLINE_MAX_BYTES + 1];
        let count = self.file.read_at(&mut bytes, 0).map_err(IngestError::Read)?;
        bytes.truncate(count);
        if crate::hash::hash_bytes(&bytes).fact == fact {
            return Ok(bytes);
        }
        Err(IngestError::Read(io::Error::other("the file changed while it was read")))
    }
}

/// Hashes the file that is in `ingest/` already.
fn adopt_file(written: Written, progress: &mut Progress<'_>) -> Result<Ingested, IngestError> {
    let mut done_bytes = 0;
    let hashed = hash_stream(&mut FileReader::new(&*written.file), &mut |piece| {
        done_bytes += piece.len() as u64;
        progress(done_bytes);
        Ok(())
    })?;
    let body = written.into_body(hashed.fact)?;
    Ok(Ingested { fact: hashed.fact, body, outboard: hashed.outboard })
}

/// Opens a regular file. Looks before, because opening a pipe waits for its writer, and after, because it may have been replaced.
fn open_regular(path: &Path) -> Result<(File, u64), IngestError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => IngestError::Missing { path: path.into() },
        _ => IngestError::Unreadable { path: path.into(), source },
    };
    refuse_irregular(path, fs::metadata(path).map_err(unreadable)?.file_type())?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    refuse_irregular(path, found.file_type())?;
    Ok((file, found.len()))
}

fn refuse_irregular(path: &Path, kind: fs::FileType) -> Result<(), IngestError> {
    let kind = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => return Err(IngestError::Directory { path: path.into() }),
        kind if kind.is_fifo() => "pipe",
        kind if kind.is_socket() => "socket",
        _ => "device",
    };
    Err(IngestError::NotRegular { path: path.into(), kind })
}

#[cfg(test)]
mod tests;
