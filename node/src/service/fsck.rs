//! Checking a home: records against the disk, the disk against the records, and derived tables against the log.
//!
//! A repair deletes nothing. Bytes that are not what they should be are moved to `quarantine/`; a record without its bytes is
//! taken back; a whole blob that no record names is recorded.

use std::path::Path;
use std::sync::Arc;

use keepwell_protocol::id::BlobId;
use keepwell_store::audit::Note;
use keepwell_store::blobs::{BlobRecord, Place};
use keepwell_store::error::StoreError;
use keepwell_store::fs::HomePath;
use keepwell_store::fsck::{Depth, Fault, Stray};
use keepwell_store::index::check::{CheckPace, IndexCheck, Unfinished};
use keepwell_store::ingest::ingest_path;
use keepwell_store::layout;
use keepwell_store::scrub::{Checked, Pace};
use keepwell_store::store::{Snapshot, Transaction};
use keepwell_store::unlink::Unlinked;

use super::types::{FsckLine, ProblemLine};
use super::{Node, index, rot};
use crate::engine::{PutBlob, PutOutcome, Stored};
use crate::failure::{Code, Failure};
use crate::home::damage;
use crate::local::Local;

/// Records that are looked at under one snapshot: a long one pins what has been replaced meanwhile.
const CHUNK: usize = 1_024;

/// What to look at, and what to do about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct FsckOptions {
    /// Read every byte.
    pub verify: bool,
    /// Mend what can be mended.
    pub repair: bool,
}

/// Checks a home that nobody else has open, and gives each finding to `report`.
pub fn fsck(local: &Local, options: FsckOptions, report: &mut dyn FnMut(ProblemLine)) -> Result<FsckLine, Failure> {
    let mut pace = |_| Ok(());
    let mut check = Check::new(local, local.path(), options, &mut pace, report);
    // Nobody writes who could come in its way.
    let found = check.index(Box::new(|_| Ok(())))?;
    match (check.files().and_then(|()| check.derived(local)), &found) {
        // What comes after goes by what the index says, and need not come to an end.
        (Err(failure), Some(IndexCheck::Damaged(_))) => {
            check.damage(format!("because of that, no more was checked: {}", failure.message))
        }
        (rest, _) => rest?,
    }
    let sum = check.sum();
    if found == Some(IndexCheck::Whole) && sum.problems == 0 && damage::clear(local.path())? {
        local.note(Note::IndexWhole)?;
    }
    Ok(sum)
}

/// Checks records and disk of a node that goes on working, and gives each finding to `report`. Nothing is mended, and the
/// index is not compared with the log, since nobody could write to it meanwhile. It ends when `pace` wants no more, or
/// `index_pace`, at which the index is read.
pub fn fsck_running(
    node: &dyn Node,
    home: &Path,
    verify: bool,
    index_pace: CheckPace,
    pace: &mut Pace<'_>,
    report: &mut dyn FnMut(ProblemLine),
) -> Result<FsckLine, Failure> {
    let mut check = Check::new(node, home, FsckOptions { verify, repair: false }, pace, report);
    let is_index_read = matches!(check.index(index_pace)?, Some(IndexCheck::Whole | IndexCheck::Damaged(_)));
    check.files()?;
    check.sum.unchecked.push(if is_index_read { "tables" } else { "index" }.to_owned());
    Ok(check.sum())
}

struct Check<'a, 'p> {
    node: &'a dyn Node,
    home: &'a Path,
    options: FsckOptions,
    pace: &'a mut Pace<'p>,
    report: &'a mut dyn FnMut(ProblemLine),
    sum: FsckLine,
}

impl<'a, 'p> Check<'a, 'p> {
    fn new(
        node: &'a dyn Node,
        home: &'a Path,
        options: FsckOptions,
        pace: &'a mut Pace<'p>,
        report: &'a mut dyn FnMut(ProblemLine),
    ) -> Self {
        let sum = FsckLine { checked: 0, ok: true, problems: 0, repaired: 0, unchecked: Vec::new() };
        Check { node, home, options, pace, report, sum }
    }

    fn files(&mut self) -> Result<(), Failure> {
        self.records()?;
        self.strays()?;
        self.unlinks()?;
        self.trash()
    }

    fn sum(self) -> FsckLine {
        FsckLine { ok: self.sum.problems == self.sum.repaired, ..self.sum }
    }

    fn snapshot(&self) -> Result<Arc<Snapshot>, Failure> {
        Ok(self.node.store().snapshot()?)
    }

    /// Tells of a problem, and what was done about it.
    fn problem(&mut self, line: ProblemLine) {
        self.sum.problems += 1;
        self.sum.repaired += u64::from(line.repair.is_some());
        (self.report)(line);
    }

    /// Told first: what comes after goes by what the index says. A page that a repair writes anew is whole again.
    fn index(&mut self, pace: CheckPace) -> Result<Option<IndexCheck>, Failure> {
        if !self.options.verify {
            return Ok(None);
        }
        let found = index::check(self.node, self.home, pace)?;
        match &found {
            IndexCheck::Unfinished(Unfinished::Stopped) => return Err(broken_off()),
            IndexCheck::Damaged(why) => {
                self.damage(format!("{why}: until it is mended nothing is deleted here; {}", index::NEXT_STEP));
            }
            IndexCheck::Whole | IndexCheck::Unfinished(_) => {}
        }
        Ok(Some(found))
    }

    fn damage(&mut self, detail: String) {
        let (path, problem) = (Some("index.redb".to_owned()), "damaged".to_owned());
        self.problem(ProblemLine { sha1: None, path, problem, detail, refs: Vec::new(), repair: None });
    }

    fn records(&mut self) -> Result<(), Failure> {
        let mut from = Some(BlobId([0; BlobId::LEN]));
        while let Some(start) = from.take() {
            let mut chunk = Vec::new();
            // No snapshot is kept while bytes are read, which may take hours: it would pin pages.
            self.snapshot()?.visit_blobs(&start, |id, record| {
                if chunk.len() == CHUNK {
                    from = Some(id);
                    return Ok::<_, StoreError>(false);
                }
                chunk.push((id, record));
                Ok(true)
            })?;
            let mut whole = Vec::new();
            for (id, record) in chunk {
                self.sum.checked += 1;
                match self.look(&id, &record)? {
                    Checked::Faulty(fault) => self.fault(&id, &record, &fault)?,
                    Checked::Whole => whole.push((id, record)),
                    // It was deleted meanwhile.
                    Checked::Changed => {}
                    Checked::Stopped => return Err(broken_off()),
                }
            }
            if self.options.verify {
                self.note_verified(whole)?;
            }
        }
        Ok(())
    }

    /// Looks at one blob; at one with a fault twice, since another copy may have taken its place while it was looked at.
    fn look(&mut self, id: &BlobId, record: &BlobRecord) -> Result<Checked, Failure> {
        match self.look_once(id, record)? {
            Checked::Faulty(_) => self.look_once(id, record),
            other => Ok(other),
        }
    }

    fn look_once(&mut self, id: &BlobId, record: &BlobRecord) -> Result<Checked, Failure> {
        let store = self.node.store();
        if self.options.verify {
            return Ok(store.check_paced(id, record, self.pace)?);
        }
        if (self.pace)(0).is_err() {
            return Ok(Checked::Stopped);
        }
        let fault = store.check_blob(&*store.snapshot()?, id, record, Depth::Quick)?;
        if !store.is_recorded_as(id, record)? {
            return Ok(Checked::Changed);
        }
        Ok(fault.map_or(Checked::Whole, Checked::Faulty))
    }

    /// These blobs were read and found whole just now.
    fn note_verified(&self, whole: Vec<(BlobId, BlobRecord)>) -> Result<(), Failure> {
        let now_ms = self.node.now_ms();
        let note =
            |txn: &mut Transaction<'_>| whole.iter().try_for_each(|(id, record)| txn.note_verified(&record.fact(*id), now_ms));
        Ok(self.node.store().write(note)?)
    }

    fn fault(&mut self, id: &BlobId, record: &BlobRecord, fault: &Fault) -> Result<(), Failure> {
        let (problem, detail) = rot::told(fault, record);
        let repair = match (self.options.repair, fault) {
            // Bytes that cannot be read now may be read tomorrow: nothing is given up for that.
            (false, _) | (true, Fault::Unreadable { .. }) => None,
            (true, Fault::BadGroupValues) => Some(rot::mend_group_values(self.node, id, record)?),
            (true, _) => rot::give_up(self.node, id, record, problem)?,
        };
        let refs = self.snapshot()?.refs_naming(id)?;
        self.problem(ProblemLine { sha1: Some(id.to_string()), path: None, problem: problem.to_owned(), detail, refs, repair });
        Ok(())
    }

    fn strays(&mut self) -> Result<(), Failure> {
        let snapshot = self.snapshot()?;
        for stray in self.node.store().strays(&snapshot)? {
            // Others may have been at work since.
            if self.node.store().is_still_stray(&stray)? {
                self.stray(&snapshot, &stray)?;
            }
        }
        Ok(())
    }

    /// A blob that a crash left without its record is no problem: nobody was ever told of it.
    fn stray(&mut self, snapshot: &Snapshot, stray: &Stray) -> Result<(), Failure> {
        let path = stray.path.as_str().to_owned();
        let fact = match stray.named {
            Some(id) if self.options.repair || self.options.verify => self.adopt(&id, &stray.path)?.then_some(id),
            other => other,
        };
        let line = |detail: &str, repair| ProblemLine {
            sha1: stray.named.map(|id| id.to_string()),
            path: Some(path),
            problem: "stray".to_owned(),
            detail: detail.to_owned(),
            refs: Vec::new(),
            repair,
        };
        if let Some(id) = fact {
            let adopted = if self.options.repair { Some(self.adopted(&id, &stray.path)?) } else { None };
            let refs = snapshot.refs_naming(&id)?;
            (self.report)(ProblemLine {
                refs,
                problem: "unrecorded".to_owned(),
                ..line("a whole blob that no record names", adopted)
            });
            return Ok(());
        }
        let repair = match self.options.repair {
            true => rot::quarantine_file(self.node, &stray.path)
                .map_err(|error| rot::moving(&error))?
                .map(|path| format!("it is in {path}")),
            false => None,
        };
        let is_in_trash = stray.path.parent() == Some(layout::trash_folder());
        self.problem(line(if is_in_trash { "a file that is not what was deleted" } else { "a file that is no blob" }, repair));
        Ok(())
    }

    /// Whether a file holds the blob that it is named for. If so, and repairs are wanted, it is recorded.
    ///
    /// It is taken in anew rather than trusted where it lies: a copy that is not wanted goes, the file stays.
    fn adopt(&self, id: &BlobId, path: &HomePath) -> Result<bool, Failure> {
        let store = self.node.store();
        if !self.options.repair {
            return Ok(store.is_file_of(id, path));
        }
        let taken = ingest_path(store.fs(), self.node.new_ingest(), &path.under(self.home), &mut |_| ());
        let blob = match taken.map_err(Failure::from) {
            Ok(blob) if blob.fact().sha1 == *id => blob,
            Ok(_) => return Ok(false),
            Err(failure) if failure.ends_all() => return Err(failure),
            Err(_) => return Ok(false),
        };
        let placed = store.place(vec![blob])?.placed;
        let blobs = placed.into_iter().map(|placed| PutBlob { blob: Stored::New(placed), children: Vec::new() }).collect();
        Ok(self.node.put(blobs, None)?.iter().all(|outcome| matches!(outcome, PutOutcome::Held { .. })))
    }

    /// Says what became of a stray blob. A small one lives in the index from now on, and its file is in the way.
    fn adopted(&self, id: &BlobId, path: &HomePath) -> Result<String, Failure> {
        if self.snapshot()?.blob(id)?.is_some_and(|record| record.place == Place::File) {
            return Ok("it was recorded".to_owned());
        }
        let moved = rot::quarantine_file(self.node, path).map_err(|error| rot::moving(&error))?;
        Ok(moved.map_or_else(|| "it was recorded".to_owned(), |path| format!("it was recorded, the file is in {path}")))
    }

    fn unlinks(&mut self) -> Result<(), Failure> {
        for (id, row) in self.snapshot()?.queued_unlinks()? {
            let failed = match self.options.repair {
                true => match self.node.store().unlink(&id, self.node.now_ms())? {
                    Unlinked::Failed(why) => Some(why),
                    Unlinked::Done | Unlinked::NotQueued => None,
                },
                false => row.last_error,
            };
            if let Some(detail) = failed {
                let (sha1, problem) = (Some(id.to_string()), "unlink".to_owned());
                self.problem(ProblemLine { sha1, path: None, problem, detail, refs: Vec::new(), repair: None });
            }
        }
        Ok(())
    }

    /// What could not be removed for good the last time; that is tried again whenever the trash is emptied.
    fn trash(&mut self) -> Result<(), Failure> {
        let snapshot = self.snapshot()?;
        for id in snapshot.trash_until(u64::MAX, usize::MAX)? {
            if let Some(detail) = snapshot.trashed(&id)?.and_then(|trashed| trashed.last_error) {
                let (sha1, problem) = (Some(id.to_string()), "unlink".to_owned());
                self.problem(ProblemLine { sha1, path: None, problem, detail, refs: Vec::new(), repair: None });
            }
        }
        Ok(())
    }

    fn derived(&mut self, local: &Local) -> Result<(), Failure> {
        let engine = local.engine();
        let (tables, repair) = match self.options.repair {
            true => (engine.rebuild()?, Some("it was rebuilt from the log".to_owned())),
            false => (engine.compare_rebuild()?, None),
        };
        drop(engine);
        for table in tables {
            let detail = "it differs from what the log rebuilds".to_owned();
            let (path, repair) = (Some(table.to_owned()), repair.clone());
            self.problem(ProblemLine { sha1: None, path, problem: "derived_table".to_owned(), detail, refs: Vec::new(), repair });
        }
        Ok(())
    }
}

fn broken_off() -> Failure {
    Failure::new(Code::Internal, "the check was broken off")
}

#[cfg(test)]
mod tests;
