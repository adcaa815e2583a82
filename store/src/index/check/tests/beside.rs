//! The check beside writers: what it says is said of one moment, whatever they write meanwhile.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::{STRIDE, calm, check, home};
use crate::fs::RealFs;
use crate::fs::sim::SimDisk;
use crate::index::before::{BLOCK_BYTES, Before};
use crate::index::check::{CheckPace, Copy, IndexCheck, Unfinished, Watched};
use crate::index::{Index, LifeBackend};
use crate::ingest::{IngestId, ingest};
use crate::limits::{INLINE_MAX_BYTES, MAX_SAVED_BYTES};
use crate::store::Store;
use crate::testing::{GRACE_MS, LARGE, NOW_MS, TestHome, bytes_of, id_of};

/// A pace that hands each read over to somebody else first, who is asked by `told` and says in `done` how it shall go on.
fn handing_over() -> (CheckPace, Receiver<usize>, Sender<io::Result<()>>) {
    let ((tell, told), (do_it, done)) = (channel(), channel());
    let pace = move |bytes| {
        tell.send(bytes).map_err(io::Error::other)?;
        done.recv().unwrap_or(Ok(()))
    };
    (Box::new(pace), told, do_it)
}

/// Checks the index while `meanwhile` is done at each read, in turn with it; how often that was.
fn check_while(home: &TestHome, mut meanwhile: impl FnMut(usize) -> io::Result<()>) -> (IndexCheck, usize) {
    let (pace, told, done) = handing_over();
    let store = &home.store;
    thread::scope(|scope| {
        let checking = scope.spawn(move || store.check_index(pace).unwrap());
        let mut reads = 0;
        while told.recv().is_ok() {
            done.send(meanwhile(reads)).unwrap();
            reads += 1;
        }
        (checking.join().unwrap(), reads)
    })
}

/// Puts and deletes blobs of both kinds by a number that says which.
fn write_something(home: &TestHome, number: u64) {
    let tag = u8::try_from(number % 61).unwrap();
    let bytes = bytes_of(tag, if tag % 10 == 0 { LARGE } else { 200 + usize::from(tag) * 40 });
    match number / 61 % 3 {
        0 => drop(home.delete(&id_of(&bytes)).unwrap()),
        _ => drop(home.put(&bytes).unwrap()),
    }
}

/// A number after another, seemingly at random.
fn next(number: u64) -> u64 {
    number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

#[test]
fn what_nobody_touched_passes_the_check_while_others_write_the_whole_time() {
    for seed in 0..24 {
        let (home, mut number) = (home(), next(seed));
        let (found, reads) = check_while(&home, |read| {
            number = next(number);
            if seed == 0 || (number >> 40).is_multiple_of(1 + seed) || read == 0 {
                write_something(&home, number >> 33);
            }
            Ok(())
        });
        assert_eq!(found, IndexCheck::Whole, "seed {seed}");
        assert!(reads > 20, "{reads} reads");
        assert_eq!(check(&home), IndexCheck::Whole, "seed {seed}");
        assert_eq!(home.reopened().false_records(), []);
    }
}

#[test]
fn what_flipped_in_the_index_of_a_store_at_work_is_found_whatever_is_written_meanwhile() {
    let TestHome { disk, store, .. } = home();
    drop(store);
    let (mut found, mut unused) = (0, 0);
    std::panic::set_hook(Box::new(|_| {}));
    for offset in (0..disk.index_bytes("index.redb")).step_by(STRIDE * 2) {
        let flipped = || {
            let disk: SimDisk = disk.fork(1);
            let home = TestHome::open(&disk).unwrap();
            write_something(&home, 7);
            disk.flip_index_bit("index.redb", offset);
            home
        };
        let quiet = check(&flipped());
        let home = flipped();
        let (beside, _) = check_while(&home, |read| {
            // What is in the flipped pages may be what is about to be changed.
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| write_something(&home, read as u64 * 7))).ok();
            Ok(())
        });
        let is_damaged = |found: &IndexCheck| matches!(found, IndexCheck::Damaged(_));
        assert_eq!(is_damaged(&quiet), is_damaged(&beside), "a flip at {offset}: {quiet:?}, and beside writers {beside:?}");
        if is_damaged(&quiet) {
            found += 1
        } else {
            unused += 1
        }
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(home))).ok();
    }
    drop(std::panic::take_hook());
    println!("{found} flips found, {unused} in pages that are not in use");
    assert!(found > 20 && unused > 20, "{found} and {unused}");
}

#[test]
fn whoever_sets_the_pace_ends_the_check_without_a_verdict() {
    let home = home();
    let stop = |at: usize| check_while(&home, move |read| if read < at { Ok(()) } else { Err(io::ErrorKind::Other.into()) }).0;
    for at in [0, 1, 5, 30] {
        assert_eq!(stop(at), IndexCheck::Unfinished(Unfinished::Stopped), "at read {at}");
    }
    assert_eq!(stop(usize::MAX), IndexCheck::Whole);
}

#[test]
fn a_disk_that_fills_in_the_middle_ends_the_check_without_a_verdict() {
    let home = home();
    let (found, _) = check_while(&home, |read| {
        if read == 3 {
            home.disk.set_capacity(Some(0));
            assert!((0..u8::MAX).any(|tag| home.put(&bytes_of(tag, INLINE_MAX_BYTES)).is_err()));
            home.disk.set_capacity(None);
            home.put(&bytes_of(1, 77)).unwrap();
        }
        Ok(())
    });
    assert_eq!(found, IndexCheck::Unfinished(Unfinished::Reopened));
    assert_eq!(check(&home), IndexCheck::Whole);
}

#[test]
fn the_check_makes_haste_at_half_of_max_saved_bytes_and_gives_up_past_them() {
    let home = TestHome::new();
    let rows = MAX_SAVED_BYTES / INLINE_MAX_BYTES as u64 * 5 / 4;
    let fill = |from: u64, rows: u64, byte: u8| {
        home.write(|txn| {
            (from..from + rows).try_for_each(|row| {
                txn.bytes.insert(row, [byte; INLINE_MAX_BYTES].as_slice()).map(drop).map_err(crate::error::StoreError::from)
            })
        });
    };
    // What is written over a second time goes where the first was, as soon as no commit needs that any more.
    fill(0, rows, 1);
    fill(0, rows, 2);
    fill(0, 1, 3);
    let (pace, told, done) = handing_over();
    let store = &home.store;
    let found = thread::scope(|scope| {
        let checking = scope.spawn(move || store.check_index(pace).unwrap());
        let (mut is_hasty, mut row) = (false, 0);
        while let Ok(bytes) = told.recv() {
            is_hasty |= bytes == 0;
            if row + 64 < rows {
                fill(row, 64, 4);
                row += 64;
            }
            done.send(Ok(())).unwrap();
        }
        assert!(is_hasty && row < rows, "{row} of {rows}");
        checking.join().unwrap()
    });
    assert_eq!(found, IndexCheck::Unfinished(Unfinished::Overwritten));
    assert!(MAX_SAVED_BYTES.is_multiple_of(BLOCK_BYTES));
}

/// Puts blobs of its own into `store` until it is over; how many.
fn keep_putting(store: &Store, writer: u64, is_over: &AtomicBool, puts: &AtomicU64) {
    for number in 0u64.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let id = IngestId((u128::from(writer) << 64 | u128::from(number)).to_be_bytes());
        let size = usize::try_from(next(number ^ writer << 32) >> 52).unwrap();
        let bytes: Vec<u8> = [number.to_be_bytes(), writer.to_be_bytes()].concat().into_iter().cycle().take(16 + size).collect();
        let blob = ingest(store.fs(), id, &mut &bytes[..], &mut |_| {}).unwrap();
        let placed = store.place(vec![blob]).unwrap().placed;
        let record = |txn: &mut crate::store::Transaction<'_>| -> Result<(), crate::error::StoreError> {
            placed.into_iter().try_for_each(|placed| txn.record(placed, NOW_MS, GRACE_MS).map(drop))
        };
        store.write(record).unwrap();
        puts.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn an_index_in_a_real_file_passes_the_check_while_threads_write_to_it_and_a_flip_in_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let store = Store::open_at(&path, Arc::new(RealFs::new(folder.path()))).unwrap();
    let (is_over, puts) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for writer in 0..3 {
            let (store, is_over, puts) = (&store, &is_over, &puts);
            scope.spawn(move || keep_putting(store, writer, is_over, puts));
        }
        let mut checks = 0;
        while checks < 12 || puts.load(Ordering::Relaxed) < 200 {
            let found = store.check_index(calm()).unwrap();
            checks += 1;
            if found != IndexCheck::Whole {
                is_over.store(true, Ordering::Relaxed);
            }
            assert_eq!(found, IndexCheck::Whole, "check {checks}, after {} puts", puts.load(Ordering::Relaxed));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let mut bytes = std::fs::read(&path).unwrap();
    // A page that holds blobs is in use: one byte of each is flipped.
    let number = 0u64;
    let marks = [number.to_be_bytes(), 1u64.to_be_bytes()].concat();
    let at = bytes.windows(16).position(|window| window == marks).unwrap();
    let in_place = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for at in (at..bytes.len()).step_by(usize::try_from(BLOCK_BYTES).unwrap()) {
        bytes[at] ^= 1;
        std::os::unix::fs::FileExt::write_all_at(&in_place, &bytes[at..=at], at as u64).unwrap();
    }
    assert!(matches!(store.check_index(calm()).unwrap(), IndexCheck::Damaged(_)));
}

/// A file that is overwritten just when it is read.
#[derive(Debug)]
struct Overtaken {
    file: InMemoryBackend,
    before: Arc<Before>,
}

impl StorageBackend for Overtaken {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.before.save(&self.file, offset, offset + 1);
        self.file.write(offset, &[9])?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
}

#[test]
fn a_block_that_is_overwritten_just_when_it_is_read_is_read_as_it_was() {
    let file = InMemoryBackend::new();
    file.set_len(2 * BLOCK_BYTES).unwrap();
    let before = Arc::new(Before::new(2 * BLOCK_BYTES));
    let copy = Copy::new(Arc::new(Overtaken { file, before: Arc::clone(&before) }), before, calm());
    let mut read = [1; 2];
    copy.read(BLOCK_BYTES, &mut read).unwrap();
    assert_eq!(read, [0; 2]);
}

#[test]
fn what_the_database_cuts_off_its_file_is_kept_for_the_check() {
    let index = Index::open(InMemoryBackend::new()).unwrap();
    let Watched { life, before } = &index.watch().unwrap();
    let first = before.block_of(&*index.file, 0).unwrap();
    LifeBackend(Arc::clone(life)).set_len(0).unwrap();
    assert_eq!(before.saved_block(0).unwrap(), Some(first));
    LifeBackend(Arc::clone(life)).set_len(before.len()).unwrap();
}
