//! What an upload has said to have is there, wherever it was cut off.

use std::cell::Cell;
use std::io::Cursor;

use super::*;
use crate::hash::hash_bytes;
use crate::testing::{LARGE, NOW_MS, TestHome, bytes_of, id_of, made_disk};

const LEASE: LeaseId = LeaseId([7; 16]);
const INGEST: IngestId = IngestId([8; 16]);

fn begin(home: &TestHome, sha1: Option<BlobId>, size_bytes: Option<u64>) {
    home.write(|txn| {
        txn.add_lease(&LEASE, "ann", NOW_MS, NOW_MS + 1_000, true).unwrap();
        txn.put_upload("big", &Upload::new(INGEST, LEASE, sha1, size_bytes))
    });
}

fn extend(home: &TestHome, bytes: &[u8]) -> Result<Upload, UploadError> {
    home.store.extend_upload("big", &mut Cursor::new(bytes))
}

/// Gives some bytes, and then the news that the sender is gone.
struct Broken<'a>(Cursor<&'a [u8]>);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

#[test]
fn pieces_become_the_blob_that_they_are_and_what_came_before_a_broken_connection_counts() {
    let (home, bytes) = (TestHome::new(), bytes_of(3, LARGE));
    begin(&home, None, None);
    let broken = home.store.extend_upload("big", &mut Broken(Cursor::new(&bytes[..1_000])));
    assert!(matches!(broken, Err(UploadError::Read(_))));
    assert_eq!(home.snapshot().upload("big").unwrap().unwrap().offset_bytes, 1_000);
    assert_eq!(extend(&home, &bytes[1_000..5_000]).unwrap().offset_bytes, 5_000);
    let home = home.reopened();
    assert_eq!(extend(&home, &bytes[5_000..]).unwrap().offset_bytes, LARGE as u64);
    let blob = home.store.adopt_upload("big", &mut |_| ()).unwrap();
    assert_eq!(blob.fact(), hash_bytes(&bytes).fact);
    let placed = home.store.place(vec![blob]).unwrap().placed.pop().unwrap();
    home.write(|txn| txn.record(placed, NOW_MS, NOW_MS).map(drop));
    assert_eq!(home.read(&id_of(&bytes)).unwrap().unwrap(), bytes);
    // A crash came before the upload was ended: it is not an empty one now.
    assert!(home.snapshot().upload("big").unwrap().is_some() && home.store.upload("big").unwrap().is_none());
    assert!(matches!(home.store.adopt_upload("big", &mut |_| ()), Err(UploadError::NotFound(_))));
    assert!(matches!(extend(&home, b"more"), Err(UploadError::NotFound(_))));
}

#[test]
fn what_is_not_placed_after_all_is_there_as_before() {
    let (home, bytes) = (TestHome::new(), bytes_of(3, LARGE));
    begin(&home, None, None);
    extend(&home, &bytes).unwrap();
    home.store.adopt_upload("big", &mut |_| ()).unwrap().discard();
    assert!(matches!(extend(&home, b"more"), Err(UploadError::Complete(_))));
    assert_eq!(home.store.adopt_upload("big", &mut |_| ()).unwrap().fact(), hash_bytes(&bytes).fact);
    // One that is small is taken into memory, and stays as well.
    home.write(|txn| txn.put_upload("small", &Upload::new(IngestId([9; 16]), LEASE, None, None)));
    home.store.extend_upload("small", &mut Cursor::new(b"abc")).unwrap();
    for _ in 0..2 {
        assert_eq!(home.store.adopt_upload("small", &mut |_| ()).unwrap().fact(), hash_bytes(b"abc").fact);
    }
}

#[test]
fn an_upload_ends_with_its_lease_and_its_file_is_told() {
    let home = TestHome::new();
    begin(&home, Some(BlobId([1; 20])), None);
    extend(&home, b"abc").unwrap();
    assert_eq!(home.snapshot().upload_under(&LEASE).unwrap().as_deref(), Some("big"));
    assert_eq!(home.write(|txn| txn.end_uploads()), []);
    home.write(|txn| txn.end_leases(NOW_MS + 1_000, 100));
    assert_eq!(home.write(|txn| txn.end_uploads()), [INGEST]);
    assert_eq!((home.snapshot().upload("big").unwrap(), home.snapshot().upload_count().unwrap()), (None, 0));
    assert!(matches!(extend(&home, b"d"), Err(UploadError::NotFound(_))));
}

#[test]
fn no_more_is_taken_than_was_said() {
    let home = TestHome::new();
    begin(&home, None, Some(4));
    assert_eq!(extend(&home, b"abc").unwrap().offset_bytes, 3);
    assert!(matches!(extend(&home, b"de"), Err(UploadError::TooLong { size_bytes: 4 })));
    assert_eq!(extend(&home, b"d").unwrap().offset_bytes, 4);
    assert_eq!(home.store.adopt_upload("big", &mut |_| ()).unwrap().fact(), hash_bytes(b"abcd").fact);
}

/// Takes so many bytes and notes what the store says of the upload after each buffer.
struct Watched<'a> {
    home: &'a TestHome,
    left: usize,
    noted: Cell<u64>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.noted.set(self.home.snapshot().upload("big").unwrap().unwrap().offset_bytes);
        let count = self.left.min(buffer.len());
        self.left -= count;
        Ok(count)
    }
}

#[test]
fn a_crash_costs_at_most_what_came_since_upload_sync_every_bytes() {
    let home = TestHome::new();
    begin(&home, None, None);
    let up_to = |left| {
        let mut source = Watched { home: &home, left, noted: Cell::new(0) };
        let after = home.store.extend_upload("big", &mut source).unwrap().offset_bytes;
        (source.noted.get(), after)
    };
    let every = UPLOAD_SYNC_EVERY_BYTES as u64;
    assert_eq!(up_to(UPLOAD_SYNC_EVERY_BYTES - 1), (0, every - 1), "it is noted at the end alone");
    assert_eq!(up_to(UPLOAD_SYNC_EVERY_BYTES + 1), (2 * every - 1, 2 * every));
}

#[test]
fn whatever_call_a_crash_comes_at_what_was_noted_is_there_and_the_upload_goes_on() {
    let bytes = bytes_of(5, LARGE);
    let mut call = 0;
    loop {
        call += 1;
        let disk = made_disk(call);
        let home = TestHome::open(&disk).unwrap();
        begin(&home, Some(id_of(&bytes)), None);
        let before = disk.calls();
        disk.crash_at(before + call);
        let first = extend(&home, &bytes[..20_000]);
        let is_whole = first.is_ok() && extend(&home, &bytes[20_000..30_000]).is_ok();
        let home = home.reopened();
        let offset = home.snapshot().upload("big").unwrap().unwrap().offset_bytes;
        assert!(first.is_err() || offset >= 20_000, "call {call}: {offset} were acknowledged and noted");
        let rest = usize::try_from(offset).unwrap();
        // What came beyond that and was not noted is no part of it.
        let is_all = call % 2 == 0;
        if !is_all {
            extend(&home, &bytes[rest..]).unwrap();
        }
        let blob = home.store.adopt_upload("big", &mut |_| ()).unwrap();
        let expected = if is_all { &bytes[..rest] } else { &bytes };
        assert_eq!(blob.fact(), hash_bytes(expected).fact, "call {call}, which left {offset} bytes");
        if is_whole {
            break;
        }
    }
    assert!(call > 5, "only {call} calls were tried");
}

#[test]
fn the_bytes_of_a_row_never_change() {
    let upload = Upload { offset_bytes: 3, ..Upload::new(INGEST, LEASE, Some(BlobId([1; 20])), Some(4)) };
    assert_eq!(
        crate::testing::golden(&upload),
        "010707070707070707070707070707070701010101010101010101010101010101010101010101040308080808080808080808080808080808"
    );
}
