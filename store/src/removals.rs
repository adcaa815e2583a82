//! Removals on disk: which there are, which are in force, and what of the catalog does not count for them.
//!
//! What a removal voids stays in the log and in the tables by which later entries are judged, since others have built on it; only its
//! effects are left out. All of it follows from the log, and is rebuilt with it.

use std::collections::BTreeSet;

use keepwell_protocol::catalog::item::{Item, Kind};
use keepwell_protocol::catalog::removal::Removal;
use keepwell_protocol::catalog::row::Row;
use keepwell_protocol::id::{NodeId, Seq, ValueId};
use keepwell_protocol::log::vector::Past;
use keepwell_protocol::wire;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::row;
use crate::tables::{Access, Tables, Writing};

/// A removal and whether it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRemoval {
    /// Who is removed.
    pub node: NodeId,
    /// What it says.
    pub removal: Removal,
    /// Whether it is in force.
    pub in_force: bool,
}

impl<A: Access> Tables<A> {
    /// All removals that their authors could write.
    pub fn all_removals(&self) -> Result<Vec<KnownRemoval>, StoreError> {
        let mut removals = Vec::new();
        for row in self.removals.iter()? {
            let (key, value) = row?;
            let (removal, in_force): (Removal, bool) = row::decode_bytes("removals", value.value())?;
            removals.push(KnownRemoval { node: (*key.value().0).into(), removal, in_force });
        }
        Ok(removals)
    }

    /// The removals of `node`, in force or not.
    pub fn removals_of(&self, node: &NodeId) -> Result<Vec<KnownRemoval>, StoreError> {
        let rows = self.removals.range((node.as_bytes(), &[0; 16], 0, 0)..=(node.as_bytes(), &[0xff; 16], u64::MAX, u32::MAX))?;
        rows.map(|row| {
            let (removal, in_force) = row::decode_bytes("removals", row?.1.value())?;
            Ok(KnownRemoval { node: *node, removal, in_force })
        })
        .collect()
    }

    /// Whether anybody was ever removed.
    pub fn has_removals(&self) -> Result<bool, StoreError> {
        Ok(self.removals.first()?.is_some())
    }

    /// The members that are removed now. A value that nobody has taken back says so.
    pub fn removed(&self) -> Result<BTreeSet<NodeId>, StoreError> {
        let mut removed = BTreeSet::new();
        self.visit_items::<StoreError>(Kind::REMOVAL, "", |key, row| {
            removed.extend(key.parse::<NodeId>().ok().filter(|_| !row.is_empty()));
            Ok(true)
        })?;
        Ok(removed)
    }

    /// As [`Tables::authority_at`], of those writes alone that count.
    pub fn counting_authority_at(&self, item: &Item, past: &Past) -> Result<Row, StoreError> {
        let mut counting = Vec::new();
        for write in self.authority_writes(item, past)? {
            if !self.is_cut_write(item, &write.0)? {
                counting.push(write);
            }
        }
        Ok(Row::of(&counting))
    }

    /// Whether the write `id` to `item`, which authority rests on, is void by a removal.
    pub fn is_cut_write(&self, item: &Item, id: &ValueId) -> Result<bool, StoreError> {
        Ok(self.cut_writes.get(cut_key(item, id))?.is_some())
    }

    /// How many entries were known to whoever first took `node` in, among those in `past`; none if nobody did.
    pub fn admitted_at(&self, node: &NodeId, past: &Past) -> Result<Option<u64>, StoreError> {
        let mut least: Option<u64> = None;
        for row in self.admissions.range((node.as_bytes(), &[0; 16], 0)..=(node.as_bytes(), &[0xff; 16], u64::MAX))? {
            let (key, known) = row?;
            let (_, boot, seq) = key.value();
            if past.includes(&(*boot).into(), Seq(seq)) {
                least = Some(least.map_or(known.value(), |least| least.min(known.value())));
            }
        }
        Ok(least)
    }

    /// Whether the value `id` of a ref had been replaced or deleted by a write that a removal has made void since.
    pub fn came_back(&self, id: &ValueId) -> Result<bool, StoreError> {
        Ok(self.returned.get((id.boot.as_bytes(), id.seq.0, id.index))?.is_some())
    }
}

impl Tables<Writing<'_>> {
    /// Notes a removal. One that is in force stays so.
    pub fn put_removal(&mut self, node: &NodeId, removal: &Removal, in_force: bool) -> Result<bool, StoreError> {
        let id = &removal.id;
        let key = (node.as_bytes(), id.boot.as_bytes(), id.seq.0, id.index);
        let before: Option<(Removal, bool)> = row::decode("removals", self.removals.get(key))?;
        let in_force = in_force || before.is_some_and(|(_, in_force)| in_force);
        self.removals.insert(key, wire::encode(&(removal.clone(), in_force)).as_slice())?;
        Ok(in_force)
    }

    /// Notes that a write which authority rests on is void by a removal.
    pub fn note_cut_write(&mut self, item: &Item, id: &ValueId) -> Result<(), StoreError> {
        self.cut_writes.insert(cut_key(item, id), ())?;
        Ok(())
    }

    /// Notes that a record of `node` was written by an entry whose author knew of so many.
    pub fn note_admission(&mut self, node: &NodeId, id: &ValueId, known: u64) -> Result<(), StoreError> {
        self.admissions.insert((node.as_bytes(), id.boot.as_bytes(), id.seq.0), known)?;
        Ok(())
    }

    /// Notes that a write which is void had replaced or deleted the value `id` of a ref.
    pub fn note_returned(&mut self, id: &ValueId) -> Result<(), StoreError> {
        self.returned.insert((id.boot.as_bytes(), id.seq.0, id.index), ())?;
        Ok(())
    }
}

fn cut_key<'k>(item: &'k Item, id: &'k ValueId) -> (u16, &'k str, &'k [u8; 16], u64, u32) {
    (item.kind.0, item.key.as_str(), id.boot.as_bytes(), id.seq.0, id.index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHome;
    use keepwell_protocol::catalog::removal::Cut;
    use keepwell_protocol::id::BootId;

    const NODE: NodeId = NodeId([1; 32]);

    fn id(seq: u64) -> ValueId {
        ValueId { boot: BootId([1; 16]), seq: Seq(seq), index: 0 }
    }

    fn removal(seq: u64) -> Removal {
        Removal { id: id(seq), author: NodeId([2; 32]), admitted: 3, cut: Cut::default(), knows: vec![] }
    }

    #[test]
    fn a_removal_that_is_in_force_stays_so_when_its_entry_is_applied_again() {
        let home = TestHome::new();
        assert!(!home.snapshot().has_removals().unwrap());
        home.write(|txn| {
            assert!(!txn.put_removal(&NODE, &removal(1), false)?);
            assert!(txn.put_removal(&NODE, &removal(2), true)?);
            txn.put_removal(&NODE, &removal(2), false).map(|in_force| assert!(in_force))
        });
        let of = |node: &NodeId| -> Vec<(u64, bool)> {
            let removals = home.snapshot().removals_of(node).unwrap();
            removals.into_iter().map(|known| (known.removal.id.seq.0, known.in_force)).collect()
        };
        assert_eq!((of(&NODE), of(&NodeId([9; 32]))), (vec![(1, false), (2, true)], vec![]));
        assert_eq!(home.snapshot().all_removals().unwrap().len(), 2);
    }

    #[test]
    fn the_admission_that_knew_least_counts_of_those_in_the_past() {
        let home = TestHome::new();
        home.write(|txn| {
            [(1, 9), (2, 4), (3, 2)].into_iter().try_for_each(|(seq, known)| txn.note_admission(&NODE, &id(seq), known))
        });
        let at = |seq: u64| home.snapshot().admitted_at(&NODE, &Past([(BootId([1; 16]), Seq(seq))].into())).unwrap();
        assert_eq!((at(0), at(1), at(2), at(9)), (None, Some(9), Some(4), Some(2)));
    }
}
