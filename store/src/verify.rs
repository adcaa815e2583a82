//! Reading blob files back: for whoever serves them, and for `fsck`, which alone looks at the disk.

use std::io;

use keepwell_protocol::id::{BlobFact, BlobId};

use crate::fs::{BlobFile, FileReader, SharedFs};
use crate::hash::{HashError, Outboard, hash_stream};
use crate::layout;

/// What `fsck` finds behind a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileCheck {
    /// The bytes of the blob; these are its group values.
    Whole(Outboard),
    /// No file.
    Missing,
    /// Other bytes: these.
    Differs(BlobFact),
}

/// Opens a blob's file for reading.
///
/// # Errors
/// Those of the file system; `NotFound` when there is no such file.
pub fn open_blob(fs: &SharedFs, id: &BlobId) -> io::Result<Box<dyn BlobFile>> {
    fs.open(&layout::blob_file(id))
}

/// Reads a blob's file whole and recomputes both hashes.
///
/// # Errors
/// When the file cannot be read, which is neither a missing file nor a wrong one.
pub fn verify_file(fs: &SharedFs, fact: &BlobFact) -> Result<FileCheck, HashError> {
    let file = match open_blob(fs, &fact.sha1) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FileCheck::Missing),
        Err(error) => return Err(HashError::Read(error)),
    };
    let found = hash_stream(&mut FileReader::new(&*file), &mut |_| Ok(()))?;
    if found.fact == *fact { Ok(FileCheck::Whole(found.outboard)) } else { Ok(FileCheck::Differs(found.fact)) }
}
