//! `GET` and `HEAD /blobs/{sha1}`: the bytes of a blob, whole or in part.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use keepwell_protocol::id::B3;
use keepwell_protocol::uri::BlobUri;
use tokio::sync::mpsc::{Receiver, channel};

use super::Api;
use super::answer::{Answer, ApiError, blocking};
use super::blobs::blob_id;
use super::gate::Permit;
use super::query::Pairs;
use super::range::{Wanted, wanted};
use crate::failure::Failure;
use crate::limits::PIECES_AHEAD;
use crate::service::read::{Blob, ReadError, open};

/// What an answer says of a blob's BLAKE3.
pub(crate) const B3_HEADER: &str = "keepwell-b3";

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
