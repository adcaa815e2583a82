//! What to do with an entry whose signature is good: apply it now, and where; wait; ignore it; or prove that its author forked.

use super::branch::{Branch, Branches};
use super::entry::Entry;
use super::vector::{Chain, Head, Past};
use crate::id::{BootId, EntryHash, NodeId, Seq};

/// What is applied here, as [`admit`] asks of it.
pub trait Applied {
    /// Why a look-up failed.
    type Error;
    /// The entry applied at a position of a chain.
    fn head_at(&self, chain: &Chain, seq: Seq) -> Result<Option<Head>, Self::Error>;
    /// The branches of all boots of `node`.
    fn branches(&self, node: &NodeId) -> Result<Branches, Self::Error>;
    /// Whether it is proven that `boot` forked at `seq`, right after the entry `prev_hash`.
    fn forked_after(&self, boot: &Chain, seq: Seq, prev_hash: Option<&EntryHash>) -> Result<bool, Self::Error>;
}

/// The verdict on an entry that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It is next in its chain and everything it builds on is applied.
    Apply(Placement),
    /// It was applied before.
    Known,
    /// It builds on entries not applied here yet.
    Wait(Vec<Missing>),
    /// Its author signed another entry at this position after the same predecessor: that one is applied, in this chain.
    Fork(Chain),
    /// It names a branch as its boot. Branches are names that nodes give, nobody writes under them.
    UnderABranch,
}

/// Where an entry belongs, by the names that chains have here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The chain that it is the next entry of.
    pub chain: Chain,
    /// Set if the entry is the first of a branch.
    pub begins: Option<Branch>,
    /// What it builds on in other chains: every part of a boot with the last position there.
    pub deps: Vec<(BootId, Seq)>,
}

/// An entry that another one builds on and that is not applied here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Its chain, as the other names it.
    pub chain: Chain,
    /// Its position.
    pub seq: Seq,
    /// Whether another entry is applied at that position: then the two chains part further back.
    pub differs: bool,
}

/// Judges `entry` against what is applied here.
pub fn admit<A: Applied>(entry: &Entry, applied: &A) -> Result<Admission, A::Error> {
    let branches = applied.branches(&entry.chain.node)?;
    if branches.0.contains_key(&entry.chain.boot) {
        return Ok(Admission::UnderABranch);
    }
    if let Found::At(_) = find(applied, &branches, &entry.chain, &entry.head)? {
        return Ok(Admission::Known);
    }
    let mut missing = Vec::new();
    let mut placement = match place(entry, applied, &branches)? {
        Place::Next(chain, begins) => Placement { chain, begins, deps: Vec::new() },
        Place::Fork(chain) => return Ok(Admission::Fork(chain)),
        Place::Missing(before) => {
            missing.push(before);
            Placement { chain: entry.chain, begins: None, deps: Vec::new() }
        }
    };
    for (chain, head) in &entry.deps {
        let branches = applied.branches(&chain.node)?;
        match find(applied, &branches, chain, head)? {
            Found::At(boot) => {
                placement.deps.push((boot, head.seq));
                placement.deps.extend(branches.ancestors(&boot));
            }
            Found::Other { differs } => missing.push(Missing { chain: *chain, seq: head.seq, differs }),
        }
    }
    Ok(if missing.is_empty() { Admission::Apply(placement) } else { Admission::Wait(missing) })
}

/// The part of a boot in which the entry `head` of `chain` is applied here, whichever name its chain has elsewhere.
pub fn known_as<A: Applied>(applied: &A, chain: &Chain, head: &Head) -> Result<Option<BootId>, A::Error> {
    let branches = applied.branches(&chain.node)?;
    Ok(match find(applied, &branches, chain, head)? {
        Found::At(boot) => Some(boot),
        Found::Other { .. } => None,
    })
}

/// The write that an author with the causal past `past` means by a boot and position: of a forked boot, the branch that it has seen.
///
/// None if it has seen no such entry. An author that has seen several branches names them; one that does not means the first by name.
pub fn meant_by(past: &Past, branches: &Branches, boot: &BootId, seq: Seq) -> Option<BootId> {
    let reaches = |part: &BootId| past.includes(part, seq) && branches.0.get(part).is_none_or(|branch| branch.first <= seq);
    let goes_on =
        |part: &BootId| branches.root(boot) == *boot || branches.ancestors(part).iter().any(|(before, _)| before == boot);
    if reaches(boot) { Some(*boot) } else { branches.candidates(boot).find(|part| goes_on(part) && reaches(part)) }
}

enum Found {
    /// In this part of its boot.
    At(BootId),
    /// Nowhere; whether other entries are applied at its position.
    Other { differs: bool },
}

fn find<A: Applied>(applied: &A, branches: &Branches, chain: &Chain, head: &Head) -> Result<Found, A::Error> {
    let mut differs = false;
    for boot in branches.candidates(&chain.boot) {
        match applied.head_at(&Chain { boot, ..*chain }, head.seq)? {
            Some(known) if known.hash == head.hash => return Ok(Found::At(boot)),
            Some(_) => differs = true,
            None => {}
        }
    }
    Ok(Found::Other { differs })
}

enum Place {
    Next(Chain, Option<Branch>),
    Fork(Chain),
    Missing(Missing),
}

fn place<A: Applied>(entry: &Entry, applied: &A, branches: &Branches) -> Result<Place, A::Error> {
    let (boot, seq) = (entry.chain, entry.head.seq);
    let parent = match entry.prev_hash {
        None => boot.boot,
        Some(hash) => {
            let before = Head { seq: Seq(seq.0.saturating_sub(1)), hash };
            match find(applied, branches, &boot, &before)? {
                Found::At(parent) => parent,
                Found::Other { differs } => return Ok(Place::Missing(Missing { chain: boot, seq: before.seq, differs })),
            }
        }
    };
    if applied.forked_after(&boot, seq, entry.prev_hash.as_ref())? {
        let begins = Branch { root: boot.boot, parent, first: seq };
        return Ok(Place::Next(Chain { boot: BootId::of_branch(&entry.head.hash), ..boot }, Some(begins)));
    }
    let chain = Chain { boot: parent, ..boot };
    Ok(if applied.head_at(&chain, seq)?.is_some() { Place::Fork(chain) } else { Place::Next(chain, None) })
}

#[cfg(test)]
mod tests;
