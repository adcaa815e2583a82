//! Writing refs. Own copy first: a value is authored only when everything it names is held here, durably.

use std::collections::BTreeMap;

use keepwell_protocol::catalog::change::Order;
use keepwell_protocol::catalog::expiry::touched;
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::reference::{RefBody, RefLink};
use keepwell_protocol::catalog::row::Value;
use keepwell_protocol::id::{BlobId, ValueId};
use keepwell_protocol::name::RefName;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use super::author::{Batch, OwnWrite};
use super::effect::{Effect, RefOutcome, RefRefusal, Reply};
use super::input::{RefOp, RefSet, RequestId};
use super::{Engine, Step, closure};

/// Missing blobs that a refusal names; the rest are of the same kind.
pub(super) const MISSING_NAMED: usize = 100;

/// What an op will write, once all ops of its request have been found acceptable.
struct Planned {
    name: RefName,
    previous: Option<Shown>,
    change: Change,
}

/// What an op does to its ref.
enum Change {
    /// It is used, so soon after the last time that this is not worth a write.
    Nothing,
    Delete,
    Value(RefBody),
}

/// The value that an op finds. Ops of one request see each other in order.
enum Shown {
    /// One that was there before the request.
    Stored(Value),
    /// That of an earlier op of the request, by its number: it has no id yet, so nobody can have asked for its rev.
    Planned(usize, RefBody),
}

/// What has been planned of a request, and which op wrote each ref last.
#[derive(Default)]
struct Plan {
    ops: Vec<Planned>,
    last: BTreeMap<RefName, usize>,
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

    /// Writes that a ref is used; whether it is written, or needed no writing.
    pub(super) fn write_use(&self, step: &mut Step<'_, '_>, name: RefName) -> Result<bool, StoreError> {
        if !self.is_member(step.txn)? {
            return Ok(false);
        }
        match plan_all(step.txn, step.now_ms, vec![RefOp::Touch { name }])? {
            Ok(planned) => self.carry_out(step, planned).map(|_| true),
            Err(_) => Ok(false),
        }
    }

    fn carry_out(&self, step: &mut Step<'_, '_>, planned: Vec<Planned>) -> Result<Vec<RefOutcome>, StoreError> {
        let write = |planned: &Planned| {
            let body = match &planned.change {
                Change::Nothing => return None,
                Change::Delete => None,
                Change::Value(body) => Some(body.encode()),
            };
            Some(OwnWrite { item: Item::reference(planned.name.as_str()), body })
        };
        let mut batch = Batch { writes: planned.iter().filter_map(write).collect(), ..Batch::default() };
        let values =
            planned.iter().filter_map(|planned| if let Change::Value(body) = &planned.change { Some(body) } else { None });
        let roots: Vec<BlobId> = values.flat_map(|body| &body.links).map(|link| link.sha1).collect();
        self.with_links_behind(step.txn, &roots, &mut batch)?;
        let authored = self.author(step.txn, batch)?;
        self.push(step, authored.entries);
        let (mut written, mut outcomes, mut ids) = (authored.ids.iter(), Vec::new(), Vec::new());
        for planned in planned {
            let previous = planned.previous.map(|shown| self.value_of(shown, &ids));
            let id = match planned.change {
                Change::Nothing => previous.as_ref().map(|value| value.id),
                Change::Delete | Change::Value(_) => written.next().copied(),
            };
            ids.extend(id);
            let rev = id.filter(|_| !matches!(planned.change, Change::Delete));
            outcomes.push(RefOutcome { name: planned.name, rev, previous });
        }
        Ok(outcomes)
    }

    fn value_of(&self, shown: Shown, ids: &[ValueId]) -> Value {
        match shown {
            Shown::Stored(value) => value,
            Shown::Planned(at, body) => {
                let order = Order { epoch: 0, counter: 0, boot: ids[at].boot };
                Value { id: ids[at], order, author: self.home.node, body: body.encode() }
            }
        }
    }
}

fn plan_all(txn: &Transaction<'_>, now_ms: u64, ops: Vec<RefOp>) -> Result<Result<Vec<Planned>, RefRefusal>, StoreError> {
    let mut plan = Plan::default();
    for op in ops {
        match plan_op(txn, now_ms, op, &plan)? {
            Ok(planned) => plan.push(planned),
            Err(refused) => return Ok(Err(refused)),
        }
    }
    Ok(Ok(plan.ops))
}

impl Plan {
    fn push(&mut self, planned: Planned) {
        if !matches!(planned.change, Change::Nothing) {
            self.last.insert(planned.name.clone(), self.ops.len());
        }
        self.ops.push(planned);
    }

    /// What the ref will show once the ops planned so far have been made.
    fn shown(&self, txn: &Transaction<'_>, name: &RefName) -> Result<Option<Shown>, StoreError> {
        match self.last.get(name) {
            Some(at) => Ok(match &self.ops[*at].change {
                Change::Value(body) => Some(Shown::Planned(*at, body.clone())),
                Change::Nothing | Change::Delete => None,
            }),
            None => Ok(txn.item(&Item::reference(name.as_str()))?.winner().cloned().map(Shown::Stored)),
        }
    }
}

impl Shown {
    fn rev(&self) -> String {
        match self {
            Shown::Stored(value) => value.id.to_string(),
            Shown::Planned(..) => "written by this request".into(),
        }
    }

    fn body(&self) -> Result<RefBody, StoreError> {
        match self {
            Shown::Stored(value) => RefBody::of(value).map_err(|source| StoreError::Unreadable { table: "items", source }),
            Shown::Planned(_, body) => Ok(body.clone()),
        }
    }
}

fn plan_op(txn: &Transaction<'_>, now_ms: u64, op: RefOp, plan: &Plan) -> Result<Result<Planned, RefRefusal>, StoreError> {
    match op {
        RefOp::Set(set) => {
            let shown = plan.shown(txn, &set.name)?;
            plan_set(txn, now_ms, set, shown)
        }
        RefOp::Delete { name, if_rev } => {
            let shown = plan.shown(txn, &name)?;
            let found = expect_rev(&name, shown.as_ref(), if_rev.as_deref()).and_then(|()| existing(&name, shown));
            Ok(found.map(|shown| Planned { name, previous: Some(shown), change: Change::Delete }))
        }
        RefOp::Touch { name } => {
            let shown = match existing(&name, plan.shown(txn, &name)?) {
                Ok(shown) => shown,
                Err(refused) => return Ok(Err(refused)),
            };
            let body = shown.body()?;
            let Some(expires_ms) = touched(now_ms, body.expires_ms, body.ttl_access_ms) else {
                return Ok(Ok(Planned { name, previous: Some(shown), change: Change::Nothing }));
            };
            let touched = RefBody { expires_ms: Some(expires_ms), ..body };
            let roots: Vec<BlobId> = touched.links.iter().map(|link| link.sha1).collect();
            Ok(if touched.unbacked { Ok(()) } else { own_copy(txn, &name, &roots)? }.map(|()| Planned {
                name,
                previous: Some(shown),
                change: Change::Value(touched),
            }))
        }
    }
}

fn plan_set(
    txn: &Transaction<'_>,
    now_ms: u64,
    set: RefSet,
    shown: Option<Shown>,
) -> Result<Result<Planned, RefRefusal>, StoreError> {
    if let Err(refused) = expect_rev(&set.name, shown.as_ref(), set.if_rev.as_deref()) {
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
    Ok(Ok(Planned { name: set.name, previous: shown, change: Change::Value(body) }))
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

fn existing(name: &RefName, shown: Option<Shown>) -> Result<Shown, RefRefusal> {
    shown.ok_or_else(|| RefRefusal::NotFound(name.clone()))
}

fn expect_rev(name: &RefName, shown: Option<&Shown>, expected: Option<&str>) -> Result<(), RefRefusal> {
    let found = shown.map(Shown::rev);
    match expected {
        Some(expected) if found.as_deref().unwrap_or_default() != expected => Err(RefRefusal::RevMismatch {
            name: name.clone(),
            expected: expected.to_owned(),
            found: found.unwrap_or_else(|| "none".into()),
        }),
        _ => Ok(()),
    }
}
