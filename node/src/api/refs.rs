//! `/refs`: names for data.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use keepwell_protocol::json::{Filter, FilterError, Json};
use keepwell_protocol::name::RefName;
use keepwell_protocol::uri::BlobUri;
use serde::Deserialize;
use serde_json::{Value, json as value};

use super::Api;
use super::answer::{Answer, ApiError, blocking, json, json_list, read_json};
use super::gate::Slot;
use super::query::Pairs;
use crate::engine::RefOp;
use crate::failure::Failure;
use crate::limits::{LIST_REFS, MAX_BATCH_REFS, MAX_CONFIRM_WAIT_MS, MAX_LIST_REFS};
use crate::service::durable;
use crate::service::list::{self, Query};
use crate::service::refs::{self as service, SetRef, rev_of};
use crate::service::types::RefLine;

/// The pause between two times that others are asked for the same copies.
const CONFIRM_PAUSE: Duration = Duration::from_millis(200);

/// The value of a ref as a request brings it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetRequest {
    obj: Json,
    meta: Option<Json>,
    expires_ms: Option<u64>,
    ttl_access_ms: Option<u64>,
    #[serde(default = "one_copy")]
    copies: u32,
    #[serde(default)]
    allow_missing: bool,
}

const fn one_copy() -> u32 {
    1
}

impl SetRequest {
    fn set(self, name: RefName, if_rev: Option<String>) -> Result<SetRef, Failure> {
        if self.copies == 0 {
            return Err(Failure::usage("a ref has at least one copy").hint("leave `copies` out for one"));
        }
        Ok(SetRef {
            meta: self.meta.map(|meta| meta.to_compact()),
            expires_ms: self.expires_ms,
            ttl_access_ms: self.ttl_access_ms,
            copies: self.copies,
            if_rev,
            allow_missing: self.allow_missing,
            ..SetRef::new(name, self.obj.to_compact())
        })
    }
}

/// `PUT /refs/{group…}/{key}`
pub(super) async fn set(
    State(api): State<Arc<Api>>,
    slot: Slot,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let request: SetRequest = read_json(body).await?;
    let set = request.set(name.parse::<RefName>()?, if_rev(&headers)?)?;
    one(blocking(slot, move || service::set(&*api.node, set)).await?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldsRequest {
    fields: Json,
}

/// `PATCH /refs/{group…}/{key}`: some fields of the object, and nothing else.
pub(super) async fn set_fields(State(api): State<Arc<Api>>, slot: Slot, Path(name): Path<String>, body: Body) -> Answer {
    let (name, request) = (name.parse::<RefName>()?, read_json::<FieldsRequest>(body).await?);
    let Json::Object(fields) = request.fields else { return Err(Failure::usage("`fields` is an object").into()) };
    let fields = fields.into_iter().map(|(field, value)| match value {
        Json::String(uri) => Ok((field, uri)),
        _ => Err(Failure::usage(format!("the field {field:?} is no URI"))),
    });
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    one(blocking(slot, move || service::set_fields(&*api.node, &name, fields)).await?)
}

/// `GET /refs/{group…}/{key}`; with `confirm=1` the copies are proven, and waited for as long as `wait_ms` says.
pub(super) async fn read(State(api): State<Arc<Api>>, slot: Slot, Path(name): Path<String>, RawQuery(query): RawQuery) -> Answer {
    let name: RefName = name.parse()?;
    let pairs = Pairs::parse(query.as_deref(), &["confirm", "wait_ms"])?;
    if pairs.one("confirm")?.is_none_or(|text| text == "0") {
        return one(blocking(slot, move || service::get(&*api.node, &name)).await?);
    }
    let wait_ms = pairs.parsed::<u64>("wait_ms")?.unwrap_or(0);
    if wait_ms > MAX_CONFIRM_WAIT_MS {
        return Err(Failure::usage(format!("copies are waited for up to {MAX_CONFIRM_WAIT_MS} ms"))
            .hint("ask again after that")
            .into());
    }
    let deadline_ms = api.node.now_ms().saturating_add(wait_ms);
    let mut steps = api.daemon.as_ref().map(|daemon| daemon.driver().steps());
    // Between two questions nothing is kept but this task, which ends with its client.
    loop {
        let (node, of) = (Arc::clone(&api.node), name.clone());
        let line = blocking(slot.clone(), move || durable::confirm(&*node, &of)).await?;
        if line.durable >= line.copies || api.node.now_ms() >= deadline_ms {
            return one(line);
        }
        // The questions have made steps themselves; only what happens after a pause is news.
        tokio::time::sleep(CONFIRM_PAUSE).await;
        if let Some(steps) = &mut steps {
            steps.borrow_and_update();
            // A daemon that ends answers nobody any more; the next question says so.
            steps.changed().await.ok();
        }
    }
}

/// `DELETE /refs/{group…}/{key}`: the value that it had.
pub(super) async fn remove(State(api): State<Arc<Api>>, slot: Slot, Path(name): Path<String>, headers: HeaderMap) -> Answer {
    let (name, if_rev) = (name.parse::<RefName>()?, if_rev(&headers)?);
    let line = blocking(slot, move || service::remove(&*api.node, &name, if_rev)).await?;
    json(StatusCode::OK, &line)
}

/// `POST /refs/{group…}/{key}/touch`
pub(super) async fn touch(State(api): State<Arc<Api>>, slot: Slot, Path(path): Path<String>) -> Answer {
    let name = path.strip_suffix("/touch").ok_or_else(|| {
        let failure = Failure::usage("a ref takes no POST").hint("set it with PUT, use it with POST …/touch");
        ApiError::with_status(StatusCode::METHOD_NOT_ALLOWED, failure)
    })?;
    let name: RefName = name.parse()?;
    one(blocking(slot, move || service::touch(&*api.node, &name)).await?)
}

/// `GET /refs`: a page of them.
pub(super) async fn list(State(api): State<Arc<Api>>, slot: Slot, RawQuery(query): RawQuery) -> Answer {
    let known =
        ["glob", "contains", "meta.", "expires_before_ms", "set_by", "missing", "under_copies", "reach", "limit", "cursor"];
    let pairs = Pairs::parse(query.as_deref(), &known)?;
    let contains = pairs.one("contains")?.map(|text| Ok::<_, Failure>(BlobUri::parse_lenient(text)?.sha1));
    let limit = pairs.parsed::<usize>("limit")?.unwrap_or(LIST_REFS);
    let query = Query {
        glob: pairs.one("glob")?.map(str::to_owned),
        contains: contains.transpose()?,
        meta: pairs.below("meta.").map(|(key, value)| filter(key, value)).collect::<Result<_, _>>()?,
        expires_before_ms: pairs.parsed("expires_before_ms")?,
        set_by: pairs.one("set_by")?.map(str::to_owned),
        missing: pairs.flag("missing")?,
        under_copies: pairs.parsed("under_copies")?,
        reach: pairs.flag("reach")?,
        limit: Some(limit.min(MAX_LIST_REFS)),
        cursor: pairs.one("cursor")?.map(str::to_owned),
    };
    let page = blocking(slot, move || {
        let mut lines = Vec::new();
        let next = list::page(&*api.node, &query, &mut |line| {
            lines.push(line);
            Ok(())
        })?;
        Ok((lines, next))
    });
    let (lines, next) = page.await?;
    json_list("refs", &lines, next)
}

/// `meta.K=V`, with `<=` and `>=` too; or all of a condition behind the dot, percent-encoded.
fn filter(key: &str, value: Option<&str>) -> Result<Filter, FilterError> {
    let Some(value) = value else { return key.parse() };
    let (key, operator) = match (key.strip_suffix('<'), key.strip_suffix('>')) {
        (Some(key), _) => (key, "<="),
        (_, Some(key)) => (key, ">="),
        _ => (key, "="),
    };
    // An operator that was percent-encoded is one of the key's own letters.
    let key = if key.contains(['=', '<', '>']) { Json::String(key.to_owned()).to_compact() } else { key.to_owned() };
    format!("{key}{operator}{value}").parse()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchRequest {
    ops: Vec<BatchOp>,
}

/// One write: the keys that `op` does not need must be absent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchOp {
    op: OpWord,
    #[serde(rename = "ref")]
    name: String,
    obj: Option<Json>,
    meta: Option<Json>,
    expires_ms: Option<u64>,
    ttl_access_ms: Option<u64>,
    copies: Option<u32>,
    #[serde(default)]
    allow_missing: bool,
    if_rev: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OpWord {
    Set,
    Delete,
    Touch,
}

impl BatchOp {
    fn read(self) -> Result<RefOp, Failure> {
        let name: RefName = self.name.parse()?;
        let if_rev = self.if_rev.map(rev_of);
        match (self.op, self.obj) {
            (OpWord::Set, Some(obj)) => {
                let (expires_ms, ttl_access_ms, allow_missing) = (self.expires_ms, self.ttl_access_ms, self.allow_missing);
                let copies = self.copies.unwrap_or(one_copy());
                service::set_op(
                    SetRequest { obj, meta: self.meta, expires_ms, ttl_access_ms, copies, allow_missing }.set(name, if_rev)?,
                )
            }
            (OpWord::Delete, None) => Ok(RefOp::Delete { name, if_rev }),
            (OpWord::Touch, None) if if_rev.is_none() => Ok(RefOp::Touch { name }),
            _ => Err(Failure::usage(format!("the op on `{name}` lacks a key, or has one too many"))
                .hint("`set` needs `obj`, `delete` and `touch` have none")),
        }
    }
}

/// `POST /refs/batch`: all of them or none.
pub(super) async fn batch(State(api): State<Arc<Api>>, slot: Slot, body: Body) -> Answer {
    let request: BatchRequest = read_json(body).await?;
    if request.ops.len() > MAX_BATCH_REFS {
        return Err(ApiError::too_large("ops", MAX_BATCH_REFS));
    }
    let lines = blocking(slot, move || {
        let ops = request.ops.into_iter().map(BatchOp::read).collect::<Result<Vec<_>, _>>()?;
        let outcomes = api.node.write_refs(ops)?;
        let line = |name: &RefName, rev: Option<String>| value!({ "ref": name.as_str(), "rev": rev });
        Ok(outcomes.iter().map(|done| line(&done.name, done.rev.map(|rev| rev.to_string()))).collect::<Vec<Value>>())
    });
    json_list("refs", &lines.await?, None)
}

fn one(line: RefLine) -> Answer {
    let etag = [(header::ETAG, format!("\"{}\"", line.rev))];
    Ok((etag, json(StatusCode::OK, &line)?).into_response())
}

/// `If-Match: REV` is "only if this is its rev"; `If-None-Match: *` is "only if there is none".
fn if_rev(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let text = |name: &header::HeaderName| {
        let value = headers.get(name).map(|value| String::from_utf8(value.as_bytes().to_vec()));
        value.transpose().map_err(|_| Failure::usage(format!("the header {name} is not UTF-8")))
    };
    match (text(&header::IF_MATCH)?, text(&header::IF_NONE_MATCH)?.as_deref()) {
        (None, None) => Ok(None),
        (None, Some("*")) => Ok(Some(String::new())),
        (Some(rev), None) => Ok(Some(rev_of(rev.trim_matches('"').to_owned()))),
        _ => Err(Failure::usage("give either If-Match with a rev, or If-None-Match with `*`")),
    }
}
