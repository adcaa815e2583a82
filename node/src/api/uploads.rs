//! `/uploads`: blobs in pieces, which go on where they were cut off.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use keepwell_protocol::name::OwnerName;

use super::Api;
use super::answer::{Answer, blocking, json, json_list};
use super::blobs::{PutQuery, blob_id};
use super::gate::Slot;
use super::query::Pairs;
use super::upload::upload;
use crate::failure::Failure;
use crate::service::uploads::{self, BeginUpload};

fn named(name: &str) -> Result<OwnerName, Failure> {
    Ok(name.parse()?)
}

/// `GET /uploads`
pub(super) async fn all(State(api): State<Arc<Api>>, slot: Slot) -> Answer {
    json_list("uploads", &blocking(slot, move || uploads::list(&*api.node)).await?, None)
}

/// `PUT /uploads/{name}?sha1=&size_bytes=`: begun, or found as it stands.
pub(super) async fn begin(
    State(api): State<Arc<Api>>,
    slot: Slot,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let (name, pairs) = (named(&name)?, Pairs::parse(query.as_deref(), &["sha1", "size_bytes"])?);
    let sha1 = pairs.one("sha1")?.map(blob_id).transpose()?;
    let wish = BeginUpload { sha1, size_bytes: pairs.parsed("size_bytes")? };
    let (line, is_new) = blocking(slot, move || uploads::begin(&*api.node, &name, &wish)).await?;
    json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &line)
}

/// `GET /uploads/{name}`
pub(super) async fn get(State(api): State<Arc<Api>>, slot: Slot, Path(name): Path<String>) -> Answer {
    let name = named(&name)?;
    json(StatusCode::OK, &blocking(slot, move || uploads::get(&*api.node, &name)).await?)
}

/// `POST /uploads/{name}?offset=N`: the bytes from there on.
pub(super) async fn extend(
    State(api): State<Arc<Api>>,
    slot: Slot,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer {
    let name = named(&name)?;
    let offset = Pairs::parse(query.as_deref(), &["offset"])?.parsed::<u64>("offset")?;
    let offset = offset.ok_or_else(|| Failure::usage("`offset` is missing").hint("say where these bytes begin: `?offset=0`"))?;
    let line = upload(slot, body, move |source| uploads::extend(&*api.node, &api.busy_uploads, &name, offset, source));
    json(StatusCode::OK, &line.await?)
}

/// `POST /uploads/{name}/commit`
pub(super) async fn commit(
    State(api): State<Arc<Api>>,
    slot: Slot,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let (name, query) = (named(&name)?, PutQuery::parse(query.as_deref())?);
    let line = blocking(slot, move || {
        let held = uploads::commit(&*api.node, &api.busy_uploads, &name, query.options.clone())?;
        query.held(&*api.node, &held)
    });
    json(StatusCode::CREATED, &line.await?)
}

/// `DELETE /uploads/{name}`
pub(super) async fn remove(State(api): State<Arc<Api>>, slot: Slot, Path(name): Path<String>) -> Answer {
    let name = named(&name)?;
    json(StatusCode::OK, &blocking(slot, move || uploads::remove(&*api.node, &name)).await?)
}
