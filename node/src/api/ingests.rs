//! `/ingests`: files that a client with the daemon's user id writes into `ingest/` itself, and many small blobs in one request.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use data_encoding::BASE64;
use keepwell_protocol::id::BlobId;
use keepwell_store::ingest::{IngestId, remove_leftover};
use keepwell_store::layout;
use serde::Deserialize;
use serde_json::{Value, json as value};

use super::Api;
use super::answer::{Answer, ApiError, blocking, json, json_list, read_json};
use super::blobs::{PutQuery, line, scan_json};
use super::gate::Slot;
use super::leases::put_under;
use super::query::Pairs;
use crate::failure::{Code, Failure};
use crate::limits::{MAX_COMMIT_ITEMS, MAX_NEW_INGESTS};
use crate::service::put::{Outcome, PutOptions, Putter, only};

/// `POST /ingests?count=N`
pub(super) async fn issue(State(api): State<Arc<Api>>, slot: Slot, RawQuery(query): RawQuery) -> Answer {
    let pairs = Pairs::parse(query.as_deref(), &["count"])?;
    let count = pairs.parsed::<usize>("count")?.unwrap_or(1);
    if count > MAX_NEW_INGESTS {
        return Err(ApiError::too_large("ingests", MAX_NEW_INGESTS));
    }
    let lines = blocking(slot, move || {
        let store = api.node.store();
        store.fs().create_folders(&[layout::ingest_folder()]).map_err(|error| Failure::file("cannot make", &api.home, &error))?;
        Ok((0..count).map(|_| api.new_ingest()).collect::<Vec<Value>>())
    });
    let mut lines = lines.await?;
    match pairs.one("count")? {
        Some(_) => json_list("ingests", &lines, None),
        None => json(StatusCode::CREATED, &lines.pop().unwrap_or_default()),
    }
}

impl Api {
    fn new_ingest(&self) -> Value {
        let id = self.node.new_ingest();
        if let Some(forgotten) = self.open_ingests().issue(id) {
            // Its client may not have come to writing it; and what cannot be removed is found at the next start.
            remove_leftover(self.node.store().fs(), forgotten).ok();
        }
        let path = layout::ingest_file(&id).under(&self.home);
        value!({ "id": id.to_string(), "path": path.display().to_string() })
    }
}

/// `POST /ingests/{id}/commit`
pub(super) async fn commit_one(
    State(api): State<Arc<Api>>,
    slot: Slot,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let query = PutQuery::parse(query.as_deref())?;
    let line = blocking(slot, move || {
        let mut silent = |_| ();
        let id = api.take_open(&id)?;
        let mut putter = Putter::new(&*api.node, query.options.clone(), &mut silent);
        let mut outcomes = putter.put_ingest(0, id, Vec::new())?;
        outcomes.extend(putter.finish()?);
        query.held(&*api.node, &only(outcomes)?)
    });
    json(StatusCode::CREATED, &line.await?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitRequest {
    items: Vec<CommitItem>,
    #[serde(default)]
    links: Vec<String>,
    scan: Option<String>,
    lease: Option<String>,
    owner: Option<String>,
}

/// One blob: a file in `ingest/`, or its bytes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitItem {
    ingest: Option<String>,
    base64: Option<String>,
    #[serde(default)]
    links: Vec<String>,
}

/// `POST /ingests/commit`: each item has an answer of its own.
pub(super) async fn commit(State(api): State<Arc<Api>>, slot: Slot, body: Body) -> Answer {
    let request: CommitRequest = read_json(body).await?;
    if request.items.len() > MAX_COMMIT_ITEMS {
        return Err(ApiError::too_large("items", MAX_COMMIT_ITEMS));
    }
    let lines = blocking(slot, move || api.commit_all(request)).await?;
    json_list("blobs", &lines, None)
}

impl Api {
    fn take_open(&self, text: &str) -> Result<IngestId, Failure> {
        let id: IngestId = text.parse().map_err(|error| Failure::usage(format!("{text:?}: {error}")))?;
        if self.open_ingests().take(&id) {
            return Ok(id);
        }
        Err(Failure::new(Code::NotFound, format!("no ingest {id} is open")).hint("get one with POST /api/v1/ingests"))
    }

    fn commit_all(&self, request: CommitRequest) -> Result<Vec<Value>, Failure> {
        let lease = put_under(request.lease.as_deref(), request.owner.as_deref())?;
        let scan_json = scan_json(request.scan.as_deref())?;
        let options = PutOptions { links: ids(&request.links)?, scan_json, expected: None, lease };
        let (mut silent, mut outcomes) = (|_| (), Vec::new());
        let mut putter = Putter::new(&*self.node, options, &mut silent);
        for (number, item) in request.items.into_iter().enumerate() {
            match self.commit_item(&mut putter, number, item) {
                Ok(done) => outcomes.extend(done),
                Err(failure) if failure.ends_all() => return Err(failure),
                Err(failure) => outcomes.push(Err((number, failure))),
            }
        }
        outcomes.extend(putter.finish()?);
        outcomes.sort_by_key(|outcome| match outcome {
            Ok(held) => held.number,
            Err((number, _)) => *number,
        });
        outcomes.into_iter().map(told).collect()
    }

    fn commit_item(&self, putter: &mut Putter<'_>, number: usize, item: CommitItem) -> Result<Vec<Outcome>, Failure> {
        let children = ids(&item.links)?;
        match (item.ingest, item.base64) {
            (Some(id), None) => putter.put_ingest(number, self.take_open(&id)?, children),
            (None, Some(text)) => {
                let bytes = BASE64.decode(text.as_bytes());
                let bytes = bytes.map_err(|error| Failure::usage(format!("the bytes are not base64: {error}")))?;
                putter.put_small(number, &bytes, children)
            }
            _ => Err(Failure::usage("an item has either `ingest` or `base64`")),
        }
    }
}

fn told(outcome: Outcome) -> Result<Value, Failure> {
    match outcome {
        Ok(held) => serde_json::to_value(line(&held)).map_err(|error| Failure::new(Code::Internal, error.to_string())),
        Err((_, failure)) => Ok(failure.to_json()),
    }
}

fn ids(texts: &[String]) -> Result<Vec<BlobId>, Failure> {
    texts.iter().map(|text| text.parse().map_err(|error| Failure::usage(format!("{text:?}: {error}")))).collect()
}
