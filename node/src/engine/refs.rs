//! Writing refs. Own copy first: a value is authored only when everything it names is held here, durably.

use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::reference::{RefBody, RefLink};
use keepwell_protocol::catalog::row::{Row, Value};
use keepwell_protocol::id::BlobId;
use keepwell_protocol::name::RefName;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use super::author::{Batch, OwnWrite};
use super::effect::{Effect, RefOutcome, RefRefusal, Reply};
use super::input::{RefOp, RefSet, RequestId};
use super::{Engine, Step, closure};

/// Missing blobs that a refusal names; the rest are of the same kind.
const MISSING_NAMED: usize = 100;

/// What an op will write, once all ops of its request have been found acceptable.
struct Planned {
    name: RefName,
    previous: Option<Value>,
    body: Option<RefBody>,
}

impl Engine {
    /// Writes all of `ops`, or answers why none of them was written.
    pub(super) fn write_refs(&self, step: &mut Step<'_, '_>, request: RequestId, ops: Vec<RefOp>) -> Result<(), StoreError> {
        if !self.is_member(step.txn)? {
            step.effects.push(Effect::Reply(request, Reply::NotAMember));
            return Ok(());
        }
        let outcome = match plan_all(step.txn, step.now_ms, ops)? {
            Ok(planned) => Ok(self.carry_out(step, planned)?),
            Err(refused) => Err(refused),
        };
        step.effects.push(Effect::Reply(request, Reply::Refs(outcome)));
        Ok(())
    }

    fn carry_out(&self, step: &mut Step<'_, '_>, planned: Vec<Planned>) -> Result<Vec<RefOutcome>, StoreError> {
        let write = |planned: &Planned| OwnWrite {
            item: Item::reference(planned.name.as_str()),
            body: planned.body.as_ref().map(RefBody::encode),
        };
        let authored = self.author(step.txn, Batch { writes: planned.iter().map(write).collect(), ..Batch::default() })?;
        self.push(step, authored.entries);
        let outcomes = planned.into_iter().zip(authored.ids);
        Ok(outcomes.map(|(p, id)| RefOutcome { name: p.name, rev: p.body.map(|_| id), previous: p.previous }).collect())
    }
}

fn plan_all(txn: &Transaction<'_>, now_ms: u64, ops: Vec<RefOp>) -> Result<Result<Vec<Planned>, RefRefusal>, StoreError> {
    let mut planned = Vec::with_capacity(ops.len());
    for op in ops {
        match plan(txn, now_ms, op)? {
            Ok(plan) => planned.push(plan),
            Err(refused) => return Ok(Err(refused)),
        }
    }
    Ok(Ok(planned))
}

fn plan(txn: &Transaction<'_>, now_ms: u64, op: RefOp) -> Result<Result<Planned, RefRefusal>, StoreError> {
    match op {
        RefOp::Set(set) => plan_set(txn, now_ms, set),
        RefOp::Delete { name, if_rev } => {
            let row = row_of(txn, &name)?;
            Ok(expect_rev(&name, &row, if_rev.as_deref()).and_then(|()| existing(name, &row)).map(|(name, value)| Planned {
                name,
                previous: Some(value),
                body: None,
            }))
        }
        RefOp::Touch { name } => {
            let row = row_of(txn, &name)?;
            let (name, value) = match existing(name, &row) {
                Ok(found) => found,
                Err(refused) => return Ok(Err(refused)),
            };
            let body = RefBody::of(&value).map_err(|source| StoreError::Unreadable { table: "items", source })?;
            let expires_ms = body.ttl_access_ms.map(|ttl| now_ms.saturating_add(ttl)).or(body.expires_ms);
            let touched = RefBody { expires_ms, ..body };
            let roots: Vec<BlobId> = touched.links.iter().map(|link| link.sha1).collect();
            Ok(if touched.unbacked { Ok(()) } else { own_copy(txn, &name, &roots)? }.map(|()| Planned {
                name,
                previous: Some(value),
                body: Some(touched),
            }))
        }
    }
}

fn plan_set(txn: &Transaction<'_>, now_ms: u64, set: RefSet) -> Result<Result<Planned, RefRefusal>, StoreError> {
    let row = row_of(txn, &set.name)?;
    if let Err(refused) = expect_rev(&set.name, &row, set.if_rev.as_deref()) {
        return Ok(Err(refused));
    }
    let unbacked = match own_copy(txn, &set.name, &set.links)? {
        Err(refused) if !set.allow_missing => return Ok(Err(refused)),
        outcome => outcome.is_err(),
    };
    let links = set.links.iter().map(|id| link_to(txn, id)).collect::<Result<_, _>>()?;
    let body = RefBody {
        obj: set.obj,
        meta: set.meta,
        links,
        expires_ms: set.expires_ms.or_else(|| set.ttl_access_ms.map(|ttl| now_ms.saturating_add(ttl))),
        ttl_access_ms: set.ttl_access_ms,
        copies: set.copies,
        lot: set.lot.map(|lot| lot.to_string()),
        set_at_ms: now_ms,
        unbacked,
    };
    Ok(Ok(Planned { name: set.name, previous: row.winner().cloned(), body: Some(body) }))
}

/// Own copy first (SAFETY.md S10): everything in the closure of `roots` is held here.
fn own_copy(txn: &Transaction<'_>, name: &RefName, roots: &[BlobId]) -> Result<Result<(), RefRefusal>, StoreError> {
    let missing = closure::missing(txn, roots, MISSING_NAMED)?;
    Ok(if missing.is_empty() { Ok(()) } else { Err(RefRefusal::Missing { name: name.clone(), missing }) })
}

/// A link with what is known of the blob: from its record, else from whoever holds it.
fn link_to(txn: &Transaction<'_>, id: &BlobId) -> Result<RefLink, StoreError> {
    if let Some(record) = txn.blob(id)? {
        return Ok(record.fact(*id).into());
    }
    let holder = txn.holders(id)?.into_iter().next();
    Ok(holder.map_or(RefLink { sha1: *id, proof: None }, |holding| holding.fact.into()))
}

fn row_of(txn: &Transaction<'_>, name: &RefName) -> Result<Row, StoreError> {
    txn.item(&Item::reference(name.as_str()))
}

fn existing(name: RefName, row: &Row) -> Result<(RefName, Value), RefRefusal> {
    match row.winner() {
        Some(value) => Ok((name, value.clone())),
        None => Err(RefRefusal::NotFound(name)),
    }
}

fn expect_rev(name: &RefName, row: &Row, expected: Option<&str>) -> Result<(), RefRefusal> {
    let found = row.winner().map(|value| value.id.to_string());
    match expected {
        Some(expected) if found.as_deref().unwrap_or_default() != expected => Err(RefRefusal::RevMismatch {
            name: name.clone(),
            expected: expected.to_owned(),
            found: found.unwrap_or_else(|| "none".into()),
        }),
        _ => Ok(()),
    }
}
