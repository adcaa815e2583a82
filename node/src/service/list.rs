//! Lists of refs: which a query asks for, page by page, and what all that a ref reaches comes to.
//!
//! A page looks in vain at no more than [`LIST_VISITS`] refs, so that none takes long however many there are: one may be shorter than its limit, or empty, and
//! go on behind its cursor all the same. Blobs that are counted for it count as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use keepwell_protocol::catalog::item::{Item, Kind};
use keepwell_protocol::catalog::row::Row;
use keepwell_protocol::id::{BlobId, NodeId, StorageId};
use keepwell_protocol::json::Filter;
use keepwell_protocol::name::RefName;
use keepwell_store::error::StoreError;
use keepwell_store::naming::Naming;
use keepwell_store::store::Snapshot;
use serde::{Deserialize, Serialize};

use super::copies::storages;
use super::refs::{body_of, line};
use super::types::RefLine;
use super::{Node, glob};
use crate::engine::closure;
use crate::failure::Failure;
use crate::limits::{CONTAINS_VISITS, LIST_VISITS};

/// Which refs to list.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Whose names match this; none is all.
    pub glob: Option<String>,
    /// Of which some value reaches this blob, by itself or over links.
    pub contains: Option<BlobId>,
    /// Whose meta is so.
    pub meta: Vec<Filter>,
    /// That lapse before this, in Unix milliseconds.
    pub expires_before_ms: Option<u64>,
    /// That the node of this name or id has written.
    pub set_by: Option<String>,
    /// Of whose blobs some are not here.
    pub missing: bool,
    /// Of whose blobs some are on fewer nodes than that, as far as the logs say.
    pub under_copies: Option<Under>,
    /// Tell what all that they reach comes to.
    pub reach: bool,
    /// At most so many.
    pub limit: Option<usize>,
    /// Where an earlier list was cut.
    pub cursor: Option<String>,
}

/// How few copies are too few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Under {
    /// Fewer than the ref asks for.
    Asked,
    /// Fewer than so many.
    Copies(u32),
}

impl FromStr for Under {
    type Err = Failure;

    /// `asked`, or a number.
    fn from_str(text: &str) -> Result<Under, Failure> {
        if text == "asked" {
            return Ok(Under::Asked);
        }
        let copies =
            text.parse().map_err(|_| Failure::usage(format!("{text:?} is not a number of copies")).hint("or say `asked`"))?;
        Ok(Under::Copies(copies))
    }
}

impl fmt::Display for Under {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Under::Asked => f.write_str("asked"),
            Under::Copies(copies) => write!(f, "{copies}"),
        }
    }
}

/// What all that a ref reaches comes to, as the catalog knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachLine {
    /// Blobs, each counted once.
    pub blobs: u64,
    /// Their bytes, as far as their sizes are known.
    pub size_bytes: u64,
    /// Those of them that are here.
    pub here: u64,
    /// On how many nodes the rarest of them is, as the logs say; those that were declared dead or removed do not count.
    pub copies: u32,
}

/// Gives the refs that are asked for to `each`, in order of name, up to the limit. Where the list was cut, if it was.
///
/// A listed ref counts as durable when the blobs that its object names are here; reading one ref looks at all they link to.
pub fn list(
    node: &dyn Node,
    query: &Query,
    each: &mut dyn FnMut(RefLine) -> Result<(), Failure>,
) -> Result<Option<String>, Failure> {
    let mut rest = query.clone();
    loop {
        let mut given = 0;
        let next = page(node, &rest, &mut |line| {
            given += 1;
            each(line)
        })?;
        rest.limit = rest.limit.map(|limit| limit.saturating_sub(given));
        match next {
            Some(next) if rest.limit != Some(0) => rest.cursor = Some(next),
            next => return Ok(next),
        }
    }
}

/// The same, one page. Where it ended, unless that was the end of the list.
pub fn page(
    node: &dyn Node,
    query: &Query,
    each: &mut dyn FnMut(RefLine) -> Result<(), Failure>,
) -> Result<Option<String>, Failure> {
    let snapshot = node.store().snapshot()?;
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let pattern = query.glob.as_deref().unwrap_or("**");
    let prefix = glob::literal_prefix(pattern);
    // No character of a name is below a space, so this is the first name after the cursor's.
    let from = after.map(|name| format!("{name}\0")).unwrap_or_default().max(prefix.to_owned());
    let mut page = Page { query, pattern, snapshot: &snapshot, disks: None, given: 0, visits: 0, last: String::new(), each };
    let mut is_cut = false;
    match &query.contains {
        None => snapshot.visit_items(Kind::REF, &from, |key, row| {
            if !key.starts_with(prefix) {
                return Ok(false);
            }
            is_cut = !page.take(key, &row)?;
            Ok::<_, Failure>(!is_cut)
        })?,
        Some(blob) => {
            let mut naming = Naming::of(&snapshot, blob, &from, CONTAINS_VISITS)?.ok_or_else(|| too_many(blob))?;
            while let Some(name) = naming.next(&snapshot)?.filter(|name| name.starts_with(prefix)) {
                is_cut = !page.take(&name, &snapshot.item(&Item::reference(&name))?)?;
                if is_cut {
                    break;
                }
            }
        }
    }
    Ok(is_cut.then(|| HEXLOWER.encode(page.last.as_bytes())))
}

fn too_many(blob: &BlobId) -> Failure {
    Failure::usage(format!("more than {CONTAINS_VISITS} blobs link to {blob}, directly or over others"))
        .hint("ask for a blob nearer to what the refs name; `keepwell why` tells some of the refs")
}

/// A page under way.
struct Page<'a> {
    query: &'a Query,
    pattern: &'a str,
    snapshot: &'a Snapshot,
    /// The members that count and their disks, once that was asked for.
    disks: Option<BTreeMap<NodeId, StorageId>>,
    given: usize,
    visits: usize,
    /// The name that the page has come to.
    last: String,
    each: &'a mut dyn FnMut(RefLine) -> Result<(), Failure>,
}

impl Page<'_> {
    /// Looks at the next ref; false, and it is not looked at, if the page is full.
    fn take(&mut self, name: &str, row: &Row) -> Result<bool, Failure> {
        let is_full = self.query.limit.is_some_and(|limit| self.given >= limit);
        if is_full || self.visits >= LIST_VISITS {
            return Ok(false);
        }
        self.last.clear();
        self.last.push_str(name);
        if !self.give(name, row)? {
            self.visits += 1;
        }
        Ok(true)
    }

    /// Gives the ref if it is asked for; whether it is.
    fn give(&mut self, name: &str, row: &Row) -> Result<bool, Failure> {
        if !glob::matches(self.pattern, name) {
            return Ok(false);
        }
        let Some(value) = row.winner() else { return Ok(false) };
        let mut line = line(self.snapshot, &RefName::parse(name)?, value)?;
        let is_by = |by: &String| line.set_by == *by || value.author.to_string() == *by;
        if !self.query.set_by.as_ref().is_none_or(is_by) || !self.query.accepts(&line) {
            return Ok(false);
        }
        if self.query.reach || self.query.missing || self.query.under_copies.is_some() {
            let roots: Vec<BlobId> = body_of(value)?.links.iter().map(|link| link.sha1).collect();
            let reach = self.reach(&roots)?;
            if !self.query.accepts_reach(&line, &reach) {
                return Ok(false);
            }
            line.reach = Some(reach);
        }
        self.given += 1;
        (self.each)(line)?;
        Ok(true)
    }

    /// What `roots` and all below them come to. One ref is looked at as a whole, however large.
    fn reach(&mut self, roots: &[BlobId]) -> Result<ReachLine, StoreError> {
        let snapshot = self.snapshot;
        let disks = match self.disks.take() {
            Some(disks) => disks,
            None => storages(snapshot)?,
        };
        let (mut reach, mut rarest) = (ReachLine { blobs: 0, size_bytes: 0, here: 0, copies: 0 }, None);
        closure::visit(snapshot, roots, |id| {
            let (record, holders) = (snapshot.blob(&id)?, snapshot.holders(&id)?);
            let size_bytes = record.map(|record| record.size_bytes).or(holders.first().map(|holding| holding.fact.size_bytes));
            let on: BTreeSet<&StorageId> = holders.iter().filter_map(|holding| disks.get(&holding.node)).collect();
            let copies = u32::try_from(on.len()).unwrap_or(u32::MAX);
            reach.blobs += 1;
            reach.here += u64::from(record.is_some());
            reach.size_bytes = reach.size_bytes.saturating_add(size_bytes.unwrap_or(0));
            rarest = Some(rarest.map_or(copies, |rarest: u32| rarest.min(copies)));
            Ok(true)
        })?;
        self.visits = self.visits.saturating_add(usize::try_from(reach.blobs).unwrap_or(usize::MAX));
        self.disks = Some(disks);
        Ok(ReachLine { copies: rarest.unwrap_or(0), ..reach })
    }
}

impl Query {
    fn accepts(&self, line: &RefLine) -> bool {
        let lapses = |before: u64| line.expires_ms.is_some_and(|expires| expires < before);
        self.meta.iter().all(|filter| filter.matches(&line.meta)) && self.expires_before_ms.is_none_or(lapses)
    }

    /// A ref that reaches nothing lacks nothing.
    fn accepts_reach(&self, line: &RefLine, reach: &ReachLine) -> bool {
        let is_under = |under: Under| {
            let wanted = if let Under::Copies(copies) = under { copies } else { line.copies };
            reach.blobs > 0 && reach.copies < wanted
        };
        (!self.missing || reach.here < reach.blobs) && self.under_copies.is_none_or(is_under)
    }
}

fn read_cursor(cursor: &str) -> Result<String, Failure> {
    let bytes = HEXLOWER.decode(cursor.as_bytes()).ok();
    let name = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    name.ok_or_else(|| Failure::usage("not a cursor").hint("pass what the list that was cut gave as `next`"))
}

#[cfg(test)]
mod tests;
