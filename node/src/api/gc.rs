//! `GET /gc`, `POST /gc` and `POST /blobs/{sha1}/undrop`

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use keepwell_protocol::id::{BlobId, ParseIdError};
use serde::{Deserialize, Serialize};

use super::Api;
use super::answer::{Answer, blocking, json, read_json};
use super::gate::Slot;
use crate::failure::Failure;
use crate::service::gc;

/// How to collect garbage.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GcRequest {
    /// Delete it; else only tell.
    #[serde(default)]
    pub(crate) run: bool,
    /// How long a blob stays after its put all the same; none is the usual grace.
    #[serde(default)]
    pub(crate) grace_ms: Option<u64>,
    /// Stop when so much is freed, and free its space at once.
    #[serde(default)]
    pub(crate) to_free_bytes: Option<u64>,
}

/// `POST /gc`
pub(super) async fn collect(State(api): State<Arc<Api>>, slot: Slot, body: Body) -> Answer {
    let request: GcRequest = read_json(body).await?;
    let GcRequest { run, grace_ms, to_free_bytes } = request;
    let wish = gc::Wish { run, grace_ms, to_free_bytes };
    let report = blocking(slot, move || gc::collect(&*api.node, wish)).await?;
    json(StatusCode::OK, &report)
}

/// `GET /gc`
pub(super) async fn state(State(api): State<Arc<Api>>, slot: Slot) -> Answer {
    json(StatusCode::OK, &blocking(slot, move || gc::state(&*api.node)).await?)
}

/// `POST /blobs/{sha1}/undrop`
pub(super) async fn undrop(State(api): State<Arc<Api>>, slot: Slot, Path(sha1): Path<String>) -> Answer {
    let id: BlobId = sha1.parse().map_err(|error: ParseIdError| Failure::usage(error.to_string()))?;
    let line = blocking(slot, move || gc::undrop(&*api.node, &id)).await?;
    json(StatusCode::OK, &line)
}
