//! Directory objects: a tree of names, each naming a blob, stored as one JSON blob.
//!
//! The form is kachery's: `{"files":{name:{"sha1","size"}},"dirs":{name:{…}}}`. Ours adds `b3` to each file, sorts the keys and has
//! no spaces. Whoever restores a directory creates files under names that a stranger chose, so a name that could leave its folder
//! makes the whole object illegal: every name here is a [`FileName`].

mod format;

use std::collections::BTreeMap;

use crate::id::{B3, BlobFact, BlobId};
use crate::json::JsonError;
use crate::limits::{MAX_DIRECTORY_BYTES, MAX_DIRECTORY_DEPTH, MAX_DIRECTORY_ENTRIES};
use crate::name::{FileName, NameError};
use crate::uri::BlobUri;

/// Why bytes are not a directory object, or something cannot be added to one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Not the JSON that we accept.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A name that could leave its folder, or that no file system holds.
    #[error("in folder `{}`: {source}", .folder.escape_debug())]
    Name {
        /// The folder, empty for the top.
        folder: String,
        /// What is wrong with the name.
        source: NameError,
    },
    /// Well-formed JSON of another shape.
    #[error("at `{}`: expected {expected}", .path.escape_debug())]
    Shape {
        /// The file or folder, empty for the top.
        path: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// Two things of one name in one folder.
    #[error("`{}` stands twice", .path.escape_debug())]
    Twice {
        /// The name with its folders.
        path: String,
    },
    /// A file cannot be added without a name.
    #[error("the path is empty; expected a name")]
    NoName,
    /// Nested deeper than [`MAX_DIRECTORY_DEPTH`].
    #[error("`{}` is nested deeper than {MAX_DIRECTORY_DEPTH} names; store a deep folder as a directory of its own", .path.escape_debug())]
    TooDeep {
        /// The name with its folders.
        path: String,
    },
    /// More than [`MAX_DIRECTORY_ENTRIES`].
    #[error(
        "the directory has more than {MAX_DIRECTORY_ENTRIES} files and folders; store some of its folders as directories of their own"
    )]
    TooMany,
    /// The JSON would be longer than [`MAX_DIRECTORY_BYTES`].
    #[error(
        "the directory object has {bytes} bytes, at most {MAX_DIRECTORY_BYTES} are allowed; store some of its folders as directories of their own"
    )]
    TooLong {
        /// Bytes of the JSON.
        bytes: usize,
    },
}

/// A file in a directory object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileEntry {
    /// The blob.
    pub sha1: BlobId,
    /// Its BLAKE3; kachery's own directories have none.
    pub b3: Option<B3>,
    /// Its bytes; some of kachery's directories do not say.
    pub size_bytes: Option<u64>,
}

impl FileEntry {
    /// What identifies the blob beyond doubt, if the directory says it all.
    pub fn fact(&self) -> Option<BlobFact> {
        Some(BlobFact { sha1: self.sha1, b3: self.b3?, size_bytes: self.size_bytes? })
    }
}

impl From<BlobFact> for FileEntry {
    fn from(fact: BlobFact) -> Self {
        FileEntry { sha1: fact.sha1, b3: Some(fact.b3), size_bytes: Some(fact.size_bytes) }
    }
}

impl From<FileEntry> for BlobUri {
    fn from(entry: FileEntry) -> Self {
        BlobUri { b3: entry.b3, ..BlobUri::from(entry.sha1) }
    }
}

/// One level of a directory: its files and folders, in the order of their bytes. No name is in both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folder {
    files: BTreeMap<FileName, FileEntry>,
    dirs: BTreeMap<FileName, Folder>,
}

impl Folder {
    /// The files of this level.
    pub fn files(&self) -> impl Iterator<Item = (&FileName, &FileEntry)> {
        self.files.iter()
    }

    /// The folders of this level.
    pub fn dirs(&self) -> impl Iterator<Item = (&FileName, &Folder)> {
        self.dirs.iter()
    }
}

/// What a path in a directory leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// A file.
    File(&'a FileEntry),
    /// A folder; the top for an empty path.
    Folder(&'a Folder),
}

/// A directory object. It is built name by name or read whole, and is within its limits either way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    top: Folder,
    /// Files and folders on all levels, counted so that the limit needs no walk.
    entries: usize,
}

impl Directory {
    /// A directory with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a directory object: ours, kachery's without `b3`, with or without spaces. Unknown keys are skipped.
    pub fn parse(bytes: &[u8]) -> Result<Self, DirectoryError> {
        format::parse(bytes)
    }

    /// The text to store: compact, keys sorted. `compat_kachery` leaves out what kachery does not know. Errors if it would be longer
    /// than [`MAX_DIRECTORY_BYTES`].
    pub fn to_json(&self, compat_kachery: bool) -> Result<String, DirectoryError> {
        format::to_json(self, compat_kachery)
    }

    /// Adds a file, and the folders on its way. Errors, changing nothing, if the path is empty, taken, or past a limit.
    pub fn insert(&mut self, path: &[FileName], file: impl Into<FileEntry>) -> Result<(), DirectoryError> {
        let name = self.check_room(path)?;
        let parent = self.make_folders(&path[..path.len() - 1]);
        parent.files.insert(name, file.into());
        self.entries += 1;
        Ok(())
    }

    /// Adds a folder, which may stay empty, and those on its way. A folder that is there already is left as it is.
    pub fn insert_folder(&mut self, path: &[FileName]) -> Result<(), DirectoryError> {
        if matches!(self.lookup(path), Some(Found::Folder(_))) {
            return Ok(());
        }
        self.check_room(path)?;
        self.make_folders(path);
        Ok(())
    }

    /// What a path leads to, if anything.
    pub fn lookup(&self, path: &[FileName]) -> Option<Found<'_>> {
        let Some((name, folders)) = path.split_last() else { return Some(Found::Folder(&self.top)) };
        let parent = folders.iter().try_fold(&self.top, |folder, name| folder.dirs.get(name))?;
        let file = parent.files.get(name).map(Found::File);
        file.or_else(|| parent.dirs.get(name).map(Found::Folder))
    }

    /// The files and folders of the top level.
    pub fn top(&self) -> &Folder {
        &self.top
    }

    /// Files and folders on all levels.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Every file with its path: the files of a folder by name, then those of its folders by name.
    pub fn files(&self) -> Files<'_> {
        Files { path: Vec::new(), levels: vec![Level::of(&self.top)] }
    }

    /// The name of a new entry; errors if it cannot be added with the folders it needs.
    fn check_room(&self, path: &[FileName]) -> Result<FileName, DirectoryError> {
        let name = path.last().ok_or(DirectoryError::NoName)?.clone();
        if path.len() > MAX_DIRECTORY_DEPTH {
            return Err(DirectoryError::TooDeep { path: join(path) });
        }
        let mut missing = 0;
        for end in 1..=path.len() {
            match self.lookup(&path[..end]) {
                None => missing += 1,
                Some(Found::Folder(_)) if end < path.len() => {}
                Some(_) => return Err(DirectoryError::Twice { path: join(&path[..end]) }),
            }
        }
        if self.entries + missing > MAX_DIRECTORY_ENTRIES { Err(DirectoryError::TooMany) } else { Ok(name) }
    }

    /// The folder at a path, made where it is missing. Invariant: no file stands in the way, `check_room` has looked.
    fn make_folders(&mut self, path: &[FileName]) -> &mut Folder {
        let entries = &mut self.entries;
        path.iter().fold(&mut self.top, |folder, name| {
            folder.dirs.entry(name.clone()).or_insert_with(|| {
                *entries += 1;
                Folder::default()
            })
        })
    }
}

/// A path as text, for people.
fn join(path: &[FileName]) -> String {
    path.iter().map(FileName::as_str).collect::<Vec<_>>().join("/")
}

/// All files of a [`Directory`] with their paths, from [`Directory::files`].
#[derive(Debug)]
pub struct Files<'a> {
    path: Vec<FileName>,
    levels: Vec<Level<'a>>,
}

#[derive(Debug)]
struct Level<'a> {
    files: std::collections::btree_map::Iter<'a, FileName, FileEntry>,
    dirs: std::collections::btree_map::Iter<'a, FileName, Folder>,
}

impl<'a> Level<'a> {
    fn of(folder: &'a Folder) -> Self {
        Level { files: folder.files.iter(), dirs: folder.dirs.iter() }
    }
}

impl<'a> Iterator for Files<'a> {
    type Item = (Vec<FileName>, &'a FileEntry);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let level = self.levels.last_mut()?;
            if let Some((name, file)) = level.files.next() {
                return Some((self.path.iter().chain([name]).cloned().collect(), file));
            }
            match level.dirs.next() {
                Some((name, folder)) => {
                    self.path.push(name.clone());
                    self.levels.push(Level::of(folder));
                }
                None => {
                    self.levels.pop();
                    self.path.pop();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<FileName> {
        text.split('/').map(|part| part.parse().unwrap()).collect()
    }

    fn fact(n: u8) -> BlobFact {
        BlobFact { sha1: BlobId([n; 20]), b3: B3([n; 32]), size_bytes: u64::from(n) }
    }

    #[test]
    fn files_are_walked_depth_first_and_found_by_path() {
        let mut directory = Directory::new();
        for (n, text) in (1..).zip(["sub/deep/x", "b", "sub/a", "a"]) {
            directory.insert(&path(text), fact(n)).unwrap();
        }
        directory.insert_folder(&path("empty/inner")).unwrap();
        directory.insert_folder(&path("sub/deep")).unwrap();
        let walked: Vec<_> = directory.files().map(|(path, file)| (join(&path), file.size_bytes)).collect();
        let expected = [("a", 4), ("b", 2), ("sub/a", 3), ("sub/deep/x", 1)].map(|(path, n)| (path.to_owned(), Some(n)));
        assert_eq!(walked, expected);
        assert_eq!(directory.entries(), 8);
        let fact_at = |text: &str| match directory.lookup(&path(text)) {
            Some(Found::File(file)) => file.fact(),
            _ => None,
        };
        assert_eq!(fact_at("sub/deep/x"), Some(fact(1)));
        assert_eq!(fact_at("sub/deep"), None);
        assert_eq!(directory.lookup(&path("b/x")), None);
        assert_eq!(directory.lookup(&path("sub/none")), None);
        assert!(matches!(directory.lookup(&path("empty")), Some(Found::Folder(folder)) if folder.dirs().count() == 1));
        assert_eq!(directory.lookup(&[]), Some(Found::Folder(directory.top())));
    }

    #[test]
    fn a_taken_name_is_refused_and_nothing_changes() {
        let mut directory = Directory::new();
        directory.insert(&path("a/b"), fact(1)).unwrap();
        let before = directory.clone();
        let twice = |path: &str| Err(DirectoryError::Twice { path: path.to_owned() });
        assert_eq!(directory.insert(&path("a/b"), fact(1)), twice("a/b"));
        assert_eq!(directory.insert(&path("a"), fact(1)), twice("a"));
        assert_eq!(directory.insert(&path("a/b/c"), fact(1)), twice("a/b"));
        assert_eq!(directory.insert_folder(&path("a/b")), twice("a/b"));
        assert_eq!(directory.insert(&[], fact(1)), Err(DirectoryError::NoName));
        assert_eq!(directory, before);
    }

    #[test]
    fn depth_ends_at_its_limit() {
        let mut directory = Directory::new();
        let deep = |names: usize| vec![FileName::parse("d").unwrap(); names];
        assert!(matches!(directory.insert(&deep(MAX_DIRECTORY_DEPTH + 1), fact(1)), Err(DirectoryError::TooDeep { .. })));
        assert!(matches!(directory.insert_folder(&deep(MAX_DIRECTORY_DEPTH + 1)), Err(DirectoryError::TooDeep { .. })));
        assert_eq!(directory.entries(), 0);
        directory.insert(&deep(MAX_DIRECTORY_DEPTH), fact(1)).unwrap();
        let mut folders = Directory::new();
        folders.insert_folder(&deep(MAX_DIRECTORY_DEPTH)).unwrap();
        for directory in [directory, folders] {
            let text = directory.to_json(false).unwrap();
            assert_eq!(Directory::parse(text.as_bytes()), Ok(directory));
        }
    }

    #[test]
    fn entries_end_at_their_limit() {
        // The counter stands for the entries, which would take seconds to make.
        let mut directory = Directory { entries: MAX_DIRECTORY_ENTRIES - 2, ..Directory::new() };
        assert_eq!(directory.insert(&path("a/b/c"), fact(1)), Err(DirectoryError::TooMany));
        assert_eq!(directory.insert(&path("a/b"), fact(1)), Ok(()));
        assert_eq!(directory.entries(), MAX_DIRECTORY_ENTRIES);
        assert_eq!(directory.insert(&path("a/c"), fact(1)), Err(DirectoryError::TooMany));
        assert_eq!(directory.insert_folder(&path("d")), Err(DirectoryError::TooMany));
        assert_eq!(directory.insert_folder(&path("a")), Ok(()));
    }
}
