//! `/blobs`: bytes in, bytes out, and what is known of them.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use keepwell_protocol::id::{B3, BlobId};
use keepwell_protocol::json::Json;
use keepwell_protocol::name::{Label, RefName};
use keepwell_protocol::uri::BlobUri;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, channel};

use super::Api;
use super::answer::{Answer, ApiError, blocking, json, json_list, read_json};
use super::gate::Permit;
use super::query::Pairs;
use super::range::{Wanted, wanted};
use super::upload::upload;
use crate::failure::{Code, Failure};
use crate::limits::{MAX_STAT_BLOBS, PIECES_AHEAD};
use crate::service::Node;
use crate::service::put::{Held, Outcome, PutOptions, Putter};
use crate::service::read::{Blob, ReadError, open};
use crate::service::refs::{self, SetRef};
use crate::service::stat;
use crate::service::types::HeldLine;

/// What an answer says of a blob's BLAKE3.
pub(crate) const B3_HEADER: &str = "keepwell-b3";

/// What a put says of its blob, besides the bytes.
#[derive(Debug, Default)]
pub(super) struct PutQuery {
    pub(super) options: PutOptions,
    pub(super) label: Option<Label>,
    pub(super) reference: Option<(RefName, Option<String>)>,
}

impl PutQuery {
    pub(super) fn parse(query: Option<&str>) -> Result<PutQuery, Failure> {
        let pairs = Pairs::parse(query, &["label", "link", "scan", "ref"])?;
        let links = pairs.all("link").map(|text| Ok(BlobUri::parse_lenient(text)?.sha1));
        let links = links.collect::<Result<_, Failure>>()?;
        let reference = pairs.one("ref")?.map(|text| match text.rsplit_once('#') {
            Some((name, field)) => Ok::<_, Failure>((name.parse()?, Some(field.to_owned()))),
            None => Ok((text.parse()?, None)),
        });
        Ok(PutQuery {
            options: PutOptions { links, scan_json: scan_json(pairs.one("scan")?)?, expected: None },
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
pub(super) async fn add(State(api): State<Arc<Api>>, permit: Permit, RawQuery(query): RawQuery, body: Body) -> Answer {
    add_as(api, permit, query, None, body).await
}

/// `PUT /blobs/{sha1}`: refused when the bytes do not hash to that.
pub(super) async fn add_named(
    State(api): State<Arc<Api>>,
    permit: Permit,
    Path(sha1): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer {
    add_as(api, permit, query, Some(blob_id(&sha1)?), body).await
}

async fn add_as(api: Arc<Api>, permit: Permit, query: Option<String>, expected: Option<BlobId>, body: Body) -> Answer {
    let query = PutQuery::parse(query.as_deref())?;
    let line = upload(permit, body, move |source| {
        let mut silent = |_| ();
        let options = PutOptions { expected, ..query.options.clone() };
        let mut putter = Putter::new(&*api.node, options, &mut silent);
        let mut outcomes = putter.put_stream(0, source)?;
        outcomes.extend(putter.finish()?);
        query.held(&*api.node, &only(outcomes)?)
    });
    json(StatusCode::CREATED, &line.await?)
}

/// The outcome of a put of one blob.
pub(super) fn only(outcomes: Vec<Outcome>) -> Result<Held, Failure> {
    let outcome = outcomes.into_iter().next().ok_or_else(|| Failure::new(Code::Internal, "a put was not answered"))?;
    outcome.map_err(|(_, failure)| failure)
}

/// `GET` and `HEAD /blobs/{sha1}`
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    permit: Permit,
    method: Method,
    Path(sha1): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let pairs = Pairs::parse(query.as_deref(), &["local", "b3"])?;
    let uri = BlobUri { b3: pairs.parsed::<B3>("b3")?, ..BlobUri::labelled(blob_id(&sha1)?, None) };
    let (blob, b3) = blocking(permit.clone(), move || {
        let blob = open(&*api.node, &uri)?;
        let b3 = blob.b3();
        Ok((blob, b3))
    })
    .await?;
    let etag = format!("\"{}\"", blob.id());
    let size_bytes = blob.size_bytes();
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let facts = [(header::ETAG, etag.clone()), (header::ACCEPT_RANGES, "bytes".to_owned())];
    if text(header::IF_NONE_MATCH).is_some_and(|tags| tags == "*" || tags.split(',').any(|tag| tag.trim() == etag)) {
        return Ok((StatusCode::NOT_MODIFIED, facts).into_response());
    }
    let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|tag| tag == etag));
    let (status, part) = match wanted(range, size_bytes) {
        Wanted::Whole => (StatusCode::OK, 0..size_bytes),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Unsatisfiable => return Ok(unsatisfiable(size_bytes)),
    };
    let content = [
        (header::CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH.as_str(), (part.end - part.start).to_string()),
        (B3_HEADER, b3.to_string()),
    ];
    let place = (status == StatusCode::PARTIAL_CONTENT)
        .then(|| [(header::CONTENT_RANGE, format!("bytes {}-{}/{size_bytes}", part.start, part.end.saturating_sub(1)))]);
    let body = if method == Method::HEAD { Body::empty() } else { send(permit, blob, part).await? };
    Ok((status, facts, content, place.map(|place| place.into_response().headers().clone()).unwrap_or_default(), body)
        .into_response())
}

fn unsatisfiable(size_bytes: u64) -> Response {
    let failure = Failure::usage(format!("the range begins past the end of the blob, which has {size_bytes} bytes"));
    let failure = failure.hint("ask for less").about("size_bytes", size_bytes);
    let answer = ApiError::with_status(StatusCode::RANGE_NOT_SATISFIABLE, failure);
    ([(header::CONTENT_RANGE, format!("bytes */{size_bytes}"))], answer).into_response()
}

/// The bytes as a body. The first piece is verified before the answer begins, so that most bad news still has a status.
async fn send(permit: Permit, blob: Blob, part: std::ops::Range<u64>) -> Result<Body, ApiError> {
    let (pieces, mut queue) = channel::<Result<Bytes, Failure>>(PIECES_AHEAD);
    drop(tokio::task::spawn_blocking(move || {
        let gone = |_| std::io::ErrorKind::BrokenPipe.into();
        let copied = blob.copy_range(part, &mut |piece| pieces.blocking_send(Ok(Bytes::copy_from_slice(piece))).map_err(gone));
        if let Err(ReadError::Failed(failure)) = copied {
            // Nobody is left to be told if this fails.
            drop(pieces.blocking_send(Err(failure)));
        }
        drop(permit);
    }));
    let first = queue.recv().await.transpose()?;
    let rest = stream::unfold((first.map(Ok), queue), next_piece);
    Ok(Body::from_stream(rest))
}

type Pieces = (Option<Result<Bytes, Failure>>, Receiver<Result<Bytes, Failure>>);

/// A failure here breaks the answer off: its length was promised, so the client sees that it is not whole.
async fn next_piece((first, mut queue): Pieces) -> Option<(Result<Bytes, Failure>, Pieces)> {
    let piece = match first {
        Some(piece) => Some(piece),
        None => queue.recv().await,
    };
    Some((piece?, (None, queue)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatRequest {
    sha1: Vec<String>,
    fields: Option<Vec<String>>,
}

/// `POST /blobs/stat`
pub(super) async fn stat(State(api): State<Arc<Api>>, permit: Permit, body: Body) -> Answer {
    let request: StatRequest = read_json(body).await?;
    if request.sha1.len() > MAX_STAT_BLOBS {
        return Err(ApiError::too_large("blobs", MAX_STAT_BLOBS));
    }
    let asked = request.sha1.iter().map(|text| Ok((blob_id(text)?, None))).collect::<Result<Vec<_>, Failure>>()?;
    let lines = blocking(permit, move || stat::stat(&*api.node, &asked)).await?;
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

fn blob_id(text: &str) -> Result<BlobId, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{text:?}: {error}")).hint("name a blob by 40 hexadecimal digits"))
}
