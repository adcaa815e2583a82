//! The file system as blobs need it: a small trait, the real one, and a simulated one that forgets what was not synced.
//!
//! Every path is relative to the home and legal by its type. The trait promises nothing about durability except where it says so:
//! bytes are durable after `sync` of their file, a name after `sync_folder` of its folder.

mod folders;
mod network;
mod page_buffer;
mod path;
mod real;
pub mod sim;

use std::fs::File;
use std::io;
use std::sync::Arc;

use keepwell_protocol::gc::pressure::Room;

pub use folders::DurableFolders;
pub use network::{NetworkFsError, network_filesystem, refuse_network_filesystem};
pub use page_buffer::PageBuffer;
pub use path::{HomePath, HomePathError};
pub(crate) use real::RealFile;
pub use real::RealFs;

/// A file system shared by everything that holds files of one home.
pub type SharedFs = Arc<dyn BlobFs>;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// Anything else, which is never ours.
    Other,
}

/// What the file system knows about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Length of a file (bytes); 0 for anything else.
    pub size_bytes: u64,
    /// Whether nobody may write to it.
    pub read_only: bool,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, without its folder. A name that is not UTF-8 is given lossily: such a file is never ours.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// The files of one home.
///
/// Errors are those of the operating system; [`is_disk_full`] picks out the one that is nobody's fault.
pub trait BlobFs: Send + Sync {
    /// Creates a file, open for reading and writing. Fails with `AlreadyExists` when the name is taken.
    fn create_new(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>>;

    /// Opens a file for reading.
    fn open(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>>;

    /// Opens an existing file for reading and writing: how an interrupted fetch goes on.
    fn open_to_write(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>>;

    /// Renames a file, replacing a file that has the new name.
    fn rename(&self, from: &HomePath, to: &HomePath) -> io::Result<()>;

    /// Removes a file.
    fn unlink(&self, path: &HomePath) -> io::Result<()>;

    /// Makes the names in a folder, and the absence of removed ones, durable.
    fn sync_folder(&self, path: &HomePath) -> io::Result<()>;

    /// Creates one folder in an existing one; succeeds when it exists. Not durable: see [`BlobFs::create_folders`].
    fn create_folder(&self, path: &HomePath) -> io::Result<()>;

    /// Tells what a path stands for. Fails with `NotFound` when it stands for nothing.
    fn metadata(&self, path: &HomePath) -> io::Result<Metadata>;

    /// Lists a folder in ascending order of name.
    fn list(&self, path: &HomePath) -> io::Result<Vec<Entry>>;

    /// What blobs may take of the disk, which leaves some for the index, and what is left of that. A quota may allow less.
    fn room(&self) -> io::Result<Room>;

    /// Space that blobs may still take (bytes).
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.room()?.free_bytes())
    }

    /// Fails as a full disk does when so many more bytes of blobs would leave too little for the index.
    fn leave_room(&self, more_bytes: u64) -> io::Result<()> {
        if self.free_bytes()? < more_bytes { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// The folders that this instance has made durable.
    fn durable_folders(&self) -> &DurableFolders;

    /// Creates folders with all that lead to them, durably: each parent is synced at most once.
    fn create_folders(&self, folders: &[HomePath]) -> io::Result<()> {
        self.durable_folders().ensure(folders, &|path| self.create_folder(path), &|path| self.sync_folder(path))
    }
}

/// An open file. Reads and writes say where, so several threads may share it.
#[allow(clippy::len_without_is_empty)]
pub trait BlobFile: Send + Sync {
    /// Reads at an offset; fewer bytes than asked only at the end of the file, 0 beyond it.
    ///
    /// Large pieces far into a file need not be kept in the page cache.
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize>;

    /// Writes all bytes at an offset, extending the file as needed. A failure may leave a part written.
    ///
    /// Large pieces far into a file may go around the page cache if they are those of a [`PageBuffer`]: that is cheaper, and a blob
    /// of many gigabytes does not push out what others read.
    fn write_all_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()>;

    /// The present length (bytes).
    fn size_bytes(&self) -> io::Result<u64>;

    /// Makes the bytes, the length and the mode durable; not the name.
    fn sync(&self) -> io::Result<()>;

    /// Makes the file so long, giving up what is beyond (bytes).
    fn cut(&self, size_bytes: u64) -> io::Result<()>;

    /// Takes the write permission from everybody (mode 0444). This handle can still write.
    fn set_read_only(&self) -> io::Result<()>;

    /// Makes this empty file share the bytes of `source` (reflink); `false`, changing nothing, where that is not possible.
    fn clone_from_file(&self, source: &File) -> io::Result<bool>;
}

/// Whether an error says that the disk or the quota is full: the daemon goes on, the request fails as such.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Reads an open file from its start to its end, as a stream.
pub struct FileReader<'a> {
    file: &'a dyn BlobFile,
    offset_bytes: u64,
}

impl<'a> FileReader<'a> {
    /// A stream at the file's start.
    pub fn new(file: &'a dyn BlobFile) -> Self {
        Self { file, offset_bytes: 0 }
    }
}

impl io::Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset_bytes)?;
        self.offset_bytes += count as u64;
        Ok(count)
    }
}

/// Reads until the buffer is full or the source ends, and tells how many bytes there are.
pub(crate) fn read_full(source: &mut dyn io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let (count, failure) = fill(source, buffer);
    failure.map_or(Ok(count), Err)
}

/// Reads until the buffer is full, the source ends or fails, and tells how many bytes there are, also when it failed.
pub(crate) fn fill(source: &mut dyn io::Read, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut done = 0;
    while done < buffer.len() {
        match source.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Some(error)),
        }
    }
    (done, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::io::Read;

    fn path(text: &str) -> HomePath {
        HomePath::parse(text).unwrap()
    }

    /// Both file systems are held to the same behaviour.
    fn for_both(test: impl Fn(&dyn BlobFs)) {
        let home = tempfile::tempdir().unwrap();
        test(&RealFs::new(home.path()));
        test(&sim::SimDisk::new(1).fs());
    }

    #[test]
    fn a_full_disk_and_a_full_quota_are_told_from_other_errors() {
        assert!(is_disk_full(&Errno::NOSPC.into()));
        assert!(is_disk_full(&Errno::DQUOT.into()));
        assert!(!is_disk_full(&Errno::IO.into()));
    }

    #[test]
    fn more_than_is_free_is_refused_as_by_a_full_disk() {
        let home = tempfile::tempdir().unwrap();
        let fs = RealFs::new(home.path());
        fs.leave_room(1).unwrap();
        let room = fs.room().unwrap();
        assert!(room.used_bytes > 0 && room.used_bytes < room.total_bytes, "{room:?}");
        assert!(is_disk_full(&fs.leave_room(u64::MAX).unwrap_err()));
    }

    #[test]
    fn files_are_written_read_and_made_read_only() {
        for_both(|fs| {
            let file = fs.create_new(&path("a")).unwrap();
            file.write_all_at(b"world", 6).unwrap();
            file.write_all_at(b"hello", 0).unwrap();
            assert_eq!(fs.create_new(&path("a")).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
            file.set_read_only().unwrap();
            file.sync().unwrap();
            let read_back = fs.open(&path("a")).unwrap();
            let mut bytes = Vec::new();
            FileReader::new(&*read_back).read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, b"hello\0world");
            assert_eq!(read_back.read_at(&mut [0; 4], 11).unwrap(), 0);
            assert_eq!(read_back.read_at(&mut [0; 4], 9).unwrap(), 2);
            assert!(read_back.write_all_at(b"x", 0).is_err(), "opened for reading");
            assert_eq!(fs.metadata(&path("a")).unwrap(), Metadata { kind: Kind::File, size_bytes: 11, read_only: true });
            assert_eq!(fs.open(&path("b")).err().unwrap().kind(), io::ErrorKind::NotFound);
        });
    }

    #[test]
    fn a_file_opened_to_write_keeps_its_bytes() {
        for_both(|fs| {
            fs.create_new(&path("a")).unwrap().write_all_at(b"abc", 0).unwrap();
            let file = fs.open_to_write(&path("a")).unwrap();
            file.write_all_at(b"d", 3).unwrap();
            assert_eq!(file.size_bytes().unwrap(), 4);
            file.cut(2).unwrap();
            assert_eq!(fs.metadata(&path("a")).unwrap().size_bytes, 2);
            assert_eq!(fs.open_to_write(&path("b")).err().unwrap().kind(), io::ErrorKind::NotFound);
        });
    }

    #[test]
    fn names_are_moved_listed_and_removed() {
        for_both(|fs| {
            fs.create_folders(&[path("x/y"), path("x/z")]).unwrap();
            fs.create_folders(&[path("x/y")]).unwrap();
            fs.create_new(&path("x/b")).unwrap();
            fs.create_new(&path("x/a")).unwrap();
            let names = |at: &str| fs.list(&path(at)).unwrap().into_iter().map(|e| e.name).collect::<Vec<_>>();
            assert_eq!(names("x"), ["a", "b", "y", "z"]);
            assert_eq!(fs.metadata(&path("x/y")).unwrap().kind, Kind::Folder);
            fs.rename(&path("x/a"), &path("x/y/c")).unwrap();
            fs.rename(&path("x/b"), &path("x/y/c")).unwrap();
            assert_eq!((names("x"), names("x/y")), (vec!["y".into(), "z".into()], vec!["c".into()]));
            fs.unlink(&path("x/y/c")).unwrap();
            assert_eq!(fs.unlink(&path("x/y/c")).unwrap_err().kind(), io::ErrorKind::NotFound);
            assert!(names("x/y").is_empty());
            fs.sync_folder(&path("x/y")).unwrap();
            assert_eq!(fs.list(&HomePath::home()).unwrap(), [Entry { name: "x".into(), is_folder: true }]);
            assert!(fs.free_bytes().unwrap() > 0);
            assert!(fs.create_new(&path("no/such")).is_err());
        });
    }
}
