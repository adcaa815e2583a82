//! Collecting garbage, as its users see it: what a run would do, what it did, and what stands in the way.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::gc::Missing;
use keepwell_protocol::gc::question::Why;
use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_store::counts::Count;
use keepwell_store::store::Snapshot;

use super::Node;
use super::refs::name_of;
use super::types::{DropLine, GcItemLine, GcLine, GcReport};
use crate::engine::{Collect, Collected};
use crate::failure::{Code, Failure};
use crate::limits::{MAX_TRASH_AGE_MS, PURGE_BATCH_BLOBS, PUT_GRACE_MS};

/// What nothing needs here, and how much is kept for which reason.
#[derive(Default)]
struct Survey {
    candidates: BTreeMap<BlobId, BlobFact>,
    kept: BTreeMap<String, u64>,
}

/// Purges what nothing needs, or tells what a run would purge. `grace_ms`: how long after its put a blob stays all the same.
pub fn collect(node: &dyn Node, run: bool, grace_ms: Option<u64>) -> Result<GcReport, Failure> {
    let survey = survey(node, grace_ms)?;
    let limit = if run { PURGE_BATCH_BLOBS } else { 0 };
    let mut purged: BTreeMap<BlobId, BlobFact> = BTreeMap::new();
    let missing = loop {
        let Collected { purged: now, missing, more } = node.collect(Collect { grace_ms, limit })?;
        purged.extend(now.into_iter().map(|fact| (fact.sha1, fact)));
        let is_settling = run && missing == [Missing::Settled];
        if !more && !is_settling {
            break missing;
        }
    };
    if run {
        node.store().empty_trash(node.now_ms().saturating_sub(MAX_TRASH_AGE_MS), usize::MAX)?;
    }
    let blocked_by = blocked_by(&node.store().snapshot()?, &missing)?;
    let mut items: Vec<GcItemLine> = purged.values().map(|fact| item(fact, None)).collect();
    let left = survey.candidates.values().filter(|fact| !purged.contains_key(&fact.sha1));
    items.extend(left.map(|fact| item(fact, blocked_by.clone())));
    let freed_bytes = purged.values().map(|fact| fact.size_bytes).sum();
    let candidates = items.len() as u64;
    Ok(GcReport { blobs: items, next: None, summary: GcLine { run, candidates, freed_bytes, kept: survey.kept } })
}

/// Brings a deleted blob back from the trash.
pub fn undrop(node: &dyn Node, id: &BlobId) -> Result<DropLine, Failure> {
    let line = DropLine { sha1: id.to_string(), dropped: false, freed_bytes: 0, missing: Vec::new() };
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
    let over_ms = now_ms.saturating_add(PUT_GRACE_MS).saturating_sub(grace_ms.unwrap_or(PUT_GRACE_MS));
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
    let mut reasons = Vec::new();
    for missing in missing {
        reasons.push(match missing {
            Missing::Acknowledgement(node) => format!("{} has not said yet that it knows", name_of(snapshot, node)?),
            Missing::Leave(Why::JustStarted) => "this node has started and not heard from the others yet".into(),
            Missing::Settled => "what refs reach is still being computed".into(),
            Missing::Knowledge => "the catalog holds what a newer version wrote, which may protect it: upgrade".into(),
            Missing::Dead => "a ref reaches it now".into(),
            other => format!("{other:?}"),
        });
    }
    Ok((!reasons.is_empty()).then(|| reasons.join("; ")))
}
