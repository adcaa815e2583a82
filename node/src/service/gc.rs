//! Collecting garbage, as its users see it: what a run would do, what it did, and what stands in the way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use keepwell_protocol::gc::Missing;
use keepwell_protocol::gc::question::Why;
use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_store::counts::Count;
use keepwell_store::store::Snapshot;

use super::drop::told;
use super::refs::name_of;
use super::types::{DropLine, GcItemLine, GcLastLine, GcLine, GcReport, GcStateLine};
use super::{Node, pressure};
use crate::engine::{Collect, Collected};
use crate::failure::{Code, Failure};
use crate::limits::{LOCK_POLL_MS, MAX_TRASH_AGE_MS, MOVES_WAIT_MS};

/// What nothing needs here, and how much is kept for which reason.
#[derive(Default)]
struct Survey {
    candidates: BTreeMap<BlobId, BlobFact>,
    kept: BTreeMap<String, u64>,
}

/// What is asked of a collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// Delete it; else only tell.
    pub run: bool,
    /// How long after its put a blob stays all the same; none is as long as the settings say.
    pub grace_ms: Option<u64>,
    /// Stop when so many bytes are freed, and free their space at once: what was deleted cannot be brought back then.
    pub to_free_bytes: Option<u64>,
}

/// Purges what nothing needs, or tells what a run would purge.
pub fn collect(node: &dyn Node, wish: Wish) -> Result<GcReport, Failure> {
    let Wish { run, grace_ms, to_free_bytes } = wish;
    let survey = survey(node, grace_ms)?;
    let mut purged: BTreeMap<BlobId, BlobFact> = BTreeMap::new();
    let mut freed_bytes = 0u64;
    let missing = loop {
        let left_bytes = to_free_bytes.map(|to_free_bytes| to_free_bytes.saturating_sub(freed_bytes));
        if run && left_bytes == Some(0) {
            break Vec::new();
        }
        let limit = if run { portion(node, left_bytes)? } else { 0 };
        let Collected { purged: now, missing, more, .. } = node.collect(Collect { grace_ms, limit })?;
        freed_bytes = now.iter().fold(freed_bytes, |sum, fact| sum.saturating_add(fact.size_bytes));
        purged.extend(now.into_iter().map(|fact| (fact.sha1, fact)));
        let is_settling = run && missing == [Missing::Settled];
        if !more && !is_settling {
            break missing;
        }
    };
    if run {
        await_moves(node, &purged)?;
    }
    if run && to_free_bytes.is_some() {
        let ids: Vec<BlobId> = purged.keys().copied().collect();
        node.store().empty_trash_of(&ids)?;
    } else if run && !node.is_index_damaged() && !node.settings().checks_index {
        // Who checks its index empties the trash by itself, when that has found nothing.
        node.store().empty_trash(node.now_ms().saturating_sub(MAX_TRASH_AGE_MS), usize::MAX)?;
    }
    let snapshot = node.store().snapshot()?;
    let blocked_by = blocked_by(&snapshot, &missing)?;
    let mut items: Vec<GcItemLine> = purged.values().map(|fact| item(fact, None)).collect();
    let left = survey.candidates.values().filter(|fact| !purged.contains_key(&fact.sha1));
    // What a run has left alone although nothing is in the way was not asked for, or is needed by now.
    if !run || blocked_by.is_some() {
        items.extend(left.map(|fact| item(fact, blocked_by.clone())));
    }
    let (candidates, unlinks_failed) = (items.len() as u64, snapshot.failed_unlinks()?.len() as u64);
    let trash_bytes = snapshot.count(Count::TrashBytes)?;
    let summary = GcLine { run, candidates, freed_bytes, kept: survey.kept, trash_bytes, unlinks_failed };
    Ok(GcReport { blobs: items, next: None, summary })
}

/// Waits a little until the files of what was deleted have been moved out of the way, or could not be: no other process tells when.
fn await_moves(node: &dyn Node, purged: &BTreeMap<BlobId, BlobFact>) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let queued = node.store().snapshot()?.queued_unlinks()?;
        let is_waiting = queued.iter().any(|(id, row)| row.attempts == 0 && purged.contains_key(id));
        if !is_waiting || began.elapsed() >= Duration::from_millis(MOVES_WAIT_MS) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(LOCK_POLL_MS));
    }
}

/// How many blobs to purge next: as many as free what is left to be freed, of those that go first, and no more than one step takes.
fn portion(node: &dyn Node, left_bytes: Option<u64>) -> Result<usize, Failure> {
    let most = node.purge_portion();
    let Some(left_bytes) = left_bytes else { return Ok(most) };
    let snapshot = node.store().snapshot()?;
    let (mut blobs, mut bytes) = (0, 0u64);
    for (_, id) in snapshot.unneeded_before(u64::MAX, most)? {
        if bytes >= left_bytes {
            break;
        }
        blobs += 1;
        bytes = bytes.saturating_add(snapshot.blob(&id)?.map_or(0, |record| record.size_bytes));
    }
    Ok(blobs.max(1))
}

/// What the last collection came to, and what stands in the way of the next.
pub fn state(node: &dyn Node) -> Result<GcStateLine, Failure> {
    let snapshot = node.store().snapshot()?;
    let unneeded = snapshot.unneeded_count()?;
    let missing = if unneeded > 0 { node.collect(Collect { grace_ms: None, limit: 0 })?.missing } else { Vec::new() };
    let (scanned, errors) = (snapshot.last_scanned()?, snapshot.failed_unlinks()?.len() as u64);
    let kept = [("grace", scanned.by_grace), ("lease", scanned.by_lease)].into_iter().filter(|(_, count)| *count > 0);
    let last = snapshot.last_collection()?.map(|last| GcLastLine {
        at_ms: last.at_ms,
        blobs: last.blobs,
        freed_bytes: last.bytes,
        by_itself: last.by_itself,
        scanned: scanned.blobs,
        kept: kept.map(|(why, count)| (why.to_owned(), count)).collect(),
        longest_step_us: node.longest_purge_us(),
        errors,
    });
    let blocked_by = blocked_by(&snapshot, &missing)?;
    let trash_bytes = snapshot.count(Count::TrashBytes)?;
    Ok(GcStateLine {
        auto: node.settings().schedule.is_some(),
        last,
        unneeded,
        blocked_by,
        trash_bytes,
        pressure: pressure::line(&node.pressure()?),
    })
}

/// Brings a deleted blob back from the trash.
pub fn undrop(node: &dyn Node, id: &BlobId) -> Result<DropLine, Failure> {
    let line = DropLine { sha1: id.to_string(), dropped: false, freed_bytes: 0, missing: Vec::new(), refs: Vec::new() };
    if let Some(retrieved) = node.store().retrieve(id)?
        && node.restore(retrieved)?.is_some()
    {
        return Ok(line);
    }
    match node.store().snapshot()?.blob(id)? {
        Some(_) => Ok(line),
        None => Err(Failure::new(Code::NotFound, format!("{id} is not in the trash"))
            .hint("what was deleted can be brought back for a day; `keepwell where` tells who else has it")),
    }
}

fn survey(node: &dyn Node, grace_ms: Option<u64>) -> Result<Survey, Failure> {
    let snapshot = node.store().snapshot()?;
    let now_ms = node.now_ms();
    let usual_ms = node.settings().grace_ms;
    let over_ms = now_ms.saturating_add(usual_ms).saturating_sub(grace_ms.unwrap_or(usual_ms));
    let leased = snapshot.covered_by_leases(now_ms)?;
    let mut survey = Survey::default();
    let (mut by_grace, mut by_lease) = (0, 0);
    for id in not_live(&snapshot)? {
        let Some(record) = snapshot.blob(&id)? else { continue };
        if leased.contains(&id) {
            by_lease += 1;
        } else if snapshot.graced_until_ms(&id)?.is_some_and(|until_ms| until_ms > over_ms) {
            by_grace += 1;
        } else {
            survey.candidates.insert(id, record.fact(id));
        }
    }
    let not_live = by_grace + by_lease + survey.candidates.len() as u64;
    let live = snapshot.count(Count::Blobs)?.saturating_sub(not_live);
    let kept = [("ref", live), ("grace", by_grace), ("lease", by_lease)].into_iter().filter(|(_, count)| *count > 0);
    survey.kept = kept.map(|(why, count)| (why.to_owned(), count)).collect();
    Ok(survey)
}

/// The blobs that no ref reaches: unneeded, or kept for a while by a grace or a lease. Some may have gone.
fn not_live(snapshot: &Snapshot) -> Result<BTreeSet<BlobId>, Failure> {
    let mut ids: BTreeSet<BlobId> = snapshot.unneeded_before(u64::MAX, usize::MAX)?.into_iter().map(|(_, id)| id).collect();
    let kept = snapshot.graces()?.into_iter().chain(snapshot.waiting_for_leases()?.into_iter().map(|(_, id)| (0, id)));
    for (_, id) in kept {
        if !snapshot.is_live(&id)? {
            ids.insert(id);
        }
    }
    Ok(ids)
}

fn item(fact: &BlobFact, blocked_by: Option<String>) -> GcItemLine {
    GcItemLine {
        sha1: fact.sha1.to_string(),
        action: "purge".into(),
        size_bytes: fact.size_bytes,
        lot: "default".into(),
        reason: "no ref reaches it".into(),
        blocked_by,
    }
}

fn blocked_by(snapshot: &Snapshot, missing: &[Missing]) -> Result<Option<String>, Failure> {
    let reasons = missing.iter().map(|missing| why_not(snapshot, missing)).collect::<Result<Vec<_>, _>>()?;
    Ok((!reasons.is_empty()).then(|| reasons.join("; ")))
}

/// Why something that a purge takes is not there.
pub(super) fn why_not(snapshot: &Snapshot, missing: &Missing) -> Result<String, Failure> {
    Ok(match missing {
        Missing::Acknowledgement(node) => format!("{} has not said yet that it knows", name_of(snapshot, node)?),
        Missing::Leave(Why::JustStarted) => "this node has started and not heard from the others yet".to_owned(),
        other => told(other).1.to_owned(),
    })
}
