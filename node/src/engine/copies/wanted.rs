//! How many copies the refs ask for.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::id::BlobId;
use keepwell_store::error::StoreError;
use keepwell_store::tables::{Access, Tables};

/// What has been looked up in one state of the catalog.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The copies that the refs ask for which name a blob, of those that were looked at.
    named: BTreeMap<BlobId, u32>,
}

impl Wanted {
    /// Walks from the blob up to the refs that reach it: the most copies that any value of them asks for; 0 if none does.
    pub fn copies<A: Access>(&mut self, tables: &Tables<A>, id: &BlobId) -> Result<u32, StoreError> {
        let (mut seen, mut due, mut most) = (BTreeSet::from([*id]), vec![*id], 0);
        while let Some(at) = due.pop() {
            most = most.max(self.by_name(tables, &at)?);
            due.extend(tables.parents(&at)?.into_iter().filter(|parent| seen.insert(*parent)));
        }
        Ok(most)
    }

    fn by_name<A: Access>(&mut self, tables: &Tables<A>, id: &BlobId) -> Result<u32, StoreError> {
        if let Some(known) = self.named.get(id) {
            return Ok(*known);
        }
        let mut most = 0;
        for name in tables.refs_naming(id)? {
            for value in tables.item(&Item::reference(&name))?.values() {
                // What cannot be read here is counted as not understood, which stands in the way of every deletion.
                let Ok(body) = RefBody::of(value) else { continue };
                if body.links.iter().any(|link| link.sha1 == *id) {
                    most = most.max(body.copies.max(1));
                }
            }
        }
        self.named.insert(*id, most);
        Ok(most)
    }
}
