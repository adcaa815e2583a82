//! Every verdict on an entry, with and without forks.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use super::*;

/// What one node has applied.
#[derive(Debug, Default)]
struct Log {
    heads: BTreeMap<(Chain, Seq), Head>,
    branches: BTreeMap<NodeId, Branches>,
    forks: BTreeSet<(Chain, Seq, Option<EntryHash>)>,
}

impl Applied for Log {
    type Error = Infallible;

    fn head_at(&self, chain: &Chain, seq: Seq) -> Result<Option<Head>, Infallible> {
        Ok(self.heads.get(&(*chain, seq)).copied())
    }

    fn branches(&self, node: &NodeId) -> Result<Branches, Infallible> {
        Ok(self.branches.get(node).cloned().unwrap_or_default())
    }

    fn forked_after(&self, boot: &Chain, seq: Seq, prev_hash: Option<&EntryHash>) -> Result<bool, Infallible> {
        Ok(self.forks.contains(&(*boot, seq, prev_hash.copied())))
    }
}

impl Log {
    fn with(heads: &[(Chain, u64, u8)]) -> Log {
        let heads = heads.iter().map(|(chain, seq, hash)| ((*chain, Seq(*seq)), head(*seq, *hash)));
        Log { heads: heads.collect(), ..Log::default() }
    }

    fn judge(&self, entry: &Entry) -> Admission {
        let Ok(verdict) = admit(entry, self);
        verdict
    }
}

fn chain(n: u8) -> Chain {
    Chain { node: NodeId([n; 32]), boot: BootId([n; 16]) }
}

/// The branch of chain 1 that begins with the entry `hash`.
fn branch(hash: u8) -> Chain {
    Chain { boot: BootId::of_branch(&EntryHash([hash; 32])), ..chain(1) }
}

fn head(seq: u64, hash: u8) -> Head {
    Head { seq: Seq(seq), hash: EntryHash([hash; 32]) }
}

fn entry(head: Head, prev: Option<u8>, deps: Vec<(Chain, Head)>) -> Entry {
    Entry { chain: chain(1), head, prev_hash: prev.map(|p| EntryHash([p; 32])), deps, ops: vec![] }
}

fn next_in(chain: Chain, deps: &[(BootId, u64)]) -> Admission {
    let deps = deps.iter().map(|(boot, seq)| (*boot, Seq(*seq))).collect();
    Admission::Apply(Placement { chain, begins: None, deps })
}

fn missing(chain: Chain, seq: u64, differs: bool) -> Admission {
    Admission::Wait(vec![Missing { chain, seq: Seq(seq), differs }])
}

/// Chain 1 applied up to 2 (hashes 11, 12); chain 2 up to 1 (hash 21).
fn calm() -> Log {
    Log::with(&[(chain(1), 1, 11), (chain(1), 2, 12), (chain(2), 1, 21)])
}

/// Chain 1 forked after its first entry (11): 12 and 13 on one branch, 92 and 93 on the other.
fn forked() -> Log {
    let (left, right) = (branch(12), branch(92));
    let heads = [(chain(1), 1, 11), (left, 2, 12), (left, 3, 13), (right, 2, 92), (right, 3, 93)];
    let part = Branch { root: chain(1).boot, parent: chain(1).boot, first: Seq(2) };
    Log {
        branches: [(chain(1).node, Branches([(left.boot, part), (right.boot, part)].into()))].into(),
        forks: [(chain(1), Seq(2), Some(EntryHash([11; 32])))].into(),
        ..Log::with(&heads)
    }
}

#[test]
fn the_next_entry_of_a_chain_is_applied_once() {
    let next = entry(head(3, 13), Some(12), vec![(chain(2), head(1, 21))]);
    assert_eq!(calm().judge(&next), next_in(chain(1), &[(chain(2).boot, 1)]));
    assert_eq!(calm().judge(&entry(head(2, 12), Some(11), vec![])), Admission::Known);
}

#[test]
fn a_gap_and_an_unknown_dependency_are_waited_for() {
    assert_eq!(calm().judge(&entry(head(5, 15), Some(14), vec![])), missing(chain(1), 4, false));
    let ahead = entry(head(3, 13), Some(12), vec![(chain(2), head(4, 24))]);
    assert_eq!(calm().judge(&ahead), missing(chain(2), 4, false));
}

#[test]
fn two_entries_after_one_predecessor_are_a_fork() {
    assert_eq!(calm().judge(&entry(head(2, 99), Some(11), vec![])), Admission::Fork(chain(1)));
    assert_eq!(calm().judge(&entry(head(1, 99), None, vec![])), Admission::Fork(chain(1)));
}

#[test]
fn what_parts_further_back_is_asked_for_from_there() {
    assert_eq!(calm().judge(&entry(head(3, 13), Some(99), vec![])), missing(chain(1), 2, true));
    let entry = entry(head(3, 13), Some(12), vec![(chain(2), head(1, 99))]);
    assert_eq!(calm().judge(&entry), missing(chain(2), 1, true));
}

#[test]
fn a_known_fork_makes_branches_of_what_follows_it() {
    let third = forked().judge(&entry(head(2, 52), Some(11), vec![]));
    let begins = Some(Branch { root: chain(1).boot, parent: chain(1).boot, first: Seq(2) });
    assert_eq!(third, Admission::Apply(Placement { chain: branch(52), begins, deps: vec![] }));
    assert_eq!(forked().judge(&entry(head(4, 14), Some(13), vec![])), next_in(branch(12), &[]));
    assert_eq!(forked().judge(&entry(head(4, 94), Some(93), vec![])), next_in(branch(92), &[]));
    assert_eq!(forked().judge(&entry(head(3, 93), Some(92), vec![])), Admission::Known);
}

#[test]
fn a_branch_forks_like_any_chain() {
    assert_eq!(forked().judge(&entry(head(3, 77), Some(12), vec![])), Admission::Fork(branch(12)));
}

#[test]
fn what_builds_on_a_forked_boot_builds_on_the_branch_that_its_hash_tells() {
    let by_boot = Entry { chain: chain(2), ..entry(head(1, 21), None, vec![(chain(1), head(3, 93))]) };
    let expected = next_in(chain(2), &[(branch(92).boot, 3), (chain(1).boot, 1)]);
    assert_eq!(forked().judge(&by_boot), expected);
    let by_branch = Entry { deps: vec![(branch(92), head(3, 93))], ..by_boot.clone() };
    assert_eq!(forked().judge(&by_branch), expected);
    let unknown = Entry { deps: vec![(chain(1), head(3, 99))], ..by_boot };
    assert_eq!(forked().judge(&unknown), missing(chain(1), 3, true));
}

#[test]
fn nobody_writes_under_the_name_of_a_branch() {
    let posing = Entry { chain: branch(12), ..entry(head(4, 14), Some(13), vec![]) };
    assert_eq!(forked().judge(&posing), Admission::UnderABranch);
}

#[test]
fn a_name_means_the_branch_that_its_author_has_seen() {
    let (log, boot) = (forked(), chain(1).boot);
    let branches = &log.branches[&chain(1).node];
    let past = |parts: &[(BootId, u64)]| Past(parts.iter().map(|(boot, seq)| (*boot, Seq(*seq))).collect());
    let right = past(&[(boot, 1), (branch(92).boot, 3)]);
    assert_eq!(meant_by(&right, branches, &boot, Seq(3)), Some(branch(92).boot));
    assert_eq!(meant_by(&right, branches, &boot, Seq(1)), Some(boot));
    assert_eq!(meant_by(&right, branches, &boot, Seq(4)), None);
    assert_eq!(meant_by(&right, branches, &branch(92).boot, Seq(2)), Some(branch(92).boot));
    let both = past(&[(boot, 1), (branch(92).boot, 3), (branch(12).boot, 3)]);
    let first = branch(12).boot.min(branch(92).boot);
    assert_eq!(meant_by(&both, branches, &boot, Seq(3)), Some(first));
    assert_eq!(known_as(&log, &chain(1), &head(3, 93)), Ok(Some(branch(92).boot)));
    assert_eq!(known_as(&log, &chain(1), &head(3, 99)), Ok(None));
}
