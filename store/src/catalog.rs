//! The catalog on disk: the rows of its items, what the documents have come to, and the link facts.

use std::ops::Bound;

use keepwell_protocol::catalog::change::{AppliedChange, AppliedChanges, ChangeHash, DocState};
use keepwell_protocol::catalog::change::{Order, Write};
use keepwell_protocol::catalog::item::{Item, Kind};
use keepwell_protocol::catalog::row::Row;
use keepwell_protocol::id::{BlobFact, BlobId, BootId, NodeId, Seq, ValueId};
use keepwell_protocol::log::op::LinkFact;
use keepwell_protocol::log::vector::Past;
use keepwell_protocol::wire;
use redb::{Range, ReadableTable};

use crate::error::StoreError;
use crate::reach::Change;
use crate::row;
use crate::store::Transaction;
use crate::tables::{Access, AuthorityKey, FactKey, Tables, Writing};

/// A write that authority rests on, as a row is made of them.
pub(crate) type AuthorityWrite = (ValueId, Order, NodeId, Write);

impl<A: Access> Tables<A> {
    /// The values of `item`; an empty row when it has none.
    pub fn item(&self, item: &Item) -> Result<Row, StoreError> {
        Ok(row::decode("items", self.items.get((item.kind.0, item.key.as_str())))?.unwrap_or_default())
    }

    /// Visits the items of `kind` whose keys are at or after `from`, in the order of their keys, until `visit` returns false.
    pub fn visit_items<E: From<StoreError>>(
        &self,
        kind: Kind,
        from: &str,
        mut visit: impl FnMut(&str, Row) -> Result<bool, E>,
    ) -> Result<(), E> {
        let rows = self.items.range((kind.0, from)..).map_err(StoreError::from)?;
        for row in rows {
            let (key, value) = row.map_err(StoreError::from)?;
            let (found, key) = key.value();
            if found != kind.0 || !visit(key, row::decode_bytes("items", value.value())?)? {
                break;
            }
        }
        Ok(())
    }

    /// The values that `item` has for somebody whose causal past is `past`. Only items that authority rests on are kept so.
    pub fn authority_at(&self, item: &Item, past: &Past) -> Result<Row, StoreError> {
        Ok(Row::of(&self.authority_writes(item, past)?))
    }

    /// The writes to `item` within `past`.
    pub(crate) fn authority_writes(&self, item: &Item, past: &Past) -> Result<Vec<AuthorityWrite>, StoreError> {
        let mut writes = Vec::new();
        for row in self.authority_rows(item)? {
            let (found, value) = row?;
            let id = id_of(found.value());
            if past.includes(&id.boot, id.seq) {
                let (order, author, write): (Order, NodeId, Write) = row::decode_bytes("authority", value.value())?;
                writes.push((id, order, author, write));
            }
        }
        Ok(writes)
    }

    /// The ids of all known writes to `item`, replaced since or not. Only items that authority rests on are kept so.
    pub fn writes_to(&self, item: &Item) -> Result<Vec<ValueId>, StoreError> {
        self.authority_rows(item)?.map(|row| Ok(id_of(row?.0.value()))).collect()
    }

    fn authority_rows(&self, item: &Item) -> Result<Range<'_, AuthorityKey, &'static [u8]>, StoreError> {
        let (kind, key) = (item.kind.0, item.key.as_str());
        Ok(self.authority.range((kind, key, &[0; 16], 0, 0)..=(kind, key, &[0xff; 16], u64::MAX, u32::MAX))?)
    }

    /// What has been applied of the document (shard, epoch).
    pub fn doc(&self, shard: u8, epoch: u32) -> Result<DocState, StoreError> {
        Ok(row::decode("docs", self.docs.get((shard, epoch)))?.unwrap_or_default())
    }

    /// The newest epoch of `shard` that anything is known of; 0 before the first write.
    pub fn latest_epoch(&self, shard: u8) -> Result<u32, StoreError> {
        let last = self.docs.range((shard, 0)..=(shard, u32::MAX))?.next_back().transpose()?;
        Ok(last.map_or(0, |(key, _)| key.value().1))
    }

    /// All documents that anything has been applied of: (shard, epoch).
    pub fn documents(&self) -> Result<Vec<(u8, u32)>, StoreError> {
        self.docs.iter()?.map(|row| Ok(row?.0.value())).collect()
    }

    /// All changes that have been applied of the document (shard, epoch).
    pub fn changes_of(&self, shard: u8, epoch: u32) -> Result<Vec<(ChangeHash, AppliedChange)>, StoreError> {
        let rows = self.changes.range((shard, epoch, &[0; 32], &[0; 16])..=(shard, epoch, &[0xff; 32], &[0xff; 16]))?;
        rows.map(|row| {
            let (key, value) = row?;
            Ok((ChangeHash(*key.value().2), row::decode_bytes("changes", value.value())?))
        })
        .collect()
    }

    /// The blobs that the known facts link `parent` to, without repetition, ascending by SHA-1.
    pub fn children(&self, parent: &BlobId) -> Result<Vec<BlobFact>, StoreError> {
        let mut children = Vec::new();
        for row in self.facts_of(parent)? {
            let part: Vec<BlobFact> = row::decode_bytes("links", row?.1.value())?;
            children.extend(part);
        }
        children.sort_unstable();
        children.dedup();
        Ok(children)
    }

    /// The ids of the known facts of `parent`, in order.
    pub fn fact_ids(&self, parent: &BlobId) -> Result<Vec<ValueId>, StoreError> {
        self.facts_of(parent)?.map(|row| Ok(fact_id(row?.0.value()))).collect()
    }

    /// The first of them.
    pub fn first_fact_id(&self, parent: &BlobId) -> Result<Option<ValueId>, StoreError> {
        self.facts_of(parent)?.next().map(|row| Ok(fact_id(row?.0.value()))).transpose()
    }

    /// Whether a fact of `parent` is known.
    pub fn has_facts(&self, parent: &BlobId) -> Result<bool, StoreError> {
        Ok(self.first_fact_id(parent)?.is_some())
    }

    /// At most `limit` blobs that facts are known of, ascending by SHA-1, those behind `after`.
    pub fn linking_after(&self, after: Option<&BlobId>, limit: usize) -> Result<Vec<BlobId>, StoreError> {
        let mut parents: Vec<BlobId> = Vec::new();
        while parents.len() < limit {
            let last = parents.last().or(after).copied();
            let from = match &last {
                Some(last) => Bound::Excluded((last.as_bytes(), &[0xff; 16], u64::MAX, u32::MAX)),
                None => Bound::Unbounded,
            };
            let Some((key, _)) = self.links.range((from, Bound::Unbounded))?.next().transpose()? else { break };
            parents.push((*key.value().0).into());
        }
        Ok(parents)
    }

    /// Whether some value of a ref names `blob`.
    pub(crate) fn is_named(&self, blob: &BlobId) -> Result<bool, StoreError> {
        let first = self.ref_links.range((blob.as_bytes(), "")..)?.next().transpose()?;
        Ok(first.is_some_and(|(key, _)| key.value().0 == blob.as_bytes()))
    }

    /// The facts of `parent`, in order of their ids.
    pub(crate) fn facts_of(&self, parent: &BlobId) -> Result<Range<'_, FactKey, &'static [u8]>, StoreError> {
        let parent = parent.as_bytes();
        Ok(self.links.range((parent, &[0; 16], 0, 0)..=(parent, &[0xff; 16], u64::MAX, u32::MAX))?)
    }

    /// For every ref and every blob that it names: the blob, and how many values of the ref do. Ascending by SHA-1.
    pub(crate) fn all_ref_links(&self) -> Result<Vec<(BlobId, u32)>, StoreError> {
        let rows = self.ref_links.iter()?;
        rows.map(|row| row.map(|(key, count)| ((*key.value().0).into(), count.value())).map_err(StoreError::from)).collect()
    }

    /// The refs of which some value names `blob`, in order.
    pub fn refs_naming(&self, blob: &BlobId) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for row in self.ref_links.range((blob.as_bytes(), "")..)? {
            let (key, _) = row?;
            let (named, name) = key.value();
            if named != blob.as_bytes() {
                break;
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }
}

/// The id in the key of a write that authority rests on.
fn id_of((_, _, boot, seq, index): (u16, &str, &[u8; 16], u64, u32)) -> ValueId {
    ValueId { boot: (*boot).into(), seq: Seq(seq), index }
}

impl<A: Access> AppliedChanges for Tables<A> {
    type Error = StoreError;

    fn applied(&self, shard: u8, epoch: u32, hash: &ChangeHash, past: &Past) -> Result<Option<AppliedChange>, StoreError> {
        for row in self.changes.range((shard, epoch, &hash.0, &[0; 16])..=(shard, epoch, &hash.0, &[0xff; 16]))? {
            let change: AppliedChange = row::decode_bytes("changes", row?.1.value())?;
            if past.includes(&change.boot, change.seq) {
                return Ok(Some(change));
            }
        }
        Ok(None)
    }

    fn newest_epoch(&self, shard: u8, boot: &BootId) -> Result<Option<u32>, StoreError> {
        Ok(self.author_epochs.get((shard, boot.as_bytes()))?.map(|row| row.value()))
    }
}

impl Tables<Writing<'_>> {
    /// Puts the row of `item`; an empty one is removed.
    pub fn put_item(&mut self, item: &Item, row: &Row) -> Result<(), StoreError> {
        let key = (item.kind.0, item.key.as_str());
        if row.is_empty() {
            self.items.remove(key)?;
        } else {
            self.items.insert(key, wire::encode(row).as_slice())?;
        }
        Ok(())
    }

    /// Notes a write to an item that authority rests on.
    pub fn put_authority(&mut self, id: &ValueId, order: Order, author: NodeId, write: &Write) -> Result<(), StoreError> {
        let key = (write.item.kind.0, write.item.key.as_str(), id.boot.as_bytes(), id.seq.0, id.index);
        self.authority.insert(key, wire::encode(&(order, author, write.clone())).as_slice())?;
        Ok(())
    }

    /// Notes that a change has been applied, and the state of its document since.
    pub fn put_change(
        &mut self,
        (shard, epoch): (u8, u32),
        hash: &ChangeHash,
        change: &AppliedChange,
        state: &DocState,
    ) -> Result<(), StoreError> {
        self.changes.insert((shard, epoch, &hash.0, change.boot.as_bytes()), wire::encode(change).as_slice())?;
        self.author_epochs.insert((shard, change.boot.as_bytes()), epoch)?;
        self.docs.insert((shard, epoch), wire::encode(state).as_slice())?;
        Ok(())
    }
}

impl Transaction<'_> {
    /// Notes the link fact `id`, and counts it as a reason for its children if its parent has spread.
    pub fn put_link_fact(&mut self, id: &ValueId, fact: &LinkFact) -> Result<(), StoreError> {
        let key = (fact.parent.as_bytes(), id.boot.as_bytes(), id.seq.0, id.index);
        let replaced: Option<Vec<BlobFact>> =
            row::decode("links", self.links.insert(key, wire::encode(&fact.children).as_slice()))?;
        self.count_mentions(&fact.parent, &fact.children, Change::More)?;
        self.count_mentions(&fact.parent, &replaced.unwrap_or_default(), Change::Fewer)
    }

    /// Takes back the link fact `id` of `parent`, and what it counted for; whether it was known.
    pub fn remove_link_fact(&mut self, id: &ValueId, parent: &BlobId) -> Result<bool, StoreError> {
        let key = (parent.as_bytes(), id.boot.as_bytes(), id.seq.0, id.index);
        let removed: Option<Vec<BlobFact>> = row::decode("links", self.links.remove(key))?;
        let Some(children) = removed else { return Ok(false) };
        self.count_mentions(parent, &children, Change::Fewer)?;
        self.note_ended_fact(parent, children);
        Ok(true)
    }

    /// Notes that one more value of the ref `name` names `blob`.
    pub fn add_ref_link(&mut self, blob: &BlobId, name: &str) -> Result<(), StoreError> {
        let count = self.ref_links.get((blob.as_bytes(), name))?.map_or(0, |row| row.value());
        self.ref_links.insert((blob.as_bytes(), name), count + 1)?;
        self.count_ref_value(blob, Change::More)
    }

    /// Notes that one value fewer of the ref `name` names `blob`.
    pub fn remove_ref_link(&mut self, blob: &BlobId, name: &str) -> Result<(), StoreError> {
        let count = self.ref_links.get((blob.as_bytes(), name))?.map_or(0, |row| row.value());
        match count {
            0 => return Err(StoreError::Inconsistent(format!("ref {name} was not known to name {blob}"))),
            1 => drop(self.ref_links.remove((blob.as_bytes(), name))?),
            _ => drop(self.ref_links.insert((blob.as_bytes(), name), count - 1)?),
        }
        self.count_ref_value(blob, Change::Fewer)
    }
}

/// The id of the link fact in a row.
fn fact_id((_, boot, seq, index): (&[u8; 20], &[u8; 16], u64, u32)) -> ValueId {
    ValueId { boot: (*boot).into(), seq: Seq(seq), index }
}

#[cfg(test)]
mod tests;
