//! How many requests are worked on at once.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::answer::ApiError;
use crate::failure::{Code, Failure};
use crate::limits::MAX_REQUESTS;

/// One of the requests that are worked on: it counts until the last of these is dropped.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Lets a request in, or tells it to come again.
pub(super) async fn enter(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let Ok(slot) = Arc::clone(&api.gate).try_acquire_owned() else {
        let failure = Failure::new(Code::Rate, format!("{MAX_REQUESTS} requests are being worked on already"));
        return ApiError::from(failure.hint("try again when one of them is done")).into_response();
    };
    request.extensions_mut().insert(Slot { _permit: Arc::new(slot) });
    next.run(request).await
}

impl<S: Send + Sync> FromRequestParts<S> for Slot {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let slot = parts.extensions.get::<Slot>().cloned();
        slot.ok_or_else(|| Failure::new(Code::Internal, "a request went round the gate").into())
    }
}
