//! Putting a directory: every file of a tree, and one directory object that links to them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use keepwell_protocol::directory::Directory;
use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_protocol::limits::MAX_DIRECTORY_DEPTH;
use keepwell_protocol::name::{FileName, Label};
use keepwell_protocol::uri::{BlobUri, DirUri};

use super::backend::Backend;
use super::put::{Outcome, Progress, PutOptions, label_of};
use super::types::PutLine;
use crate::failure::{Code, Failure};

/// What a tree on the disk is made of.
#[derive(Debug, Default)]
pub struct Tree {
    /// Its files, with their names below the top.
    pub files: Vec<(Vec<FileName>, PathBuf)>,
    /// Its folders, the empty ones too.
    pub folders: Vec<Vec<FileName>>,
}

/// Lists a tree, in order of name. Links to files count as files; a link to a folder is refused, since it may lead round.
pub fn walk(top: &Path) -> Result<Tree, Failure> {
    let mut tree = Tree::default();
    descend(top, &mut Vec::new(), &mut tree)?;
    Ok(tree)
}

fn descend(folder: &Path, names: &mut Vec<FileName>, tree: &mut Tree) -> Result<(), Failure> {
    let unreadable = |error: io::Error| Failure::file("cannot list", folder, &error).about("path", folder.display().to_string());
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(unreadable)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()
        .map_err(unreadable)?;
    entries.sort();
    for path in entries {
        names.push(name_of(&path)?);
        if names.len() > MAX_DIRECTORY_DEPTH {
            return Err(refused(&path, &format!("is nested deeper than {MAX_DIRECTORY_DEPTH} names"))
                .hint("store a deep folder as a directory of its own"));
        }
        match fs::symlink_metadata(&path).map(|found| found.file_type()) {
            Ok(kind) if kind.is_dir() => {
                tree.folders.push(names.clone());
                descend(&path, names, tree)?;
            }
            Ok(kind) if kind.is_symlink() && path.is_dir() => {
                return Err(refused(&path, "is a symbolic link to a directory").hint("put what it leads to by its own path"));
            }
            // Whatever else it is, taking it in tells whether it can be read.
            _ => tree.files.push((names.clone(), path)),
        }
        names.pop();
    }
    Ok(())
}

fn name_of(path: &Path) -> Result<FileName, Failure> {
    let name = path.file_name().and_then(OsStr::to_str);
    let name = name.ok_or_else(|| refused(path, "has a name that is not UTF-8").hint("rename it"))?;
    Ok(FileName::parse(name)?)
}

fn refused(path: &Path, why: &str) -> Failure {
    Failure::usage(format!("{} {why}", path.display())).about("path", path.display().to_string())
}

/// Puts a tree. If any of its files cannot be put, there is no directory object either.
pub fn put_tree(
    backend: &dyn Backend,
    top: &Path,
    label: Option<Label>,
    compat_kachery: bool,
    options: PutOptions,
    progress: &mut Progress<'_>,
) -> Result<PutLine, Failure> {
    let tree = walk(top)?;
    let facts = put_files(backend, &tree, &options, progress)?;
    let mut directory = Directory::new();
    for folder in &tree.folders {
        directory.insert_folder(folder)?;
    }
    for ((names, _), fact) in tree.files.iter().zip(&facts) {
        directory.insert(names, *fact)?;
    }
    let children: BTreeSet<BlobId> = facts.iter().map(|fact| fact.sha1).collect();
    let json = directory.to_json(compat_kachery)?;
    let mut silent = |_| ();
    let mut putter = backend.putter(PutOptions { scan_json: false, ..options }, &mut silent);
    let outcomes = putter.put_bytes(0, json.as_bytes(), children.into_iter().collect())?;
    let held = outcomes.into_iter().next().ok_or_else(|| Failure::new(Code::Internal, "a put was not answered"))?;
    let held = held.map_err(|(_, failure)| failure)?;
    // `put -r .` has no name of its own, the folder has.
    let label = label.or_else(|| label_of(top)).or_else(|| label_of(&fs::canonicalize(top).ok()?));
    let uri = DirUri { blob: BlobUri::labelled(held.fact.sha1, label), path: Vec::new() };
    Ok(PutLine {
        path: top.display().to_string(),
        uri: uri.to_string(),
        sha1: held.fact.sha1.to_string(),
        b3: held.fact.b3.to_string(),
        size_bytes: held.fact.size_bytes,
        existed: held.existed,
        files: Some(tree.files.len()),
    })
}

fn put_files(
    backend: &dyn Backend,
    tree: &Tree,
    options: &PutOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<BlobFact>, Failure> {
    let mut report = |bytes| progress(bytes);
    // Links are the directory's to say; its files have those that they name themselves.
    let options = PutOptions { links: Vec::new(), ..options.clone() };
    let mut putter = backend.putter(options, &mut report);
    let mut facts = Vec::with_capacity(tree.files.len());
    let mut keep = |outcomes: Vec<Outcome>| -> Result<(), Failure> {
        for outcome in outcomes {
            match outcome {
                Ok(held) => facts.push(held.fact),
                Err((number, failure)) => {
                    let path = tree.files.get(number).map(|(_, path)| path.display().to_string());
                    return Err(failure.about("path", path));
                }
            }
        }
        Ok(())
    };
    for (number, (_, path)) in tree.files.iter().enumerate() {
        keep(putter.put_path(number, path)?)?;
    }
    keep(putter.finish()?)?;
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_listed_with_its_empty_folders_and_links_to_files() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("b/empty")).unwrap();
        fs::write(top.path().join("b/x"), b"x").unwrap();
        std::os::unix::fs::symlink("b/x", top.path().join("a")).unwrap();
        let tree = walk(top.path()).unwrap();
        let join = |names: &[FileName]| names.iter().map(FileName::as_str).collect::<Vec<_>>().join("/");
        assert_eq!(tree.files.iter().map(|(names, _)| join(names)).collect::<Vec<_>>(), ["a", "b/x"]);
        assert_eq!(tree.folders.iter().map(|names| join(names)).collect::<Vec<_>>(), ["b", "b/empty"]);
    }

    #[test]
    fn a_link_to_a_folder_could_lead_round_and_is_refused() {
        let top = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(".", top.path().join("round")).unwrap();
        assert!(walk(top.path()).unwrap_err().message.ends_with("is a symbolic link to a directory"));
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_refused_by_name() {
        use std::os::unix::ffi::OsStrExt;
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join(OsStr::from_bytes(b"\xff")), b"x").unwrap();
        assert_eq!(walk(top.path()).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn a_tree_is_as_deep_as_a_directory_object() {
        let top = tempfile::tempdir().unwrap();
        let deep: PathBuf = (0..MAX_DIRECTORY_DEPTH).map(|_| "d").collect();
        fs::create_dir_all(top.path().join(&deep)).unwrap();
        assert!(walk(top.path()).is_ok());
        fs::create_dir(top.path().join(&deep).join("d")).unwrap();
        assert_eq!(walk(top.path()).unwrap_err().code, Code::Usage);
    }
}
