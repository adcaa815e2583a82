//! Roots: what keeps a blob here, and over which links. For people who ask; no verdict rests on it.

use std::collections::{BTreeMap, VecDeque};

use keepwell_protocol::id::{BlobId, LeaseId};

use crate::error::StoreError;
use crate::tables::{Access, Tables};

/// One thing that keeps a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// Some value of the ref of this name.
    Ref(String),
    /// A lease that has not expired.
    Lease(LeaseId),
    /// The grace of a put or a fetch, until then, in Unix milliseconds.
    Grace(u64),
}

/// What keeps a blob, each with the shortest path that leads from what it names to the blob, both included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// The nearest first.
    pub found: Vec<(Root, Vec<BlobId>)>,
    /// Whether the search was cut short, so that there may be more.
    pub is_cut: bool,
}

impl<A: Access> Tables<A> {
    /// What keeps `blob`: a walk upwards over the links, level by level, that looks at no more than `visits` blobs and finds at most `limit`
    /// roots.
    pub fn roots_of(&self, blob: &BlobId, now_ms: u64, visits: usize, limit: usize) -> Result<Roots, StoreError> {
        let mut roots = Roots::default();
        // Each blob that was seen, with the one that the walk came from.
        let mut below: BTreeMap<BlobId, Option<BlobId>> = BTreeMap::from([(*blob, None)]);
        let mut due = VecDeque::from([*blob]);
        while let Some(at) = due.pop_front() {
            for root in self.roots_at(&at, at == *blob, now_ms)? {
                if roots.found.len() == limit {
                    roots.is_cut = true;
                    return Ok(roots);
                }
                roots.found.push((root, path(&below, at)));
            }
            for parent in self.parents(&at)? {
                if below.contains_key(&parent) {
                    continue;
                }
                if below.len() == visits {
                    roots.is_cut = true;
                    break;
                }
                below.insert(parent, Some(at));
                due.push_back(parent);
            }
        }
        Ok(roots)
    }

    /// What keeps `at` by name, and with it what it links to. A flat lease keeps only the blob that it was given.
    fn roots_at(&self, at: &BlobId, is_itself: bool, now_ms: u64) -> Result<Vec<Root>, StoreError> {
        let mut roots: Vec<Root> = self.refs_naming(at)?.into_iter().map(Root::Ref).collect();
        let leases = self.leases_on(at)?.into_iter();
        let covers = leases.filter(|(_, lease)| !lease.is_expired(now_ms) && (!lease.is_flat || is_itself));
        roots.extend(covers.map(|(id, _)| Root::Lease(id)));
        roots.extend(self.grace_of(at)?.map(Root::Grace));
        Ok(roots)
    }
}

fn path(below: &BTreeMap<BlobId, Option<BlobId>>, from: BlobId) -> Vec<BlobId> {
    let next = |at: &BlobId| below.get(at).copied().flatten();
    std::iter::successors(Some(from), next).collect()
}

#[cfg(test)]
mod tests {
    use keepwell_protocol::id::{BootId, Seq, ValueId};
    use keepwell_protocol::log::op::LinkFact;

    use super::*;
    use crate::testing::{GRACE_MS, NOW_MS, TestHome, bytes_of, fact, id_of};

    const LEASE: LeaseId = LeaseId([7; 16]);

    /// 1 links to 2, and 2 to 3; 4 links to 3.
    fn home() -> TestHome {
        let home = TestHome::new();
        home.write(|txn| {
            for (seq, (parent, child)) in [(1, 2), (2, 3), (4, 3)].into_iter().enumerate() {
                let id = ValueId { boot: BootId([1; 16]), seq: Seq(seq as u64), index: 0 };
                txn.put_link_fact(&id, &LinkFact { parent: fact(parent).sha1, children: vec![fact(child)] })?;
            }
            txn.add_ref_link(&fact(1).sha1, "lab/far")?;
            txn.add_ref_link(&fact(3).sha1, "lab/near")
        });
        home
    }

    fn blob(n: u8) -> BlobId {
        fact(n).sha1
    }

    #[test]
    fn each_root_comes_with_its_shortest_path_the_nearest_first() {
        let home = home();
        let roots = home.snapshot().roots_of(&blob(3), NOW_MS, 9, 9).unwrap();
        let expected =
            [(Root::Ref("lab/near".into()), vec![blob(3)]), (Root::Ref("lab/far".into()), vec![blob(1), blob(2), blob(3)])];
        assert_eq!((roots.found.as_slice(), roots.is_cut), (&expected[..], false));
    }

    #[test]
    fn a_lease_keeps_what_it_reaches_until_it_expires_and_a_flat_one_only_its_blob() {
        let home = home();
        let found = |n, now_ms| home.snapshot().roots_of(&blob(n), now_ms, 9, 9).unwrap().found;
        for is_flat in [false, true] {
            home.write(|txn| {
                txn.add_lease(&LEASE, "ann", NOW_MS, NOW_MS + 5, is_flat).unwrap();
                txn.add_to_lease(&LEASE, "ann", NOW_MS, &[blob(4)]).unwrap();
                Ok(())
            });
            assert_eq!(found(4, NOW_MS + 4), [(Root::Lease(LEASE), vec![blob(4)])]);
            assert_eq!(found(4, NOW_MS + 5), []);
            assert_eq!(found(3, NOW_MS).contains(&(Root::Lease(LEASE), vec![blob(4), blob(3)])), !is_flat);
            home.write(|txn| txn.remove_lease(&LEASE, "ann", NOW_MS).map(drop).map_err(|error| panic!("{error}")));
            home.write(|txn| txn.end_leases(NOW_MS, 9));
        }
    }

    #[test]
    fn a_grace_is_a_root_until_it_has_been_ended() {
        let (home, bytes) = (TestHome::new(), bytes_of(1, 10));
        home.put(&bytes).unwrap();
        let found = || home.snapshot().roots_of(&id_of(&bytes), NOW_MS, 9, 9).unwrap().found;
        assert_eq!(found(), [(Root::Grace(GRACE_MS), vec![id_of(&bytes)])]);
        home.write(|txn| txn.end_graces(GRACE_MS, 9));
        assert_eq!(found(), []);
    }

    #[test]
    fn a_search_that_is_cut_says_so() {
        let home = home();
        let roots = |visits, limit| home.snapshot().roots_of(&blob(3), NOW_MS, visits, limit).unwrap();
        assert_eq!((roots(4, 2).found.len(), roots(4, 2).is_cut), (2, false));
        assert_eq!((roots(4, 1).found.len(), roots(4, 1).is_cut), (1, true));
        assert_eq!((roots(3, 2).found.len(), roots(3, 2).is_cut), (1, true), "the parent of a parent was not looked at");
    }
}
