//! Answers: JSON, or the failure that says why not.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::gate::Slot;
use crate::failure::{Code, Failure};
use crate::limits::{MAX_JSON_BODY_BYTES, UNWANTED_BODY_PAUSE};

/// What a handler comes to.
pub(super) type Answer = Result<Response, ApiError>;

/// A failure and its status, which follows from its code unless HTTP has a finer word for it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    failure: Box<Failure>,
}

impl ApiError {
    pub(super) fn with_status(status: StatusCode, failure: Failure) -> Self {
        ApiError { status, failure: Box::new(failure) }
    }

    /// More than one request may ask for or bring.
    pub(super) fn too_large(what: &str, limit: usize) -> Self {
        let failure = Failure::usage(format!("the request has more than {limit} {what}")).hint("send it in parts");
        Self::with_status(StatusCode::PAYLOAD_TOO_LARGE, failure.about("limit", limit))
    }
}

impl<F: Into<Failure>> From<F> for ApiError {
    fn from(failure: F) -> Self {
        let failure = failure.into();
        let status = StatusCode::from_u16(failure.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::with_status(status, failure)
    }
}

impl From<ApiError> for Response {
    fn from(error: ApiError) -> Self {
        let text = error.failure.to_json().to_string();
        (error.status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.into()
    }
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(value).map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
    Ok((status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// Lists are objects with their plural as the key, and where they were cut.
pub(super) fn json_list(plural: &str, items: &impl Serialize, next: Option<String>) -> Answer {
    let failed = |error: serde_json::Error| Failure::new(Code::Internal, error.to_string());
    let (items, next) = (serde_json::to_string(items).map_err(failed)?, serde_json::to_string(&next).map_err(failed)?);
    let text = format!("{{\"{plural}\":{items},\"next\":{next}}}");
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// A request in JSON, of at most [`MAX_JSON_BODY_BYTES`].
pub(super) async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let mut body = body;
    let announced = body.size_hint().lower();
    let too_large = || ApiError::too_large("bytes of JSON", MAX_JSON_BODY_BYTES);
    if announced > MAX_JSON_BODY_BYTES as u64 {
        let_finish(body).await;
        return Err(too_large());
    }
    let collected = Limited::new(&mut body, MAX_JSON_BODY_BYTES).collect().await;
    let bytes = match collected {
        Ok(bytes) => bytes,
        Err(error) if error.is::<LengthLimitError>() => {
            let_finish(body).await;
            return Err(too_large());
        }
        Err(error) => return Err(Failure::usage(format!("the body cannot be read: {error}")).into()),
    };
    // A reader and not a slice: only so are the numbers of an object kept as they are.
    let parsed = serde_json::from_reader(&*bytes.to_bytes());
    parsed.map_err(|error| Failure::usage(format!("the body is not what is expected here: {error}")).into())
}

/// Lets a client that is writing too much come to its end, within limits: one that is cut off would not hear why.
///
/// A client that waits to be told before it writes is told after [`UNWANTED_BODY_PAUSE`].
async fn let_finish(body: Body) {
    let mut rest = Limited::new(body, 2 * MAX_JSON_BODY_BYTES);
    while let Ok(Some(Ok(_))) = timeout(UNWANTED_BODY_PAUSE, rest.frame()).await {}
}

/// Does what may wait for the disk, on a thread that may. It counts as a request until it is done, whoever goes away.
pub(super) async fn blocking<T: Send + 'static>(
    slot: Slot,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(move || {
        let outcome = work();
        drop(slot);
        outcome
    });
    match done.await {
        Ok(outcome) => Ok(outcome?),
        Err(error) => Err(Failure::new(Code::Internal, format!("the request was not carried out: {error}")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_is_answered_after_unwanted_body_pause() {
        let silent = futures::stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
        let began = tokio::time::Instant::now();
        let_finish(Body::from_stream(silent)).await;
        assert_eq!(began.elapsed().as_millis(), UNWANTED_BODY_PAUSE.as_millis());
    }
}
