//! Events of a daemon's home: asked for page by page, or followed as they come.

use axum::http::{HeaderName, HeaderValue, Method, header};
use serde::Deserialize;

use super::{Client, empty, not_understood, request};
use crate::api::events::{EVENT_STREAM, LAST_EVENT_ID};
use crate::failure::Failure;
use crate::service::events::{EventLine, EventQuery};

#[derive(Deserialize)]
struct EventList {
    events: Vec<EventLine>,
    next: Option<String>,
}

impl Client {
    /// Gives every event that there is to `each`, the oldest first.
    pub(super) fn all_events(
        &self,
        query: EventQuery,
        each: &mut dyn FnMut(EventLine) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut cursor = query.cursor.map(|cursor| cursor.to_string());
        loop {
            let page: EventList = self.ask(Method::GET, &path(query.since_ms, cursor.as_deref()), &[])?;
            page.events.into_iter().try_for_each(&mut *each)?;
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Gives events to `each` as they come, until the daemon ends.
    pub(super) fn follow_events(
        &self,
        query: EventQuery,
        each: &mut dyn FnMut(EventLine) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut headers = vec![(header::ACCEPT, HeaderValue::from_static(EVENT_STREAM))];
        headers.extend(query.cursor.map(|cursor| (HeaderName::from_static(LAST_EVENT_ID), HeaderValue::from(cursor))));
        let answer = self.send(request(Method::GET, &path(query.since_ms, None), &headers, empty())?)?;
        self.text_lines(answer.into_body(), &mut |line| {
            let Some(json) = line.strip_prefix(b"data: ") else { return Ok(()) };
            each(serde_json::from_slice(json).map_err(|error| not_understood(&error.to_string()))?)
        })
    }
}

fn path(since_ms: Option<u64>, cursor: Option<&str>) -> String {
    let pairs = [since_ms.map(|ms| format!("since_ms={ms}")), cursor.map(|cursor| format!("cursor={cursor}"))];
    format!("/events?{}", pairs.into_iter().flatten().collect::<Vec<_>>().join("&"))
}
