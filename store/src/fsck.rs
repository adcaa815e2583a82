//! Comparing records and disk, both ways. The only place that asks the disk what exists.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use keepwell_protocol::id::{BlobFact, BlobId};
use rustix::io::Errno;

use crate::blobs::{BlobRecord, Bytes, Place};
use crate::error::StoreError;
use crate::fs::{HomePath, Kind};
use crate::hash::groups::{expected_group, verify_group};
use crate::hash::{HashError, Hashed, Shape, Sink, hash_stream};
use crate::layout;
use crate::limits::{GROUP_BYTES, GROUPS_PER_SPAN};
use crate::store::{Snapshot, Store};

/// Spreads consecutive numbers over all numbers.
const PICK_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is wrong with a recorded blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The record's bytes are not there.
    Missing(String),
    /// They cannot be read now. No verdict on them, and by itself no ground for forgetting the record.
    Unreadable {
        /// Why not.
        why: String,
        /// Whether it is the disk that cannot give them, and not something around it.
        is_disk: bool,
    },
    /// They have another length than recorded.
    WrongSize {
        /// The length found, in bytes.
        found: u64,
    },
    /// They are not the bytes that were stored.
    Rotten,
    /// The bytes are whole, but the values that verify ranges of them are not: they can be made anew.
    BadGroupValues,
}

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Existence and length.
    Quick,
    /// Every byte.
    Full,
}

/// What became of a look at a copy before it is vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// It is not held, or does not look whole, or cannot be read now.
    Failed,
    /// It is held, and the part that was read is whole.
    Passed,
    /// All of it was read, and is whole.
    ReadWhole,
}

/// A file among the blobs or in the trash that nothing accounts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Where it is.
    pub path: HomePath,
    /// The blob it is named for, if it is named for one and lies where that one belongs.
    pub named: Option<BlobId>,
}

impl Store {
    /// Checks one record against the disk.
    pub fn check_blob(
        &self,
        snapshot: &Snapshot,
        id: &BlobId,
        record: &BlobRecord,
        depth: Depth,
    ) -> Result<Option<Fault>, StoreError> {
        if let Some(fault) = self.check_size(id, record)? {
            return Ok(Some(fault));
        }
        let bytes = match self.open_checked(snapshot, id, record)? {
            Ok(bytes) => bytes,
            Err(fault) => return Ok(Some(fault)),
        };
        match depth {
            Depth::Quick => Ok(None),
            Depth::Full => self.check_bytes(&record.fact(*id), &bytes, &mut |_| Ok(())),
        }
    }

    /// The bytes of a recorded blob if they are of the recorded length, or what is wrong with them.
    pub(crate) fn open_to_check(
        &self,
        snapshot: &Snapshot,
        id: &BlobId,
        record: &BlobRecord,
    ) -> Result<Result<Bytes, Fault>, StoreError> {
        match self.check_size(id, record)? {
            Some(fault) => Ok(Err(fault)),
            None => self.open_checked(snapshot, id, record),
        }
    }

    fn open_checked(&self, snapshot: &Snapshot, id: &BlobId, record: &BlobRecord) -> Result<Result<Bytes, Fault>, StoreError> {
        match self.open_blob(snapshot, id, record) {
            Ok(bytes) => Ok(Ok(bytes)),
            Err(error @ StoreError::Inconsistent(_)) => Ok(Err(Fault::Missing(error.to_string()))),
            Err(StoreError::File { path, source, .. }) => Ok(Err(no_bytes(&path, &source))),
            Err(other) => Err(other),
        }
    }

    /// Probes copies, one after the other: see [`Store::probe`]. What goes wrong on the way is no yes.
    pub fn probe_all(&self, facts: &[BlobFact], seed: u64, since_ms: u64) -> Vec<Probe> {
        let probe = |(at, fact): (u64, &BlobFact)| {
            let pick = seed.wrapping_add(at).wrapping_mul(PICK_FACTOR);
            self.snapshot().and_then(|snapshot| self.probe(&snapshot, fact, pick, since_ms)).unwrap_or(Probe::Failed)
        };
        (0..).zip(facts).map(probe).collect()
    }

    /// Whether a copy can be vouched for now: recorded as `fact`, of the recorded length, and one group of it, chosen by `pick`, is whole.
    /// One that was last read whole before `since_ms` is read whole again; whether it was.
    ///
    /// What cannot be read is not vouched for; that is no verdict on it.
    pub fn probe(&self, snapshot: &Snapshot, fact: &BlobFact, pick: u64, since_ms: u64) -> Result<Probe, StoreError> {
        let Some(record) = snapshot.blob(&fact.sha1)?.filter(|record| record.fact(fact.sha1) == *fact) else {
            return Ok(Probe::Failed);
        };
        if record.verified_ms.is_none_or(|verified_ms| verified_ms < since_ms) {
            let fault = self.check_blob(snapshot, &fact.sha1, &record, Depth::Full)?;
            return Ok(if fault.is_none() { Probe::ReadWhole } else { Probe::Failed });
        }
        if self.check_blob(snapshot, &fact.sha1, &record, Depth::Quick)?.is_some() {
            return Ok(Probe::Failed);
        }
        let is_whole = match self.open_blob(snapshot, &fact.sha1, &record) {
            Ok(bytes) => is_group_whole(snapshot, fact, &bytes, pick)?,
            Err(StoreError::File { .. } | StoreError::Inconsistent(_)) => false,
            Err(other) => return Err(other),
        };
        Ok(if is_whole { Probe::Passed } else { Probe::Failed })
    }

    /// Files under `blobs/` without a record, a queued removal or a way back from the trash, and files in `trash/` without a row.
    pub fn strays(&self, snapshot: &Snapshot) -> Result<Vec<Stray>, StoreError> {
        let mut strays = self.strays_among_blobs(snapshot)?;
        for path in self.files_under(layout::trash_folder())? {
            let named: Option<BlobId> = path.name().parse().ok().filter(|id| layout::trash_file(id) == path);
            let accounted = match &named {
                Some(id) => is_trashed_file(snapshot, id)?,
                None => false,
            };
            // Whatever it is named for was deleted: it does not come back by being found.
            if !accounted {
                strays.push(Stray { path, named: None });
            }
        }
        Ok(strays)
    }

    /// Whether the file at `path` holds the blob `id`: its bytes are hashed where they lie. One that cannot be read does not.
    pub fn is_file_of(&self, id: &BlobId, path: &HomePath) -> bool {
        let size_bytes = self.fs().metadata(path).ok().filter(|found| found.kind == Kind::File).map(|found| found.size_bytes);
        let (Some(size_bytes), Ok(file)) = (size_bytes, self.fs().open(path)) else { return false };
        rehash(&Bytes::File(file, size_bytes)).is_ok_and(|hashed| hashed.fact.sha1 == *id)
    }

    /// Whether nothing accounts for it now either. What somebody has in hand, to record it or to move it away, is none.
    pub fn is_still_stray(&self, stray: &Stray) -> Result<bool, StoreError> {
        let id: Option<BlobId> = stray.path.name().parse().ok();
        let guard = id.map(|id| self.locks().try_lock(id));
        if matches!(guard, Some(None)) || self.fs().metadata(&stray.path).is_err() {
            return Ok(false);
        }
        let (Some(id), snapshot) = (id, self.snapshot()?) else { return Ok(true) };
        if layout::trash_file(&id) == stray.path {
            return Ok(!is_trashed_file(&snapshot, &id)?);
        }
        let is_accounted = match snapshot.blob(&id)? {
            Some(record) => record.place == Place::File,
            None => is_trashed_file(&snapshot, &id)? || snapshot.queued_unlink(&id)?.is_some(),
        };
        Ok(!is_accounted || layout::blob_file(&id) != stray.path)
    }

    fn strays_among_blobs(&self, snapshot: &Snapshot) -> Result<Vec<Stray>, StoreError> {
        let queued: BTreeSet<BlobId> = snapshot.queued_unlinks()?.into_iter().map(|(id, _)| id).collect();
        let mut strays = Vec::new();
        for path in self.files_under(layout::blobs_folder())? {
            let named = path.name().parse().ok().filter(|id| layout::blob_file(id) == path);
            let accounted = match &named {
                Some(id) if queued.contains(id) => true,
                Some(id) => match snapshot.blob(id)? {
                    Some(record) => record.place == Place::File,
                    // A crash on its way back from the trash left it here; whoever empties the trash looks here too.
                    None => is_trashed_file(snapshot, id)?,
                },
                None => false,
            };
            if !accounted {
                strays.push(Stray { path, named });
            }
        }
        Ok(strays)
    }

    fn check_size(&self, id: &BlobId, record: &BlobRecord) -> Result<Option<Fault>, StoreError> {
        if record.place != Place::File {
            return Ok(None);
        }
        let path = layout::blob_file(id);
        Ok(match self.fs().metadata(&path) {
            Ok(found) if found.kind != Kind::File => Some(Fault::Missing(format!("{} is not a file", path.as_str()))),
            Ok(found) if found.size_bytes != record.size_bytes => Some(Fault::WrongSize { found: found.size_bytes }),
            Ok(_) => None,
            Err(error) => Some(no_bytes(path.as_str().as_ref(), &error)),
        })
    }

    /// Compares all bytes with what was stored, and gives them to `sink` on the way.
    pub(crate) fn check_bytes(&self, fact: &BlobFact, bytes: &Bytes, sink: &mut Sink<'_>) -> Result<Option<Fault>, StoreError> {
        let Hashed { fact: found, outboard } = match hash_stream(&mut BytesReader { bytes, offset_bytes: 0 }, sink) {
            Ok(hashed) => hashed,
            Err(HashError::Thread(source)) => return Err(StoreError::file("cannot hash", fact.sha1.to_string(), source)),
            Err(HashError::Read(source) | HashError::Sink(source)) => return Ok(Some(unreadable(source.to_string(), &source))),
        };
        // As they are now: they may have been mended while the bytes were read.
        let snapshot = self.snapshot()?;
        if found != *fact {
            return Ok(Some(Fault::Rotten));
        }
        for (span, number) in outboard.spans.iter().zip(0u32..) {
            if snapshot.span(&fact.sha1, number)? != Some(span.groups.concat()) {
                return Ok(Some(Fault::BadGroupValues));
            }
        }
        Ok(None)
    }

    fn files_under(&self, folder: HomePath) -> Result<Vec<HomePath>, StoreError> {
        let failed = |path: &HomePath, source| StoreError::file("cannot list", path.as_str(), source);
        let (mut folders, mut files) = (vec![folder], Vec::new());
        while let Some(folder) = folders.pop() {
            let entries = match self.fs().list(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(|source| failed(&folder, source))?,
            };
            for entry in entries {
                let path = folder
                    .join(&entry.name)
                    .map_err(|_| StoreError::Inconsistent(format!("illegal file name in {}", folder.as_str())))?;
                if entry.is_folder { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(files)
    }
}

/// Whether the group of the blob that `pick` chooses is what was stored. The index is believed about the values of groups: its own
/// checksums guard it, and folding all of them for one group would cost more than reading it.
fn is_group_whole(snapshot: &Snapshot, fact: &BlobFact, bytes: &Bytes, pick: u64) -> Result<bool, StoreError> {
    let shape = Shape::of(fact.size_bytes);
    let group = pick % shape.groups();
    let Ok(length) = shape.group_bytes(group) else { return Ok(false) };
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(GROUP_BYTES)];
    if !bytes.read_at(&mut buffer, group * GROUP_BYTES as u64).is_ok_and(|read| read == buffer.len()) {
        return Ok(false);
    }
    let span = u32::try_from(group / GROUPS_PER_SPAN as u64).unwrap_or(u32::MAX);
    let values: Vec<[u8; 32]> = match snapshot.span(&fact.sha1, span)? {
        Some(values) => values.chunks_exact(32).filter_map(|value| value.try_into().ok()).collect(),
        None => Vec::new(),
    };
    let expected = expected_group(fact.b3, fact.size_bytes, &values, group);
    Ok(expected.is_ok_and(|expected| verify_group(fact.size_bytes, group, &buffer, &expected).is_ok()))
}

fn is_trashed_file(snapshot: &Snapshot, id: &BlobId) -> Result<bool, StoreError> {
    Ok(snapshot.trashed(id)?.is_some_and(|trashed| trashed.record.place == Place::File))
}

/// What it means that a file cannot be opened: only a file that is not there is missing.
fn no_bytes(path: &Path, error: &io::Error) -> Fault {
    let told = format!("{}: {error}", path.display());
    if error.kind() == io::ErrorKind::NotFound { Fault::Missing(told) } else { unreadable(told, error) }
}

fn unreadable(why: String, error: &io::Error) -> Fault {
    Fault::Unreadable { why, is_disk: error.raw_os_error() == Some(Errno::IO.raw_os_error()) }
}

/// The hashes of a blob's bytes, computed anew.
pub fn rehash(bytes: &Bytes) -> Result<Hashed, HashError> {
    hash_stream(&mut BytesReader { bytes, offset_bytes: 0 }, &mut |_| Ok(()))
}

struct BytesReader<'a> {
    bytes: &'a Bytes,
    offset_bytes: u64,
}

impl io::Read for BytesReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read_at(buffer, self.offset_bytes)?;
        self.offset_bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
