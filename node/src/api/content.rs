//! `GET` and `HEAD /blobs/{sha1}`: the bytes of a blob, whole or in part.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use keepwell_protocol::id::{B3, BlobFact};
use keepwell_protocol::uri::BlobUri;
use tokio::sync::mpsc::{Receiver, channel};

use super::Api;
use super::answer::{Answer, ApiError, blocking};
use super::blobs::blob_id;
use super::gate::Slot;
use super::network::daemon;
use super::query::Pairs;
use super::range::{Wanted, wanted};
use crate::daemon::fetch::Progress;
use crate::failure::{Code, Failure};
use crate::limits::PIECES_AHEAD;
use crate::service::backend::Extent;
use crate::service::read::{Blob, ReadError, open, recorded};

/// What an answer says of a blob's BLAKE3.
pub(crate) const B3_HEADER: &str = "keepwell-b3";
/// What it says of where the blob was when it was asked for: `here`, or `recorded`, which is elsewhere.
const STATE_HEADER: &str = "keepwell-state";

/// What is known of a blob that is asked for.
enum Found {
    /// It is here.
    Here(Box<Blob>),
    /// It is not here, but the catalog says what it is.
    Recorded(BlobFact),
}

impl Found {
    fn fact(&self) -> BlobFact {
        match self {
            Found::Here(blob) => BlobFact { sha1: blob.id(), b3: blob.b3(), size_bytes: blob.size_bytes() },
            Found::Recorded(fact) => *fact,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Found::Here(_) => "here",
            Found::Recorded(_) => "recorded",
        }
    }
}

/// `GET` and `HEAD /blobs/{sha1}`. What is not here is brought here first, whole, if its bytes are asked for and `local=1` is not.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    slot: Slot,
    method: Method,
    Path(sha1): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let pairs = Pairs::parse(query.as_deref(), &["local", "b3"])?;
    let uri = BlobUri { b3: pairs.parsed::<B3>("b3")?, ..BlobUri::labelled(blob_id(&sha1)?, None) };
    let found = look(&api, &slot, &uri, is_local(&pairs)?).await?;
    let BlobFact { sha1, b3, size_bytes } = found.fact();
    let etag = format!("\"{sha1}\"");
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
    let mut content = vec![
        (header::CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH.as_str(), (part.end - part.start).to_string()),
        (B3_HEADER, b3.to_string()),
        (STATE_HEADER, found.word().to_owned()),
    ];
    if status == StatusCode::PARTIAL_CONTENT {
        let place = format!("bytes {}-{}/{size_bytes}", part.start, part.end.saturating_sub(1));
        content.push((header::CONTENT_RANGE.as_str(), place));
    }
    let body = match found {
        _ if method == Method::HEAD => Body::empty(),
        Found::Here(blob) => send(slot, *blob, part).await?,
        Found::Recorded(fact) => send(slot.clone(), bring(&api, slot, fact).await?, part).await?,
    };
    let mut answer = (status, facts, body).into_response();
    for (name, value) in content {
        let value = HeaderValue::from_str(&value).map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        answer.headers_mut().insert(name, value);
    }
    Ok(answer)
}

fn is_local(pairs: &Pairs) -> Result<bool, Failure> {
    match pairs.one("local")? {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(other) => Err(Failure::usage(format!("the parameter \"local\" is 0 or 1, not {other:?}"))),
    }
}

/// Looks at the records. What is not here counts only if there are other nodes to bring it from.
async fn look(api: &Arc<Api>, slot: &Slot, uri: &BlobUri, is_local: bool) -> Result<Found, ApiError> {
    let (api, uri) = (Arc::clone(api), uri.clone());
    blocking(slot.clone(), move || match open(&*api.node, &uri) {
        Ok(blob) => Ok(Found::Here(Box::new(blob))),
        Err(failure) if failure.code == Code::NoProvider && !is_local && api.daemon.is_some() => {
            let fact = recorded(&*api.node.store().snapshot()?, &uri.sha1)?;
            let fact = fact.filter(|fact| uri.b3.is_none_or(|b3| b3 == fact.b3));
            fact.map(Found::Recorded).ok_or(failure)
        }
        Err(failure) => Err(failure),
    })
    .await
}

/// Brings one blob here, without what it refers to: whoever reads it says what else is needed.
async fn bring(api: &Arc<Api>, slot: Slot, fact: BlobFact) -> Result<Blob, ApiError> {
    daemon(api)?.fetch_one(fact.sha1, Extent::Flat, Progress::default()).await?;
    // It must be the one that its size and ranges were told of.
    let uri = BlobUri { b3: Some(fact.b3), ..BlobUri::labelled(fact.sha1, None) };
    let api = Arc::clone(api);
    blocking(slot, move || open(&*api.node, &uri)).await
}

fn unsatisfiable(size_bytes: u64) -> Response {
    let failure = Failure::usage(format!("the range begins past the end of the blob, which has {size_bytes} bytes"));
    let failure = failure.hint("ask for less").about("size_bytes", size_bytes);
    let answer = ApiError::with_status(StatusCode::RANGE_NOT_SATISFIABLE, failure);
    ([(header::CONTENT_RANGE, format!("bytes */{size_bytes}"))], answer).into_response()
}

/// The bytes as a body. The first piece is verified before the answer begins, so that most bad news still has a status.
async fn send(slot: Slot, blob: Blob, part: std::ops::Range<u64>) -> Result<Body, ApiError> {
    let (pieces, mut queue) = channel::<Result<Bytes, Failure>>(PIECES_AHEAD);
    drop(tokio::task::spawn_blocking(move || {
        let gone = |_| std::io::ErrorKind::BrokenPipe.into();
        let copied = blob.copy_range(part, &mut |piece| pieces.blocking_send(Ok(Bytes::copy_from_slice(piece))).map_err(gone));
        if let Err(ReadError::Failed(failure)) = copied {
            // Nobody is left to be told if this fails.
            drop(pieces.blocking_send(Err(failure)));
        }
        drop(slot);
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
