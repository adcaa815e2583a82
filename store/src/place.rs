//! Moving ingested files to where blobs live: the last step before the record, and the only way to a [`Placed`].
//!
//! Order: lock the blob, rename its file, sync the folder; then the caller commits the record and drops the lock. A crash before
//! the record leaves a file without a record, which harms nobody; a record without a file cannot come about.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use keepwell_protocol::id::{BlobFact, BlobId};

use crate::error::StoreError;
use crate::fs::{SharedFs, is_disk_full};
use crate::hash::Outboard;
use crate::ingest::{Body, Ingested};
use crate::layout;
use crate::locks::{BlobGuard, BlobLocks};

/// Why nothing was placed. Files that had been moved by then lie in their place without a record, until the next put or `fsck`.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The disk or the quota is full.
    #[error("no space left for the blob")]
    DiskFull(#[source] io::Error),
    /// The home's disk failed.
    #[error("cannot move the blob into place")]
    Io(#[source] io::Error),
    /// The records could not be asked.
    #[error(transparent)]
    Records(#[from] StoreError),
}

impl PlaceError {
    fn from_io(error: io::Error) -> Self {
        if is_disk_full(&error) { Self::DiskFull(error) } else { Self::Io(error) }
    }
}

/// The proof that a blob's bytes are whole and durable: what a record is made from.
///
/// Only [`place`] makes one, and it cannot be copied, so a record implies bytes. It holds the blob's lock: commit the record,
/// then drop it.
#[derive(Debug)]
#[must_use = "a placed blob without a record is garbage"]
pub struct Placed {
    fact: BlobFact,
    body: PlacedBody,
    outboard: Outboard,
}

/// Where the bytes of a placed blob are.
#[derive(Debug)]
pub enum PlacedBody {
    /// In memory, to become durable with the record itself.
    Inline(Vec<u8>),
    /// In the blob's file, which nobody removes while this lock is held.
    File(BlobGuard),
}

impl Placed {
    /// Name, BLAKE3 and size.
    pub fn fact(&self) -> BlobFact {
        self.fact
    }

    /// The bytes of a small blob, `None` for one in a file.
    pub fn inline(&self) -> Option<&[u8]> {
        match &self.body {
            PlacedBody::Inline(bytes) => Some(bytes),
            PlacedBody::File(_) => None,
        }
    }

    /// The group values.
    pub fn outboard(&self) -> &Outboard {
        &self.outboard
    }

    /// Takes it apart. The lock, if any, is in the body: keep that until the record is committed.
    pub fn into_parts(self) -> (BlobFact, PlacedBody, Outboard) {
        (self.fact, self.body, self.outboard)
    }
}

/// What became of the blobs of one call.
#[derive(Debug, Default)]
pub struct Placement {
    /// One for each distinct blob, in ascending order of id, recorded or not. Equal blobs are merged.
    pub placed: Vec<Placed>,
    /// Blobs with the SHA-1 of a recorded one, or of an earlier one of this call, and another BLAKE3: collisions. The first is kept.
    pub collided: Vec<Ingested>,
}

/// What is recorded under a name.
pub type Known<'a> = dyn Fn(&BlobId) -> Result<Option<BlobFact>, StoreError> + 'a;

/// Moves ingested blobs into place, durably.
///
/// Of every blob in a file, `known` is asked under its lock: one that is recorded with another BLAKE3 is a collision and refused, because
/// its file would replace the first one's. One that is recorded as it is replaces the file that is there, which may have rotten or be gone
/// since; that costs no more than to throw the new one away, and readers of the old one read on. Small blobs replace nothing; their record
/// is where that shows. A caller that still holds a [`Placed`] must not call again: the locks are taken in order of id
/// within one call only.
///
/// # Errors
/// When the disk or the records fail, and then nothing was placed.
pub fn place(fs: &SharedFs, locks: &BlobLocks, blobs: Vec<Ingested>, known: &Known<'_>) -> Result<Placement, PlaceError> {
    let (blobs, collided) = distinct(blobs);
    let inline = blobs.values().filter(|blob| matches!(blob.body, Body::Inline(_)));
    fs.leave_room(inline.map(|blob| blob.fact.size_bytes).sum()).map_err(PlaceError::from_io)?;
    let mut placement = Placement { collided, ..Placement::default() };
    let folders = folders_of(&blobs);
    fs.create_folders(&folders).map_err(PlaceError::from_io)?;
    for blob in blobs.into_values() {
        placement.place_one(locks, blob, known)?;
    }
    folders.iter().try_for_each(|folder| fs.sync_folder(folder)).map_err(PlaceError::from_io)?;
    Ok(placement)
}

impl Placement {
    fn place_one(&mut self, locks: &BlobLocks, blob: Ingested, known: &Known<'_>) -> Result<(), PlaceError> {
        let Ingested { fact, body, outboard } = blob;
        let file = match body {
            Body::Inline(bytes) => {
                self.placed.push(Placed { fact, body: PlacedBody::Inline(bytes), outboard });
                return Ok(());
            }
            Body::File(file) => file,
        };
        let guard = locks.lock(fact.sha1);
        match known(&fact.sha1)? {
            Some(other) if other != fact => self.collided.push(Ingested { fact, body: Body::File(file), outboard }),
            _ => {
                file.move_to(&layout::blob_file(&fact.sha1)).map_err(PlaceError::from_io)?;
                self.placed.push(Placed { fact, body: PlacedBody::File(guard), outboard });
            }
        }
        Ok(())
    }
}

/// One of each blob, and those that only look equal. What is dropped removes its own file.
fn distinct(blobs: Vec<Ingested>) -> (BTreeMap<BlobId, Ingested>, Vec<Ingested>) {
    let mut first: BTreeMap<BlobId, Ingested> = BTreeMap::new();
    let mut collided = Vec::new();
    for blob in blobs {
        match first.get(&blob.fact.sha1) {
            None => drop(first.insert(blob.fact.sha1, blob)),
            Some(known) if known.fact == blob.fact => blob.discard(),
            Some(_) => collided.push(blob),
        }
    }
    (first, collided)
}

fn folders_of(blobs: &BTreeMap<BlobId, Ingested>) -> Vec<crate::fs::HomePath> {
    let in_files = blobs.values().filter(|blob| matches!(blob.body, Body::File(_)));
    let folders: BTreeSet<_> = in_files.map(|blob| layout::blob_folder(&blob.fact.sha1)).collect();
    folders.into_iter().collect()
}

#[cfg(test)]
mod tests;
