//! What became of each blob, for whoever reads a violation: who said that it has a copy, who named it, who let it go and on what that
//! rested, and whose disk forgot it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use keepwell_protocol::catalog::item::Kind;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::id::BlobId;
use keepwell_protocol::log::entry::Entry as LogEntry;
use keepwell_protocol::log::op::Op;
use keepwell_protocol::wire;
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;

use super::{EPOCH_MS, World};

/// What happened to each blob, in order.
#[derive(Default)]
pub(super) struct Stories {
    of: BTreeMap<BlobId, Vec<(u64, String)>>,
    /// What bears on all of them.
    of_all: Vec<(u64, String)>,
}

impl Stories {
    pub(super) fn tell(&mut self, at_ms: u64, id: BlobId, line: String) {
        self.of.entry(id).or_default().push((at_ms, line));
    }

    /// The stories of the blobs that `broken` names.
    pub(super) fn of_those_in(&self, broken: &str) -> Vec<String> {
        let named = self.of.iter().filter(|(id, _)| broken.contains(&id.to_string()));
        let told = named.flat_map(|(id, lines)| lines.iter().map(move |(at_ms, line)| (*at_ms, format!("{id}: {line}"))));
        let mut lines: Vec<(u64, String)> = told.chain(self.of_all.iter().cloned()).collect();
        lines.sort_by_key(|(at_ms, _)| *at_ms);
        lines.into_iter().map(|(at_ms, line)| format!("{:>8} {line}", at_ms - EPOCH_MS)).collect()
    }
}

/// How refs come to reach `id`: each value that does, and the links that lead there.
pub(super) fn ways_to(catalog: &Snapshot, id: &BlobId) -> Result<Vec<String>, StoreError> {
    let mut ways = Vec::new();
    catalog.visit_items::<StoreError>(Kind::REF, "", |name, row| {
        for value in row.values() {
            let Ok(body) = RefBody::of(value) else { continue };
            let links: Vec<BlobId> = body.links.iter().map(|link| link.sha1).collect();
            if let Some(way) = way(catalog, links, id)? {
                let way = way.iter().map(BlobId::to_string).collect::<Vec<_>>().join(" > ");
                ways.push(format!("{name} {}: {way}", value.id));
            }
        }
        Ok(true)
    })?;
    Ok(ways)
}

fn way(catalog: &Snapshot, links: Vec<BlobId>, id: &BlobId) -> Result<Option<Vec<BlobId>>, StoreError> {
    let mut above: BTreeMap<BlobId, Option<BlobId>> = links.iter().map(|link| (*link, None)).collect();
    let mut due: VecDeque<BlobId> = links.into();
    while let Some(at) = due.pop_front() {
        if at == *id {
            let mut way = vec![at];
            while let Some(Some(next)) = way.last().and_then(|last| above.get(last)) {
                way.push(*next);
            }
            way.reverse();
            return Ok(Some(way));
        }
        for child in catalog.children(&at)? {
            if let Entry::Vacant(new) = above.entry(child.sha1) {
                new.insert(Some(at));
                due.push_back(child.sha1);
            }
        }
    }
    Ok(None)
}

impl World {
    /// Tells what an entry that a node has just written says of blobs.
    pub(super) fn tell_written(&mut self, node: usize, bytes: &[u8]) {
        let Ok(entry) = LogEntry::reopen(bytes) else { return };
        let at = format!("{} {}", entry.chain.boot, entry.head.seq.0);
        for op in entry.ops {
            match op {
                Op::Holdings(holdings) => {
                    holdings.added.iter().for_each(|fact| self.tell(fact.sha1, format!("node {node} holds it ({at})")));
                    holdings.removed.iter().for_each(|id| self.tell(*id, format!("node {node} holds it no more ({at})")));
                }
                Op::LinkFact(fact) => {
                    for child in fact.children {
                        self.tell(child.sha1, format!("node {node} links it to {} ({at})", fact.parent));
                    }
                }
                Op::Change(change) => {
                    for write in change.writes.iter().filter(|write| write.item.kind == Kind::REF) {
                        let body = write.body.as_deref().and_then(|body| wire::decode_own::<RefBody>(body).ok());
                        for link in body.iter().flat_map(|body| &body.links) {
                            self.tell(link.sha1, format!("node {node} names it in {} ({at})", write.item.key));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    pub(super) fn tell(&mut self, id: BlobId, line: String) {
        self.stories.tell(self.now_ms, id, line);
    }

    pub(super) fn tell_of_all(&mut self, line: String) {
        self.stories.of_all.push((self.now_ms, line));
    }

    /// A disk was put back that held `before`: what it holds again, and no more.
    pub(super) fn tell_put_back(&mut self, node: usize, before: &[BlobId]) {
        let (before, after): (BTreeSet<_>, BTreeSet<_>) =
            (before.iter().copied().collect(), self.nodes[node].all_blobs().into_iter().collect());
        self.tell_of_all(format!("node {node} gets an old disk"));
        for id in before.union(&after) {
            let has = |ids: &BTreeSet<BlobId>| if ids.contains(id) { "has it" } else { "has it not" };
            self.tell(*id, format!("node {node}, whose disk {}, gets an old one, which {}", has(&before), has(&after)));
        }
    }
}
