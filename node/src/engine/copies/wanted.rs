//! How many copies the refs ask for.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::gc::attempt::share_of;
use keepwell_protocol::id::BlobId;
use keepwell_store::error::StoreError;
use keepwell_store::tables::{Access, Tables};

/// What has been looked up in one state of the catalog.
#[derive(Debug, Default)]
pub struct Wanted {
    /// What the refs ask for which name a blob, of those that were looked at.
    named: BTreeMap<BlobId, Asked>,
}

/// What values ask for that reach a blob, or that name it.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::engine) struct Asked {
    /// The most copies; 0 if there is no value.
    pub(in crate::engine) copies: u32,
    /// A digest of which values they are, and of how many copies each asks for.
    pub(in crate::engine) digest: u64,
}

impl Wanted {
    /// Walks from the blob up to the refs that reach it: the most copies that any value of them asks for; 0 if none does.
    pub fn copies<A: Access>(&mut self, tables: &Tables<A>, id: &BlobId) -> Result<u32, StoreError> {
        Ok(self.asked(tables, id)?.copies)
    }

    /// The same, with which values these are.
    pub(in crate::engine) fn asked<A: Access>(&mut self, tables: &Tables<A>, id: &BlobId) -> Result<Asked, StoreError> {
        let (mut seen, mut due, mut all) = (BTreeSet::from([*id]), vec![*id], Asked::default());
        while let Some(at) = due.pop() {
            let asked = self.by_name(tables, &at)?;
            all.copies = all.copies.max(asked.copies);
            all.digest = all.digest.wrapping_add(asked.digest);
            due.extend(tables.parents(&at)?.into_iter().filter(|parent| seen.insert(*parent)));
        }
        Ok(all)
    }

    fn by_name<A: Access>(&mut self, tables: &Tables<A>, id: &BlobId) -> Result<Asked, StoreError> {
        if let Some(known) = self.named.get(id) {
            return Ok(*known);
        }
        let mut all = Asked::default();
        for name in tables.refs_naming(id)? {
            for value in tables.item(&Item::reference(&name))?.values() {
                // What cannot be read here is counted as not understood, which stands in the way of every deletion.
                let Ok(body) = RefBody::of(value) else { continue };
                if body.links.iter().any(|link| link.sha1 == *id) {
                    all.copies = all.copies.max(body.copies.max(1));
                    all.digest = all.digest.wrapping_add(share_of(id, &value.id, body.copies));
                }
            }
        }
        self.named.insert(*id, all);
        Ok(all)
    }
}
