//! Uploads: named ingests that go on where they were cut off.
//!
//! Life of an upload: it is begun under a name and a lease, grows by pieces, and ends with its lease: when it is committed, given up or
//! forgotten for longer than the lease lasts. What it says to have is on the disk: the bytes are synced before their number is noted.
//! A crash in between leaves bytes beyond that number, which are written again or cut off.
//!
//! Its lease covers the blob that it is to become, should that be held already (SAFETY.md S22).

use std::io::{self, Read};

use bincode::{Decode, Encode};
use keepwell_protocol::id::{BlobId, LeaseId};
use keepwell_protocol::wire;
use redb::{ReadableTable, ReadableTableMetadata};

use crate::error::StoreError;
use crate::fs::{BlobFile, PageBuffer, fill};
use crate::ingest::{IngestId, Ingested, Progress, adopt_shared};
use crate::layout;
use crate::limits::{COPY_BUFFER_BYTES, UPLOAD_SYNC_EVERY_BYTES};
use crate::row;
use crate::store::Store;
use crate::tables::{Access, Tables, Writing};

/// An upload, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Upload {
    /// The lease that it lives as long as.
    pub lease: LeaseId,
    /// What it is to become; none if its client does not say.
    pub sha1: Option<BlobId>,
    /// How large it is to become, in bytes; none if its client does not say.
    pub size_bytes: Option<u64>,
    /// How much of it is on the disk, in bytes.
    pub offset_bytes: u64,
    /// The file in `ingest/`.
    ingest: [u8; 16],
}

impl Upload {
    /// One that has nothing yet.
    pub fn new(ingest: IngestId, lease: LeaseId, sha1: Option<BlobId>, size_bytes: Option<u64>) -> Upload {
        Upload { lease, sha1, size_bytes, offset_bytes: 0, ingest: ingest.0 }
    }

    /// The name of its file.
    pub fn ingest(&self) -> IngestId {
        IngestId(self.ingest)
    }
}

/// Why nothing more was taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is none of that name, or it has ended.
    #[error("no upload `{0}`")]
    NotFound(String),
    /// More than was said.
    #[error("more bytes than the {size_bytes} that were said")]
    TooLong {
        /// How many were.
        size_bytes: u64,
    },
    /// It was read to become a blob, which is to be done again or given up.
    #[error("upload `{0}` is complete")]
    Complete(String),
    /// The sender failed.
    #[error("cannot read the input")]
    Read(#[source] io::Error),
    /// The disk failed, or is full.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<A: Access> Tables<A> {
    /// The upload `name`.
    pub fn upload(&self, name: &str) -> Result<Option<Upload>, StoreError> {
        row::decode("uploads", self.uploads.get(name))
    }

    /// All uploads, in order of name.
    pub fn all_uploads(&self) -> Result<Vec<(String, Upload)>, StoreError> {
        let rows = self.uploads.iter()?;
        rows.map(|row| {
            let (name, upload) = row?;
            Ok((name.value().to_owned(), row::decode_bytes("uploads", upload.value())?))
        })
        .collect()
    }

    /// How many uploads there are.
    pub fn upload_count(&self) -> Result<u64, StoreError> {
        Ok(self.uploads.len()?)
    }

    /// The name of the upload that `lease` is for, if it is for one.
    pub fn upload_under(&self, lease: &LeaseId) -> Result<Option<String>, StoreError> {
        Ok(self.all_uploads()?.into_iter().find(|(_, upload)| upload.lease == *lease).map(|(name, _)| name))
    }
}

impl Tables<Writing<'_>> {
    /// Begins an upload, or notes how far it has come.
    pub fn put_upload(&mut self, name: &str, upload: &Upload) -> Result<(), StoreError> {
        self.uploads.insert(name, wire::encode(upload).as_slice())?;
        Ok(())
    }

    /// Forgets the uploads whose leases are gone; their files, which are to be removed.
    pub fn end_uploads(&mut self) -> Result<Vec<IngestId>, StoreError> {
        let mut ended = Vec::new();
        for (name, upload) in self.all_uploads()? {
            if self.lease(&upload.lease)?.is_none() {
                self.uploads.remove(name.as_str())?;
                ended.push(upload.ingest());
            }
        }
        Ok(ended)
    }
}

impl Store {
    /// The upload `name`. None also when its bytes are there no more: a crash came after they became a blob, and before the upload ended.
    pub fn upload(&self, name: &str) -> Result<Option<Upload>, StoreError> {
        let Some(upload) = self.snapshot()?.upload(name)? else { return Ok(None) };
        let path = layout::ingest_file(&upload.ingest());
        match self.fs().metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((upload.offset_bytes == 0).then_some(upload)),
            Err(error) => Err(StoreError::file("cannot look at", path.as_str(), error)),
            Ok(_) => Ok(Some(upload)),
        }
    }

    /// Takes what `source` gives as the next bytes of the upload `name`; how far it is then.
    ///
    /// What came before a failure stays, and is noted. One at a time for each upload: the caller sees to that.
    ///
    /// # Errors
    /// `NotFound` also when it ends meanwhile; `Complete` once [`Store::adopt_upload`] has read it; `TooLong` when the source has more than the upload may take, which it takes none of.
    pub fn extend_upload(&self, name: &str, source: &mut dyn Read) -> Result<Upload, UploadError> {
        let (mut upload, file) = self.open_upload(name)?;
        let mut buffer = PageBuffer::zeroed(COPY_BUFFER_BYTES);
        let mut unsynced_bytes = 0;
        loop {
            let (count, failure) = fill(source, &mut buffer);
            let room = upload.size_bytes.map_or(u64::MAX, |size_bytes| size_bytes - upload.offset_bytes);
            if count as u64 > room {
                self.note_upload(name, &upload, &*file)?;
                return Err(UploadError::TooLong { size_bytes: upload.size_bytes.unwrap_or_default() });
            }
            let written = self.write_upload(&upload, &*file, &buffer[..count]);
            if written.is_ok() {
                upload.offset_bytes += count as u64;
                unsynced_bytes += count;
            }
            let is_over = count < buffer.len() || written.is_err();
            if is_over || unsynced_bytes >= UPLOAD_SYNC_EVERY_BYTES {
                self.note_upload(name, &upload, &*file)?;
                unsynced_bytes = 0;
            }
            written?;
            match failure {
                Some(failure) => return Err(UploadError::Read(failure)),
                None if is_over => return Ok(upload),
                None => {}
            }
        }
    }

    /// The bytes of an upload as a blob that can be placed. They stay in `ingest/` until then, and when it is not placed after all.
    pub fn adopt_upload(&self, name: &str, progress: &mut Progress<'_>) -> Result<Ingested, UploadError> {
        let upload = self.upload(name)?.ok_or_else(|| UploadError::NotFound(name.to_owned()))?;
        let failed = |source| StoreError::file("cannot finish", name, source);
        let size_bytes = self.fs().metadata(&layout::ingest_file(&upload.ingest())).map(|found| found.size_bytes);
        if size_bytes.ok() != Some(upload.offset_bytes) {
            let (upload, file) = self.open_upload(name)?;
            file.cut(upload.offset_bytes).and_then(|()| file.sync()).map_err(failed)?;
        }
        Ok(adopt_shared(self.fs(), upload.ingest(), progress).map_err(|error| failed(io::Error::other(error)))?)
    }

    /// The upload and its file, which is made if nothing has come yet.
    fn open_upload(&self, name: &str) -> Result<(Upload, Box<dyn BlobFile>), UploadError> {
        let not_found = || UploadError::NotFound(name.to_owned());
        let mut upload = self.upload(name)?.ok_or_else(not_found)?;
        let path = layout::ingest_file(&upload.ingest());
        let failed = |source| StoreError::file("cannot open", path.as_str(), source);
        match self.fs().open_to_write(&path) {
            Ok(file) => {
                // A disk that lost what it had said to have synced is believed no more than that.
                upload.offset_bytes = upload.offset_bytes.min(file.size_bytes().map_err(failed)?);
                Ok((upload, file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.fs().create_folders(&[layout::ingest_folder()]).map_err(failed)?;
                let file = self.fs().create_new(&path).map_err(failed)?;
                self.fs().sync_folder(&layout::ingest_folder()).map_err(failed)?;
                Ok((upload, file))
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(UploadError::Complete(name.to_owned())),
            Err(error) => Err(failed(error).into()),
        }
    }

    fn write_upload(&self, upload: &Upload, file: &dyn BlobFile, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.fs().leave_room(bytes.len() as u64).and_then(|()| file.write_all_at(bytes, upload.offset_bytes));
        written.map_err(|source| StoreError::file("cannot write", layout::ingest_file(&upload.ingest()).as_str(), source))
    }

    /// Bytes first, their number second.
    fn note_upload(&self, name: &str, upload: &Upload, file: &dyn BlobFile) -> Result<(), UploadError> {
        file.sync().map_err(|source| StoreError::file("cannot sync", layout::ingest_file(&upload.ingest()).as_str(), source))?;
        self.write(|txn| match txn.upload(name)? {
            // Given up meanwhile, or begun anew under the same name.
            Some(now) if now.ingest == upload.ingest => Ok(txn.put_upload(name, upload)?),
            _ => Err(UploadError::NotFound(name.to_owned())),
        })
    }
}

#[cfg(test)]
mod tests;
