//! The refs that reach a blob, in order of name, however many there are: one look-up for each that is taken.

use std::collections::{BTreeSet, VecDeque};

use keepwell_protocol::id::BlobId;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::tables::{Access, Tables};

/// The blobs that reach one over known links, itself included, and the next ref that names each.
#[derive(Debug, Default)]
pub struct Naming {
    above: Vec<BlobId>,
    /// (name, which of them it names)
    heads: BTreeSet<(String, usize)>,
}

impl Naming {
    /// Finds the blobs; none if more than `limit` reach `blob`. The refs begin with the first at or after `from`.
    pub fn of<A: Access>(tables: &Tables<A>, blob: &BlobId, from: &str, limit: usize) -> Result<Option<Naming>, StoreError> {
        let (mut seen, mut due) = (BTreeSet::from([*blob]), VecDeque::from([*blob]));
        let mut naming = Naming::default();
        while let Some(at) = due.pop_front() {
            if naming.above.len() == limit {
                return Ok(None);
            }
            let number = naming.above.len();
            naming.above.push(at);
            naming.heads.extend(tables.ref_naming(&at, from)?.map(|name| (name, number)));
            due.extend(tables.parents(&at)?.into_iter().filter(|parent| seen.insert(*parent)));
        }
        Ok(Some(naming))
    }

    /// The next ref of which some value reaches the blob.
    pub fn next<A: Access>(&mut self, tables: &Tables<A>) -> Result<Option<String>, StoreError> {
        let Some((name, _)) = self.heads.first().cloned() else { return Ok(None) };
        // No character of a name is below a space, so this is the first name after it.
        let after = format!("{name}\0");
        while let Some(head) = self.heads.first().filter(|(first, _)| *first == name).cloned() {
            self.heads.remove(&head);
            let number = head.1;
            if let Some(blob) = self.above.get(number) {
                self.heads.extend(tables.ref_naming(blob, &after)?.map(|name| (name, number)));
            }
        }
        Ok(Some(name))
    }
}

impl<A: Access> Tables<A> {
    /// The first ref at or after `from` of which some value names `blob`.
    fn ref_naming(&self, blob: &BlobId, from: &str) -> Result<Option<String>, StoreError> {
        let first = self.ref_links.range((blob.as_bytes(), from)..)?.next().transpose()?;
        Ok(first.and_then(|(key, _)| {
            let (named, name) = key.value();
            (named == blob.as_bytes()).then(|| name.to_owned())
        }))
    }
}

#[cfg(test)]
mod tests {
    use keepwell_protocol::id::{BootId, Seq, ValueId};
    use keepwell_protocol::log::op::LinkFact;

    use super::*;
    use crate::testing::{TestHome, fact};

    /// 1 and 4 link to 2, 2 links to 3, and 3 back to 2.
    fn home() -> TestHome {
        let home = TestHome::new();
        home.write(|txn| {
            for (seq, (parent, child)) in [(1, 2), (4, 2), (2, 3), (3, 2)].into_iter().enumerate() {
                let id = ValueId { boot: BootId([1; 16]), seq: Seq(seq as u64), index: 0 };
                txn.put_link_fact(&id, &LinkFact { parent: fact(parent).sha1, children: vec![fact(child)] })?;
            }
            for (blob, name) in [(1, "lab/b"), (1, "lab/d"), (2, "lab/c"), (3, "lab/a"), (4, "lab/b"), (4, "lab/e"), (5, "lab/x")]
            {
                txn.add_ref_link(&fact(blob).sha1, name)?;
            }
            Ok(())
        });
        home
    }

    fn names(home: &TestHome, blob: u8, from: &str) -> Vec<String> {
        let snapshot = home.snapshot();
        let mut naming = Naming::of(&snapshot, &fact(blob).sha1, from, 10).unwrap().unwrap();
        std::iter::from_fn(|| naming.next(&snapshot).unwrap()).collect()
    }

    #[test]
    fn refs_that_reach_a_blob_come_once_each_in_order_of_name() {
        let home = home();
        assert_eq!(names(&home, 3, ""), ["lab/a", "lab/b", "lab/c", "lab/d", "lab/e"]);
        assert_eq!(names(&home, 3, "lab/b\0"), ["lab/c", "lab/d", "lab/e"]);
        assert_eq!(names(&home, 1, ""), ["lab/b", "lab/d"]);
        assert_eq!(names(&home, 5, "lab/y"), [""; 0]);
        assert_eq!(names(&home, 9, ""), [""; 0]);
    }

    #[test]
    fn what_too_many_reach_is_not_walked() {
        let home = home();
        let of = |limit: usize| Naming::of(&home.snapshot(), &fact(3).sha1, "", limit).unwrap();
        assert!(of(4).is_some() && of(3).is_none());
    }
}
