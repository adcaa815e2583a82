//! What the catalog says of members and of who holds what. Known, not proven: whoever needs a proof asks the holder.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::catalog::item::Kind;
use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_protocol::wire;
use keepwell_store::error::StoreError;
use keepwell_store::holdings::Holding;
use keepwell_store::store::Snapshot;

use super::Node;
use super::types::{HolderLine, NodeLine, WhereLine};
use crate::engine::absence::dead;
use crate::failure::{Code, Failure};
use crate::limits::ABSENT_AFTER_MS;

/// What a daemon knows of a member beyond the catalog.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Whether it can be talked to right now.
    pub connected: bool,
    /// When it was last heard, in Unix milliseconds.
    pub last_seen_ms: Option<u64>,
    /// How long it takes to answer, in milliseconds, rounded up.
    pub rtt_ms: Option<u64>,
    /// Where it was reached.
    pub addresses: Vec<String>,
}

/// Who holds `blob`, as their logs say.
pub fn holders(node: &dyn Node, itself: &NodeId, blob: &BlobId) -> Result<WhereLine, Failure> {
    holders_in(&*node.store().snapshot()?, itself, blob)
}

/// The same as of `snapshot`.
pub(super) fn holders_in(snapshot: &Snapshot, itself: &NodeId, blob: &BlobId) -> Result<WhereLine, Failure> {
    let names = names(snapshot)?;
    let record = snapshot.blob(blob)?;
    let holdings = holdings(snapshot, &snapshot.removed()?, blob)?;
    let size_bytes = record.map(|record| record.size_bytes).or_else(|| holdings.first().map(|holding| holding.fact.size_bytes));
    let holders = holdings.into_iter().map(|holding| {
        let here = holding.node == *itself;
        HolderLine {
            name: name_of(&names, &holding.node),
            node: holding.node.to_string(),
            here,
            verified_ms: record.filter(|_| here).and_then(|record| record.verified_ms),
        }
    });
    Ok(WhereLine { sha1: blob.to_string(), size_bytes, holders: holders.collect() })
}

/// What members say that they hold of `blob`. Those in `removed` say nothing any more.
pub(super) fn holdings(snapshot: &Snapshot, removed: &BTreeSet<NodeId>, blob: &BlobId) -> Result<Vec<Holding>, StoreError> {
    let mut holdings = snapshot.holders(blob)?;
    holdings.retain(|holding| !removed.contains(&holding.node));
    Ok(holdings)
}

/// The members, by name. `seen` is what a running daemon knows of the others.
pub fn nodes(node: &dyn Node, itself: &NodeId, seen: &BTreeMap<NodeId, Seen>) -> Result<Vec<NodeLine>, Failure> {
    let snapshot = node.store().snapshot()?;
    let (names, dead) = (members(&snapshot)?, dead(&snapshot)?);
    let mut lines: Vec<NodeLine> = names.iter().map(|(id, name)| line(id, name, itself, seen.get(id))).collect();
    for line in lines.iter_mut().filter(|line| line.state != "self") {
        if dead.iter().any(|id| id.to_string() == line.node) {
            line.state = "dead".to_owned();
        }
    }
    lines.sort_by(|a, b| (&a.name, &a.node).cmp(&(&b.name, &b.node)));
    Ok(lines)
}

/// Says that the member of this name or id is dead, or alive after all; what is known of it then.
pub fn declare(node: &dyn Node, itself: &NodeId, member: &str, is_dead: bool) -> Result<NodeLine, Failure> {
    let id = member_of(&*node.store().snapshot()?, member)?;
    if id == *itself && is_dead {
        return Err(Failure::usage("a node that says this is not dead").hint("say it on another machine, of an admin"));
    }
    node.declare(id, is_dead)?;
    let lines = nodes(node, itself, &BTreeMap::new())?;
    let found = lines.into_iter().find(|line| line.node == id.to_string());
    found.ok_or_else(|| Failure::new(Code::Internal, format!("{member} is no longer a member")))
}

/// Removes the member of this name or id; what was known of it.
pub fn remove(node: &dyn Node, itself: &NodeId, member: &str) -> Result<NodeLine, Failure> {
    let id = member_of(&*node.store().snapshot()?, member)?;
    if id == *itself {
        return Err(Failure::usage("a node does not remove itself").hint("say it on another machine, of an admin"));
    }
    let found = nodes(node, itself, &BTreeMap::new())?.into_iter().find(|line| line.node == id.to_string());
    node.remove(id)?;
    let line = found.ok_or_else(|| Failure::new(Code::Internal, format!("{member} is no longer a member")))?;
    Ok(NodeLine { state: "removed".to_owned(), ..line })
}

/// The member of this name or id.
pub fn member_of(snapshot: &Snapshot, member: &str) -> Result<NodeId, Failure> {
    let names = members(snapshot)?;
    let meant: Vec<NodeId> =
        names.iter().filter(|(id, name)| *name == member || id.to_string() == member).map(|(id, _)| *id).collect();
    match meant.as_slice() {
        [id] => Ok(*id),
        [] => {
            Err(Failure::new(Code::NotFound, format!("no member is called {member:?}"))
                .hint("`keepwell node ls` lists all members"))
        }
        _ => Err(Failure::usage(format!("{} members are called {member:?}", meant.len()))
            .hint("name it by its id: see `keepwell node ls`")),
    }
}

/// Whether anybody still waits for `node`: it is neither dead nor, as was last noted, silent for too long.
pub fn is_waited_for(snapshot: &Snapshot, dead: &BTreeSet<NodeId>, node: &NodeId) -> Result<bool, StoreError> {
    let silent_ms = snapshot.silences()?.get(node).copied().unwrap_or_default();
    Ok(!dead.contains(node) && silent_ms < ABSENT_AFTER_MS)
}

/// The names of all members, without those who were removed.
pub fn members(snapshot: &Snapshot) -> Result<BTreeMap<NodeId, String>, StoreError> {
    let (mut members, removed) = (names(snapshot)?, snapshot.removed()?);
    members.retain(|node, _| !removed.contains(node));
    Ok(members)
}

/// The names of all who are or were members.
pub fn names(snapshot: &Snapshot) -> Result<BTreeMap<NodeId, String>, StoreError> {
    let mut names = BTreeMap::new();
    snapshot.visit_items::<StoreError>(Kind::NODE, "", |key, row| {
        let body = row.winner().and_then(|value| wire::decode_own::<NodeBody>(&value.body).ok());
        if let (Ok(id), Some(body)) = (key.parse::<NodeId>(), body) {
            names.insert(id, body.name);
        }
        Ok(true)
    })?;
    Ok(names)
}

/// What `node` may do in its network, as far as the catalog is known here; none if it is no member.
pub fn role(snapshot: &Snapshot, node: &NodeId) -> Result<Option<Role>, StoreError> {
    crate::engine::members::role(snapshot, node)
}

/// The name of a member; its id when the catalog has no name for it.
pub fn name_of(names: &BTreeMap<NodeId, String>, node: &NodeId) -> String {
    names.get(node).cloned().unwrap_or_else(|| node.to_string())
}

fn line(id: &NodeId, name: &str, itself: &NodeId, seen: Option<&Seen>) -> NodeLine {
    let connected = seen.is_some_and(|seen| seen.connected);
    let state = match (id == itself, connected) {
        (true, _) => "self",
        (false, true) => "connected",
        (false, false) => "absent",
    };
    NodeLine {
        name: name.to_owned(),
        node: id.to_string(),
        state: state.to_owned(),
        addresses: seen.map(|seen| seen.addresses.clone()).unwrap_or_default(),
        rtt_ms: seen.and_then(|seen| seen.rtt_ms),
        last_seen_ms: seen.and_then(|seen| seen.last_seen_ms),
    }
}
