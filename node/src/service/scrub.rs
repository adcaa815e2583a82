//! Scrubbing: all that is held is read whole within a period, slowly, and what has rotten is put aside and told.
//!
//! Absent from here: threads and pauses. Whoever scrubs asks for a portion at a time, and sets the pace.

use std::collections::BTreeSet;

use keepwell_protocol::id::BlobId;
use keepwell_store::audit::Note;
use keepwell_store::blobs::BlobRecord;
use keepwell_store::counts::Count;
use keepwell_store::error::StoreError;
use keepwell_store::fsck::Fault;
use keepwell_store::scrub::{Checked, Pace, ScrubPass, ScrubState};
use keepwell_store::store::Snapshot;

use super::Node;
use super::rot::{give_up, mend_group_values, told};
use crate::failure::Failure;
use crate::limits::{MIN_SCRUB_RATE_BYTES, SCRUB_PORTION_BLOBS, SCRUB_PORTION_BYTES};

/// What one portion came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Portion {
    /// Blobs that this node says it holds no more, because their bytes are lost here.
    pub lost: Vec<BlobId>,
    /// Whether the pass has come to its end.
    pub is_over: bool,
}

/// How long to wait before the next pass, in milliseconds; 0 while one is under way or due.
///
/// A pass begins when three quarters of the period are over since the last one began, and has the last quarter for itself: so from each
/// reading of a blob to the next it is no longer than the period.
pub fn wait_ms(snapshot: &Snapshot, period_ms: u64, now_ms: u64) -> Result<u64, Failure> {
    Ok(match snapshot.scrub_state()? {
        ScrubState { under_way: None, last: Some(last), .. } => {
            let pause_ms = period_ms - period_ms / 4;
            // Also when the clock was set back.
            pause_ms.saturating_sub(now_ms.abs_diff(last.began_ms))
        }
        _ => 0,
    })
}

/// How many bytes to read in a second, so that a pass takes a quarter of the period, and at most `most`.
pub fn rate_bytes(snapshot: &Snapshot, period_ms: u64, most: u64) -> Result<u64, Failure> {
    let (held_bytes, quarter_ms) = (u128::from(snapshot.count(Count::BlobBytes)?), u128::from((period_ms / 4).max(1)));
    let needed = u64::try_from(held_bytes * 1_000 / quarter_ms).unwrap_or(u64::MAX);
    Ok(needed.max(MIN_SCRUB_RATE_BYTES).min(most))
}

/// Reads the next portion of what is held, and puts aside what has rotten. Begins a pass if none is under way.
pub fn portion(node: &dyn Node, pace: &mut Pace<'_>) -> Result<Portion, Failure> {
    let (now_ms, mut state) = (node.now_ms(), node.store().snapshot()?.scrub_state()?);
    let began = (ScrubPass { began_ms: now_ms, ..ScrubPass::default() }, BlobId([0; BlobId::LEN]));
    let (pass, from) = state.under_way.take().unwrap_or(began);
    let mut scrub = Scrub { node, pass, whole: Vec::new(), portion: Portion::default() };
    let records = next_records(node, &from)?;
    let mut next = None;
    for (id, record) in &records.0 {
        if !scrub.look(id, record, pace)? {
            next = Some(*id);
            break;
        }
    }
    next = next.or(records.1);
    let Scrub { mut pass, whole, mut portion, .. } = scrub;
    pass.ended_ms = node.now_ms();
    portion.is_over = next.is_none();
    state.rotten = state.rotten.saturating_add(portion.lost.len() as u64);
    state.under_way = next.map(|next| (pass, next));
    state.last = if portion.is_over { Some(pass) } else { state.last };
    node.store().write(|txn| {
        whole.iter().try_for_each(|(id, record)| txn.note_verified(&record.fact(*id), pass.ended_ms))?;
        txn.put_scrub_state(&state)
    })?;
    Ok(portion)
}

/// Records from `from` on, some megabytes of them, and the one that comes next.
type Records = (Vec<(BlobId, BlobRecord)>, Option<BlobId>);

fn next_records(node: &dyn Node, from: &BlobId) -> Result<Records, Failure> {
    let (mut records, mut next, mut bytes) = (Vec::new(), None, 0u64);
    node.store().snapshot()?.visit_blobs(from, |id, record| {
        if records.len() == SCRUB_PORTION_BLOBS || bytes >= SCRUB_PORTION_BYTES {
            next = Some(id);
            return Ok::<_, StoreError>(false);
        }
        bytes = bytes.saturating_add(record.size_bytes);
        records.push((id, record));
        Ok(true)
    })?;
    Ok((records, next))
}

/// A portion under way.
struct Scrub<'a> {
    node: &'a dyn Node,
    pass: ScrubPass,
    /// What was read and found whole, to be noted together.
    whole: Vec<(BlobId, BlobRecord)>,
    portion: Portion,
}

impl Scrub<'_> {
    /// Looks at one blob; false when there is to be no more.
    fn look(&mut self, id: &BlobId, record: &BlobRecord, pace: &mut Pace<'_>) -> Result<bool, Failure> {
        match self.node.store().check_paced(id, record, pace)? {
            Checked::Stopped => return Ok(false),
            Checked::Changed => return Ok(true),
            Checked::Whole => self.whole.push((*id, *record)),
            // A copy is not given up on one reading: memory and cables lie too.
            Checked::Faulty(_) => match self.node.store().check_paced(id, record, pace)? {
                Checked::Stopped => return Ok(false),
                Checked::Faulty(fault) => self.fault(id, record, &fault)?,
                Checked::Whole | Checked::Changed => {}
            },
        }
        self.pass.blobs += 1;
        self.pass.bytes = self.pass.bytes.saturating_add(record.size_bytes);
        Ok(true)
    }

    fn fault(&mut self, id: &BlobId, record: &BlobRecord, fault: &Fault) -> Result<(), Failure> {
        let (problem, why) = told(fault, record);
        match fault {
            Fault::BadGroupValues => drop(mend_group_values(self.node, id, record)?),
            // Not the disk, but something around it: too many open files, a permission. That may pass, and says nothing of the bytes.
            Fault::Unreadable { is_disk: false, .. } => {
                self.pass.unreadable += 1;
                self.node.note(Note::Unreadable { blob: record.fact(*id), why })?;
            }
            _ => {
                if give_up(self.node, id, record, problem)?.is_some() {
                    self.pass.rotten += 1;
                    self.portion.lost.push(*id);
                }
            }
        }
        Ok(())
    }
}

/// The blobs whose bytes were lost here, as far as it is remembered, that a ref reaches and that are not held again.
pub fn lost(snapshot: &Snapshot) -> Result<BTreeSet<BlobId>, Failure> {
    let mut lost = BTreeSet::new();
    for (_, noted) in snapshot.notes_after(None, usize::MAX)? {
        if let Note::Forgotten { blob, .. } = noted.note
            && snapshot.is_live(&blob.sha1)?
            && snapshot.blob(&blob.sha1)?.is_none()
        {
            lost.insert(blob.sha1);
        }
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use keepwell_protocol::name::RefName;
    use keepwell_protocol::units::DurationMs;
    use keepwell_store::audit::Noted;
    use keepwell_store::ingest::ingest;
    use keepwell_store::layout;

    use super::*;
    use crate::engine::{PutBlob, RefOp, RefSet, Stored};
    use crate::limits::SCRUB_PERIOD_MS;
    use crate::local::Local;

    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

    fn home(folder: &tempfile::TempDir) -> Local {
        let (network, name) = ("lab".parse().unwrap(), "ada".parse().unwrap());
        Local::init(&folder.path().join("home"), DurationMs(0), None, network, name).unwrap()
    }

    fn put(local: &Local, blobs: &[Vec<u8>]) -> Vec<BlobId> {
        let take_in = |bytes: &Vec<u8>| ingest(local.store().fs(), local.new_ingest(), &mut &bytes[..], &mut |_| {}).unwrap();
        let taken: Vec<_> = blobs.iter().map(take_in).collect();
        let ids = taken.iter().map(|blob| blob.fact().sha1).collect();
        let placed = local.store().place(taken).unwrap().placed;
        local
            .put(placed.into_iter().map(|placed| PutBlob { blob: Stored::New(placed), children: vec![] }).collect(), None)
            .unwrap();
        ids
    }

    fn calm(_: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn state(local: &Local) -> ScrubState {
        local.store().snapshot().unwrap().scrub_state().unwrap()
    }

    fn notes(local: &Local) -> Vec<Note> {
        let notes = local.store().snapshot().unwrap().notes_after(None, usize::MAX).unwrap();
        notes.into_iter().map(|(_, Noted { note, .. })| note).collect()
    }

    #[test]
    fn a_pass_goes_by_portions_of_scrub_portion_blobs_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let local = home(&folder);
        let blobs: Vec<Vec<u8>> = (0..=SCRUB_PORTION_BLOBS).map(|n| n.to_be_bytes().to_vec()).collect();
        put(&local, &blobs[1..]);
        assert!(portion(&local, &mut calm).unwrap().is_over, "that many are one portion");
        put(&local, &blobs[..1]);
        assert!(!portion(&local, &mut calm).unwrap().is_over);
        assert_eq!(state(&local).under_way.unwrap().0.blobs, SCRUB_PORTION_BLOBS as u64);
        assert!(portion(&local, &mut calm).unwrap().is_over);
        let last = state(&local).last.unwrap();
        assert_eq!(
            (last.blobs, last.bytes, last.rotten),
            (SCRUB_PORTION_BLOBS as u64 + 1, 8 * (SCRUB_PORTION_BLOBS as u64 + 1), 0)
        );
    }

    #[test]
    fn a_copy_that_was_put_over_since_it_was_looked_at_is_not_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let local = home(&folder);
        let id = put(&local, &[vec![1; 20_000]])[0];
        let record = local.store().snapshot().unwrap().blob(&id).unwrap().unwrap();
        local.store().fs().unlink(&layout::blob_file(&id)).unwrap();
        put(&local, &[vec![1; 20_000]]);
        assert_eq!(give_up(&local, &id, &record, "missing").unwrap(), None);
        assert!(local.store().snapshot().unwrap().blob(&id).unwrap().is_some());
        local.store().fs().unlink(&layout::blob_file(&id)).unwrap();
        assert!(give_up(&local, &id, &record, "missing").unwrap().is_some());
        assert_eq!(local.store().snapshot().unwrap().blob(&id).unwrap(), None);
    }

    #[test]
    fn small_bytes_that_are_put_while_a_rotten_copy_is_given_up_stay() {
        let folder = tempfile::tempdir().unwrap();
        let local = home(&folder);
        let ids = put(&local, &[b"first".to_vec(), b"second".to_vec()]);
        let record_of = |id: &BlobId| local.store().snapshot().unwrap().blob(id).unwrap().unwrap();
        // What is found under the number of the one are the bytes of the other.
        let rotten = BlobRecord { place: record_of(&ids[1]).place, ..record_of(&ids[0]) };
        let rot = local.store().write(|txn| txn.put_record(&ids[0], &rotten));
        rot.map_err(|error: StoreError| error.to_string()).unwrap();
        // It comes after the second look and before the engine's step: nobody has the blob in hand who puts small bytes.
        put(&local, &[b"first".to_vec()]);
        assert_eq!(local.forget(ids[0], &rotten, "rotten").unwrap(), None);
        assert_eq!(local.store().check_paced(&ids[0], &record_of(&ids[0]), &mut calm).unwrap(), Checked::Whole);
        assert!(local.forget(ids[0], &record_of(&ids[0]), "rotten").unwrap().is_some());
    }

    #[test]
    fn a_portion_ends_when_it_has_scrub_portion_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let local = home(&folder);
        // Sparse, and never read: the record alone says how large it is.
        let ids = put(&local, &[vec![1; 20_000], vec![2; 20_000], vec![3; 20_000]]);
        let mut first = ids.iter().min().copied().unwrap();
        let size = |id: &BlobId, size_bytes| {
            let grown = local.store().write(|txn| {
                let record = txn.blob(id)?.unwrap();
                txn.put_record(id, &BlobRecord { size_bytes, ..record })
            });
            grown.map_err(|error: StoreError| error.to_string()).unwrap();
        };
        let found = || next_records(&local, &BlobId([0; BlobId::LEN])).unwrap().0.len();
        size(&first, SCRUB_PORTION_BYTES - 1);
        assert_eq!(found(), 2);
        size(&first, SCRUB_PORTION_BYTES);
        assert_eq!(found(), 1);
        first = BlobId([0xff; 20]);
        assert_eq!(next_records(&local, &first).unwrap().0.len(), 0);
    }

    #[test]
    fn what_is_rotten_is_given_up_once_and_what_a_ref_needs_of_it_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let local = home(&folder);
        let ids = put(&local, &[vec![1; 40_000], vec![2; 40_000], vec![3; 40_000]]);
        let set = RefSet::new(RefName::parse("lab/x").unwrap(), "{}", ids[..2].to_vec());
        local.write_refs(vec![RefOp::Set(set)]).unwrap();
        for id in &ids[1..] {
            let path = layout::blob_file(id).under(local.path());
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, vec![9; 40_000]).unwrap();
        }
        let found = portion(&local, &mut calm).unwrap();
        assert_eq!((found.lost.len(), found.is_over), (2, true));
        assert_eq!((state(&local).last.unwrap().rotten, state(&local).rotten), (2, 2));
        let forgotten = |note: &Note| matches!(note, Note::Forgotten { why, .. } if why == "rotten");
        assert_eq!(notes(&local).iter().filter(|note| forgotten(note)).count(), 2);
        let snapshot = local.store().snapshot().unwrap();
        assert_eq!(lost(&snapshot).unwrap(), BTreeSet::from([ids[1]]));
        for id in &ids[1..] {
            assert_eq!(snapshot.holders(id).unwrap(), []);
            assert!(layout::quarantine_folder().under(local.path()).join(id.to_string()).is_file());
        }
        assert_eq!(portion(&local, &mut calm).unwrap(), Portion { lost: vec![], is_over: true });
    }

    #[test]
    fn a_pass_that_is_stopped_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let local = home(&folder);
        let mut ids = put(&local, &[vec![1; 40_000], vec![2; 40_000]]);
        ids.sort_unstable();
        let mut calls = 0;
        let mut stops = |_| {
            calls += 1;
            if calls == 1 { Ok(()) } else { Err(std::io::ErrorKind::Other.into()) }
        };
        assert!(!portion(&local, &mut stops).unwrap().is_over);
        assert_eq!(state(&local).under_way.map(|(pass, next)| (pass.blobs, next)), Some((1, ids[1])));
        assert!(portion(&local, &mut calm).unwrap().is_over);
        assert_eq!(state(&local).last.unwrap().blobs, 2);
    }

    #[test]
    fn a_pass_begins_three_quarters_of_the_period_after_the_last_one_began_and_has_a_quarter() {
        let folder = tempfile::tempdir().unwrap();
        let local = home(&folder);
        let wait = |now_ms| wait_ms(&local.store().snapshot().unwrap(), 4 * DAY_MS, now_ms).unwrap();
        assert_eq!(wait(0), 0, "what was never read is due");
        let last = ScrubPass { began_ms: 10 * DAY_MS, ended_ms: 11 * DAY_MS, ..ScrubPass::default() };
        let noted = ScrubState { last: Some(last), ..ScrubState::default() };
        local.store().write(|txn| txn.put_scrub_state(&noted)).map_err(|error: StoreError| error.to_string()).unwrap();
        assert_eq!((wait(11 * DAY_MS), wait(13 * DAY_MS), wait(20 * DAY_MS)), (2 * DAY_MS, 0, 0));
        let rate = |held: i64, most| {
            let counted = local.store().write(|txn| txn.add_to_count(Count::BlobBytes, held));
            counted.map_err(|error: StoreError| error.to_string()).unwrap();
            rate_bytes(&local.store().snapshot().unwrap(), SCRUB_PERIOD_MS, most).unwrap()
        };
        let quarter_s = i64::try_from(SCRUB_PERIOD_MS / 4_000).unwrap();
        let least = i64::try_from(MIN_SCRUB_RATE_BYTES).unwrap();
        assert_eq!(rate(0, u64::MAX), MIN_SCRUB_RATE_BYTES, "the little that there is does not take weeks");
        assert_eq!(rate(quarter_s * least, u64::MAX), MIN_SCRUB_RATE_BYTES);
        assert_eq!(rate(quarter_s, u64::MAX), MIN_SCRUB_RATE_BYTES + 1);
        assert_eq!(rate(quarter_s * least, 5), 5, "never more than the settings say");
    }
}
