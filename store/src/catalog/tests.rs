//! Items, documents and link facts are found again as they were put.

use super::*;
use crate::testing::{TestHome, fact};
use keepwell_protocol::id::Seq;

fn id(boot: u8, seq: u64) -> ValueId {
    ValueId { boot: BootId([boot; 16]), seq: Seq(seq), index: 0 }
}

fn row(n: u64) -> Row {
    let mut row = Row::default();
    let order = Order { epoch: 0, counter: n, boot: BootId([1; 16]) };
    let write = Write { item: Item::network(), replaces: vec![], body: Some(vec![1]) };
    row.apply(id(1, n), order, NodeId([1; 32]), &write);
    row
}

fn put(home: &TestHome, items: &[Item]) {
    for (item, n) in items.iter().zip(1..) {
        home.write(|txn| txn.put_item(item, &row(n)));
    }
}

/// The keys of `kind` at or after `from` for as long as they begin with `prefix`.
fn keys(home: &TestHome, kind: Kind, from: &str, prefix: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let visit = |key: &str, row: Row| {
        assert!(!row.is_empty());
        let wanted = key.starts_with(prefix);
        keys.extend(wanted.then(|| key.to_owned()));
        Ok::<_, StoreError>(wanted)
    };
    home.snapshot().visit_items(kind, from, visit).unwrap();
    keys
}

#[test]
fn items_are_visited_by_kind_in_order_of_key_from_a_point_and_by_prefix() {
    let home = TestHome::new();
    let refs = ["lab/b", "lab/a", "lab0", "kab/z", "é/1"].map(Item::reference);
    put(&home, &refs);
    put(&home, &[Item::network(), Item::node(&NodeId([0xff; 32]))]);
    assert_eq!(keys(&home, Kind::REF, "", ""), ["kab/z", "lab/a", "lab/b", "lab0", "é/1"]);
    assert_eq!(keys(&home, Kind::REF, "lab/", "lab/"), ["lab/a", "lab/b"]);
    assert_eq!(keys(&home, Kind::REF, "lab/b", ""), ["lab/b", "lab0", "é/1"]);
    assert_eq!(keys(&home, Kind::REF, "zzz", "x"), [""; 0]);
    assert_eq!(keys(&home, Kind::NETWORK, "", ""), [""]);
    assert_eq!(keys(&home, Kind::NODE, "", ""), ["ff".repeat(32)]);
    assert_eq!(keys(&home, Kind(4), "", ""), [""; 0], "a visit ends with its kind");
}

#[test]
fn an_item_without_values_is_no_row() {
    let home = TestHome::new();
    let item = Item::reference("lab/a");
    put(&home, std::slice::from_ref(&item));
    assert_eq!(home.snapshot().item(&item).unwrap(), row(1));
    home.write(|txn| txn.put_item(&item, &Row::default()));
    assert!(home.snapshot().item(&item).unwrap().is_empty());
    assert_eq!(keys(&home, Kind::REF, "", ""), [""; 0]);
    home.write(|txn| txn.put_item(&item, &Row::default()));
}

#[test]
fn the_children_of_a_blob_are_those_of_all_its_facts_each_once() {
    let home = TestHome::new();
    let parent = BlobId([5; 20]);
    let link = |parent, children: &[u8]| LinkFact { parent, children: children.iter().map(|n| fact(*n)).collect() };
    home.write(|txn| {
        txn.put_link_fact(&id(0xff, u64::MAX), &link(parent, &[3, 1]))?;
        txn.put_link_fact(&id(0, 0), &link(parent, &[2, 3]))?;
        txn.put_link_fact(&id(1, 1), &link(BlobId([4; 20]), &[7]))?;
        txn.put_link_fact(&id(1, 2), &link(BlobId([6; 20]), &[8]))
    });
    assert_eq!(home.snapshot().children(&parent).unwrap(), [fact(1), fact(2), fact(3)]);
    assert_eq!(home.snapshot().children(&BlobId([4; 20])).unwrap(), [fact(7)]);
    assert_eq!(home.snapshot().children(&BlobId([9; 20])).unwrap(), []);
}

#[test]
fn a_fact_that_is_taken_back_no_longer_links_nor_keeps_its_children_alive() {
    for is_settled_between in [true, false] {
        let home = TestHome::new();
        let parent = BlobId([5; 20]);
        home.write(|txn| {
            txn.put_link_fact(&id(1, 1), &LinkFact { parent, children: vec![fact(1), fact(2)] })?;
            txn.put_link_fact(&id(1, 2), &LinkFact { parent, children: vec![fact(2)] })?;
            txn.add_ref_link(&parent, "lab/a")?;
            if is_settled_between { txn.settle(usize::MAX).map(drop) } else { Ok(()) }
        });
        let remove = |fact| home.write(|txn| txn.remove_link_fact(&fact, &parent));
        assert_eq!([remove(id(1, 1)), remove(id(1, 1)), remove(id(9, 9))], [true, false, false]);
        home.write(|txn| txn.settle(usize::MAX).map(drop));
        let snapshot = home.snapshot();
        assert_eq!(snapshot.children(&parent).unwrap(), [fact(2)]);
        assert_eq!([1, 2].map(|n| snapshot.is_live(&fact(n).sha1).unwrap()), [false, true]);
        assert_eq!([1, 2].map(|n| snapshot.parents(&fact(n).sha1).unwrap().len()), [0, 1]);
        assert!(remove(id(1, 2)));
        home.write(|txn| txn.remove_ref_link(&parent, "lab/a"));
        home.write(|txn| txn.settle(usize::MAX).map(drop));
        assert_eq!([parent, fact(1).sha1, fact(2).sha1].map(|id| home.snapshot().is_live(&id).unwrap()), [false; 3]);
    }
}

#[test]
fn facts_are_listed_by_parent_and_what_ends_of_them_is_told_once() {
    let home = TestHome::new();
    let parents = [5, 6, 7].map(|n| BlobId([n; 20]));
    let link = |parent| LinkFact { parent, children: vec![fact(1)] };
    home.write(|txn| {
        txn.put_link_fact(&id(1, 1), &link(parents[0]))?;
        txn.put_link_fact(&id(2, 9), &link(parents[0]))?;
        txn.put_link_fact(&id(1, 2), &link(parents[1]))?;
        txn.put_link_fact(&id(1, 3), &link(parents[2]))
    });
    let snapshot = home.snapshot();
    assert_eq!(snapshot.fact_ids(&parents[0]).unwrap(), [id(1, 1), id(2, 9)]);
    assert_eq!(parents.map(|parent| snapshot.has_facts(&parent).unwrap()), [true; 3]);
    assert!(!snapshot.has_facts(&fact(1).sha1).unwrap());
    assert_eq!(snapshot.linking_after(None, 2).unwrap(), parents[..2]);
    assert_eq!(snapshot.linking_after(Some(&parents[1]), 2).unwrap(), parents[2..]);
    assert_eq!(snapshot.linking_after(Some(&parents[2]), 2).unwrap(), []);
    home.write(|txn| {
        txn.remove_link_fact(&id(1, 1), &parents[0])?;
        txn.remove_link_fact(&id(9, 9), &parents[0])?;
        assert_eq!(txn.take_ended_facts(), [(parents[0], vec![fact(1)])]);
        assert_eq!(txn.take_ended_facts(), []);
        Ok(())
    });
}

#[test]
fn two_facts_that_disagree_about_a_child_are_both_told() {
    let home = TestHome::new();
    let parent = BlobId([5; 20]);
    let other = BlobFact { size_bytes: 99, ..fact(1) };
    home.write(|txn| {
        txn.put_link_fact(&id(1, 1), &LinkFact { parent, children: vec![fact(1)] })?;
        txn.put_link_fact(&id(1, 2), &LinkFact { parent, children: vec![other] })
    });
    assert_eq!(home.snapshot().children(&parent).unwrap(), [fact(1), other]);
}

#[test]
fn a_ref_names_a_blob_until_the_last_of_its_values_that_do_is_gone() {
    let home = TestHome::new();
    let blob = BlobId([5; 20]);
    let naming = || home.snapshot().refs_naming(&blob).unwrap();
    home.write(|txn| {
        txn.add_ref_link(&blob, "lab/b")?;
        txn.add_ref_link(&blob, "lab/b")?;
        txn.add_ref_link(&blob, "lab/a")?;
        txn.add_ref_link(&BlobId([4; 20]), "lab/c")?;
        txn.add_ref_link(&BlobId([6; 20]), "lab/d")
    });
    assert_eq!(naming(), ["lab/a", "lab/b"]);
    home.write(|txn| txn.remove_ref_link(&blob, "lab/b"));
    assert_eq!(naming(), ["lab/a", "lab/b"]);
    home.write(|txn| txn.remove_ref_link(&blob, "lab/b"));
    assert_eq!(naming(), ["lab/a"]);
}

#[test]
fn a_link_that_nobody_counted_cannot_be_taken_away() {
    let home = TestHome::new();
    let taken = home.store.write(|txn| txn.remove_ref_link(&BlobId([5; 20]), "lab/a"));
    assert!(matches!(taken, Err(StoreError::Inconsistent(_))));
}

fn applied(boot: u8, seq: u64) -> AppliedChange {
    AppliedChange { boot: BootId([boot; 16]), seq: Seq(seq), max_op: seq }
}

fn note(home: &TestHome, place: (u8, u32), hash: u8, change: AppliedChange) {
    let state = DocState { ops: u32::from(hash), ..DocState::default() };
    home.write(|txn| txn.put_change(place, &ChangeHash([hash; 32]), &change, &state));
}

#[test]
fn a_shard_knows_its_newest_epoch_and_an_author_the_newest_it_wrote_to() {
    let home = TestHome::new();
    assert_eq!(home.snapshot().latest_epoch(7).unwrap(), 0);
    note(&home, (7, 0), 1, applied(1, 1));
    note(&home, (7, 3), 2, applied(2, 1));
    note(&home, (8, 9), 3, applied(1, 2));
    let snapshot = home.snapshot();
    let latest = [6, 7, 8, 255].map(|shard| snapshot.latest_epoch(shard).unwrap());
    assert_eq!(latest, [0, 3, 9, 0]);
    let newest = |boot| snapshot.newest_epoch(7, &BootId([boot; 16])).unwrap();
    assert_eq!([newest(1), newest(2), newest(3)], [Some(0), Some(3), None]);
    assert_eq!(snapshot.documents().unwrap(), [(7, 0), (7, 3), (8, 9)]);
}

#[test]
fn changes_are_known_by_document_and_hash() {
    let home = TestHome::new();
    note(&home, (7, 0), 0, applied(1, 1));
    note(&home, (7, 0), 0xff, applied(2, 1));
    note(&home, (7, 1), 5, applied(1, 2));
    let snapshot = home.snapshot();
    let of_first = [(ChangeHash([0; 32]), applied(1, 1)), (ChangeHash([0xff; 32]), applied(2, 1))];
    assert_eq!(snapshot.changes_of(7, 0).unwrap(), of_first);
    let known = |shard, epoch, boot, seq| {
        let past = Past([(BootId([boot; 16]), Seq(seq))].into());
        snapshot.applied(shard, epoch, &ChangeHash([5; 32]), &past).unwrap()
    };
    assert_eq!(known(7, 1, 1, 2), Some(applied(1, 2)));
    assert_eq!(known(7, 0, 1, 2), None, "of another epoch");
    assert_eq!([known(7, 1, 1, 1), known(7, 1, 2, 2)], [None, None], "not in the past");
    assert_eq!((snapshot.doc(7, 0).unwrap().ops, snapshot.doc(7, 2).unwrap()), (0xff, DocState::default()));
}

#[test]
fn the_same_change_on_two_branches_is_known_to_whoever_has_seen_either() {
    let home = TestHome::new();
    note(&home, (7, 0), 5, applied(1, 2));
    note(&home, (7, 0), 5, applied(2, 2));
    let known = |boot| {
        let past = Past([(BootId([boot; 16]), Seq(9))].into());
        home.snapshot().applied(7, 0, &ChangeHash([5; 32]), &past).unwrap()
    };
    assert_eq!([known(1), known(2), known(3)], [Some(applied(1, 2)), Some(applied(2, 2)), None]);
}

#[test]
fn what_authority_rests_on_is_told_as_of_a_causal_past() {
    let home = TestHome::new();
    let item = Item::node(&NodeId([1; 32]));
    let order = |counter| Order { epoch: 0, counter, boot: BootId([1; 16]) };
    let write = |replaces, body| Write { item: item.clone(), replaces, body: Some(vec![body]) };
    home.write(|txn| {
        txn.put_authority(&id(1, 1), order(1), NodeId([1; 32]), &write(vec![], 1))?;
        txn.put_authority(&id(1, 2), order(2), NodeId([1; 32]), &write(vec![id(1, 1)], 2))
    });
    let as_of = |seq| {
        let mut past = Past::default();
        past.extend(BootId([1; 16]), Seq(seq));
        home.snapshot().authority_at(&item, &past).unwrap().winner().map(|value| value.body[0])
    };
    assert_eq!([as_of(0), as_of(1), as_of(2), as_of(3)], [None, Some(1), Some(2), Some(2)]);
    assert!(home.snapshot().authority_at(&Item::network(), &Past::default()).unwrap().is_empty());
}
