//! Bytes are taken in whole or not at all, and what was not wanted leaves nothing behind.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;
use crate::fs::sim::SimDisk;
use crate::fs::{Kind, RealFs};
use crate::hash::hash_bytes;
use crate::limits::{CACHED_HEAD_BYTES, COPY_BUFFER_BYTES, DIRECT_BYTES, FIRST_BUFFER_BYTES, THREADS_FROM_BYTES};

const ID: IngestId = IngestId([0xab; 16]);

fn bytes_of(size: usize) -> Vec<u8> {
    (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

fn simulated(seed: u64) -> (SimDisk, SharedFs) {
    let disk = SimDisk::new(seed);
    let fs = disk.fs();
    (disk, Arc::new(fs))
}

fn take_in(fs: &SharedFs, bytes: &[u8]) -> Result<Ingested, IngestError> {
    ingest(fs, ID, &mut &bytes[..], &mut |_| {})
}

fn is_left(fs: &SharedFs) -> bool {
    !leftovers(fs).unwrap().is_empty()
}

/// The bytes behind an ingested blob.
fn body_of(fs: &SharedFs, blob: &Ingested) -> Vec<u8> {
    match blob.body() {
        Body::Inline(bytes) => bytes.clone(),
        Body::File(file) => {
            let mut bytes = Vec::new();
            FileReader::new(&*fs.open(&file.path()).unwrap()).read_to_end(&mut bytes).unwrap();
            bytes
        }
    }
}

#[test]
fn small_blobs_stay_in_memory_and_larger_ones_go_to_a_read_only_file() {
    for size in [0, 1, INLINE_MAX_BYTES, INLINE_MAX_BYTES + 1, FIRST_BUFFER_BYTES, THREADS_FROM_BYTES, 3 * THREADS_FROM_BYTES + 7]
    {
        let (_disk, fs) = simulated(1);
        let bytes = bytes_of(size);
        let blob = take_in(&fs, &bytes).unwrap();
        let hashed = hash_bytes(&bytes);
        assert_eq!((blob.fact(), blob.outboard()), (hashed.fact, &hashed.outboard));
        assert_eq!(body_of(&fs, &blob), bytes);
        assert_eq!(matches!(blob.body(), Body::Inline(_)), size <= INLINE_MAX_BYTES, "{size}");
        if let Body::File(file) = blob.body() {
            let found = fs.metadata(&file.path()).unwrap();
            assert_eq!((found.kind, found.size_bytes, found.read_only), (Kind::File, size as u64, true));
        }
        blob.discard();
        assert!(!is_left(&fs), "a discarded blob leaves nothing");
    }
}

#[test]
fn progress_grows_to_the_size() {
    let (_disk, fs) = simulated(1);
    let mut seen = Vec::new();
    let bytes = bytes_of(THREADS_FROM_BYTES + 2 * COPY_BUFFER_BYTES + 1);
    let blob = ingest(&fs, ID, &mut bytes.as_slice(), &mut |done| seen.push(done)).unwrap();
    assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[1] - pair[0] <= THREADS_FROM_BYTES as u64));
    assert_eq!((seen.len(), seen.last()), (4, Some(&(bytes.len() as u64))));
    drop(blob);
}

#[test]
fn a_file_from_outside_is_cloned_or_copied_with_the_same_result() {
    let home = tempfile::tempdir().unwrap();
    let source = home.path().join("source");
    for (size, can_clone) in [(5, true), (100_000, true), (100_000, false), (INLINE_MAX_BYTES + 1, true)] {
        let (disk, fs) = simulated(1);
        disk.set_can_clone(can_clone);
        let bytes = bytes_of(size);
        std::fs::write(&source, &bytes).unwrap();
        let blob = ingest_path(&fs, ID, &source, &mut |_| {}).unwrap();
        std::fs::write(&source, b"changed later").unwrap();
        assert_eq!(blob.fact(), hash_bytes(&bytes).fact);
        assert_eq!(body_of(&fs, &blob), bytes, "a later change of the original is not seen");
    }
}

#[test]
fn a_real_file_is_taken_in_and_the_original_has_one_name_still() {
    let home = tempfile::tempdir().unwrap();
    let fs: SharedFs = Arc::new(RealFs::new(home.path()));
    let source = home.path().join("source");
    std::fs::write(&source, bytes_of(200_000)).unwrap();
    symlink(&source, home.path().join("link")).unwrap();
    let blob = ingest_path(&fs, ID, &home.path().join("link"), &mut |_| {}).unwrap();
    assert_eq!(body_of(&fs, &blob), bytes_of(200_000));
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&std::fs::metadata(&source).unwrap()), 1);
    drop(blob);
    assert!(!is_left(&fs));
}

#[test]
fn what_is_not_a_readable_regular_file_is_refused_by_its_kind() {
    let home = tempfile::tempdir().unwrap();
    let (_disk, fs) = simulated(1);
    let at = |name: &str| home.path().join(name);
    let refused = |path: &Path| ingest_path(&fs, ID, path, &mut |_| {}).unwrap_err();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
    assert!(matches!(refused(home.path()), IngestError::Directory { .. }));
    assert!(matches!(refused(&at("socket")), IngestError::NotRegular { kind: "socket", .. }));
    assert!(matches!(refused(&at("pipe")), IngestError::NotRegular { kind: "pipe", .. }));
    assert!(matches!(refused(Path::new("/dev/null")), IngestError::NotRegular { kind: "device", .. }));
    assert!(matches!(refused(&at("none")), IngestError::Missing { .. }));
    symlink(at("loop"), at("loop")).unwrap();
    assert!(matches!(refused(&at("loop")), IngestError::Unreadable { .. }));
    assert!(!is_left(&fs));
}

#[test]
fn a_source_that_fails_leaves_nothing() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(self.0);
            self.0 -= count;
            if count == 0 { Err(io::Error::other("gone")) } else { Ok(count) }
        }
    }
    for size in [10, 100_000, 3 * THREADS_FROM_BYTES] {
        let (_disk, fs) = simulated(1);
        assert!(matches!(ingest(&fs, ID, &mut Broken(size), &mut |_| {}), Err(IngestError::Read(_))));
        assert!(!is_left(&fs));
    }
}

#[test]
fn a_full_disk_is_its_own_error_and_leaves_nothing() {
    let (disk, fs) = simulated(1);
    let bytes = bytes_of(2 * THREADS_FROM_BYTES);
    disk.set_capacity(Some(THREADS_FROM_BYTES as u64 + 10));
    assert!(matches!(take_in(&fs, &bytes), Err(IngestError::DiskFull(_))));
    assert!(!is_left(&fs));
    disk.set_capacity(None);
    assert!(take_in(&fs, &bytes).is_ok(), "works again when space returns");
}

#[test]
fn an_error_at_any_call_leaves_nothing_and_is_told() {
    let bytes = bytes_of(100_000);
    let (calm, fs) = simulated(1);
    take_in(&fs, &bytes).unwrap().discard();
    for call in 1..calm.calls() {
        let (disk, fs) = simulated(1);
        disk.fail_at(call);
        assert!(matches!(take_in(&fs, &bytes), Err(IngestError::Write(_))), "call {call}");
        assert!(!is_left(&fs), "call {call}");
    }
}

#[test]
fn an_ingest_that_is_in_use_is_refused_and_left_alone() {
    let (_disk, fs) = simulated(1);
    let first = take_in(&fs, &bytes_of(100_000)).unwrap();
    assert!(matches!(take_in(&fs, &bytes_of(90_000)), Err(IngestError::Write(_))));
    assert_eq!(body_of(&fs, &first), bytes_of(100_000));
}

#[test]
fn a_leftover_is_adopted_or_removed() {
    for size in [7, 100_000] {
        let (_disk, fs) = simulated(1);
        fs.create_folders(&[layout::ingest_folder()]).unwrap();
        let bytes = bytes_of(size);
        fs.create_new(&layout::ingest_file(&ID)).unwrap().write_all_at(&bytes, 0).unwrap();
        assert_eq!(leftovers(&fs).unwrap(), [ID]);
        let blob = adopt(&fs, ID, &mut |_| {}).unwrap();
        assert_eq!((blob.fact(), body_of(&fs, &blob)), (hash_bytes(&bytes).fact, bytes));
        drop(blob);
        assert!(!is_left(&fs));
        fs.create_new(&layout::ingest_file(&ID)).unwrap();
        remove_leftover(&fs, ID).unwrap();
        assert!(!is_left(&fs));
    }
}

#[test]
fn an_ingest_id_has_one_name() {
    assert_eq!(ID.to_string().parse(), Ok(ID));
    let id = IngestId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0e0f");
    for text in ["", "1", "+00102030405060708090a0b0c0d0e0f", "000102030405060708090A0B0C0D0E0F", "../../etc/passwd"] {
        assert!(text.parse::<IngestId>().is_err(), "{text:?}");
    }
}

#[test]
fn a_copy_for_another_process_is_whole_synced_and_taken_in_by_it() {
    let (_disk, fs) = simulated(31);
    let folder = tempfile::tempdir().unwrap();
    for size in [0, INLINE_MAX_BYTES, INLINE_MAX_BYTES + 1, 3 * COPY_BUFFER_BYTES + 1] {
        let path = folder.path().join(size.to_string());
        fs::write(&path, bytes_of(size)).unwrap();
        let (mut asked, mut told) = (0, 0);
        let new_id = || {
            asked += 1;
            Ok::<_, IngestError>(ID)
        };
        let copied = copy_path(&fs, &path, new_id, &mut |bytes| told = bytes).unwrap();
        assert_eq!(told, size as u64);
        match copied {
            Body::Inline(bytes) => assert_eq!((bytes, asked), (bytes_of(size), 0)),
            Body::File(file) => {
                let blob = adopt(&fs, ID, &mut |_| {}).unwrap();
                assert_eq!((blob.fact(), asked), (hash_bytes(&bytes_of(size)).fact, 1));
                assert_eq!(body_of(&fs, &blob), bytes_of(size));
                drop((file, blob));
            }
        }
        assert!(!is_left(&fs));
    }
    let failed = copy_path(&fs, folder.path(), || Ok::<_, IngestError>(ID), &mut |_| {});
    assert!(matches!(failed, Err(IngestError::Directory { .. })));
}

#[test]
fn a_file_larger_than_what_is_kept_in_the_page_cache_is_taken_in_whole_either_way() {
    let home = tempfile::tempdir().unwrap();
    let fs: SharedFs = Arc::new(RealFs::new(home.path()));
    let bytes = bytes_of(usize::try_from(CACHED_HEAD_BYTES).unwrap() + 2 * DIRECT_BYTES + 1);
    let path = home.path().join("source");
    fs::write(&path, &bytes).unwrap();
    let read = ingest_path(&fs, ID, &path, &mut |_| {}).unwrap();
    assert_eq!(read.fact(), hash_bytes(&bytes).fact);
    assert!(body_of(&fs, &read) == bytes);
    read.discard();
    let copied = copy_path(&fs, &path, || Ok::<_, IngestError>(ID), &mut |_| {}).unwrap();
    let adopted = adopt(&fs, ID, &mut |_| {}).unwrap();
    assert_eq!(adopted.fact(), hash_bytes(&bytes).fact);
    drop((copied, adopted));
    assert!(!is_left(&fs));
}

#[test]
fn a_copy_of_a_stream_that_fails_leaves_nothing() {
    let (_disk, fs) = simulated(32);
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.min(buffer.len());
            self.0 -= count;
            if count == 0 { Err(io::Error::other("gone")) } else { Ok(count) }
        }
    }
    let copied = copy_stream(&fs, &mut Failing(INLINE_MAX_BYTES * 3), || Ok::<_, IngestError>(ID));
    assert!(matches!(copied, Err(IngestError::Read(_))));
    assert!(!is_left(&fs));
}
