//! A check while others are at work accuses nobody of what they have just done, and ends when nobody waits for it.

use std::io;

use keepwell_protocol::units::DurationMs;
use keepwell_store::ingest::ingest;
use keepwell_store::place::Placed;

use super::*;

fn home(folder: &tempfile::TempDir) -> Local {
    let (network, name) = ("lab".parse().unwrap(), "ada".parse().unwrap());
    Local::init(&folder.path().join("home"), DurationMs(0), None, network, name).unwrap()
}

fn place(local: &Local, byte: u8) -> Placed {
    let bytes = vec![byte; 20_000];
    let taken = ingest(local.store().fs(), local.new_ingest(), &mut &bytes[..], &mut |_| {}).unwrap();
    local.store().place(vec![taken]).unwrap().placed.pop().unwrap()
}

fn put(local: &Local, byte: u8) -> BlobId {
    let placed = place(local, byte);
    let id = placed.fact().sha1;
    local.put(vec![PutBlob { blob: Stored::New(placed), children: vec![] }], None).unwrap();
    id
}

fn check(local: &Local, verify: bool, pace: &mut Pace<'_>) -> Result<(FsckLine, Vec<String>), Failure> {
    let mut problems = Vec::new();
    let sum = fsck_running(local, local.path(), verify, Box::new(|_| Ok(())), pace, &mut |line| problems.push(line.problem))?;
    Ok((sum, problems))
}

#[test]
fn what_is_lost_is_told_and_nothing_is_done_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let local = home(&folder);
    let (lost, _) = (put(&local, 1), put(&local, 2));
    local.store().fs().unlink(&layout::blob_file(&lost)).unwrap();
    for verify in [false, true] {
        let (sum, problems) = check(&local, verify, &mut |_| Ok(())).unwrap();
        assert_eq!((sum.checked, sum.ok, sum.problems, sum.repaired), (2, false, 1, 0));
        let unchecked = if verify { "tables" } else { "index" };
        assert_eq!((sum.unchecked, problems), (vec![unchecked.to_owned()], vec!["missing".to_owned()]));
    }
    assert!(local.store().snapshot().unwrap().blob(&lost).unwrap().is_some());
}

#[test]
fn what_is_deleted_mended_or_put_while_it_is_looked_at_is_no_problem() {
    for verify in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let local = home(&folder);
        let (goes, rots) = (put(&local, 1), put(&local, 2));
        local.store().fs().unlink(&layout::blob_file(&rots)).unwrap();
        let (mut in_hand, mut is_first) = (None, true);
        let mut pace = |_| {
            if std::mem::take(&mut is_first) {
                let record = local.store().snapshot().unwrap().blob(&goes).unwrap().unwrap();
                local.forget(goes, &record, "gone").map_err(|failure| io::Error::other(failure.to_string()))?;
                local.store().fs().unlink(&layout::blob_file(&goes))?;
                put(&local, 2);
                in_hand = Some(place(&local, 3));
            }
            Ok(())
        };
        // In full depth the pace is asked only once there is something to read: what has gone by then stands for itself.
        let missing = usize::from(verify && rots < goes);
        let (sum, problems) = check(&local, verify, &mut pace).unwrap();
        assert_eq!((sum.problems, problems.len()), (missing as u64, missing), "{problems:?}");
        drop(in_hand);
        let (_, problems) = check(&local, verify, &mut |_| Ok(())).unwrap();
        assert_eq!(problems, ["unrecorded"], "a put that came to nothing");
    }
}

#[test]
fn a_check_that_nobody_waits_for_ends() {
    let folder = tempfile::tempdir().unwrap();
    let local = home(&folder);
    put(&local, 1);
    for verify in [false, true] {
        assert!(check(&local, verify, &mut |_| Err(io::ErrorKind::Other.into())).is_err());
    }
}
