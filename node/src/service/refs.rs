//! Refs: names that are set, read, listed, touched and removed.

use keepwell_protocol::catalog::expiry::touched;
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::member::NodeBody;
use keepwell_protocol::catalog::reference::{RefBody, RefLink};
use keepwell_protocol::catalog::row::Value;
use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_protocol::json::{self, Json};
use keepwell_protocol::name::RefName;
use keepwell_protocol::wire;
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;

use super::Node;
use super::types::{ConflictLine, LinkLine, RefLine};
use crate::engine::{RefOp, RefRefusal, RefSet, closure};
use crate::failure::{Code, Failure};

/// A value for a ref, as its user gives it.
#[derive(Debug, Clone)]
pub struct SetRef {
    /// Which ref.
    pub name: RefName,
    /// Its object, as JSON text.
    pub obj: String,
    /// Its meta, as JSON text; none is an empty object.
    pub meta: Option<String>,
    /// When it lapses, in Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// How long it lives after its last use.
    pub ttl_access_ms: Option<u64>,
    /// Copies wanted.
    pub copies: u32,
    /// Only if this is its rev; empty: only if it does not exist.
    pub if_rev: Option<String>,
    /// Accept it although something that it needs is not here.
    pub allow_missing: bool,
}

impl SetRef {
    /// A plain value: one copy, for ever, whatever was there.
    pub fn new(name: RefName, obj: String) -> Self {
        let (expires_ms, ttl_access_ms) = (None, None);
        SetRef { name, obj, meta: None, expires_ms, ttl_access_ms, copies: 1, if_rev: None, allow_missing: false }
    }
}

/// The engine's word for "does not exist" is the empty rev; people write `none`, as it is shown to them.
pub fn rev_of(text: String) -> String {
    if text == "none" { String::new() } else { text }
}

/// Sets a ref.
pub fn set(node: &dyn Node, set: SetRef) -> Result<RefLine, Failure> {
    let name = set.name.clone();
    node.write_refs(vec![set_op(set)?])?;
    get(node, &name)
}

/// What setting a ref is to the engine.
pub fn set_op(set: SetRef) -> Result<RefOp, Failure> {
    let (obj, meta) = json::parse_obj_meta(&set.obj, set.meta.as_deref())?;
    let mut links: Vec<BlobId> = Vec::new();
    for (_, uri) in json::direct_links(&obj)? {
        if !links.contains(&uri.sha1) {
            links.push(uri.sha1);
        }
    }
    Ok(RefOp::Set(RefSet {
        name: set.name,
        obj: obj.to_compact_sorted(),
        meta: meta.to_compact_sorted(),
        links,
        expires_ms: set.expires_ms,
        ttl_access_ms: set.ttl_access_ms,
        copies: set.copies,
        lot: None,
        if_rev: set.if_rev,
        allow_missing: set.allow_missing,
    }))
}

/// Sets fields of a ref's object, and leaves all else of it as it is. A ref that does not exist is made.
pub fn set_fields(node: &dyn Node, name: &RefName, fields: Vec<(String, String)>) -> Result<RefLine, Failure> {
    let snapshot = node.store().snapshot()?;
    let row = snapshot.item(&Item::reference(name.as_str()))?;
    let (body, if_rev) = match row.winner() {
        Some(value) => (Some(body_of(value)?), value.id.to_string()),
        None => (None, String::new()),
    };
    let mut members = match body.as_ref().map(|body| json::parse_object(&body.obj)).transpose()? {
        Some(Json::Object(members)) => members,
        _ => Vec::new(),
    };
    for (field, uri) in fields {
        members.retain(|(key, _)| *key != field);
        members.push((field, Json::String(uri)));
    }
    let kept = body.as_ref();
    set(
        node,
        SetRef {
            meta: kept.map(|body| body.meta.clone()),
            // A write is a use.
            expires_ms: kept.and_then(|body| touched(node.now_ms(), body.expires_ms, body.ttl_access_ms).or(body.expires_ms)),
            ttl_access_ms: kept.and_then(|body| body.ttl_access_ms),
            copies: kept.map_or(1, |body| body.copies),
            if_rev: Some(if_rev),
            ..SetRef::new(name.clone(), Json::Object(members).to_compact_sorted())
        },
    )
}

/// Reads a ref, with what it is in conflict with.
pub fn get(node: &dyn Node, name: &RefName) -> Result<RefLine, Failure> {
    let snapshot = node.store().snapshot()?;
    let row = snapshot.item(&Item::reference(name.as_str()))?;
    let value = row.winner().ok_or_else(|| RefRefusal::NotFound(name.clone()))?;
    let mut line = line(&snapshot, name, value)?;
    let roots: Vec<BlobId> = body_of(value)?.links.iter().map(|link| link.sha1).collect();
    line.durable = line.durable.min(u32::from(closure::missing(&snapshot, &roots, 1)?.is_empty()));
    line.conflicts = Some(row.conflicts().iter().map(|value| conflict(&snapshot, value)).collect::<Result<_, _>>()?);
    Ok(line)
}

/// Removes a ref; what it was.
pub fn remove(node: &dyn Node, name: &RefName, if_rev: Option<String>) -> Result<RefLine, Failure> {
    let before = get(node, name)?;
    let outcomes = node.write_refs(vec![RefOp::Delete { name: name.clone(), if_rev }])?;
    match outcomes.into_iter().next().and_then(|outcome| outcome.previous) {
        // Somebody may have written it between the two; what was removed is what counts.
        Some(previous) if previous.id.to_string() != before.rev => line(&*node.store().snapshot()?, name, &previous),
        _ => Ok(before),
    }
}

/// Removes all of these refs if each has this rev, or none.
pub fn remove_all(node: &dyn Node, refs: &[(RefName, String)]) -> Result<(), Failure> {
    let ops = refs.iter().map(|(name, rev)| RefOp::Delete { name: name.clone(), if_rev: Some(rev.clone()) });
    node.write_refs(ops.collect()).map(drop)
}

/// Uses a ref, which puts off its expiry. Where not all is here that it names, a member that holds it is asked to write that.
pub fn touch(node: &dyn Node, name: &RefName) -> Result<RefLine, Failure> {
    match node.write_refs(vec![RefOp::Touch { name: name.clone() }]) {
        Err(failure) if failure.code == Code::NoProvider && node.use_elsewhere(name)? => {}
        outcome => drop(outcome?),
    }
    get(node, name)
}

pub(super) fn body_of(value: &Value) -> Result<RefBody, Failure> {
    Ok(RefBody::of(value).map_err(|source| StoreError::Unreadable { table: "items", source })?)
}

/// A value as a line, without conflicts.
pub(super) fn line(snapshot: &Snapshot, name: &RefName, value: &Value) -> Result<RefLine, Failure> {
    let body = body_of(value)?;
    let links: Vec<LinkLine> = body.links.iter().map(|link| link_line(snapshot, link)).collect::<Result<_, _>>()?;
    Ok(RefLine {
        group: name.group().to_owned(),
        key: name.key().to_owned(),
        obj: json::parse_object(&body.obj)?,
        meta: json::parse_object(&body.meta)?,
        rev: value.id.to_string(),
        set_by: name_of(snapshot, &value.author)?,
        set_at_ms: body.set_at_ms,
        expires_ms: body.expires_ms,
        durable: u32::from(links.iter().all(|link| link.here)),
        links,
        conflicts: None,
        copies: body.copies,
        unproven: None,
        reach: None,
        // What had been deleted by somebody whose entries are void since may have lost its blobs meanwhile.
        state: if body.unbacked || snapshot.came_back(&value.id)? { "unbacked" } else { "backed" }.to_owned(),
    })
}

fn link_line(snapshot: &Snapshot, link: &RefLink) -> Result<LinkLine, Failure> {
    let record = snapshot.blob(&link.sha1)?;
    Ok(LinkLine {
        sha1: link.sha1.to_string(),
        b3: link.proof.map(|(b3, _)| b3.to_string()),
        size_bytes: link.proof.map(|(_, size_bytes)| size_bytes),
        // Another blob of the same SHA-1 is not this one.
        here: record.is_some_and(|record| link.fact().is_none_or(|fact| fact == record.fact(link.sha1))),
    })
}

fn conflict(snapshot: &Snapshot, value: &Value) -> Result<ConflictLine, Failure> {
    let body = body_of(value)?;
    Ok(ConflictLine {
        rev: value.id.to_string(),
        obj: json::parse_object(&body.obj)?,
        meta: json::parse_object(&body.meta)?,
        set_by: name_of(snapshot, &value.author)?,
        set_at_ms: body.set_at_ms,
    })
}

/// What a member is called; its id if it is not known by name.
pub fn name_of(snapshot: &Snapshot, node: &NodeId) -> Result<String, Failure> {
    let row = snapshot.item(&Item::node(node))?;
    let body = row.winner().and_then(|value| wire::decode_own::<NodeBody>(&value.body).ok());
    Ok(body.map_or_else(|| node.to_string(), |body| body.name))
}
