//! The daemon as a backend of commands: each operation is a request, or a few.

use axum::http::{HeaderValue, Method, header};
use keepwell_protocol::id::BlobId;
use keepwell_protocol::json::{self, Json};
use keepwell_protocol::limits::MAX_QUESTION_BLOBS;
use keepwell_protocol::name::{OwnerName, RefName};
use keepwell_protocol::uri::BlobUri;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::put::RemotePutter;
use super::{Client, Header, encoded};
use crate::api::gc::{DropRequest, GcRequest, GiveUpRequest};
use crate::engine::LeaseOp;
use crate::failure::{Code, Failure};
use crate::limits::{MAX_LIST_REFS, MAX_STAT_BLOBS};
use crate::service::backend::{Backend, Extent, Fetched, OpenBlob, Puts, Watch};
use crate::service::drop::undecided;
use crate::service::events::{EventLine, EventQuery};
use crate::service::gc::Wish;
use crate::service::leases::LeaseLine;
use crate::service::list::Query;
use crate::service::put::{Progress, PutOptions};
use crate::service::refs::SetRef;
use crate::service::stat::Asked;
use crate::service::types::{
    BlobState, CheckLine, DropLine, FsckLine, GcReport, InviteLine, NodeLine, ProblemLine, RefLine, StatLine, StatusLine,
    WhereLine,
};
use crate::service::uploads::UploadLine;
use crate::service::why::WhyLine;

#[derive(Serialize)]
struct StatRequest {
    sha1: Vec<String>,
}

#[derive(Deserialize)]
struct StatList {
    blobs: Vec<StatLine>,
}

#[derive(Deserialize)]
struct DropList {
    blobs: Vec<DropLine>,
}

#[derive(Deserialize)]
struct NodeList {
    nodes: Vec<NodeLine>,
}

#[derive(Deserialize)]
struct CheckList {
    checks: Vec<CheckLine>,
}

#[derive(Serialize)]
struct InviteRequest {
    admin: bool,
    uses: u32,
    lasts_ms: u64,
}

#[derive(Deserialize)]
struct RefList {
    refs: Vec<RefLine>,
    next: Option<String>,
}

#[derive(Serialize)]
struct SetRequest {
    obj: Json,
    meta: Json,
    expires_ms: Option<u64>,
    ttl_access_ms: Option<u64>,
    copies: u32,
    allow_missing: bool,
}

#[derive(Serialize)]
struct FieldsRequest {
    fields: Json,
}

#[derive(Serialize)]
struct RemoveRequest<'a> {
    ops: Vec<RemoveOp<'a>>,
}

#[derive(Serialize)]
struct RemoveOp<'a> {
    op: &'static str,
    #[serde(rename = "ref")]
    name: &'a str,
    if_rev: &'a str,
}

impl Backend for Client {
    fn open(&self, uri: &BlobUri) -> Result<Box<dyn OpenBlob + '_>, Failure> {
        Ok(Box::new(self.open_blob(uri)?))
    }

    fn object_of(&self, name: &RefName) -> Result<Option<Json>, Failure> {
        match self.get_ref(name) {
            Ok(line) => Ok(Some(line.obj)),
            Err(failure) if failure.code == Code::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn missing(&self, blobs: &[BlobId]) -> Result<Vec<BlobId>, Failure> {
        let asked: Vec<Asked> = blobs.iter().map(|id| (*id, None)).collect();
        let lines = self.stat(&asked)?;
        let is_missing = |line: &StatLine| matches!(line.state, BlobState::Unknown | BlobState::Recorded | BlobState::Trashed);
        Ok(blobs.iter().zip(&lines).filter(|(_, line)| is_missing(line)).map(|(id, _)| *id).collect())
    }

    fn putter<'a>(&'a self, options: PutOptions, progress: &'a mut Progress<'a>) -> Box<dyn Puts + 'a> {
        Box::new(RemotePutter::new(self, options, progress))
    }

    fn stat(&self, asked: &[Asked]) -> Result<Vec<StatLine>, Failure> {
        let mut lines = Vec::with_capacity(asked.len());
        for part in asked.chunks(MAX_STAT_BLOBS) {
            let request = StatRequest { sha1: part.iter().map(|(id, _)| id.to_string()).collect() };
            let list: StatList = self.ask_with(Method::POST, "/blobs/stat", &[], &request)?;
            let labelled = list.blobs.into_iter().zip(part);
            lines.extend(labelled.map(|(line, (_, label))| StatLine { label: label.as_ref().map(ToString::to_string), ..line }));
        }
        Ok(lines)
    }

    fn set_ref(&self, set: SetRef) -> Result<RefLine, Failure> {
        let (obj, meta) = json::parse_obj_meta(&set.obj, set.meta.as_deref())?;
        let request = SetRequest {
            obj,
            meta,
            expires_ms: set.expires_ms,
            ttl_access_ms: set.ttl_access_ms,
            copies: set.copies,
            allow_missing: set.allow_missing,
        };
        self.ask_with(Method::PUT, &path(&set.name), &condition(set.if_rev.as_deref())?, &request)
    }

    fn set_fields(&self, name: &RefName, fields: Vec<(String, String)>) -> Result<RefLine, Failure> {
        let fields = Json::Object(fields.into_iter().map(|(field, uri)| (field, Json::String(uri))).collect());
        self.ask_with(Method::PATCH, &path(name), &[], &FieldsRequest { fields })
    }

    fn get_ref(&self, name: &RefName) -> Result<RefLine, Failure> {
        self.ask(Method::GET, &path(name), &[])
    }

    fn confirm_ref(&self, name: &RefName, wait_ms: u64) -> Result<RefLine, Failure> {
        self.ask(Method::GET, &format!("{}?confirm=1&wait_ms={wait_ms}", path(name)), &[])
    }

    fn remove_ref(&self, name: &RefName, if_rev: Option<String>) -> Result<RefLine, Failure> {
        self.ask(Method::DELETE, &path(name), &condition(if_rev.as_deref())?)
    }

    fn remove_refs(&self, refs: &[(RefName, String)]) -> Result<(), Failure> {
        let ops = refs.iter().map(|(name, if_rev)| RemoveOp { op: "delete", name: name.as_str(), if_rev }).collect();
        self.ask_with::<IgnoredAny>(Method::POST, "/refs/batch", &[], &RemoveRequest { ops }).map(drop)
    }

    fn touch_ref(&self, name: &RefName) -> Result<RefLine, Failure> {
        self.ask(Method::POST, &format!("{}/touch", path(name)), &[])
    }

    fn list_refs(&self, query: &Query, each: &mut dyn FnMut(RefLine) -> Result<(), Failure>) -> Result<Option<String>, Failure> {
        let mut left = query.limit;
        let mut cursor = query.cursor.clone();
        loop {
            let limit = left.unwrap_or(MAX_LIST_REFS).min(MAX_LIST_REFS);
            let page: RefList = self.ask(Method::GET, &list_path(query, limit, cursor.as_deref()), &[])?;
            left = left.map(|left| left.saturating_sub(page.refs.len()));
            page.refs.into_iter().try_for_each(&mut *each)?;
            match page.next {
                Some(next) if left != Some(0) => cursor = Some(next),
                next => return Ok(next),
            }
        }
    }

    fn holders(&self, blob: &BlobId) -> Result<WhereLine, Failure> {
        self.ask(Method::GET, &format!("/blobs/{blob}/where"), &[])
    }

    fn why(&self, blob: &BlobId) -> Result<WhyLine, Failure> {
        self.ask(Method::GET, &format!("/blobs/{blob}/why"), &[])
    }

    fn nodes(&self) -> Result<Vec<NodeLine>, Failure> {
        Ok(self.ask::<NodeList>(Method::GET, "/nodes", &[])?.nodes)
    }

    fn declare(&self, member: &str, is_dead: bool) -> Result<NodeLine, Failure> {
        let word = if is_dead { "dead" } else { "revive" };
        self.ask(Method::POST, &format!("/nodes/{}/{word}", encoded(member)), &[])
    }

    fn remove_member(&self, member: &str) -> Result<NodeLine, Failure> {
        self.ask(Method::POST, &format!("/nodes/{}/remove", encoded(member)), &[])
    }

    fn invite(&self, admin: bool, uses: u32, lasts_ms: u64) -> Result<InviteLine, Failure> {
        self.ask_with(Method::POST, "/invites", &[], &InviteRequest { admin, uses, lasts_ms })
    }

    fn fetch(&self, blobs: &[BlobId], extent: Extent, watch: &mut Watch<'_>) -> Result<Option<Vec<Fetched>>, Failure> {
        self.fetch_watched(blobs, extent, watch).map(Some)
    }

    fn lease(&self, op: LeaseOp) -> Result<LeaseLine, Failure> {
        self.change_lease(op)
    }

    fn uploads(&self) -> Result<Vec<UploadLine>, Failure> {
        self.all_uploads()
    }

    fn remove_upload(&self, name: &OwnerName) -> Result<UploadLine, Failure> {
        self.ask(Method::DELETE, &format!("/uploads/{}", encoded(name.as_str())), &[])
    }

    fn leases(&self) -> Result<Vec<LeaseLine>, Failure> {
        self.all_leases()
    }

    fn collect(&self, wish: Wish) -> Result<GcReport, Failure> {
        let Wish { run, grace_ms, to_free_bytes } = wish;
        self.ask_with(Method::POST, "/gc", &[], &GcRequest { run, grace_ms, to_free_bytes })
    }

    fn drop_copies(&self, blobs: &[BlobId], from: Option<&str>) -> Result<Vec<DropLine>, Failure> {
        in_portions(blobs, |sha1| {
            let request = DropRequest { sha1, from: from.map(str::to_owned) };
            self.ask_with(Method::POST, "/blobs/drop", &[], &request)
        })
    }

    fn give_up(&self, blobs: &[BlobId]) -> Result<Vec<DropLine>, Failure> {
        in_portions(blobs, |sha1| self.ask_with(Method::POST, "/blobs/give-up", &[], &GiveUpRequest { sha1 }))
    }

    fn undrop(&self, blob: &BlobId) -> Result<DropLine, Failure> {
        self.ask(Method::POST, &format!("/blobs/{blob}/undrop"), &[])
    }

    fn events(
        &self,
        query: EventQuery,
        follow: bool,
        each: &mut dyn FnMut(EventLine) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if follow { self.follow_events(query, each) } else { self.all_events(query, each) }
    }

    fn fsck(&self, verify: bool, each: &mut dyn FnMut(ProblemLine)) -> Result<FsckLine, Failure> {
        self.fsck_running(verify, each)
    }

    fn status(&self, _max_size_bytes: Option<u64>) -> Result<StatusLine, Failure> {
        self.ask(Method::GET, "/status", &[])
    }
}

impl Client {
    /// What the daemon finds in itself when it looks for what may be wrong.
    pub fn doctor(&self) -> Result<Vec<CheckLine>, Failure> {
        Ok(self.ask::<CheckList>(Method::GET, "/doctor", &[])?.checks)
    }
}

fn path(name: &RefName) -> String {
    format!("/refs/{}", encoded(name.as_str()))
}

/// Asks about as many blobs at once as one request takes. What has gone before a request fails is told of all the same.
fn in_portions(blobs: &[BlobId], ask: impl Fn(Vec<String>) -> Result<DropList, Failure>) -> Result<Vec<DropLine>, Failure> {
    let mut lines = Vec::new();
    for portion in blobs.chunks(MAX_QUESTION_BLOBS) {
        match ask(portion.iter().map(ToString::to_string).collect()) {
            Ok(list) => lines.extend(list.blobs),
            Err(failure) if lines.is_empty() => return Err(failure),
            Err(failure) => {
                lines.extend(blobs[lines.len()..].iter().map(|id| undecided(id, &failure)));
                break;
            }
        }
    }
    Ok(lines)
}

fn list_path(query: &Query, limit: usize, cursor: Option<&str>) -> String {
    let mut pairs = vec![format!("limit={limit}")];
    let mut add = |name: &str, value: Option<&str>| pairs.extend(value.map(|value| format!("{name}={}", encoded(value))));
    add("glob", query.glob.as_deref());
    add("contains", query.contains.map(|id| id.to_string()).as_deref());
    add("expires_before_ms", query.expires_before_ms.map(|time| time.to_string()).as_deref());
    add("cursor", cursor);
    add("set_by", query.set_by.as_deref());
    add("missing", query.missing.then_some("1"));
    add("reach", query.reach.then_some("1"));
    add("under_copies", query.under_copies.map(|under| under.to_string()).as_deref());
    // As one text: it may hold an `=` of its own, or none.
    pairs.extend(query.meta.iter().map(|filter| format!("meta.{}", encoded(&filter.to_string()))));
    format!("/refs?{}", pairs.join("&"))
}

/// The header that says which rev a ref must have; the empty one is that of a ref that does not exist.
fn condition(if_rev: Option<&str>) -> Result<Vec<Header>, Failure> {
    let Some(rev) = if_rev else { return Ok(Vec::new()) };
    if rev.is_empty() {
        return Ok(vec![(header::IF_NONE_MATCH, HeaderValue::from_static("*"))]);
    }
    let value = HeaderValue::from_bytes(rev.as_bytes()).map_err(|_| Failure::usage(format!("{rev:?} is not a rev")))?;
    Ok(vec![(header::IF_MATCH, value)])
}
