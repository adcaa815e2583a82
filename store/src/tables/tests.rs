//! A digest tells any difference between derived tables; a rebuild starts from nothing derived and everything primary.

use std::collections::BTreeSet;

use keepwell_protocol::catalog::change::{AppliedChange, ChangeHash, DocState, Order, Write};
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::removal::{Cut, Removal};
use keepwell_protocol::catalog::row::Row;
use keepwell_protocol::id::{BlobId, BootId, EntryHash, NodeId, Seq, StorageId, ValueId};
use keepwell_protocol::log::branch::Branch;
use keepwell_protocol::log::op::LinkFact;
use keepwell_protocol::log::vector::{Chain, Head, Past};
use redb::ReadableTableMetadata;

use crate::counts::Count;
use crate::error::StoreError;
use crate::log::ChainState;
use crate::store::Transaction;
use crate::testing::{LARGE, TestHome, bytes_of, fact, id_of};

const NODE: NodeId = NodeId([1; 32]);
const BOOT: BootId = BootId([1; 16]);

type Fill = fn(&mut Transaction<'_>, u64) -> Result<(), StoreError>;

/// One way into each derived table, with the tables that it writes. The number makes rows differ in their values alone.
const FILLS: [(&[&str], Fill); 14] = [
    (&["positions", "chains"], |txn, n| {
        let head = Head { seq: Seq(1), hash: EntryHash([u8::try_from(n).unwrap(); 32]) };
        let chain = Chain { node: NODE, boot: BOOT };
        txn.advance_chain(&chain, 0, &ChainState { head, past: Past::default(), storage: StorageId([1; 16]) })
    }),
    (&["branches"], |txn, n| {
        let branch = Branch { root: BOOT, parent: BOOT, first: Seq(n) };
        txn.put_branch(&Chain { node: NODE, boot: BOOT }, &branch)
    }),
    (&["docs", "changes", "author_epochs"], |txn, n| {
        let change = AppliedChange { boot: BOOT, seq: Seq(n), max_op: n };
        let state = DocState { ops: u32::try_from(n).unwrap(), ..DocState::default() };
        txn.put_change((7, 0), &ChangeHash([1; 32]), &change, &state)?;
        txn.author_epochs.insert((7, BOOT.as_bytes()), u32::try_from(n).unwrap())?;
        Ok(())
    }),
    (&["items"], |txn, n| {
        let mut row = Row::default();
        row.apply(id(n), order(n), NODE, &write());
        txn.put_item(&write().item, &row)
    }),
    (&["authority"], |txn, n| txn.put_authority(&id(1), order(n), NODE, &write())),
    (&["removals"], |txn, n| {
        let removal = Removal { id: id(1), author: NODE, admitted: n, cut: Cut::default(), knows: vec![] };
        txn.put_removal(&NODE, &removal, false).map(drop)
    }),
    (&["cut_writes"], |txn, n| txn.note_cut_write(&write().item, &id(n))),
    (&["admissions"], |txn, n| txn.note_admission(&NODE, &id(1), n)),
    (&["returned"], |txn, n| txn.note_returned(&id(n))),
    (&["ref_links"], |txn, n| (0..n).try_for_each(|_| txn.add_ref_link(&BlobId([1; 20]), "lab/raw"))),
    (&["links", "parents"], |txn, n| {
        txn.put_link_fact(&id(1), &LinkFact { parent: BlobId([1; 20]), children: vec![fact(u8::try_from(n).unwrap())] })
    }),
    (&["expiries"], |txn, n| txn.put_expiry("lab/raw", &id(1), n)),
    (&["chain_numbers", "holdings"], |txn, n| {
        txn.chain_numbers.insert((NODE.as_bytes(), BOOT.as_bytes()), u32::try_from(n).unwrap())?;
        txn.holdings.insert((fact(1).sha1.as_bytes(), 0), n.to_be_bytes().as_slice())?;
        Ok(())
    }),
    (&["counts"], |txn, n| txn.add_to_count(Count::Refs, i64::try_from(n).unwrap())),
];

fn id(seq: u64) -> ValueId {
    ValueId { boot: BOOT, seq: Seq(seq), index: 0 }
}

fn order(counter: u64) -> Order {
    Order { epoch: 0, counter, boot: BOOT }
}

fn write() -> Write {
    Write { item: Item::reference("lab/raw"), replaces: vec![], body: Some(vec![1]) }
}

fn digests(home: &TestHome) -> Vec<(&'static str, [u8; 32])> {
    home.snapshot().derived_digests().unwrap()
}

/// The tables that `fill` changes, by their digests.
fn changed(home: &TestHome, fill: Fill, n: u64) -> BTreeSet<&'static str> {
    let before = digests(home);
    home.write(|txn| fill(txn, n));
    let pairs = before.into_iter().zip(digests(home));
    pairs.filter(|(old, new)| old != new).map(|((name, _), _)| name).collect()
}

#[test]
fn a_row_more_or_another_value_changes_the_digest_of_its_table_and_of_no_other() {
    let home = TestHome::new();
    for (tables, fill) in FILLS {
        let expected: BTreeSet<&str> = tables.iter().copied().collect();
        assert_eq!(changed(&home, fill, 1), expected, "a row more");
        assert_eq!(changed(&home, fill, 2), expected, "another value");
    }
}

#[test]
fn every_derived_table_is_filled_by_these_tests() {
    let filled: BTreeSet<&str> = FILLS.iter().flat_map(|(tables, _)| tables.iter().copied()).collect();
    let derived: BTreeSet<&str> = digests(&TestHome::new()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(filled, derived);
}

#[test]
fn equal_rows_give_equal_digests_whatever_came_between() {
    let (one, other) = (TestHome::new(), TestHome::new());
    for (_, fill) in FILLS {
        one.write(|txn| fill(txn, 1));
    }
    other.write(|txn| FILLS.iter().rev().try_for_each(|(_, fill)| fill(txn, 3)));
    other.write(|txn| txn.clear_derived().map_err(StoreError::from));
    other.write(|txn| FILLS.iter().rev().try_for_each(|(_, fill)| fill(txn, 1)));
    assert_eq!(digests(&one), digests(&other));
}

#[test]
fn a_byte_that_moves_from_a_key_to_its_value_changes_the_digest() {
    let (one, other) = (TestHome::new(), TestHome::new());
    one.write(|txn| txn.items.insert((1, "ab"), &b"c"[..]).map(drop).map_err(StoreError::from));
    other.write(|txn| txn.items.insert((1, "a"), &b"bc"[..]).map(drop).map_err(StoreError::from));
    assert_ne!(digests(&one), digests(&other));
}

#[test]
fn clearing_what_is_derived_leaves_every_primary_table() {
    let home = TestHome::new();
    let empty = digests(&home);
    let (large, small, gone) = (bytes_of(1, 3 * LARGE), bytes_of(2, 5), bytes_of(3, LARGE));
    for bytes in [&large, &small, &gone] {
        home.put(bytes).unwrap();
    }
    home.write(|txn| txn.end_graces(u64::MAX, 2));
    home.delete(&id_of(&gone)).unwrap();
    home.write(|txn| {
        txn.append_entry(b"entry")?;
        txn.unsettled.insert(&[9; 20], ())?;
        txn.lease_waits.insert((&[9; 16], &[9; 20]), ())?;
        txn.meta.insert("key", &b"value"[..])?;
        txn.forks.insert((NODE.as_bytes(), BOOT.as_bytes(), 1, &[0; 32]), &b"proof"[..])?;
        FILLS.iter().try_for_each(|(_, fill)| fill(txn, 1))
    });
    let primary = |home: &TestHome| {
        let tables = home.snapshot();
        let graces = tables.graces.len().unwrap();
        let [meta, blobs, bytes] = [tables.meta.len(), tables.blobs.len(), tables.bytes.len()].map(Result::unwrap);
        let [spans, unlinks] = [tables.spans.len(), tables.unlinks.len()].map(Result::unwrap);
        let [entries, forks] = [tables.entries.len(), tables.forks.len()].map(Result::unwrap);
        [meta, blobs, bytes, spans, unlinks, entries, forks, graces]
    };
    assert!(counted(&home).iter().all(|rows| *rows > 0), "{:?}", counted(&home));
    let before = primary(&home);
    assert!(before.iter().all(|rows| *rows > 0), "{before:?}");
    home.write(|txn| txn.clear_derived().map_err(StoreError::from));
    assert_eq!((digests(&home), primary(&home), counted(&home)), (empty, before, [0; 5]));
    assert_eq!([home.read(&id_of(&large)).unwrap(), home.read(&id_of(&small)).unwrap()], [Some(large), Some(small)]);
}

/// The rows of each counted table.
fn counted(home: &TestHome) -> [u64; 5] {
    let tables = home.snapshot();
    let [reached, unsettled] = [tables.reached.len(), tables.unsettled.len()].map(Result::unwrap);
    let [unneeded, numbers] = [tables.unneeded.len(), tables.unneeded_numbers.len()].map(Result::unwrap);
    [reached, unsettled, unneeded, numbers, tables.lease_waits.len().unwrap()]
}
