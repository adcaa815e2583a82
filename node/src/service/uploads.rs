//! Uploads: blobs that a client sends in pieces, under a name, and goes on with when it was cut off.
//!
//! A client begins or finds an upload, sends bytes from where it stands, as often as it must, and commits it. Only then is there a blob.
//! An upload that nobody sends to ends with its lease.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use keepwell_protocol::id::BlobId;
use keepwell_protocol::name::OwnerName;
use keepwell_protocol::units::SizeBytes;
use keepwell_store::uploads::{Upload, UploadError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::put::{Held, PutOptions, Putter, only};
use super::{Node, quota};
use crate::engine::{LeaseOp, LeaseUse, UploadWish};
use crate::failure::{Code, Failure};
use crate::home::owner;
use crate::limits::UPLOAD_TTL_MS;

/// An upload, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadLine {
    /// What its client calls it.
    pub name: String,
    /// How many bytes of it are safe: where to go on.
    pub offset_bytes: u64,
    /// How many it is to have, if that was said.
    pub size_bytes: Option<u64>,
    /// What it is to become, if that was said.
    pub sha1: Option<String>,
    /// When it ends unless something comes, in Unix milliseconds.
    pub expires_ms: u64,
}

/// What a client says of an upload before it sends it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BeginUpload {
    /// What it is to become.
    pub sha1: Option<BlobId>,
    /// How many bytes it is to have.
    pub size_bytes: Option<u64>,
}

/// The uploads that somebody is working on: one at a time each.
#[derive(Debug, Default)]
pub struct BusyUploads(Mutex<BTreeSet<String>>);

/// A source that renews its upload while it gives: one piece may take longer than an upload lasts.
struct Lasting<'a> {
    source: &'a mut dyn Read,
    now_ms: &'a mut dyn FnMut() -> u64,
    renew: &'a mut dyn FnMut() -> Result<(), Failure>,
    renewed_ms: u64,
    /// Why it could not be renewed, which is no fault of the source.
    failed: Option<Failure>,
}

impl Read for Lasting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        let now_ms = (self.now_ms)();
        // A clock that was set back renews too, or what it renewed before would end by the clock that is right.
        if now_ms.abs_diff(self.renewed_ms) >= UPLOAD_TTL_MS / 2 {
            if let Err(failure) = (self.renew)() {
                self.failed = Some(failure);
                return Err(io::Error::other("the upload could not be renewed"));
            }
            self.renewed_ms = now_ms;
        }
        Ok(count)
    }
}

/// The right to work on an upload, while this lives.
struct Turn<'a> {
    busy: &'a BusyUploads,
    name: String,
}

impl BusyUploads {
    fn turn(&self, name: &OwnerName) -> Result<Turn<'_>, Failure> {
        let name = name.as_str().to_owned();
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
            return Ok(Turn { busy: self, name });
        }
        Err(Failure::new(Code::Rate, format!("somebody is sending to the upload `{name}` right now"))
            .hint("a connection that broke may take a while to be noticed: try again")
            .about("upload", name))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.busy.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// The upload `name`, begun now if there is none; whether it was.
///
/// # Errors
/// `EXISTS` if there is one that is to become something else.
pub fn begin(node: &dyn Node, name: &OwnerName, wish: &BeginUpload) -> Result<(UploadLine, bool), Failure> {
    match find(node, name) {
        Err(failure) if failure.code == Code::NotFound => end_lost(node, name)?,
        found => return go_on(node, name, wish, &found?),
    }
    let BeginUpload { sha1, size_bytes } = *wish;
    quota::leave_room(node, size_bytes.unwrap_or_default())?;
    let upload = UploadWish { name: name.clone(), ingest: node.new_ingest(), sha1, size_bytes };
    match node.lease(LeaseOp::Upload { owner: owner::of_this_process(), ttl_ms: UPLOAD_TTL_MS, upload }) {
        // Somebody else has begun it meanwhile.
        Err(failure) if failure.code == Code::Exists => go_on(node, name, wish, &find(node, name)?),
        begun => begun.and_then(|_| Ok((get(node, name)?, true))),
    }
}

fn go_on(node: &dyn Node, name: &OwnerName, wish: &BeginUpload, known: &Upload) -> Result<(UploadLine, bool), Failure> {
    let told = line(node, name.as_str(), known)?;
    if (known.sha1, known.size_bytes) == (wish.sha1, wish.size_bytes) {
        return Ok((told, false));
    }
    Err(Failure::new(Code::Exists, format!("there is an upload `{name}` already, of something else"))
        .hint("choose another name, or give that one up first with `keepwell upload rm`")
        .details(json!({ "upload": told })))
}

/// The upload `name`.
pub fn get(node: &dyn Node, name: &OwnerName) -> Result<UploadLine, Failure> {
    line(node, name.as_str(), &find(node, name)?)
}

/// All uploads, in order of name.
pub fn list(node: &dyn Node) -> Result<Vec<UploadLine>, Failure> {
    let mut lines = Vec::new();
    for (name, _) in node.store().snapshot()?.all_uploads()? {
        if let Some(upload) = node.store().upload(&name)? {
            lines.push(line(node, &name, &upload)?);
        }
    }
    Ok(lines)
}

/// Takes what `source` gives as the bytes from `offset_bytes` on, which is where the upload must stand.
///
/// # Errors
/// `REV_MISMATCH` with the offset where it stands; what came before a failure of the source stays.
pub fn extend(
    node: &dyn Node,
    busy: &BusyUploads,
    name: &OwnerName,
    offset_bytes: u64,
    source: &mut dyn Read,
) -> Result<UploadLine, Failure> {
    let _turn = busy.turn(name)?;
    let (before, before_ms) = (find(node, name)?, node.now_ms());
    if before.offset_bytes != offset_bytes {
        return Err(Failure::new(
            Code::RevMismatch,
            format!("the upload `{name}` is at byte {}, not at {offset_bytes}", before.offset_bytes),
        )
        .hint("go on from `details.offset_bytes`")
        .details(json!({ "upload": name.as_str(), "offset_bytes": before.offset_bytes })));
    }
    renew(node, &before)?;
    let (mut now_ms, mut renew_again) = (|| node.now_ms(), || renew(node, &before));
    let mut lasting = Lasting { source, now_ms: &mut now_ms, renew: &mut renew_again, renewed_ms: before_ms, failed: None };
    let extended = node.store().extend_upload(name.as_str(), &mut lasting);
    let after = match lasting.failed.take() {
        Some(failure) => return Err(failure),
        None => extended?,
    };
    renew(node, &after)?;
    line(node, name.as_str(), &after)
}

/// Makes a blob of an upload, as `options` say, and ends it. Whatever fails, it is there as before, unless its bytes are not what they
/// should be: then it ends too.
///
/// # Errors
/// `INTEGRITY` if the bytes are of another blob than was said; `USAGE` if there are too few; and those of a put.
pub fn commit(node: &dyn Node, busy: &BusyUploads, name: &OwnerName, options: PutOptions) -> Result<Held, Failure> {
    let _turn = busy.turn(name)?;
    let upload = find(node, name)?;
    if let Some(size_bytes) = upload.size_bytes.filter(|size_bytes| *size_bytes != upload.offset_bytes) {
        let (has, wants) = (SizeBytes(upload.offset_bytes), SizeBytes(size_bytes));
        return Err(Failure::usage(format!("the upload `{name}` has {has} of {wants}"))
            .hint("send the rest, from `details.offset_bytes` on, and commit it then")
            .details(json!({ "upload": name.as_str(), "offset_bytes": upload.offset_bytes, "size_bytes": size_bytes })));
    }
    let mut silent = |_| ();
    let mut putter = Putter::new(node, PutOptions { expected: upload.sha1, ..options }, &mut silent);
    let mut outcomes = putter.put_upload(0, name.as_str())?;
    outcomes.extend(putter.finish()?);
    let outcome = only(outcomes);
    if !matches!(&outcome, Err(failure) if failure.code != Code::Integrity) {
        end(node, &upload)?;
    }
    outcome
}

/// Gives an upload up, with all that has come of it; what it was.
pub fn remove(node: &dyn Node, name: &OwnerName) -> Result<UploadLine, Failure> {
    let upload = find(node, name)?;
    let told = line(node, name.as_str(), &upload)?;
    end(node, &upload)?;
    Ok(told)
}

fn find(node: &dyn Node, name: &OwnerName) -> Result<Upload, Failure> {
    node.store().upload(name.as_str())?.ok_or_else(|| no_upload(name.as_str()))
}

/// Ends an upload whose bytes became a blob just before a crash.
fn end_lost(node: &dyn Node, name: &OwnerName) -> Result<(), Failure> {
    let lost = node.store().snapshot()?.upload(name.as_str())?;
    lost.map_or(Ok(()), |upload| end(node, &upload))
}

fn renew(node: &dyn Node, upload: &Upload) -> Result<(), Failure> {
    let op = lease_use(node, upload)?.map(|used| LeaseOp::Renew { used, ttl_ms: UPLOAD_TTL_MS });
    op.map_or(Ok(()), |op| node.lease(op).map(drop))
}

fn end(node: &dyn Node, upload: &Upload) -> Result<(), Failure> {
    let op = lease_use(node, upload)?.map(LeaseOp::Remove);
    match op.map_or(Ok(()), |op| node.lease(op).map(drop)) {
        // It has ended meanwhile.
        Err(failure) if failure.code == Code::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// The lease in the name of whoever has it: the right to an upload is to know its name.
fn lease_use(node: &dyn Node, upload: &Upload) -> Result<Option<LeaseUse>, Failure> {
    let Some(lease) = node.store().snapshot()?.lease(&upload.lease)? else { return Ok(None) };
    Ok(Some(LeaseUse { lease: upload.lease, owner: lease.owner.parse()? }))
}

fn line(node: &dyn Node, name: &str, upload: &Upload) -> Result<UploadLine, Failure> {
    let lease = node.store().snapshot()?.lease(&upload.lease)?;
    Ok(UploadLine {
        name: name.to_owned(),
        offset_bytes: upload.offset_bytes,
        size_bytes: upload.size_bytes,
        sha1: upload.sha1.map(|sha1| sha1.to_string()),
        expires_ms: lease.map_or(0, |lease| lease.expires_ms),
    })
}

fn no_upload(name: &str) -> Failure {
    Failure::new(Code::NotFound, format!("there is no upload `{name}`, or it has ended"))
        .hint("begin it with PUT /api/v1/uploads/NAME; `keepwell upload ls` lists those that there are")
        .about("upload", name)
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Failure {
        match error {
            UploadError::NotFound(name) => no_upload(&name),
            UploadError::TooLong { size_bytes } => {
                Failure::usage(format!("more bytes came than the {size_bytes} that were said")).hint("what was sent before stays")
            }
            UploadError::Complete(name) => {
                Failure::new(Code::Exists, format!("the upload `{name}` is complete: it was to be committed"))
                    .hint("commit it again, or give it up with `keepwell upload rm`")
                    .about("upload", name)
            }
            UploadError::Read(source) => Failure::from(keepwell_store::ingest::IngestError::Read(source)),
            UploadError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use keepwell_protocol::units::DurationMs;

    use super::*;
    use crate::local::Local;

    #[test]
    fn each_piece_lets_an_upload_last_for_upload_ttl_from_then_on_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let (network, name) = ("lab".parse().unwrap(), "ada".parse().unwrap());
        let node = Local::init(&folder.path().join("home"), DurationMs(0), None, network, name).unwrap();
        let (busy, name) = (BusyUploads::default(), "x".parse().unwrap());
        let lasts = |expires_ms: u64, from_ms: u64| {
            assert!((from_ms + UPLOAD_TTL_MS..=node.now_ms() + UPLOAD_TTL_MS).contains(&expires_ms), "{expires_ms}");
        };
        let began_ms = node.now_ms();
        let (begun, is_new) = begin(&node, &name, &BeginUpload::default()).unwrap();
        assert!(is_new);
        lasts(begun.expires_ms, began_ms);
        let piece_ms = node.now_ms();
        let extended = extend(&node, &busy, &name, 0, &mut Cursor::new(b"abc")).unwrap();
        assert_eq!(extended.offset_bytes, 3);
        lasts(extended.expires_ms, piece_ms);
    }

    #[test]
    fn a_piece_that_takes_longer_than_an_upload_lasts_renews_it_in_every_half_of_that() {
        let (mut clock, mut renewed) = ([0, 1, UPLOAD_TTL_MS / 2 - 1, UPLOAD_TTL_MS / 2, UPLOAD_TTL_MS].into_iter(), 0);
        let mut renew = || {
            renewed += 1;
            Ok(())
        };
        let mut now_ms = || clock.next().unwrap();
        let mut bytes = Cursor::new(b"abcde");
        let mut lasting = Lasting { source: &mut bytes, now_ms: &mut now_ms, renew: &mut renew, renewed_ms: 0, failed: None };
        let mut read = || assert_eq!(lasting.read(&mut [0]).unwrap(), 1);
        (0..3).for_each(|_| read());
        (0..2).for_each(|_| read());
        assert_eq!(renewed, 2);
    }

    #[test]
    fn an_upload_that_cannot_be_renewed_is_told_why() {
        let (mut now_ms, mut bytes) = (|| UPLOAD_TTL_MS, Cursor::new(b"abcde"));
        let mut renew = || Err(Failure::new(Code::NoSpace, "the disk is full"));
        let mut lasting = Lasting { source: &mut bytes, now_ms: &mut now_ms, renew: &mut renew, renewed_ms: 0, failed: None };
        assert!(lasting.read(&mut [0]).is_err());
        assert_eq!(lasting.failed.map(|failure| failure.code), Some(Code::NoSpace));
    }

    #[test]
    fn an_upload_whose_bytes_became_a_blob_before_a_crash_begins_anew_and_is_never_committed_as_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let (network, of) = ("lab".parse().unwrap(), "ada".parse().unwrap());
        let node = Local::init(&folder.path().join("home"), DurationMs(0), None, network, of).unwrap();
        let (busy, name, bytes) = (BusyUploads::default(), "x".parse().unwrap(), vec![7; 100_000]);
        begin(&node, &name, &BeginUpload::default()).unwrap();
        extend(&node, &busy, &name, 0, &mut Cursor::new(&bytes)).unwrap();
        let mut silent = |_| ();
        let mut putter = Putter::new(&node, PutOptions::default(), &mut silent);
        putter.put_upload(0, name.as_str()).unwrap();
        putter.finish().unwrap();
        assert_eq!(commit(&node, &busy, &name, PutOptions::default()).unwrap_err().code, Code::NotFound);
        assert_eq!(list(&node).unwrap(), []);
        let (anew, is_new) = begin(&node, &name, &BeginUpload::default()).unwrap();
        assert_eq!((anew.offset_bytes, is_new), (0, true));
        extend(&node, &busy, &name, 0, &mut Cursor::new(&bytes)).unwrap();
        assert!(commit(&node, &busy, &name, PutOptions::default()).unwrap().existed);
    }

    #[test]
    fn one_at_a_time_works_on_an_upload() {
        let (busy, name) = (BusyUploads::default(), "x".parse().unwrap());
        let turn = busy.turn(&name).unwrap();
        assert_eq!(busy.turn(&name).map(drop).unwrap_err().code, Code::Rate);
        drop(turn);
        busy.turn(&name).unwrap();
    }
}
