//! `/leases`

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use keepwell_protocol::id::{BlobId, LeaseId, ParseIdError};
use keepwell_protocol::name::OwnerName;
use serde::{Deserialize, Serialize};

use super::Api;
use super::answer::{Answer, ApiError, blocking, json, json_list, read_json};
use super::blobs::blob_id;
use super::gate::Slot;
use super::query::Pairs;
use crate::engine::{LeaseOp, LeaseUse};
use crate::failure::Failure;
use crate::home::owner;
use crate::limits::{LEASE_TTL_MS, MAX_LEASE_BLOBS};
use crate::service::leases::{change, list};

/// A lease that is to be taken.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddRequest {
    /// How long it is to last; none is the usual time.
    pub(crate) ttl_ms: Option<u64>,
    /// Whether it protects its blobs without what they link to.
    #[serde(default)]
    pub(crate) flat: bool,
    /// The SHA-1s of what it is to protect.
    #[serde(default)]
    pub(crate) blobs: Vec<String>,
    /// Whose it is to be; none is the user of the daemon.
    pub(crate) owner: Option<String>,
}

/// A lease that is to last longer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenewRequest {
    /// How long from now on; none is the usual time.
    pub(crate) ttl_ms: Option<u64>,
    /// Whose it is; none is the user of the daemon.
    pub(crate) owner: Option<String>,
}

/// Blobs that are to come under a lease.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GiveRequest {
    /// Their SHA-1s.
    pub(crate) blobs: Vec<String>,
    /// Whose it is; none is the user of the daemon.
    pub(crate) owner: Option<String>,
}

/// The lease that something is to be put under, if any.
pub(super) fn put_under(id: Option<&str>, owner: Option<&str>) -> Result<Option<LeaseUse>, Failure> {
    match (id, owner) {
        (None, Some(_)) => Err(Failure::usage("an owner is named, and no lease").hint("say which: `lease`")),
        (id, owner) => id.map(|id| lease_use(id, owner)).transpose(),
    }
}

/// The lease that a request means, and who says that it is theirs.
fn lease_use(id: &str, owner: Option<&str>) -> Result<LeaseUse, Failure> {
    let lease: LeaseId = id
        .parse()
        .map_err(|error: ParseIdError| Failure::usage(error.to_string()).hint("list what there is with `keepwell lease ls`"))?;
    Ok(LeaseUse { lease, owner: owner_named(owner)? })
}

fn owner_named(name: Option<&str>) -> Result<OwnerName, Failure> {
    name.map_or_else(|| Ok(owner::of_this_process()), |name| Ok(name.parse()?))
}

fn blob_ids(texts: &[String]) -> Result<Vec<BlobId>, ApiError> {
    if texts.len() > MAX_LEASE_BLOBS {
        return Err(ApiError::too_large("blobs", MAX_LEASE_BLOBS));
    }
    Ok(texts.iter().map(|text| blob_id(text)).collect::<Result<_, _>>()?)
}

/// `POST /leases`
pub(super) async fn add(State(api): State<Arc<Api>>, slot: Slot, body: Body) -> Answer {
    let AddRequest { ttl_ms, flat, blobs, owner } = read_json(body).await?;
    let (blobs, owner) = (blob_ids(&blobs)?, owner_named(owner.as_deref())?);
    let op = LeaseOp::Add { owner, ttl_ms: ttl_ms.unwrap_or(LEASE_TTL_MS), is_flat: flat, blobs };
    carry_out(api, slot, StatusCode::CREATED, op).await
}

/// `GET /leases`
pub(super) async fn all(State(api): State<Arc<Api>>, slot: Slot) -> Answer {
    json_list("leases", &blocking(slot, move || list(&*api.node)).await?, None)
}

/// `POST /leases/{id}/renew`
pub(super) async fn renew(State(api): State<Arc<Api>>, slot: Slot, Path(id): Path<String>, body: Body) -> Answer {
    let RenewRequest { ttl_ms, owner } = read_json(body).await?;
    let used = lease_use(&id, owner.as_deref())?;
    carry_out(api, slot, StatusCode::OK, LeaseOp::Renew { used, ttl_ms: ttl_ms.unwrap_or(LEASE_TTL_MS) }).await
}

/// `POST /leases/{id}/blobs`
pub(super) async fn give(State(api): State<Arc<Api>>, slot: Slot, Path(id): Path<String>, body: Body) -> Answer {
    let GiveRequest { blobs, owner } = read_json(body).await?;
    let (used, blobs) = (lease_use(&id, owner.as_deref())?, blob_ids(&blobs)?);
    carry_out(api, slot, StatusCode::OK, LeaseOp::Give { used, blobs }).await
}

/// `DELETE /leases/{id}?owner=`
pub(super) async fn remove(State(api): State<Arc<Api>>, slot: Slot, Path(id): Path<String>, RawQuery(query): RawQuery) -> Answer {
    let pairs = Pairs::parse(query.as_deref(), &["owner"])?;
    let used = lease_use(&id, pairs.one("owner")?)?;
    carry_out(api, slot, StatusCode::OK, LeaseOp::Remove(used)).await
}

async fn carry_out(api: Arc<Api>, slot: Slot, status: StatusCode, op: LeaseOp) -> Answer {
    json(status, &blocking(slot, move || change(&*api.node, op)).await?)
}
