//! The file system of the operating system, below the folder of one home.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use keepwell_protocol::gc::pressure::Room;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::page_buffer::{PAGE_BYTES, begins_at_a_page};
use super::{BlobFile, BlobFs, DurableFolders, Entry, HomePath, Kind, Metadata};
use crate::limits::{CACHED_HEAD_BYTES, DIRECT_BYTES, INDEX_RESERVE_BYTES};

/// Mode of a file while it is written: nobody else reads a part of a blob.
const MODE_WRITING: u32 = 0o600;
/// Mode of a whole blob.
const MODE_READ_ONLY: u32 = 0o444;
const WRITE_BITS: u32 = 0o222;

/// Read or write without keeping pages in the page cache (since Linux 6.14).
const RWF_DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// The files below one folder.
#[derive(Debug)]
pub struct RealFs {
    home: PathBuf,
    folders: DurableFolders,
}

impl RealFs {
    /// The files below `home`, which exists and is durable itself.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self { home: home.into(), folders: DurableFolders::default() }
    }

    /// The folder of the home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    fn at(&self, path: &HomePath) -> PathBuf {
        path.under(&self.home)
    }
}

impl BlobFs for RealFs {
    fn create_new(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(MODE_WRITING);
        Ok(Box::new(RealFile::new(options.open(self.at(path))?)))
    }

    fn open(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>> {
        Ok(Box::new(RealFile::new(File::open(self.at(path))?)))
    }

    fn open_to_write(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>> {
        Ok(Box::new(RealFile::new(OpenOptions::new().read(true).write(true).open(self.at(path))?)))
    }

    fn rename(&self, from: &HomePath, to: &HomePath) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn unlink(&self, path: &HomePath) -> io::Result<()> {
        fs::remove_file(self.at(path))
    }

    fn sync_folder(&self, path: &HomePath) -> io::Result<()> {
        File::open(self.at(path))?.sync_all()
    }

    fn create_folder(&self, path: &HomePath) -> io::Result<()> {
        match fs::create_dir(self.at(path)) {
            // A file of that name is no folder, and creating in it will say so.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn metadata(&self, path: &HomePath) -> io::Result<Metadata> {
        let found = fs::symlink_metadata(self.at(path))?;
        let kind = match found.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Folder,
            _ => Kind::Other,
        };
        Ok(Metadata {
            kind,
            size_bytes: if kind == Kind::File { found.len() } else { 0 },
            read_only: found.permissions().mode() & WRITE_BITS == 0,
        })
    }

    fn list(&self, path: &HomePath) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.at(path))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(Entry { name, is_folder: entry.file_type()?.is_dir() });
        }
        entries.sort();
        Ok(entries)
    }

    fn room(&self) -> io::Result<Room> {
        let found = rustix::fs::statvfs(&self.home)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        // As `df` has it: what only the administrator may use is not part of the disk.
        let available_bytes = bytes(found.f_bavail);
        let total_bytes = bytes(found.f_blocks.saturating_sub(found.f_bfree)).saturating_add(available_bytes);
        let for_blobs = |bytes: u64| bytes.saturating_sub(INDEX_RESERVE_BYTES);
        let total_bytes = for_blobs(total_bytes);
        Ok(Room { total_bytes, used_bytes: total_bytes.saturating_sub(for_blobs(available_bytes)) })
    }

    fn durable_folders(&self) -> &DurableFolders {
        &self.folders
    }
}

/// An open file of the operating system: one of ours, or one from outside the home that is read.
pub(crate) struct RealFile {
    file: File,
    /// The same file, opened again when a first piece is to go around the page cache; none where that is not possible.
    direct: OnceLock<Option<File>>,
    /// Whether the file system refused such a piece after all.
    refused: AtomicBool,
    /// Whether it cannot read without keeping the pages, either.
    keeps_pages: AtomicBool,
}

impl RealFile {
    pub(crate) fn new(file: File) -> Self {
        Self { file, direct: OnceLock::new(), refused: AtomicBool::new(false), keeps_pages: AtomicBool::new(false) }
    }

    /// The file itself, for what only the operating system can do with it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Reads from the page cache what is in it, and leaves in it nothing that was not.
    fn read_uncached(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        if !self.keeps_pages.load(Ordering::Relaxed) {
            match preadv2(&self.file, &mut [IoSliceMut::new(buffer)], offset_bytes, RWF_DONTCACHE) {
                // The file system, or the kernel, does not know how.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.keeps_pages.store(true, Ordering::Relaxed),
                other => return other.map_err(io::Error::from),
            }
        }
        self.file.read_at(buffer, offset_bytes)
    }

    /// Writes pages around the page cache; `false`, having written nothing that is not to be written again, if it takes none.
    fn write_direct(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<bool> {
        let Some(direct) = self.direct.get_or_init(|| reopen_direct(&self.file)) else { return Ok(false) };
        if self.refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match direct.write_all_at(bytes, offset_bytes) {
            Ok(()) => Ok(true),
            // Larger blocks than a page, or a file system that can do it for some files only.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                self.refused.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// The open file itself rather than whatever has its name by now; none where the system or the file system cannot do it.
fn reopen_direct(file: &File) -> Option<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(path, OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()).ok().map(File::from)
}

/// How many of the first of these bytes may go around the page cache: whole pages of a large piece, far enough into its file.
fn direct_bytes(bytes: &[u8], offset_bytes: u64) -> usize {
    let fits = offset_bytes >= CACHED_HEAD_BYTES && offset_bytes.is_multiple_of(PAGE_BYTES as u64) && begins_at_a_page(bytes);
    let whole_pages = bytes.len() - bytes.len() % PAGE_BYTES;
    if fits && whole_pages >= DIRECT_BYTES { whole_pages } else { 0 }
}

impl BlobFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        let mut done = 0;
        let keeps_pages = buffer.len() < DIRECT_BYTES || offset_bytes < CACHED_HEAD_BYTES;
        while done < buffer.len() {
            let (rest, at) = (&mut buffer[done..], offset_bytes + done as u64);
            match if keeps_pages { self.file.read_at(rest, at) } else { self.read_uncached(rest, at) } {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        let (pages, rest) = bytes.split_at(direct_bytes(bytes, offset_bytes));
        // Either way goes on after short writes and interruptions.
        if !pages.is_empty() && self.write_direct(pages, offset_bytes)? {
            return self.file.write_all_at(rest, offset_bytes + pages.len() as u64);
        }
        self.file.write_all_at(bytes, offset_bytes)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn cut(&self, size_bytes: u64) -> io::Result<()> {
        self.file.set_len(size_bytes)
    }

    fn set_read_only(&self) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(MODE_READ_ONLY))
    }

    fn clone_from_file(&self, source: &File) -> io::Result<bool> {
        match rustix::fs::ioctl_ficlone(&self.file, source) {
            Ok(()) => Ok(true),
            Err(error) if means_no_clone(error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The ways in which file systems say that they cannot share these bytes: another file system, no support, not this file.
fn means_no_clone(error: Errno) -> bool {
    [Errno::XDEV, Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOTTY, Errno::INVAL, Errno::NOSYS, Errno::PERM, Errno::TXTBSY]
        .contains(&error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::PageBuffer;

    fn path(text: &str) -> HomePath {
        HomePath::parse(text).unwrap()
    }

    #[test]
    fn a_blob_file_ends_with_mode_0444_and_starts_private() {
        let home = tempfile::tempdir().unwrap();
        let fs = RealFs::new(home.path());
        let file = fs.create_new(&path("a")).unwrap();
        let mode = || std::fs::metadata(home.path().join("a")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode() & 0o077, 0);
        file.set_read_only().unwrap();
        assert_eq!(mode(), 0o444);
    }

    #[test]
    fn whole_pages_of_large_pieces_go_around_the_page_cache() {
        let piece = PageBuffer::zeroed(2 * DIRECT_BYTES + 1);
        let direct = |from: usize, to: usize, offset_bytes| direct_bytes(&piece[from..to], offset_bytes);
        assert_eq!(direct(0, DIRECT_BYTES, CACHED_HEAD_BYTES), DIRECT_BYTES);
        assert_eq!(direct(0, 2 * DIRECT_BYTES + 1, CACHED_HEAD_BYTES), 2 * DIRECT_BYTES);
        assert_eq!(direct(0, DIRECT_BYTES - 1, CACHED_HEAD_BYTES), 0, "small");
        assert_eq!(direct(0, DIRECT_BYTES, CACHED_HEAD_BYTES - PAGE_BYTES as u64), 0, "near the start");
        assert_eq!(direct(0, DIRECT_BYTES, CACHED_HEAD_BYTES + 1), 0, "at no page of the file");
        assert_eq!(direct(1, DIRECT_BYTES + 1, CACHED_HEAD_BYTES), 0, "at no page of memory");
    }

    /// Where the file system takes no such pieces this shows the other way only.
    #[test]
    fn bytes_are_the_same_whichever_way_they_went() {
        let home = tempfile::tempdir().unwrap();
        let fs = RealFs::new(home.path());
        let head = usize::try_from(CACHED_HEAD_BYTES).unwrap();
        let mut bytes = PageBuffer::zeroed(head + 3 * DIRECT_BYTES + 5);
        for (number, word) in (0u64..).zip(bytes.chunks_mut(8)) {
            word.copy_from_slice(&number.to_le_bytes()[..word.len()]);
        }
        for is_refused in [false, true] {
            let file = RealFile::new(File::create_new(home.path().join(is_refused.to_string())).unwrap());
            file.refused.store(is_refused, Ordering::Relaxed);
            let starts = [0, head, head + DIRECT_BYTES, bytes.len()];
            for piece in starts.windows(2) {
                file.write_all_at(&bytes[piece[0]..piece[1]], piece[0] as u64).unwrap();
            }
            file.sync().unwrap();
            assert!(std::fs::read(home.path().join(is_refused.to_string())).unwrap() == bytes[..]);
            file.keeps_pages.store(is_refused, Ordering::Relaxed);
            let mut read_back = vec![0; 3 * DIRECT_BYTES + 6];
            assert_eq!(file.read_at(&mut read_back, CACHED_HEAD_BYTES).unwrap(), 3 * DIRECT_BYTES + 5);
            assert!(read_back[..3 * DIRECT_BYTES + 5] == bytes[head..]);
            assert_eq!(file.read_at(&mut read_back, bytes.len() as u64).unwrap(), 0);
        }
        // Once more over what is there, by a handle of another life.
        fs.rename(&path("false"), &path("moved")).unwrap();
        let file = fs.open_to_write(&path("moved")).unwrap();
        let changed = PageBuffer::zeroed(DIRECT_BYTES);
        file.write_all_at(&changed, CACHED_HEAD_BYTES).unwrap();
        bytes[head..head + DIRECT_BYTES].fill(0);
        assert!(std::fs::read(home.path().join("moved")).unwrap() == bytes[..]);
    }

    #[test]
    fn a_clone_shares_the_bytes_or_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let fs = RealFs::new(home.path());
        std::fs::write(home.path().join("source"), b"bytes").unwrap();
        let file = fs.create_new(&path("a")).unwrap();
        let cloned = file.clone_from_file(&File::open(home.path().join("source")).unwrap()).unwrap();
        assert_eq!(file.size_bytes().unwrap(), if cloned { 5 } else { 0 });
    }

    #[test]
    fn a_symbolic_link_is_neither_file_nor_folder() {
        let home = tempfile::tempdir().unwrap();
        let fs = RealFs::new(home.path());
        std::os::unix::fs::symlink("/", home.path().join("link")).unwrap();
        assert_eq!(fs.metadata(&path("link")).unwrap().kind, Kind::Other);
        assert_eq!(fs.list(&HomePath::home()).unwrap(), [Entry { name: "link".into(), is_folder: false }]);
    }
}
