//! Giving up surplus copies, on the side that asks.
//!
//! Life of an attempt: [`Attempts::flag`] before the first question leaves (R3); [`Attempts::hear`] collects the answers that are bound to
//! it (R2); a new root, a pin, a put or a better-ranked asker [`Attempts::end`]s it; [`Attempts::decide`], in the deleting transaction,
//! looks at everything anew and mints the permit or says what is missing (R5, R6). It lives in memory: a crash ends it, and the
//! answers it had are bound to a nonce that nobody will use again.
//!
//! Why flags suffice, without a lock: among nodes that deleted by each other's word, the one that flagged last had the word of a node
//! that was not flagged then, and whose own flag, had it come later, would have made it the last.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::permit::{Ground, Permit};
use super::question::{Answer, Why, Word};
use super::{Missing, Need};
use crate::id::{BlobFact, BlobId, BootId, NodeId, Nonce, StorageId, ValueId};

/// What shares of a digest are derived under.
const REACHED_CONTEXT: &str = "keepwell 2026-11-23 reached by v1";

/// The blobs that this node is giving up, each with what others have said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Attempts {
    by_blob: BTreeMap<BlobId, Attempt>,
}

/// One blob that is flagged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// What it is.
    pub fact: BlobFact,
    /// Which attempt, shared by the blobs that are asked about together.
    pub nonce: Nonce,
    /// A digest of all values that reached it when it was flagged. A new one ends the attempt; should that be forgotten, this tells.
    pub reached_by: u64,
    /// The boot in which it was begun: a new boot ends it.
    pub boot: BootId,
    /// What each node that answered last said.
    pub words: BTreeMap<NodeId, (StorageId, Word)>,
}

/// What a decision to drop looks at, in the deleting transaction.
#[derive(Debug, Clone, Copy)]
pub struct DropFacts<'a> {
    /// The boot that is writing.
    pub boot: &'a BootId,
    /// The disk whose copy would go: no answer for the same disk counts.
    pub storage: &'a StorageId,
    /// Why this node may delete nothing now, if so.
    pub refuses: Option<Why>,
    /// Whether all that reaches blobs has been computed.
    pub is_settled: bool,
    /// Whether a ref reaches it.
    pub is_live: bool,
    /// A digest of all values that reach it.
    pub reached_by: u64,
    /// Whether a rule wants it here.
    pub is_placed: bool,
    /// Whether something here uses it.
    pub is_pinned: bool,
    /// Whether all entries of kinds that protect are understood.
    pub understands_all: bool,
    /// The copies that it must have now.
    pub need: Need,
    /// The members whose answers count now, with the disks that their records name.
    pub members: &'a BTreeMap<NodeId, StorageId>,
}

impl Attempts {
    /// Flags blobs for one attempt, each with a digest of what reaches it. Those that are flagged already stay in their own attempt. The
    /// ones that were flagged.
    pub fn flag(&mut self, nonce: Nonce, boot: BootId, blobs: impl IntoIterator<Item = (BlobFact, u64)>) -> Vec<BlobFact> {
        let mut flagged = Vec::new();
        for (fact, reached_by) in blobs {
            if let Entry::Vacant(free) = self.by_blob.entry(fact.sha1) {
                free.insert(Attempt { fact, nonce, reached_by, boot, words: BTreeMap::new() });
                flagged.push(fact);
            }
        }
        flagged
    }

    /// Whether `blob` is being given up: then this node vouches for it to nobody.
    pub fn is_flagged(&self, blob: &BlobId) -> bool {
        self.by_blob.contains_key(blob)
    }

    /// The attempt on `blob`.
    pub fn of(&self, blob: &BlobId) -> Option<&Attempt> {
        self.by_blob.get(blob)
    }

    /// All attempts, by blob.
    pub fn iter(&self) -> impl Iterator<Item = (&BlobId, &Attempt)> {
        self.by_blob.iter()
    }

    /// Whether nothing is being given up.
    pub fn is_empty(&self) -> bool {
        self.by_blob.is_empty()
    }

    /// Takes an answer whose signature is good. What is not bound to an attempt that is under way counts for none.
    pub fn hear(&mut self, answer: &Answer) {
        for (blob, word) in &answer.words {
            let Some(attempt) = self.by_blob.get_mut(blob) else { continue };
            if attempt.nonce == answer.nonce && attempt.boot == answer.boot {
                attempt.words.insert(answer.node, (answer.storage, *word));
            }
        }
    }

    /// Ends the attempt on `blob`: it has a new root, is wanted, or another one gives up its copy first. Whether there was one.
    pub fn end(&mut self, blob: &BlobId) -> bool {
        self.by_blob.remove(blob).is_some()
    }

    /// Ends all attempts.
    pub fn end_all(&mut self) {
        self.by_blob.clear();
    }

    /// Whether `blob` may go now. A permit ends the attempt; without one it stays, and what is missing may yet come.
    ///
    /// # Errors
    /// Everything that is missing.
    pub fn decide(&mut self, blob: &BlobId, facts: &DropFacts<'_>) -> Result<(Permit, Attempt), Vec<Missing>> {
        let is_same = |attempt: &&Attempt| attempt.boot == *facts.boot && attempt.reached_by == facts.reached_by;
        let Some(attempt) = self.by_blob.get(blob).filter(is_same) else {
            return Err(vec![Missing::Attempt]);
        };
        let (have, need) = (attempt.proven(facts), facts.need.others_to_drop());
        let mut missing: Vec<Missing> = facts.refuses.map(Missing::Leave).into_iter().collect();
        let checks = [
            (facts.is_settled, Missing::Settled),
            (facts.understands_all, Missing::Knowledge),
            (facts.is_live, Missing::Live),
            (!facts.is_placed, Missing::Unplaced),
            (!facts.is_pinned, Missing::Unpinned),
            (have >= need, Missing::Copies { have, need }),
        ];
        missing.extend(checks.into_iter().filter(|(holds, _)| !holds).map(|(_, missing)| missing));
        match self.by_blob.remove(blob) {
            Some(attempt) if missing.is_empty() => Ok((Permit::mint(*blob, Ground::Drop), attempt)),
            attempt => {
                self.by_blob.extend(attempt.map(|attempt| (*blob, attempt)));
                Err(missing)
            }
        }
    }
}

impl Attempt {
    /// How many other storages have proven their copy: those of current members, each disk once, as its member's record names it.
    fn proven(&self, facts: &DropFacts<'_>) -> u32 {
        let mut storages: Vec<&StorageId> = Vec::new();
        for (node, (storage, word)) in &self.words {
            let counts = *word == Word::Yes && facts.members.get(node) == Some(storage) && storage != facts.storage;
            if counts && !storages.contains(&storage) {
                storages.push(storage);
            }
        }
        u32::try_from(storages.len()).unwrap_or(u32::MAX)
    }
}

/// The share of one value in the digest of what reaches a blob, by naming `named` and asking for so many copies. The digest is the sum of all
/// shares, in whatever order they are found, with wrapping.
pub fn share_of(named: &BlobId, value: &ValueId, copies: u32) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(REACHED_CONTEXT);
    hasher.update(named.as_bytes());
    hasher.update(value.boot.as_bytes());
    hasher.update(&value.seq.0.to_be_bytes());
    hasher.update(&value.index.to_be_bytes());
    hasher.update(&copies.to_be_bytes());
    let mut share = [0; 8];
    hasher.finalize_xof().fill(&mut share);
    u64::from_be_bytes(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{B3, NetworkId, Seq};

    const BLOB: BlobFact = BlobFact { sha1: BlobId([1; 20]), b3: B3([1; 32]), size_bytes: 1 };
    const BOOT: BootId = BootId([1; 16]);
    const OWN: StorageId = StorageId([100; 16]);

    fn nonce(n: u8) -> Nonce {
        Nonce([n; 16])
    }

    fn answer(of: u8, storage: u8, nonce: Nonce, word: Word) -> Answer {
        Answer {
            network: NetworkId([9; 32]),
            asker: NodeId([0; 32]),
            boot: BOOT,
            nonce,
            node: NodeId([of; 32]),
            storage: StorageId([storage; 16]),
            words: vec![(BLOB.sha1, word)],
        }
    }

    /// Members 1 to 5 with disks of their own; 4 and 5 share one; 6 is on the disk of this node.
    fn members() -> BTreeMap<NodeId, StorageId> {
        let disks = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (6, 100)];
        disks.into_iter().map(|(node, disk)| (NodeId([node; 32]), StorageId([disk; 16]))).collect()
    }

    fn flagged() -> Attempts {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.flag(nonce(1), BOOT, [(BLOB, 5)]), [BLOB]);
        attempts
    }

    fn facts(members: &BTreeMap<NodeId, StorageId>, copies: u32) -> DropFacts<'_> {
        DropFacts {
            boot: &BOOT,
            storage: &OWN,
            refuses: None,
            is_settled: true,
            is_live: true,
            reached_by: 5,
            is_placed: false,
            is_pinned: false,
            understands_all: true,
            need: Need { copies, liars: 0 },
            members,
        }
    }

    #[test]
    fn enough_yeses_permit_one_deletion_and_end_the_attempt() {
        let (mut attempts, members) = (flagged(), members());
        attempts.hear(&answer(1, 1, nonce(1), Word::Yes));
        let short = attempts.decide(&BLOB.sha1, &facts(&members, 2)).unwrap_err();
        assert_eq!(short, [Missing::Copies { have: 1, need: 2 }]);
        attempts.hear(&answer(2, 2, nonce(1), Word::Yes));
        let (permit, attempt) = attempts.decide(&BLOB.sha1, &facts(&members, 2)).unwrap();
        assert_eq!((permit.blob(), permit.ground(), attempt.words.len()), (BLOB.sha1, Ground::Drop, 2));
        assert_eq!(attempts.decide(&BLOB.sha1, &facts(&members, 2)).unwrap_err(), [Missing::Attempt]);
    }

    #[test]
    fn what_does_not_count_does_not_count() {
        let members = members();
        for (what, answer) in [
            ("an answer to another attempt", answer(1, 1, nonce(2), Word::Yes)),
            ("an answer to another boot", Answer { boot: BootId([2; 16]), ..answer(1, 1, nonce(1), Word::Yes) }),
            ("a stranger's", answer(9, 9, nonce(1), Word::Yes)),
            ("one for a disk that is not its node's", answer(1, 2, nonce(1), Word::Yes)),
            ("one for our own disk", answer(6, 100, nonce(1), Word::Yes)),
            ("a no", answer(1, 1, nonce(1), Word::No(Why::NotHeld))),
        ] {
            let mut attempts = flagged();
            attempts.hear(&answer);
            assert!(attempts.decide(&BLOB.sha1, &facts(&members, 1)).is_err(), "{what} counted");
        }
    }

    #[test]
    fn a_disk_counts_once_and_the_last_word_of_a_node_stands() {
        let (mut attempts, members) = (flagged(), members());
        attempts.hear(&answer(4, 4, nonce(1), Word::Yes));
        attempts.hear(&answer(5, 4, nonce(1), Word::Yes));
        assert!(attempts.decide(&BLOB.sha1, &facts(&members, 2)).is_err());
        attempts.hear(&answer(1, 1, nonce(1), Word::Yes));
        attempts.hear(&answer(1, 1, nonce(1), Word::No(Why::Dropping)));
        assert!(attempts.decide(&BLOB.sha1, &facts(&members, 2)).is_err());
    }

    #[test]
    fn everything_is_looked_at_anew_when_it_is_decided() {
        let members = members();
        let good = facts(&members, 1);
        for (facts, missing) in [
            (DropFacts { refuses: Some(Why::JustStarted), ..good }, Missing::Leave(Why::JustStarted)),
            (DropFacts { is_settled: false, ..good }, Missing::Settled),
            (DropFacts { understands_all: false, ..good }, Missing::Knowledge),
            (DropFacts { is_live: false, ..good }, Missing::Live),
            (DropFacts { is_placed: true, ..good }, Missing::Unplaced),
            (DropFacts { is_pinned: true, ..good }, Missing::Unpinned),
            (DropFacts { need: Need { copies: 1, liars: 1 }, ..good }, Missing::Copies { have: 1, need: 2 }),
            (DropFacts { boot: &BootId([2; 16]), ..good }, Missing::Attempt),
            (DropFacts { reached_by: 6, ..good }, Missing::Attempt),
        ] {
            let mut attempts = flagged();
            attempts.hear(&answer(1, 1, nonce(1), Word::Yes));
            assert_eq!(attempts.decide(&BLOB.sha1, &facts).unwrap_err(), [missing]);
            assert!(attempts.decide(&BLOB.sha1, &good).is_ok(), "what was missing may come");
        }
    }

    #[test]
    fn an_ended_attempt_takes_its_answers_with_it() {
        let (mut attempts, members) = (flagged(), members());
        attempts.hear(&answer(1, 1, nonce(1), Word::Yes));
        assert!(attempts.end(&BLOB.sha1) && !attempts.end(&BLOB.sha1));
        assert_eq!(attempts.flag(nonce(2), BOOT, [(BLOB, 5)]), [BLOB]);
        attempts.hear(&answer(1, 1, nonce(1), Word::Yes));
        assert_eq!(attempts.decide(&BLOB.sha1, &facts(&members, 1)).unwrap_err(), [Missing::Copies { have: 0, need: 1 }]);
    }

    #[test]
    fn each_value_has_a_share_of_its_own_in_what_reaches_a_blob() {
        let id = |seq| ValueId { boot: BootId([1; 16]), seq: Seq(seq), index: 0 };
        let shares = [
            share_of(&BLOB.sha1, &id(1), 1),
            share_of(&BLOB.sha1, &id(2), 1),
            share_of(&BLOB.sha1, &id(1), 2),
            share_of(&BlobId([2; 20]), &id(1), 1),
        ];
        let different: std::collections::BTreeSet<u64> = shares.into();
        assert_eq!(different.len(), shares.len());
        assert_eq!(share_of(&BLOB.sha1, &id(1), 1), shares[0]);
    }

    #[test]
    fn a_blob_is_in_one_attempt_at_a_time() {
        let mut attempts = flagged();
        assert!(attempts.flag(nonce(2), BOOT, [(BLOB, 5)]).is_empty());
        assert_eq!(attempts.of(&BLOB.sha1).map(|attempt| attempt.nonce), Some(nonce(1)));
    }
}
