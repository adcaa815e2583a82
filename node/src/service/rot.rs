//! What is done about bytes that are not what was stored: the same for `fsck` and for the scrub of a daemon.
//!
//! Nothing is deleted. The record is taken back together with what the log says of it, so that the copy counts no more, and then the bytes
//! that there are move to `quarantine/`. A crash in between leaves a stray, which `fsck` knows.

use std::io;

use keepwell_protocol::id::BlobId;
use keepwell_store::blobs::{BlobRecord, Place};
use keepwell_store::error::StoreError;
use keepwell_store::fs::HomePath;
use keepwell_store::fsck::{Depth, Fault, rehash};
use keepwell_store::layout;
use keepwell_store::store::Snapshot;

use super::Node;
use crate::failure::Failure;

/// What is wrong, in one word and in a sentence.
pub(super) fn told(fault: &Fault, record: &BlobRecord) -> (&'static str, String) {
    match fault {
        Fault::Missing(why) => ("missing", why.clone()),
        Fault::Unreadable { why, .. } => ("unreadable", why.clone()),
        Fault::WrongSize { found } => ("wrong_size", format!("{found} bytes where {} are recorded", record.size_bytes)),
        Fault::Rotten => ("rotten", "its bytes are not what was stored".to_owned()),
        Fault::BadGroupValues => ("bad_group_values", "the values that verify its ranges are wrong".to_owned()),
    }
}

/// Makes the values anew that verify ranges of a blob whose bytes are whole.
pub(super) fn mend_group_values(node: &dyn Node, id: &BlobId, record: &BlobRecord) -> Result<String, Failure> {
    let bytes = node.store().open_blob(&*node.store().snapshot()?, id, record)?;
    let failed = |error: keepwell_store::hash::HashError| StoreError::Inconsistent(error.to_string());
    let outboard = rehash(&bytes).map_err(failed)?.outboard;
    node.store().write(|txn| txn.mend_group_values(id, &outboard))?;
    Ok("the values were made anew from its bytes".to_owned())
}

/// Takes back the record, then moves what bytes there are out of the way. None if the record is no longer the one that was looked at.
pub(super) fn give_up(node: &dyn Node, id: &BlobId, record: &BlobRecord, problem: &str) -> Result<Option<String>, Failure> {
    // While we have it in hand nobody puts its file; whoever does so already is waited for.
    let _guard = node.store().locks().lock(*id);
    let snapshot = node.store().snapshot()?;
    let is_same = node.store().is_recorded_as(id, record)?;
    // The record as it is now, for it may have been verified since.
    let Some(record) = snapshot.blob(id)?.filter(|_| is_same) else { return Ok(None) };
    if !is_still_faulty(node, &snapshot, id, &record)? {
        return Ok(None);
    }
    let inline = match record.place {
        Place::Inline(_) => node.store().open_blob(&snapshot, id, &record).ok(),
        Place::File => None,
    };
    drop(snapshot);
    // What was put meanwhile stays: small bytes are put without the blob in hand.
    if node.forget(*id, &record, problem)?.is_none() {
        return Ok(None);
    }
    let path = match inline {
        Some(bytes) => {
            let mut buffer = vec![0; usize::try_from(bytes.size_bytes()).unwrap_or_default()];
            bytes.read_at(&mut buffer, 0).map_err(|error| moving(&error))?;
            Some(quarantine_bytes(node, &id.to_string(), &buffer).map_err(|error| moving(&error))?)
        }
        None => quarantine_file(node, &layout::blob_file(id)).map_err(|error| moving(&error))?,
    };
    Ok(Some(match path {
        Some(path) => format!("its record was taken back, its bytes are in {path}"),
        None => "its record was taken back".to_owned(),
    }))
}

/// Whether nobody has put good bytes over the bad ones since they were looked at. Asked with the blob in hand: nobody can from now on.
fn is_still_faulty(node: &dyn Node, snapshot: &Snapshot, id: &BlobId, record: &BlobRecord) -> Result<bool, Failure> {
    let fault = node.store().check_blob(snapshot, id, record, Depth::Full)?;
    Ok(!matches!(fault, None | Some(Fault::BadGroupValues | Fault::Unreadable { is_disk: false, .. })))
}

/// Moves a file out of the way; none if there is none.
pub(super) fn quarantine_file(node: &dyn Node, path: &HomePath) -> io::Result<Option<HomePath>> {
    let fs = node.store().fs();
    let to = quarantine_place(node, path.name())?;
    match fs.rename(path, &to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    }
    fs.sync_folder(&layout::quarantine_folder())?;
    path.parent().map_or(Ok(()), |folder| fs.sync_folder(&folder))?;
    Ok(Some(to))
}

fn quarantine_bytes(node: &dyn Node, name: &str, bytes: &[u8]) -> io::Result<HomePath> {
    let fs = node.store().fs();
    let to = quarantine_place(node, name)?;
    let file = fs.create_new(&to)?;
    file.write_all_at(bytes, 0)?;
    file.sync()?;
    fs.sync_folder(&layout::quarantine_folder())?;
    Ok(to)
}

/// A free name in `quarantine/`.
fn quarantine_place(node: &dyn Node, name: &str) -> io::Result<HomePath> {
    let fs = node.store().fs();
    let folder = layout::quarantine_folder();
    fs.create_folders(std::slice::from_ref(&folder))?;
    let numbered = (1..).map(|number| format!("{name}-{number}"));
    for candidate in std::iter::once(name.to_owned()).chain(numbered) {
        let path = folder.join(&candidate).map_err(io::Error::other)?;
        if fs.metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(path);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

pub(super) fn moving(error: &io::Error) -> Failure {
    let error = io::Error::new(error.kind(), error.to_string());
    StoreError::file("cannot move to", layout::quarantine_folder().as_str(), error).into()
}
