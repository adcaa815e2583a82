//! `/blobs/{sha1}/why`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use keepwell_store::error::StoreError;

use super::Api;
use super::answer::{Answer, blocking, json};
use super::blobs::blob_id;
use super::gate::Slot;
use crate::service::why;

/// `GET /blobs/{sha1}/why`
pub(super) async fn why(State(api): State<Arc<Api>>, slot: Slot, Path(sha1): Path<String>) -> Answer {
    let id = blob_id(&sha1)?;
    let line = blocking(slot, move || {
        let home = api.node.store().snapshot()?.home()?.ok_or_else(|| StoreError::Inconsistent("no home".into()))?;
        why::why(&*api.node, &home.node, &id)
    });
    json(StatusCode::OK, &line.await?)
}
