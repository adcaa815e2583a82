//! Giving up copies, as users see it: what went, and what stood in the way of the rest.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::gc::Missing;
use keepwell_protocol::gc::question::Why;
use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_store::roots::Root;
use keepwell_store::store::Snapshot;

use super::refs::name_of;
use super::types::{DropLine, MissingLine};
use super::{Node, network};
use crate::engine::DropOutcome;
use crate::failure::{Code, Failure};
use crate::limits::{DROP_PORTION, WHY_ROOTS, WHY_VISITS};

/// Gives up the copies of `blobs` that this node has, or the member `from`, as far as others prove theirs: one line each, in order.
pub fn drop_copies(node: &dyn Node, blobs: &[BlobId], from: Option<&str>) -> Result<Vec<DropLine>, Failure> {
    let from = elsewhere(node, from)?;
    let mut lines: BTreeMap<BlobId, DropLine> = BTreeMap::new();
    let wanted: Vec<BlobId> = blobs.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    for portion in wanted.chunks(DROP_PORTION) {
        let dropped = match node.drop_copies(portion.to_vec(), from).map_err(|failure| by_name(node, from, failure)) {
            Ok(dropped) => dropped,
            Err(failure) => {
                lines = broken_off(lines, &wanted, &failure)?;
                break;
            }
        };
        let snapshot = node.store().snapshot()?;
        for outcome in dropped.outcomes {
            let line = line(&snapshot, &outcome, &dropped.unheard)?;
            lines.insert(outcome.blob, if from.is_some() { line.there() } else { line });
        }
    }
    blobs.iter().map(|id| lines.get(id).cloned().ok_or_else(unanswered)).collect()
}

/// The same for one blob, for an interface that answers with a failure when it stays.
pub fn drop_copy(node: &dyn Node, id: BlobId, from: Option<&str>) -> Result<DropLine, Failure> {
    let line = drop_copies(node, &[id], from)?.pop().ok_or_else(unanswered)?;
    if line.dropped {
        return Ok(line);
    }
    let place = from.map_or_else(|| "here".to_owned(), |from| format!("on {from}"));
    // The one thing that is missing where there is no copy.
    if line.missing.iter().any(|missing| missing.need.starts_with(A_COPY)) {
        return Err(Failure::new(Code::NotFound, format!("{id} is not stored {place}")).hint("`keepwell where` tells who has it"));
    }
    let missing = serde_json::to_value(&line.missing).unwrap_or_default();
    let failure = Failure::new(Code::Unsafe, format!("{id} stays {place}: {}", line.why()));
    Err(failure.hint("`details.missing` says what it takes").about("missing", missing))
}

/// Gives up the copies of `blobs` here because `by` says so, without proof of others: one line each, in order, with the refs that miss it now.
pub fn give_up(node: &dyn Node, blobs: &[BlobId], by: &str) -> Result<Vec<DropLine>, Failure> {
    let mut lines: BTreeMap<BlobId, DropLine> = BTreeMap::new();
    let wanted: Vec<BlobId> = blobs.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    for portion in wanted.chunks(DROP_PORTION) {
        let dropped = match node.give_up(portion.to_vec(), by.to_owned()) {
            Ok(dropped) => dropped,
            Err(failure) => {
                lines = broken_off(lines, &wanted, &failure)?;
                break;
            }
        };
        let snapshot = node.store().snapshot()?;
        for outcome in dropped.outcomes {
            let refs = if outcome.gone.is_some() { refs_reaching(&snapshot, &outcome.blob, node.now_ms())? } else { Vec::new() };
            lines.insert(outcome.blob, DropLine { refs, ..line(&snapshot, &outcome, &[])? });
        }
    }
    blobs.iter().map(|id| lines.get(id).cloned().ok_or_else(unanswered)).collect()
}

/// The lines there are, and of the rest that they stay for what has failed: what has gone by then is told of all the same. If nothing was decided, the
/// failure is all there is.
fn broken_off(
    lines: BTreeMap<BlobId, DropLine>,
    wanted: &[BlobId],
    failure: &Failure,
) -> Result<BTreeMap<BlobId, DropLine>, Failure> {
    if lines.is_empty() {
        return Err(failure.clone());
    }
    let rest: Vec<&BlobId> = wanted.iter().filter(|id| !lines.contains_key(*id)).collect();
    let rest: Vec<_> = rest.into_iter().map(|id| (*id, undecided(id, failure))).collect();
    Ok(lines.into_iter().chain(rest).collect())
}

/// The line of a blob that nothing is known of, since what was asked has failed.
pub fn undecided(id: &BlobId, failure: &Failure) -> DropLine {
    let missing = vec![MissingLine { need: "an answer".to_owned(), why: failure.message.clone(), node: None }];
    DropLine { sha1: id.to_string(), dropped: false, freed_bytes: 0, missing, refs: Vec::new() }
}

/// The refs that reach `blob`, the nearest first, as far as `why` looks.
fn refs_reaching(snapshot: &Snapshot, blob: &BlobId, now_ms: u64) -> Result<Vec<String>, Failure> {
    let roots = snapshot.roots_of(blob, now_ms, WHY_VISITS, WHY_ROOTS)?.found.into_iter();
    Ok(roots.filter_map(|(root, _)| if let Root::Ref(name) = root { Some(name) } else { None }).collect())
}

/// The other member of this name or id; none if nobody is named, or this node itself.
fn elsewhere(node: &dyn Node, from: Option<&str>) -> Result<Option<NodeId>, Failure> {
    let Some(from) = from else { return Ok(None) };
    let snapshot = node.store().snapshot()?;
    let member = network::member_of(&snapshot, from)?;
    Ok(Some(member).filter(|member| snapshot.home().ok().flatten().is_none_or(|home| home.node != *member)))
}

/// The failure with the name of the member for its id.
fn by_name(node: &dyn Node, from: Option<NodeId>, failure: Failure) -> Failure {
    let name = from.and_then(|from| Some((from.to_string(), name_of(&*node.store().snapshot().ok()?, &from).ok()?)));
    match name {
        Some((id, name)) => Failure { message: failure.message.replace(&id, &name), ..failure },
        None => failure,
    }
}

fn unanswered() -> Failure {
    Failure::new(Code::Internal, "a request to give up copies was not answered")
}

/// What it takes where there is none.
const A_COPY: &str = "a copy ";

impl DropLine {
    /// What another node said of itself, as it reads here.
    fn there(self) -> DropLine {
        let there = |text: String| text.replace("this node", "that node").replace(" here", " there");
        let missing = self.missing.into_iter();
        let missing = missing.map(|line| MissingLine { need: there(line.need), why: there(line.why), node: line.node }).collect();
        DropLine { missing, ..self }
    }

    /// What stood in the way, in one line.
    pub fn why(&self) -> String {
        let why = |missing: &MissingLine| match &missing.node {
            Some(node) => format!("{node}: {}", missing.why),
            None => missing.why.clone(),
        };
        self.missing.iter().map(why).collect::<Vec<_>>().join("; ")
    }
}

fn line(snapshot: &Snapshot, outcome: &DropOutcome, unheard: &[NodeId]) -> Result<DropLine, Failure> {
    let mut missing = Vec::new();
    for reason in &outcome.missing {
        match reason {
            Missing::Leave(Why::JustStarted) => {
                for node in unheard {
                    missing.push(by(snapshot, node, "a word from every member", "has not been heard since this node started")?);
                }
            }
            Missing::Copies { have, need } => {
                let what = format!("{need} proven on other disks");
                missing.push(MissingLine {
                    need: what.clone(),
                    why: format!("{have} of {need} other copies can be proven"),
                    node: None,
                });
                missing.extend(unproven(snapshot, outcome, &what)?);
            }
            other => {
                let (need, why) = told(other);
                missing.push(MissingLine { need: need.to_owned(), why: why.to_owned(), node: None });
            }
        }
    }
    let (dropped, freed_bytes) = (outcome.gone.is_some(), outcome.gone.map_or(0, |fact| fact.size_bytes));
    Ok(DropLine { sha1: outcome.blob.to_string(), dropped, freed_bytes, missing, refs: Vec::new() })
}

/// Why the copies that others are said to have were not proven.
fn unproven(snapshot: &Snapshot, outcome: &DropOutcome, need: &str) -> Result<Vec<MissingLine>, Failure> {
    let mut lines = Vec::new();
    for (node, why) in &outcome.refusals {
        lines.push(by(snapshot, node, need, said(*why))?);
    }
    for node in outcome.silent.iter().filter(|node| !outcome.refusals.iter().any(|(refusing, _)| refusing == *node)) {
        lines.push(by(snapshot, node, need, "cannot be reached, or has not answered in time")?);
    }
    Ok(lines)
}

fn by(snapshot: &Snapshot, node: &NodeId, need: &str, why: &str) -> Result<MissingLine, Failure> {
    Ok(MissingLine { need: need.to_owned(), why: why.to_owned(), node: Some(name_of(snapshot, node)?) })
}

/// What it takes, and why that is not there, of what is the same for every node.
pub(super) fn told(missing: &Missing) -> (&'static str, &'static str) {
    match missing {
        Missing::Copy => ("a copy here", "this node has none"),
        Missing::Attempt => {
            ("that nobody wants it meanwhile", "something began to want it, or another node gives up its copy first")
        }
        Missing::Settled => ("to know what refs reach", "that is still being computed: try again"),
        Missing::Live => ("a ref that reaches it", "no ref needs it: `keepwell gc --run` deletes it once every node knows"),
        Missing::Unplaced => ("no rule that wants it here", "a rule wants it here"),
        Missing::Unpinned => ("no lease on it", "a lease protects it here: see `keepwell lease ls`"),
        Missing::Knowledge => {
            ("to understand the catalog", "it holds what a newer version wrote, which may protect this: upgrade")
        }
        Missing::Leave(why) => ("leave to delete", said(*why)),
        Missing::Dead => ("that no ref reaches it", "a ref reaches it now"),
        Missing::Sweep => ("that nothing needed it for a while", "it has been unneeded for too short a time: try again"),
        Missing::Acknowledgement(_) => ("a word from every member", "a member has not said that it knows"),
        Missing::GraceOver => {
            ("that its grace is over", "it was put or fetched lately, or something that links to it was: see `keepwell why`")
        }
        Missing::Copies { .. } => ("copies that are proven", "too few others have proven theirs"),
    }
}

/// What a node that would not vouch for its copy meant.
fn said(why: Why) -> &'static str {
    match why {
        Why::NotHeld => "does not hold it",
        Why::OtherBytes => "holds other bytes of the same SHA-1: a collision, which somebody must look at",
        Why::Damaged => "holds a copy that cannot be read or is damaged: run `keepwell fsck --verify` there",
        Why::Dropping => "is giving up its own copy",
        Why::NotLive => "knows of no ref that reaches it",
        Why::Behind => "does not know yet all that this node knows",
        Why::NotAMember => "does not know this node as a member",
        Why::JustStarted => "has just started, and has not heard from all others",
        Why::RolledBack => "was restored from an old copy of its disk",
        Why::Draining => "is about to leave",
        Why::ReadOnly => "may not vouch for anything",
        Why::DeclaredDead => "was declared dead: `keepwell node revive` on an admin's machine takes that back",
        Why::IndexDamaged => "damage was found in its index, so it neither deletes nor vouches: see `keepwell doctor` there",
    }
}

#[cfg(test)]
mod tests {
    use keepwell_protocol::units::DurationMs;

    use super::*;
    use crate::local::Local;

    #[test]
    fn every_blob_gets_its_line_in_order_however_many_portions_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (network, name) = ("lab".parse().unwrap(), "ada".parse().unwrap());
        let node = Local::init(&folder.path().join("home"), DurationMs(0), None, network, name).unwrap();
        for count in [DROP_PORTION, DROP_PORTION + 1] {
            let blobs: Vec<BlobId> = (0..count).rev().map(|n| BlobId([u8::try_from(n).unwrap(); 20])).collect();
            let told: Vec<String> = blobs.iter().map(ToString::to_string).collect();
            for lines in [drop_copies(&node, &blobs, None).unwrap(), give_up(&node, &blobs, "ann").unwrap()] {
                assert_eq!(lines.iter().map(|line| line.sha1.clone()).collect::<Vec<_>>(), told);
                assert!(lines.iter().all(|line| !line.dropped));
            }
        }
    }

    #[test]
    fn what_has_gone_before_a_failure_is_told_with_it() {
        let ids = [1, 2, 3].map(|n| BlobId([n; 20]));
        let failure = Failure::new(Code::NoSpace, "the disk is full");
        assert_eq!(broken_off(BTreeMap::new(), &ids, &failure).unwrap_err(), failure);
        let gone = DropLine { sha1: ids[1].to_string(), dropped: true, freed_bytes: 5, missing: vec![], refs: vec![] };
        let lines = broken_off(BTreeMap::from([(ids[1], gone)]), &ids, &failure).unwrap();
        assert_eq!(lines.values().map(|line| line.dropped).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(lines[&ids[2]].why(), "the disk is full");
    }

    #[test]
    fn what_stood_in_the_way_is_told_in_one_line() {
        let missing =
            |why: &str, node: Option<&str>| MissingLine { need: String::new(), why: why.into(), node: node.map(Into::into) };
        let missing = vec![missing("0 of 1 other copies can be proven", None), missing("does not hold it", Some("ben"))];
        let line = DropLine { sha1: String::new(), dropped: false, freed_bytes: 0, missing, refs: vec![] };
        assert_eq!(line.why(), "0 of 1 other copies can be proven; ben: does not hold it");
    }
}
