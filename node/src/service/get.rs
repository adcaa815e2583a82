//! Getting files: a blob as a file, a directory or the fields of a ref as a tree. Nothing is overwritten unasked.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use keepwell_protocol::id::BlobId;
use keepwell_protocol::name::FileName;
use keepwell_protocol::uri::{BlobUri, Target};

use super::backend::{Backend, OpenBlob};
use super::put::Progress;
use super::read::ReadError;
use super::resolve::{Resolved, Tree, resolve};
use super::types::GetLine;
use crate::failure::Failure;
use crate::files::{AtomicFile, AtomicFolder, Overwrite};

/// Permissions of what is written, before the user's umask.
const MODE_FILE: u32 = 0o666;
/// Missing blobs that a failure names; the rest are of the same kind.
const MISSING_NAMED: usize = 100;

/// Writes what `target` names to `to`, or to a name of its own in the present folder.
pub fn get(
    backend: &dyn Backend,
    target: &Target,
    to: Option<&Path>,
    overwrite: Overwrite,
    progress: &mut Progress<'_>,
) -> Result<GetLine, Failure> {
    match resolve(backend, target)? {
        Resolved::Blob(uri) => get_blob(backend, &uri, to, overwrite, progress),
        Resolved::Tree(tree) => get_tree(backend, &tree, to, overwrite, progress),
    }
}

fn get_blob(
    backend: &dyn Backend,
    uri: &BlobUri,
    to: Option<&Path>,
    overwrite: Overwrite,
    progress: &mut Progress<'_>,
) -> Result<GetLine, Failure> {
    let path = match to {
        Some(to) if to.is_dir() || to.as_os_str().as_encoded_bytes().ends_with(b"/") => to.join(uri.file_name()),
        Some(to) => to.to_owned(),
        None => Path::new(".").join(uri.file_name()),
    };
    let blob = backend.open(uri)?;
    if path.is_dir() {
        return Err(taken(&path, "is a directory").hint("name a file with --to"));
    }
    refuse_taken(&path, overwrite)?;
    write_file(&*blob, &path, overwrite, progress)?;
    Ok(GetLine {
        path: path.display().to_string(),
        sha1: Some(blob.id().to_string()),
        size_bytes: blob.size_bytes(),
        files: None,
    })
}

fn get_tree(
    backend: &dyn Backend,
    tree: &Tree,
    to: Option<&Path>,
    overwrite: Overwrite,
    progress: &mut Progress<'_>,
) -> Result<GetLine, Failure> {
    let path = to.map_or_else(|| Path::new(".").join(&tree.name), Path::to_owned);
    refuse_taken(&path, overwrite)?;
    refuse_incomplete(backend, tree)?;
    let size_bytes = if path.symlink_metadata().is_ok() {
        fill_existing(backend, tree, &path, progress)?
    } else {
        let failed = |error: io::Error| Failure::file("cannot write", &path, &error);
        let folder = AtomicFolder::create(&path).map_err(failed)?;
        let size_bytes = fill_new(backend, tree, folder.path(), progress)?;
        folder.commit().map_err(failed)?;
        size_bytes
    };
    Ok(GetLine {
        path: path.display().to_string(),
        sha1: tree.object.as_ref().map(|uri| uri.sha1.to_string()),
        size_bytes,
        files: Some(tree.files.len()),
    })
}

/// Fills a folder that nobody else sees yet.
fn fill_new(backend: &dyn Backend, tree: &Tree, folder: &Path, progress: &mut Progress<'_>) -> Result<u64, Failure> {
    for names in &tree.folders {
        let path = join(folder, names);
        fs::create_dir(&path).map_err(|error| Failure::file("cannot make", &path, &error))?;
    }
    let mut size_bytes = 0;
    for (names, uri) in &tree.files {
        let blob = backend.open(uri)?;
        let path = join(folder, names);
        let mut file = File::create_new(&path).map_err(|error| Failure::file("cannot write", &path, &error))?;
        size_bytes += copy(&*blob, &path, &mut file, progress)?;
    }
    Ok(size_bytes)
}

/// Writes into a folder that is there, file by file, over those of the same names.
fn fill_existing(backend: &dyn Backend, tree: &Tree, folder: &Path, progress: &mut Progress<'_>) -> Result<u64, Failure> {
    for names in std::iter::once(&Vec::new()).chain(&tree.folders) {
        let path = join(folder, names);
        match fs::create_dir(&path) {
            // A link would lead what is written out of the folder.
            Err(_) if path.symlink_metadata().is_ok_and(|found| found.is_dir()) => {}
            Err(error) => return Err(Failure::file("cannot make the folder", &path, &error)),
            Ok(()) => {}
        }
    }
    let mut size_bytes = 0;
    for (names, uri) in &tree.files {
        size_bytes += write_file(&*backend.open(uri)?, &join(folder, names), Overwrite::Yes, progress)?;
    }
    Ok(size_bytes)
}

fn write_file(blob: &dyn OpenBlob, path: &Path, overwrite: Overwrite, progress: &mut Progress<'_>) -> Result<u64, Failure> {
    let failed = |error: io::Error| Failure::file("cannot write", path, &error);
    let mut file = AtomicFile::create(path, MODE_FILE).map_err(failed)?;
    let size_bytes = copy(blob, path, &mut file, progress)?;
    file.commit(overwrite).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => taken(path, "exists"),
        _ => failed(error),
    })?;
    Ok(size_bytes)
}

fn copy(blob: &dyn OpenBlob, path: &Path, file: &mut dyn Write, progress: &mut Progress<'_>) -> Result<u64, Failure> {
    let copied = blob.copy(&mut |piece| {
        progress(piece.len() as u64);
        file.write_all(piece)
    });
    match copied {
        Ok(()) => Ok(blob.size_bytes()),
        Err(ReadError::Failed(failure)) => Err(failure),
        Err(ReadError::Sink(error)) => Err(Failure::file("cannot write", path, &error)),
    }
}

/// The names are single components, checked when they were read: no path leaves the folder.
fn join(folder: &Path, names: &[FileName]) -> PathBuf {
    names.iter().fold(folder.to_owned(), |path, name| path.join(name.as_str()))
}

/// Asked before anything is written, so that a tree is not half there when a blob turns out to be missing.
fn refuse_incomplete(backend: &dyn Backend, tree: &Tree) -> Result<(), Failure> {
    let wanted: Vec<BlobId> = tree.files.iter().map(|(_, uri)| uri.sha1).collect();
    let missing = backend.missing(&wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("nobody here has {} of the {} files of {}", missing.len(), tree.files.len(), tree.name);
    Err(Failure::no_provider(message, &missing[..missing.len().min(MISSING_NAMED)]))
}

fn refuse_taken(path: &Path, overwrite: Overwrite) -> Result<(), Failure> {
    if overwrite == Overwrite::No && path.symlink_metadata().is_ok() { Err(taken(path, "exists")) } else { Ok(()) }
}

fn taken(path: &Path, why: &str) -> Failure {
    Failure::new(crate::failure::Code::Exists, format!("{} {why}", path.display()))
        .hint("name another path with --to, or overwrite it with --force")
        .about("path", path.display().to_string())
}
