//! `/events`: a list with a cursor, or a stream that goes on for who accepts `text/event-stream`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::watch::Receiver;

use super::Api;
use super::answer::{Answer, blocking, json_list};
use super::gate::Slot;
use super::query::Pairs;
use crate::failure::Failure;
use crate::limits::{LIST_EVENTS, MAX_LIST_EVENTS};
use crate::service::Node;
use crate::service::events::{EventLine, EventQuery, list};

/// The type of a stream of events.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";
/// The header by which a client says which event it heard last.
pub(crate) const LAST_EVENT_ID: &str = "last-event-id";

/// `GET /events`
pub(super) async fn events(State(api): State<Arc<Api>>, slot: Slot, headers: HeaderMap, RawQuery(query): RawQuery) -> Answer {
    let pairs = Pairs::parse(query.as_deref(), &["since_ms", "cursor", "limit"])?;
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut asked = EventQuery { cursor: pairs.parsed("cursor")?, since_ms: pairs.parsed("since_ms")? };
    let limit: usize = pairs.parsed("limit")?.unwrap_or(LIST_EVENTS);
    if limit == 0 || limit > MAX_LIST_EVENTS {
        return Err(Failure::usage(format!("a list has 1 to {MAX_LIST_EVENTS} events, not {limit}")).into());
    }
    if !text(header::ACCEPT).contains(EVENT_STREAM) {
        let (lines, next) = blocking(slot, move || list(&*api.node, asked, limit)).await?;
        return json_list("events", &lines, next.map(|cursor| cursor.to_string()));
    }
    // Whoever heard something before goes on behind it, whatever else the request says.
    let last = text(header::HeaderName::from_static(LAST_EVENT_ID));
    if !last.is_empty() {
        let cursor = last.parse().map_err(|_| Failure::usage(format!("{last:?} is not the id of an event")))?;
        asked = EventQuery { cursor: Some(cursor), since_ms: None };
    }
    let steps = api.daemon.as_ref().map(|daemon| daemon.driver().steps());
    Ok(followed(Follow { node: Arc::clone(&api.node), asked, steps, closing: api.closing.subscribe(), _slot: slot }))
}

/// A client that is told of events as they come.
struct Follow {
    node: Arc<dyn Node>,
    asked: EventQuery,
    /// Says when something may have happened; none where nothing comes any more.
    steps: Option<Receiver<u64>>,
    /// Says when the daemon ends.
    closing: Receiver<bool>,
    _slot: Slot,
}

fn followed(follow: Follow) -> Response {
    let pieces = stream::unfold(follow, |mut follow| async move {
        let piece = follow.next().await?;
        Some((Ok::<_, std::io::Error>(piece), follow))
    });
    (StatusCode::OK, [(header::CONTENT_TYPE, EVENT_STREAM)], Body::from_stream(pieces)).into_response()
}

impl Follow {
    /// The events that have come since the last ones; none when there will be no more.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // What happens from here on wakes us below, also while we read.
            self.steps.as_mut().map(|steps| *steps.borrow_and_update());
            let (node, asked) = (Arc::clone(&self.node), self.asked);
            let read = tokio::task::spawn_blocking(move || list(&*node, asked, LIST_EVENTS)).await.ok()?;
            let (lines, _) = read.ok()?;
            if let Some(last) = lines.last() {
                self.asked.cursor = Some(last.id);
                return Some(lines.iter().map(told).collect::<String>().into());
            }
            tokio::select! {
                changed = self.steps.as_mut()?.changed() => changed.ok()?,
                _ = self.closing.wait_for(|is_closing| *is_closing) => return None,
            }
        }
    }
}

/// An event as it stands in the stream. Its JSON has no line ends.
fn told(line: &EventLine) -> String {
    let json = serde_json::to_string(line).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {json}\n\n", line.id, line.event)
}
