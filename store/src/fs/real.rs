//! The file system of the operating system, below the folder of one home.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{BlobFile, BlobFs, DurableFolders, Entry, HomePath, Kind, Metadata};
use crate::limits::INDEX_RESERVE_BYTES;

/// Mode of a file while it is written: nobody else reads a part of a blob.
const MODE_WRITING: u32 = 0o600;
/// Mode of a whole blob.
const MODE_READ_ONLY: u32 = 0o444;
const WRITE_BITS: u32 = 0o222;

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
        Ok(Box::new(RealFile(options.open(self.at(path))?)))
    }

    fn open(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>> {
        Ok(Box::new(RealFile(File::open(self.at(path))?)))
    }

    fn open_to_write(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().read(true).write(true).open(self.at(path))?)))
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

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.home)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize).saturating_sub(INDEX_RESERVE_BYTES))
    }

    fn durable_folders(&self) -> &DurableFolders {
        &self.folders
    }
}

struct RealFile(File);

impl BlobFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset_bytes + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        // Goes on after short writes and interruptions.
        self.0.write_all_at(bytes, offset_bytes)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_read_only(&self) -> io::Result<()> {
        self.0.set_permissions(Permissions::from_mode(MODE_READ_ONLY))
    }

    fn clone_from_file(&self, source: &File) -> io::Result<bool> {
        match rustix::fs::ioctl_ficlone(&self.0, source) {
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
