//! Lists against a plain model, and the limits of a page.

use keepwell_protocol::id::{BlobFact, BootId, Seq, ValueId};
use keepwell_protocol::log::op::LinkFact;
use keepwell_protocol::units::DurationMs;
use proptest::prelude::*;

use super::*;
use crate::limits::{MAX_BATCH_REFS, REMOVE_BATCH_REFS};
use crate::local::Local;
use crate::service::refs::{SetRef, remove_all, set_op};

fn home(folder: &tempfile::TempDir) -> Local {
    let (network, name) = ("lab".parse().unwrap(), "ada".parse().unwrap());
    Local::init(&folder.path().join("home"), DurationMs(0), None, network, name).unwrap()
}

fn blob(n: u16) -> BlobId {
    let mut bytes = [7; 20];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    BlobId(bytes)
}

/// Sets refs to objects that name these blobs, which nobody has.
fn set(local: &Local, refs: &[(String, Vec<u16>, String)]) {
    let op = |(name, blobs, meta): &(String, Vec<u16>, String)| {
        let fields: Vec<String> = blobs.iter().map(|n| format!("\"f{n}\":\"sha1://{}\"", blob(*n))).collect();
        let (obj, meta) = (format!("{{{}}}", fields.join(",")), Some(meta.clone()));
        set_op(SetRef { meta, allow_missing: true, ..SetRef::new(name.parse().unwrap(), obj) }).unwrap()
    };
    for part in refs.chunks(MAX_BATCH_REFS) {
        local.write_refs(part.iter().map(op).collect()).unwrap();
    }
}

fn link(local: &Local, links: impl Iterator<Item = (u16, u16)>) {
    let fact = |n| BlobFact { sha1: blob(n), b3: keepwell_protocol::id::B3([0; 32]), size_bytes: 1 };
    let links: Vec<_> = links.collect();
    let write = |txn: &mut keepwell_store::store::Transaction<'_>| {
        for (at, (parent, child)) in links.iter().enumerate() {
            let id = ValueId { boot: BootId([9; 16]), seq: Seq(at as u64), index: 0 };
            txn.put_link_fact(&id, &LinkFact { parent: blob(*parent), children: vec![fact(*child)] })?;
        }
        Ok::<_, StoreError>(())
    };
    local.store().write(write).unwrap();
}

/// The names of a list, and where it was cut.
fn listed(local: &Local, query: &Query) -> (Vec<String>, Option<String>) {
    let mut names = Vec::new();
    let mut each = |line: RefLine| {
        names.push(format!("{}/{}", line.group, line.key));
        Ok(())
    };
    let next = list(local, query, &mut each).unwrap();
    (names, next)
}

/// What a page has, and whether there may be more.
fn paged(local: &Local, query: &Query) -> (usize, bool) {
    let mut count = 0;
    let mut each = |_| {
        count += 1;
        Ok(())
    };
    let next = page(local, query, &mut each).unwrap();
    (count, next.is_some())
}

#[test]
fn a_page_looks_in_vain_at_list_visits_refs_and_the_list_at_all() {
    let (folder, none) = (tempfile::tempdir().unwrap(), Query { glob: Some("**/last".into()), ..Query::default() });
    let local = home(&folder);
    let name = |n: usize| format!("lab/{n:05}");
    set(&local, &(0..LIST_VISITS - 1).map(|n| (name(n), vec![], "{}".into())).collect::<Vec<_>>());
    set(&local, &[("lab/x/last".into(), vec![], "{}".into())]);
    assert_eq!(paged(&local, &none), (1, false));
    set(&local, &[(name(LIST_VISITS), vec![], "{}".into())]);
    assert_eq!(paged(&local, &none), (0, true), "the page ends before the one that is asked for");
    assert_eq!(listed(&local, &none), (vec!["lab/x/last".into()], None));
    assert_eq!(paged(&local, &Query::default()), (LIST_VISITS + 1, false), "what is given is bounded by the limit alone");
    let limited = Query { limit: Some(LIST_VISITS + 1), ..Query::default() };
    assert_eq!((listed(&local, &limited).0.len(), listed(&local, &limited).1), (LIST_VISITS + 1, None));
    // What is removed together is removed as a whole, or not at all.
    let mut lines = Vec::new();
    list(&local, &Query { limit: Some(REMOVE_BATCH_REFS + 1), ..Query::default() }, &mut |line| {
        lines.push((format!("{}/{}", line.group, line.key).parse().unwrap(), line.rev));
        Ok(())
    })
    .unwrap();
    lines[3].1 = "other".into();
    assert!(remove_all(&local, &lines).is_err());
    assert_eq!(listed(&local, &Query::default()).0.len(), LIST_VISITS + 1);
    lines.remove(3);
    remove_all(&local, &lines).unwrap();
    assert_eq!(listed(&local, &Query::default()).0.len(), LIST_VISITS + 1 - REMOVE_BATCH_REFS);
}

#[test]
fn more_than_contains_visits_blobs_above_one_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let local = home(&folder);
    let limit = u16::try_from(CONTAINS_VISITS).unwrap();
    set(&local, &[("lab/a".into(), vec![limit - 1], "{}".into())]);
    // With itself they are as many as the limit.
    link(&local, (1..limit).map(|parent| (parent, 0)));
    let query = Query { contains: Some(blob(0)), ..Query::default() };
    assert_eq!(paged(&local, &query), (1, false));
    assert_eq!(listed_or_refused(&local, &query), Ok(vec!["lab/a".to_owned()]));
    link(&local, (1..=limit).map(|parent| (parent, 0)));
    assert!(listed_or_refused(&local, &query).unwrap_err().contains("more than"));
}

fn listed_or_refused(local: &Local, query: &Query) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut each = |line: RefLine| {
        names.push(format!("{}/{}", line.group, line.key));
        Ok(())
    };
    list(local, query, &mut each).map_err(|failure| failure.message)?;
    Ok(names)
}

/// A ref of the model: its name, the blobs that it names, and its meta.
type Plain = (String, Vec<u16>, Option<i64>, Option<String>);

fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec("[ab_%.ü]{1,2}", 2..4)
        .prop_map(|parts| parts.join("/"))
        .prop_filter("dots alone are no names", |name| name.parse::<RefName>().is_ok())
}

fn plain() -> impl Strategy<Value = Plain> {
    let blobs = proptest::collection::btree_set(0u16..6, 0..3).prop_map(|blobs| blobs.into_iter().collect());
    (name(), blobs, proptest::option::of(-3i64..4), proptest::option::of("[ab]{1,2}"))
}

/// Whether `pattern` means `name`, letter by letter.
fn globs(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], rest) => rest.is_empty(),
        (['*', '*', pattern @ ..], _) => (0..=name.len()).any(|taken| globs(pattern, &name[taken..])),
        (['*', pattern @ ..], _) => {
            let most = name.iter().position(|letter| *letter == '/').unwrap_or(name.len());
            (0..=most).any(|taken| globs(pattern, &name[taken..]))
        }
        (['?', pattern @ ..], [letter, name @ ..]) => *letter != '/' && globs(pattern, name),
        ([wanted, pattern @ ..], [letter, name @ ..]) => wanted == letter && globs(pattern, name),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_list_has_what_a_plain_search_finds(
        refs in proptest::collection::vec(plain(), 1..20),
        links in proptest::collection::vec((0u16..6, 0u16..6), 0..6),
        queries in proptest::collection::vec(
            (proptest::option::of("[ab_%.*?/ü]{0,5}"), proptest::option::of(0u16..6), 0usize..6, 1usize..5), 1..12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let local = home(&folder);
        let meta = |age: &Option<i64>, tag: &Option<String>| {
            let age = age.map(|age| format!("\"age\":{age}"));
            let tag = tag.as_ref().map(|tag| format!("\"a/b\":{{\"tag\":\"{tag}\"}}"));
            format!("{{{}}}", age.into_iter().chain(tag).collect::<Vec<_>>().join(","))
        };
        let rows: Vec<_> = refs.iter().map(|(name, blobs, age, tag)| (name.clone(), blobs.clone(), meta(age, tag))).collect();
        // One after the other: the last of a name is what counts.
        rows.iter().for_each(|row| set(&local, std::slice::from_ref(row)));
        link(&local, links.iter().copied().filter(|(parent, child)| parent != child));
        let model: BTreeMap<&String, &Plain> = refs.iter().map(|plain| (&plain.0, plain)).collect();
        let mut above: Vec<BTreeSet<u16>> = (0..6).map(|n| BTreeSet::from([n])).collect();
        for _ in 0..6 {
            for (parent, child) in links.iter().filter(|(parent, child)| parent != child) {
                let more = above[usize::from(*parent)].clone();
                above[usize::from(*child)].extend(more);
            }
        }
        for (pattern, contains, which, limit) in queries {
            let (filter, holds): (&[&str], fn(&Plain) -> bool) = match which {
                0 => (&["age>=1"], |plain| plain.2.is_some_and(|age| age >= 1)),
                1 => (&["age<0", "/a~1b/tag"], |plain| plain.2.is_some_and(|age| age < 0) && plain.3.is_some()),
                2 => (&["/a~1b/tag=ab"], |plain| plain.3.as_deref() == Some("ab")),
                3 => (&["age=1.0"], |plain| plain.2 == Some(1)),
                _ => (&[], |_| true),
            };
            let expected: Vec<String> = model.values()
                .filter(|plain| pattern.as_ref().is_none_or(|pattern| {
                    globs(&pattern.chars().collect::<Vec<_>>(), &plain.0.chars().collect::<Vec<_>>())
                }))
                .filter(|plain| contains.is_none_or(|n| plain.1.iter().any(|named| above[usize::from(n)].contains(named))))
                .filter(|plain| holds(plain))
                .map(|plain| plain.0.clone())
                .collect();
            let query = Query {
                glob: pattern.clone(),
                contains: contains.map(blob),
                meta: filter.iter().map(|text| text.parse().unwrap()).collect(),
                ..Query::default()
            };
            let (all, next) = listed(&local, &query);
            prop_assert_eq!((&all, next), (&expected, None), "{:?}", query);
            let (mut pieces, mut cursor) = (Vec::new(), None);
            loop {
                let (piece, next) = listed(&local, &Query { limit: Some(limit), cursor, ..query.clone() });
                prop_assert!(piece.len() <= limit);
                pieces.extend(piece);
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
            prop_assert_eq!(&pieces, &expected, "{:?} by {}", query, limit);
        }
    }
}
