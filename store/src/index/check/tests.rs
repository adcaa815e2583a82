//! Bits that flip in the index: what is noticed when it is opened, what when it is read, and that the check notices the rest, also while
//! others write the whole time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use keepwell_protocol::id::BlobId;

use super::{CheckPace, IndexCheck};
use crate::blobs::Place;
use crate::error::StoreError;
use crate::testing::{LARGE, TestHome, bytes_of, id_of};

/// Every how many bytes of the index one is flipped.
const STRIDE: usize = 509;

/// A home with blobs of both kinds, some of them deleted, that was shut down.
fn home() -> TestHome {
    let home = TestHome::new();
    for tag in 0..60 {
        let bytes = bytes_of(tag, if tag % 10 == 0 { LARGE } else { 200 + usize::from(tag) });
        home.put(&bytes).unwrap();
        if tag % 7 == 0 {
            home.delete(&id_of(&bytes)).unwrap();
        }
    }
    home
}

fn calm() -> CheckPace {
    Box::new(|_| Ok(()))
}

fn check(home: &TestHome) -> IndexCheck {
    home.store.check_index(calm()).unwrap()
}

/// All that the records say, and the bytes that lie in the index.
fn content(home: &TestHome) -> Result<Vec<String>, StoreError> {
    let (snapshot, mut all) = (home.store.snapshot()?, Vec::new());
    let mut inline = Vec::new();
    snapshot.visit_blobs(&BlobId([0; 20]), |id, record| {
        all.push(format!("{id} {record:?}"));
        inline.extend((record.place != Place::File).then_some(id));
        Ok::<_, StoreError>(true)
    })?;
    for id in inline {
        all.push(format!("{id} {:?}", home.read(&id).map_err(|error| StoreError::Inconsistent(error.to_string()))?));
    }
    all.push(format!("{:?}", snapshot.trash_size()?));
    Ok(all)
}

/// What a flip led to.
#[derive(Debug, Default)]
struct Tally {
    unused: usize,
    refused: usize,
    told: usize,
    panicked: usize,
    panicked_at_end: usize,
    silent: usize,
    checked: usize,
}

#[test]
fn what_nobody_touched_passes_the_check_while_it_is_open_and_after_a_crash() {
    let home = home();
    assert_eq!(check(&home), IndexCheck::Whole);
    let home = home.reopened();
    assert_eq!(check(&home), IndexCheck::Whole);
    home.put(&bytes_of(99, 100)).unwrap();
    assert_eq!(check(&home), IndexCheck::Whole, "and the index goes on as it was");
    assert_eq!(home.false_records(), []);
}

#[test]
fn whatever_bit_flips_in_the_index_is_refused_told_or_found_by_the_check() {
    let home = home();
    let expected = content(&home).unwrap();
    let TestHome { disk, store, .. } = home;
    drop(store);
    let len = disk.index_bytes("index.redb");
    std::panic::set_hook(Box::new(|_| {}));
    let (mut tally, mut missed) = (Tally::default(), Vec::new());
    for offset in (0..len).step_by(STRIDE) {
        let disk = disk.fork(1);
        disk.flip_index_bit("index.redb", offset);
        let home = match catch_unwind(AssertUnwindSafe(|| TestHome::open(&disk))) {
            Ok(Ok(home)) => home,
            Ok(Err(_)) => {
                tally.refused += 1;
                continue;
            }
            Err(_) => {
                tally.panicked += 1;
                continue;
            }
        };
        let is_found = matches!(check(&home), IndexCheck::Damaged(_));
        tally.checked += usize::from(is_found);
        let content = catch_unwind(AssertUnwindSafe(|| content(&home)));
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(home)));
        tally.panicked_at_end += usize::from(dropped.is_err());
        match content {
            Ok(Ok(content)) if content == expected => tally.unused += usize::from(!is_found),
            Ok(Ok(_)) => {
                tally.silent += 1;
                missed.extend((!is_found).then_some(offset));
            }
            Ok(Err(_)) => tally.told += 1,
            Err(_) => tally.panicked += 1,
        }
    }
    drop(std::panic::take_hook());
    assert_eq!(missed, [0; 0], "flips of {len} bytes change what is read, and pass the check");
    println!("{len} bytes, one in {STRIDE} flipped: {tally:?}");
    assert!(tally.silent > 0 && tally.checked > tally.silent, "{tally:?}");
}

mod beside;
