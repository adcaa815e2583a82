//! `/blobs/{sha1}/why`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Api;
use super::answer::{Answer, blocking, json};
use super::blobs::blob_id;
use super::gate::Slot;
use super::network::itself;
use crate::service::why;

/// `GET /blobs/{sha1}/why`
pub(super) async fn why(State(api): State<Arc<Api>>, slot: Slot, Path(sha1): Path<String>) -> Answer {
    let id = blob_id(&sha1)?;
    let line = blocking(slot, move || why::why(&*api.node, &itself(&api)?, &id));
    json(StatusCode::OK, &line.await?)
}
