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

/// What is said of a lease that is taken or changed; each route knows what it needs of it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LeaseRequest {
    /// How long it is to last from now on; none is the usual time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl_ms: Option<u64>,
    /// Whether it protects its blobs without what they link to.
    pub(crate) flat: bool,
    /// The SHA-1s of what it is to protect.
    pub(crate) blobs: Vec<String>,
    /// Whose it is; none is the user of the daemon.
    pub(crate) owner: Option<String>,
}

impl LeaseRequest {
    fn ttl_ms(&self) -> u64 {
        self.ttl_ms.unwrap_or(LEASE_TTL_MS)
    }

    fn blobs(&self) -> Result<Vec<BlobId>, ApiError> {
        if self.blobs.len() > MAX_LEASE_BLOBS {
            return Err(ApiError::too_large("blobs", MAX_LEASE_BLOBS));
        }
        Ok(self.blobs.iter().map(|text| blob_id(text)).collect::<Result<_, _>>()?)
    }
}

/// The lease that a request means, and who says that it is theirs.
pub(super) fn lease_use(id: &str, owner: Option<&str>) -> Result<LeaseUse, Failure> {
    let lease: LeaseId = id
        .parse()
        .map_err(|error: ParseIdError| Failure::usage(error.to_string()).hint("list what there is with `keepwell lease ls`"))?;
    Ok(LeaseUse { lease, owner: owner_named(owner)? })
}

fn owner_named(name: Option<&str>) -> Result<OwnerName, Failure> {
    name.map_or_else(|| Ok(owner::of_this_process()), |name| Ok(name.parse()?))
}

/// `POST /leases`
pub(super) async fn add(State(api): State<Arc<Api>>, slot: Slot, body: Body) -> Answer {
    let request: LeaseRequest = read_json(body).await?;
    let (blobs, owner) = (request.blobs()?, owner_named(request.owner.as_deref())?);
    let op = LeaseOp::Add { owner, ttl_ms: request.ttl_ms(), is_flat: request.flat, blobs };
    carry_out(api, slot, StatusCode::CREATED, op).await
}

/// `GET /leases`
pub(super) async fn all(State(api): State<Arc<Api>>, slot: Slot) -> Answer {
    json_list("leases", &blocking(slot, move || list(&*api.node)).await?, None)
}

/// `POST /leases/{id}/renew`
pub(super) async fn renew(State(api): State<Arc<Api>>, slot: Slot, Path(id): Path<String>, body: Body) -> Answer {
    let request: LeaseRequest = read_json(body).await?;
    let used = lease_use(&id, request.owner.as_deref())?;
    carry_out(api, slot, StatusCode::OK, LeaseOp::Renew { used, ttl_ms: request.ttl_ms() }).await
}

/// `POST /leases/{id}/blobs`
pub(super) async fn give(State(api): State<Arc<Api>>, slot: Slot, Path(id): Path<String>, body: Body) -> Answer {
    let request: LeaseRequest = read_json(body).await?;
    let (used, blobs) = (lease_use(&id, request.owner.as_deref())?, request.blobs()?);
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
