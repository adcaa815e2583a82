//! Why a blob is kept here, or what stands in the way of its going: the roots that reach it, each with the path over the links.

use std::collections::BTreeSet;

use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::gc::Missing;
use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_store::roots::{Root, Roots};
use keepwell_store::store::Snapshot;
use serde::{Deserialize, Serialize};

use super::Node;
use super::drop::told;
use super::gc::why_not;
use super::network::holders_in;
use super::stat::stat_in;
use super::types::{BlobState, HolderLine, MissingLine};
use crate::engine::Collect;
use crate::failure::Failure;
use crate::limits::{WHY_ROOTS, WHY_VISITS};

/// Why a blob is kept, as it stands in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyLine {
    /// Its SHA-1.
    pub sha1: String,
    /// How well it is known.
    pub state: BlobState,
    /// Whether a ref reaches it.
    pub live: bool,
    /// Whether a rule wants it here. There are no rules yet.
    pub placed: bool,
    /// What keeps it, the nearest first.
    pub roots: Vec<RootLine>,
    /// Whether there may be more roots than were looked for.
    pub more: bool,
    /// The accounts that it is charged to.
    pub lots: Vec<String>,
    /// The most copies that any value asks for which reaches it.
    pub copies_wanted: u32,
    /// Who holds it, as their logs say.
    pub holders: Vec<HolderLine>,
    /// What is missing before this node could delete it as garbage.
    pub missing: Vec<MissingLine>,
}

/// One thing that keeps a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootLine {
    /// `ref`, `lease`, or `ingest` for the grace of a put or a fetch.
    pub kind: String,
    /// Of a ref its name, of a lease its id, of a grace the blob that has it.
    pub name: String,
    /// The value of the ref that it is; there may be several, which are in conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// From the blob that is named, over the links, to the one that was asked about.
    pub path: Vec<String>,
    /// Until when, in Unix milliseconds, if not for ever.
    pub until_ms: Option<u64>,
}

/// What the roots of a blob come to.
#[derive(Default)]
struct Found {
    roots: Vec<RootLine>,
    lots: BTreeSet<String>,
    copies_wanted: u32,
}

/// Why `blob` is kept on `node`, which is `itself`.
pub fn why(node: &dyn Node, itself: &NodeId, blob: &BlobId) -> Result<WhyLine, Failure> {
    let snapshot = node.store().snapshot()?;
    let now_ms = node.now_ms();
    let Roots { found: roots, is_cut } = snapshot.roots_of(blob, now_ms, WHY_VISITS, WHY_ROOTS)?;
    let is_live = roots.iter().any(|(root, _)| matches!(root, Root::Ref(_))) || snapshot.is_live(blob)?;
    let mut found = Found::default();
    for (root, path) in &roots {
        found.add(&snapshot, root, path)?;
    }
    let state = stat_in(&snapshot, &snapshot.removed()?, now_ms, blob, None)?.state;
    if found.lots.is_empty() && snapshot.blob(blob)?.is_some() {
        found.lots.insert(DEFAULT_LOT.to_owned());
    }
    let missing = if state == BlobState::Unknown { Vec::new() } else { missing(node, &snapshot, blob, is_live, &roots)? };
    Ok(WhyLine {
        sha1: blob.to_string(),
        state,
        live: is_live,
        placed: false,
        roots: found.roots,
        more: is_cut,
        lots: found.lots.into_iter().collect(),
        copies_wanted: found.copies_wanted,
        holders: holders_in(&snapshot, itself, blob)?.holders,
        missing,
    })
}

/// The account of what names no other.
const DEFAULT_LOT: &str = "default";

impl Found {
    fn add(&mut self, snapshot: &Snapshot, root: &Root, path: &[BlobId]) -> Result<(), Failure> {
        let named = path.first().copied();
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        let line = |kind: &str, name: String, until_ms| RootLine { kind: kind.into(), name, rev: None, path, until_ms };
        match root {
            Root::Ref(name) => self.add_values(snapshot, name, named, &line("ref", name.clone(), None))?,
            Root::Lease(id) => {
                let until_ms = snapshot.lease(id)?.map(|lease| lease.expires_ms);
                self.roots.push(match snapshot.upload_under(id)? {
                    Some(upload) => line("ingest", upload, until_ms),
                    None => line("lease", id.to_string(), until_ms),
                });
            }
            Root::Grace(until_ms) => {
                let of = named.map(|id| id.to_string()).unwrap_or_default();
                self.roots.push(line("ingest", of, Some(*until_ms)));
            }
        }
        Ok(())
    }

    /// Every value of the ref that names the blob, also those in conflict: each protects it.
    fn add_values(&mut self, snapshot: &Snapshot, name: &str, named: Option<BlobId>, line: &RootLine) -> Result<(), Failure> {
        for value in snapshot.item(&Item::reference(name))?.values() {
            // What cannot be read names nothing here; it stands in the way of every deletion, and is told as that.
            let Ok(body) = RefBody::of(value) else { continue };
            if !body.links.iter().any(|link| Some(link.sha1) == named) {
                continue;
            }
            self.copies_wanted = self.copies_wanted.max(body.copies.max(1));
            self.lots.insert(body.lot.unwrap_or_else(|| DEFAULT_LOT.to_owned()));
            self.roots.push(RootLine { rev: Some(value.id.to_string()), until_ms: body.expires_ms, ..line.clone() });
        }
        Ok(())
    }
}

/// What a purge of the blob is still waiting for, in the words of `gc`.
fn missing(
    node: &dyn Node,
    snapshot: &Snapshot,
    blob: &BlobId,
    is_live: bool,
    roots: &[(Root, Vec<BlobId>)],
) -> Result<Vec<MissingLine>, Failure> {
    let line = |missing: &Missing| Ok::<_, Failure>(MissingLine::new(told(missing).0, why_not(snapshot, missing)?));
    if snapshot.blob(blob)?.is_none() {
        return Ok(vec![line(&Missing::Copy)?]);
    }
    let mut lines = Vec::new();
    if is_live {
        lines.push(line(&Missing::Dead)?);
    }
    if roots.iter().any(|(root, _)| matches!(root, Root::Lease(_))) {
        lines.push(line(&Missing::Unpinned)?);
    }
    if roots.iter().any(|(root, _)| matches!(root, Root::Grace(_))) {
        lines.push(MissingLine::new("that its grace is over", "it was put or fetched lately, or something that links to it was"));
    }
    if lines.is_empty() {
        // Nothing here wants it: what is left is what everything waits for.
        for missing in node.collect(Collect { grace_ms: None, limit: 0 })?.missing {
            let of =
                if let Missing::Acknowledgement(node) = &missing { Some(super::refs::name_of(snapshot, node)?) } else { None };
            lines.push(MissingLine { node: of, ..line(&missing)? });
        }
    }
    Ok(lines)
}

impl MissingLine {
    fn new(need: &str, why: impl Into<String>) -> MissingLine {
        MissingLine { need: need.to_owned(), why: why.into(), node: None }
    }
}

#[cfg(test)]
mod tests {
    use keepwell_protocol::id::{B3, BlobFact, BootId, Seq, ValueId};
    use keepwell_protocol::log::op::LinkFact;
    use keepwell_protocol::units::DurationMs;

    use super::*;
    use crate::engine::{RefOp, RefSet};
    use crate::local::Local;

    const BLOB: BlobId = BlobId([1; 20]);

    fn home(folder: &tempfile::TempDir) -> (Local, NodeId) {
        let (network, name) = ("lab".parse().unwrap(), "ada".parse().unwrap());
        let local = Local::init(&folder.path().join("home"), DurationMs(0), None, network, name).unwrap();
        let node = local.engine().home().node;
        (local, node)
    }

    #[test]
    fn of_more_than_why_roots_the_rest_is_only_said_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let (local, node) = home(&folder);
        let name = |n: usize| {
            let set = RefSet::new(format!("lab/x{n}").parse().unwrap(), "{}", vec![BLOB]);
            RefOp::Set(RefSet { allow_missing: true, ..set })
        };
        local.write_refs((0..WHY_ROOTS).map(name).collect()).unwrap();
        let line = why(&local, &node, &BLOB).unwrap();
        assert_eq!((line.roots.len(), line.more, line.live), (WHY_ROOTS, false, true));
        local.write_refs(vec![name(WHY_ROOTS)]).unwrap();
        let line = why(&local, &node, &BLOB).unwrap();
        assert_eq!((line.roots.len(), line.more), (WHY_ROOTS, true));
    }

    #[test]
    fn beyond_why_visits_blobs_it_says_that_there_may_be_more() {
        let folder = tempfile::tempdir().unwrap();
        let (local, node) = home(&folder);
        let fact = |n: usize| {
            let mut sha1 = [2; 20];
            sha1[..8].copy_from_slice(&n.to_be_bytes());
            BlobFact { sha1: BlobId(sha1), b3: B3([2; 32]), size_bytes: 1 }
        };
        let child = BlobFact { sha1: BLOB, b3: B3([1; 32]), size_bytes: 1 };
        let link = |from: usize, to: usize| {
            let linked = local.store().write(|txn| {
                (from..to).try_for_each(|n| {
                    let id = ValueId { boot: BootId([1; 16]), seq: Seq(n as u64), index: 0 };
                    txn.put_link_fact(&id, &LinkFact { parent: fact(n).sha1, children: vec![child] })
                })
            });
            linked.map_err(|error: keepwell_store::error::StoreError| error.to_string()).unwrap();
        };
        // The blob itself is looked at too.
        link(1, WHY_VISITS);
        assert!(!why(&local, &node, &BLOB).unwrap().more);
        link(WHY_VISITS, WHY_VISITS + 1);
        assert!(why(&local, &node, &BLOB).unwrap().more);
    }
}
