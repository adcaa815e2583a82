//! Files outside the store: written whole or not at all, and never over another one unless that is asked for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Tells apart the temporary names of one process; they mean nothing to anybody else.
static NEXT_PART: AtomicU32 = AtomicU32::new(0);

/// Whether a name that is taken may be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Never.
    No,
    /// Yes.
    Yes,
}

/// A file that appears under its name only when it is whole and durable. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    part: Part,
    target: PathBuf,
}

impl AtomicFile {
    /// Starts a file that will be `target`, with these permissions.
    pub fn create(target: &Path, mode: u32) -> io::Result<Self> {
        let part = Part::beside(target);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part.path)?;
        Ok(AtomicFile { file, part, target: target.to_owned() })
    }

    /// Makes it durable and gives it its name. Fails with `AlreadyExists` when that is taken.
    pub fn commit(self, overwrite: Overwrite) -> io::Result<()> {
        self.file.sync_all()?;
        self.part.become_named(&self.target, overwrite)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A folder that appears under its name only when all that is in it is there.
#[derive(Debug)]
pub struct AtomicFolder {
    part: Part,
    target: PathBuf,
}

impl AtomicFolder {
    /// Starts a folder that will be `target`.
    pub fn create(target: &Path) -> io::Result<Self> {
        let part = Part::beside(target);
        fs::create_dir(&part.path)?;
        Ok(AtomicFolder { part, target: target.to_owned() })
    }

    /// Where it is being filled.
    pub fn path(&self) -> &Path {
        &self.part.path
    }

    /// Makes all of it durable and gives it its name. Fails with `AlreadyExists` when that is taken.
    pub fn commit(self) -> io::Result<()> {
        // One call for the whole tree: a sync of each of thousands of files would cost more than writing them.
        rustix::fs::syncfs(File::open(&self.part.path)?)?;
        self.part.become_named(&self.target, Overwrite::No)
    }
}

/// Writes a whole file, durably.
pub fn write_whole(target: &Path, bytes: &[u8], mode: u32, overwrite: Overwrite) -> io::Result<()> {
    let mut file = AtomicFile::create(target, mode)?;
    file.write_all(bytes)?;
    file.commit(overwrite)
}

/// Makes the names in a folder durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The folder that holds a path; the present one for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Something unfinished under a temporary name, removed when dropped.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    is_ours: bool,
}

impl Part {
    /// In the same folder, so that a rename is all that is left to do.
    fn beside(target: &Path) -> Part {
        let number = NEXT_PART.fetch_add(1, Ordering::Relaxed);
        let path = folder_of(target).join(format!(".keepwell-{}-{number}.part", std::process::id()));
        Part { path, is_ours: true }
    }

    fn become_named(mut self, target: &Path, overwrite: Overwrite) -> io::Result<()> {
        match overwrite {
            Overwrite::Yes => fs::rename(&self.path, target)?,
            Overwrite::No => rename_new(&self.path, target)?,
        }
        self.is_ours = false;
        sync_folder(folder_of(target))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.is_ours {
            // What cannot be removed now is in the way of nobody.
            fs::remove_file(&self.path).or_else(|_| fs::remove_dir_all(&self.path)).ok();
        }
    }
}

/// Renames without taking over a name, also on file systems that cannot do that in one step for files.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if from.is_dir() => {
            // Renaming a folder onto one that holds anything fails by itself.
            if to.symlink_metadata().is_ok() { Err(io::ErrorKind::AlreadyExists.into()) } else { fs::rename(from, to) }
        }
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::hard_link(from, to).and_then(|()| fs::remove_file(from)),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_and_takes_over_nothing_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        write_whole(&target, b"one", 0o600, Overwrite::No).unwrap();
        let error = write_whole(&target, b"two", 0o600, Overwrite::No).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&target).unwrap(), names(folder.path())), (b"one".to_vec(), vec!["a".to_owned()]));
        write_whole(&target, b"two", 0o600, Overwrite::Yes).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"two");
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(AtomicFile::create(&folder.path().join("a"), 0o600).unwrap());
        let tree = AtomicFolder::create(&folder.path().join("b")).unwrap();
        fs::write(tree.path().join("x"), b"x").unwrap();
        drop(tree);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_folder_appears_with_all_that_is_in_it_and_takes_over_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("tree");
        let make = || {
            let tree = AtomicFolder::create(&target).unwrap();
            fs::write(tree.path().join("x"), b"x").unwrap();
            tree.commit()
        };
        make().unwrap();
        assert_eq!(names(&target), ["x"]);
        assert_eq!(make().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(folder.path()), ["tree"]);
    }
}
