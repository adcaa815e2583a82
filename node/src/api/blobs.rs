//! `/blobs`: bytes in, and what is known of them. How they come out is in `content`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use keepwell_protocol::id::BlobId;
use keepwell_protocol::json::Json;
use keepwell_protocol::name::{Label, RefName};
use keepwell_protocol::uri::BlobUri;
use serde::Deserialize;
use serde_json::Value;

use super::Api;
use super::answer::{Answer, ApiError, blocking, json, json_list, read_json};
use super::gate::Slot;
use super::leases::put_under;
use super::query::Pairs;
use super::upload::upload;
use crate::failure::Failure;
use crate::limits::MAX_STAT_BLOBS;
use crate::service::Node;
use crate::service::put::{Held, PutOptions, Putter, only};
use crate::service::refs::{self, SetRef};
use crate::service::stat;
use crate::service::types::HeldLine;

/// What a put says of its blob, besides the bytes.
#[derive(Debug, Default)]
pub(super) struct PutQuery {
    pub(super) options: PutOptions,
    pub(super) label: Option<Label>,
    pub(super) reference: Option<(RefName, Option<String>)>,
}

impl PutQuery {
    pub(super) fn parse(query: Option<&str>) -> Result<PutQuery, Failure> {
        let pairs = Pairs::parse(query, &["label", "link", "scan", "ref", "lease", "owner"])?;
        let links = pairs.all("link").map(|text| Ok(BlobUri::parse_lenient(text)?.sha1));
        let links = links.collect::<Result<_, Failure>>()?;
        let reference = pairs.one("ref")?.map(|text| match text.rsplit_once('#') {
            Some((name, field)) => Ok::<_, Failure>((name.parse()?, Some(field.to_owned()))),
            None => Ok((text.parse()?, None)),
        });
        let lease = put_under(pairs.one("lease")?, pairs.one("owner")?)?;
        Ok(PutQuery {
            options: PutOptions { links, scan_json: scan_json(pairs.one("scan")?)?, expected: None, lease },
            label: pairs.parsed("label")?,
            reference: reference.transpose()?,
        })
    }

    /// What is answered once the blob is held: it is named first, if it shall be.
    pub(super) fn held(self, node: &dyn Node, held: &Held) -> Result<HeldLine, Failure> {
        let uri = BlobUri::labelled(held.fact.sha1, self.label);
        let reference = match self.reference {
            Some((name, Some(field))) => Some(refs::set_fields(node, &name, vec![(field, uri.to_string())])?),
            Some((name, None)) => {
                let field = uri.label.as_ref().map_or_else(|| uri.sha1.to_string(), ToString::to_string);
                let obj = Json::Object(vec![(field, Json::String(uri.to_string()))]).to_compact_sorted();
                Some(refs::set(node, SetRef::new(name, obj))?)
            }
            None => None,
        };
        let line = line(held);
        Ok(HeldLine { uri: uri.to_string(), reference, ..line })
    }
}

/// Whether `scan` asks for JSON, the one format that is read for links.
pub(super) fn scan_json(scan: Option<&str>) -> Result<bool, Failure> {
    match scan {
        None => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(Failure::usage(format!("{other:?} cannot be scanned for links")).hint("scan `json`")),
    }
}

/// A blob without a label.
pub(super) fn line(held: &Held) -> HeldLine {
    HeldLine {
        uri: BlobUri::labelled(held.fact.sha1, None).to_string(),
        sha1: held.fact.sha1.to_string(),
        b3: held.fact.b3.to_string(),
        size_bytes: held.fact.size_bytes,
        existed: held.existed,
        reference: None,
    }
}

/// `POST /blobs`
pub(super) async fn add(State(api): State<Arc<Api>>, slot: Slot, RawQuery(query): RawQuery, body: Body) -> Answer {
    add_as(api, slot, query, None, body).await
}

/// `PUT /blobs/{sha1}`: refused when the bytes do not hash to that.
pub(super) async fn add_named(
    State(api): State<Arc<Api>>,
    slot: Slot,
    Path(sha1): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer {
    add_as(api, slot, query, Some(blob_id(&sha1)?), body).await
}

async fn add_as(api: Arc<Api>, slot: Slot, query: Option<String>, expected: Option<BlobId>, body: Body) -> Answer {
    let query = PutQuery::parse(query.as_deref())?;
    let line = upload(slot, body, move |source| {
        let mut silent = |_| ();
        let options = PutOptions { expected, ..query.options.clone() };
        let mut putter = Putter::new(&*api.node, options, &mut silent);
        let mut outcomes = putter.put_stream(0, source)?;
        outcomes.extend(putter.finish()?);
        query.held(&*api.node, &only(outcomes)?)
    });
    json(StatusCode::CREATED, &line.await?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatRequest {
    sha1: Vec<String>,
    fields: Option<Vec<String>>,
}

/// `POST /blobs/stat`
pub(super) async fn stat(State(api): State<Arc<Api>>, slot: Slot, body: Body) -> Answer {
    let request: StatRequest = read_json(body).await?;
    if request.sha1.len() > MAX_STAT_BLOBS {
        return Err(ApiError::too_large("blobs", MAX_STAT_BLOBS));
    }
    let asked = request.sha1.iter().map(|text| Ok((blob_id(text)?, None))).collect::<Result<Vec<_>, Failure>>()?;
    let lines = blocking(slot, move || stat::stat(&*api.node, &asked)).await?;
    let Some(fields) = request.fields else { return json_list("blobs", &lines, None) };
    let lines = lines.iter().map(|line| {
        let mut line = serde_json::to_value(line).unwrap_or_default();
        if let Some(line) = line.as_object_mut() {
            line.retain(|key, _: &mut Value| fields.iter().any(|field| field == key));
        }
        line
    });
    json_list("blobs", &lines.collect::<Vec<_>>(), None)
}

pub(super) fn blob_id(text: &str) -> Result<BlobId, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{text:?}: {error}")).hint("name a blob by 40 hexadecimal digits"))
}
