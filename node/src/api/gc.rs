//! `/gc`, and copies that are given up or brought back

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::StatusCode;
use keepwell_protocol::limits::MAX_QUESTION_BLOBS;
use serde::{Deserialize, Serialize};

use super::Api;
use super::answer::{Answer, ApiError, blocking, json, json_list, read_json};
use super::blobs::blob_id;
use super::gate::Slot;
use super::query::Pairs;
use super::socket::User;
use crate::failure::{Code, Failure};
use crate::service::{drop, gc};

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

/// Copies to give up.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DropRequest {
    /// Of which blobs.
    pub(crate) sha1: Vec<String>,
    /// The member that is to give them up, by name or id; none is this node.
    #[serde(default)]
    pub(crate) from: Option<String>,
}

/// `POST /blobs/drop`
pub(super) async fn drop_copies(State(api): State<Arc<Api>>, slot: Slot, body: Body) -> Answer {
    let request: DropRequest = read_json(body).await?;
    if request.sha1.len() > MAX_QUESTION_BLOBS {
        return Err(ApiError::too_large("blobs", MAX_QUESTION_BLOBS));
    }
    let blobs = request.sha1.iter().map(|text| blob_id(text)).collect::<Result<Vec<_>, Failure>>()?;
    let lines = blocking(slot, move || drop::drop_copies(&*api.node, &blobs, request.from.as_deref())).await?;
    json_list("blobs", &lines, None)
}

/// Copies to give up here without proof.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GiveUpRequest {
    /// Of which blobs.
    pub(crate) sha1: Vec<String>,
}

/// `POST /blobs/give-up`: for the command line alone, over the socket, which tells who asks.
pub(super) async fn give_up(
    State(api): State<Arc<Api>>,
    slot: Slot,
    user: Option<Extension<ConnectInfo<User>>>,
    body: Body,
) -> Answer {
    let Some(Extension(ConnectInfo(user))) = user else {
        let failure = Failure::new(Code::Denied, "who asks for this must come over the socket of the home");
        return Err(failure.hint("use `keepwell drop --allow-last-copy` on that machine").into());
    };
    let request: GiveUpRequest = read_json(body).await?;
    if request.sha1.len() > MAX_QUESTION_BLOBS {
        return Err(ApiError::too_large("blobs", MAX_QUESTION_BLOBS));
    }
    let blobs = request.sha1.iter().map(|text| blob_id(text)).collect::<Result<Vec<_>, Failure>>()?;
    let lines = blocking(slot, move || drop::give_up(&*api.node, &blobs, &user.to_string())).await?;
    json_list("blobs", &lines, None)
}

/// `DELETE /blobs/{sha1}`
pub(super) async fn drop_copy(
    State(api): State<Arc<Api>>,
    slot: Slot,
    Path(sha1): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let id = blob_id(&sha1)?;
    let from = Pairs::parse(query.as_deref(), &["from"])?.one("from")?.map(str::to_owned);
    let line = blocking(slot, move || drop::drop_copy(&*api.node, id, from.as_deref())).await?;
    json(StatusCode::OK, &line)
}

/// `GET /gc`
pub(super) async fn state(State(api): State<Arc<Api>>, slot: Slot) -> Answer {
    json(StatusCode::OK, &blocking(slot, move || gc::state(&*api.node)).await?)
}

/// `POST /blobs/{sha1}/undrop`
pub(super) async fn undrop(State(api): State<Arc<Api>>, slot: Slot, Path(sha1): Path<String>) -> Answer {
    let id = blob_id(&sha1)?;
    let line = blocking(slot, move || gc::undrop(&*api.node, &id)).await?;
    json(StatusCode::OK, &line)
}
