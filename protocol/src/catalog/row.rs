//! A row: what the writes to one item amount to, as far as they are known.
//!
//! The values of an item are those that no known write replaces or deletes. One of them wins (automerge's order); the others are
//! conflicts, which stay, and protect what they name, until a write that saw them replaces them. A set concurrent with a delete wins,
//! because the delete does not name it.

use std::collections::BTreeSet;

use bincode::{Decode, Encode};

use super::change::{Order, Write};
use crate::id::{NodeId, ValueId};
use crate::limits::MAX_REPLACES;

/// One value of an item.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Value {
    /// Its name; `rev` to users.
    pub id: ValueId,
    /// Its place in the order that picks the winner.
    pub order: Order,
    /// Who wrote it.
    pub author: NodeId,
    /// What it says, in the encoding of the item's kind.
    pub body: Vec<u8>,
}

/// The values of one item, the winner first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Row {
    values: Vec<Value>,
}

/// What one write did to a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowDelta {
    /// The values that are gone.
    pub removed: Vec<Value>,
    /// Whether the write left a value.
    pub added: bool,
}

impl Row {
    /// The value that users see.
    pub fn winner(&self) -> Option<&Value> {
        self.values.first()
    }

    /// The other values, in falling order.
    pub fn conflicts(&self) -> &[Value] {
        self.values.get(1..).unwrap_or_default()
    }

    /// All values, the winner first.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The ids that a write which has seen this row replaces: all, or the first [`MAX_REPLACES`], which is what one write may name.
    pub fn ids(&self) -> Vec<ValueId> {
        self.values.iter().take(MAX_REPLACES).map(|value| value.id).collect()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The row that `writes` (id, place, author, write) amount to, in whatever order they come.
    pub fn of(writes: &[(ValueId, Order, NodeId, Write)]) -> Row {
        let gone: BTreeSet<&ValueId> = writes.iter().flat_map(|(.., write)| &write.replaces).collect();
        let kept = writes.iter().filter(|(id, ..)| !gone.contains(id));
        let mut values: Vec<Value> = kept
            .filter_map(|(id, order, author, write)| {
                Some(Value { id: *id, order: *order, author: *author, body: write.body.clone()? })
            })
            .collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.order));
        Row { values }
    }

    /// Applies a write. Entries apply in causal order, so every value that it replaces has been here.
    pub fn apply(&mut self, id: ValueId, order: Order, author: NodeId, write: &Write) -> RowDelta {
        let (removed, kept) = std::mem::take(&mut self.values).into_iter().partition(|value| write.replaces.contains(&value.id));
        self.values = kept;
        let Some(body) = &write.body else {
            return RowDelta { removed, added: false };
        };
        let at = self.values.partition_point(|value| value.order > order);
        self.values.insert(at, Value { id, order, author, body: body.clone() });
        RowDelta { removed, added: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::item::Item;
    use crate::id::{BootId, Seq};

    fn id(boot: u8, seq: u64) -> ValueId {
        ValueId { boot: BootId([boot; 16]), seq: Seq(seq), index: 0 }
    }

    fn apply(row: &mut Row, id: ValueId, counter: u64, replaces: &[ValueId], body: Option<&str>) -> RowDelta {
        let order = Order { epoch: 0, counter, boot: id.boot };
        let body = body.map(|text| text.as_bytes().to_vec());
        let write = Write { item: Item::reference("g/k"), replaces: replaces.to_vec(), body };
        row.apply(id, order, NodeId([0; 32]), &write)
    }

    fn bodies(row: &Row) -> Vec<&str> {
        row.values().iter().map(|value| std::str::from_utf8(&value.body).unwrap()).collect()
    }

    #[test]
    fn a_write_replaces_what_it_saw_and_only_that() {
        let mut row = Row::default();
        apply(&mut row, id(1, 1), 1, &[], Some("old"));
        apply(&mut row, id(2, 1), 2, &[], Some("other"));
        let delta = apply(&mut row, id(1, 2), 3, &[id(1, 1)], Some("new"));
        assert_eq!(delta.removed[0].id, id(1, 1));
        assert_eq!(bodies(&row), ["new", "other"]);
    }

    #[test]
    fn the_winner_is_the_same_in_whatever_order_concurrent_writes_arrive() {
        let writes = [(id(1, 1), 5, "five"), (id(2, 1), 7, "seven"), (id(3, 1), 7, "seven too")];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut row = Row::default();
            for at in order {
                let (id, counter, body) = writes[at];
                apply(&mut row, id, counter, &[], Some(body));
            }
            assert_eq!(bodies(&row), ["seven too", "seven", "five"]);
        }
    }

    #[test]
    fn a_set_concurrent_with_a_delete_wins() {
        let mut row = Row::default();
        apply(&mut row, id(1, 1), 1, &[], Some("old"));
        apply(&mut row, id(2, 1), 2, &[id(1, 1)], Some("new"));
        apply(&mut row, id(3, 1), 2, &[id(1, 1)], None);
        assert_eq!(bodies(&row), ["new"]);
        apply(&mut row, id(3, 2), 3, &[id(2, 1)], None);
        assert!(row.is_empty());
    }
    #[test]
    fn a_row_of_more_conflicts_than_max_replaces_can_still_be_written() {
        let mut row = Row::default();
        for n in 1..=MAX_REPLACES as u64 + 1 {
            apply(&mut row, id(1, n), n, &[], Some("conflict"));
        }
        let seen = row.ids();
        assert_eq!((seen.len(), seen[0]), (MAX_REPLACES, id(1, MAX_REPLACES as u64 + 1)));
        apply(&mut row, id(2, 1), 9_999, &seen, Some("new"));
        assert_eq!(bodies(&row), ["new", "conflict"]);
        assert_eq!(row.ids().len(), 2);
    }
    #[test]
    fn the_bytes_of_a_row_never_change() {
        // Golden bytes: a change of them breaks homes in the field.
        let mut row = Row::default();
        apply(&mut row, id(1, 300), 5, &[], Some("body"));
        assert_eq!(
            data_encoding::HEXLOWER.encode(&crate::wire::encode(&row)),
            "010101010101010101010101010101010101fb2c0100000501010101010101010101010101010101000000000000000000000000000000000000000000000000000000000000000004626f6479"
        );
    }
}
