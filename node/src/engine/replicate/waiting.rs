//! Entries that came before what they build on: kept in memory within limits. What does not fit will be pulled again.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::id::{EntryHash, Seq};
use keepwell_protocol::limits::{MAX_WAITING_BYTES, MAX_WAITING_ENTRIES};
use keepwell_protocol::log::entry::Entry;
use keepwell_protocol::log::vector::{Chain, Vector};

/// Entries whose signatures are good and whose turn has not come.
#[derive(Default)]
pub(super) struct Waiting {
    entries: BTreeMap<Key, Kept>,
    bytes: usize,
}

/// Chain and position, as the author signed them, and hash: a forked boot has several entries of one position.
type Key = (Chain, Seq, EntryHash);

struct Kept {
    prev_hash: Option<EntryHash>,
    bytes: Vec<u8>,
}

impl Waiting {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keeps an entry, if there is room.
    pub(super) fn put(&mut self, entry: &Entry, bytes: &[u8]) {
        let fits = self.entries.len() < MAX_WAITING_ENTRIES && self.bytes + bytes.len() <= MAX_WAITING_BYTES;
        if fits && !self.entries.contains_key(&key(entry)) {
            self.bytes += bytes.len();
            self.entries.insert(key(entry), Kept { prev_hash: entry.prev_hash, bytes: bytes.to_vec() });
        }
    }

    /// Takes an entry that is next in its chain, with that chain; those that have been overtaken are let go.
    pub(super) fn take_next(&mut self, applied: &Vector, tried: impl Fn(&Chain) -> bool) -> Option<(Chain, Vec<u8>)> {
        self.let_go(|(chain, seq, _)| seq.0 <= applied.seq(chain));
        let heads: BTreeSet<EntryHash> = applied.0.values().map(|head| head.hash).collect();
        let is_next = |kept: &Kept| kept.prev_hash.is_none_or(|before| heads.contains(&before));
        let mut ready = self.entries.iter().filter(|((chain, ..), kept)| is_next(kept) && !tried(chain));
        let next = *ready.next()?.0;
        self.remove(&next).map(|bytes| (next.0, bytes))
    }

    /// Lets an entry go that came another way.
    pub(super) fn forget(&mut self, entry: &Entry) {
        self.remove(&key(entry));
    }

    /// Lets all entries of a boot go.
    pub(super) fn forget_chain(&mut self, gone: &Chain) {
        self.let_go(|(chain, ..)| chain == gone);
    }

    fn let_go(&mut self, which: impl Fn(&Key) -> bool) {
        let gone: Vec<Key> = self.entries.keys().filter(|key| which(key)).copied().collect();
        for key in gone {
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Vec<u8>> {
        let bytes = self.entries.remove(key)?.bytes;
        self.bytes -= bytes.len();
        Some(bytes)
    }
}

fn key(entry: &Entry) -> Key {
    (entry.chain, entry.head.seq, entry.head.hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepwell_protocol::id::{BootId, NodeId};
    use keepwell_protocol::log::vector::Head;

    fn chain(n: u8) -> Chain {
        Chain { node: NodeId([n; 32]), boot: BootId([n; 16]) }
    }

    fn hash(seq: u64) -> EntryHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&seq.to_be_bytes());
        EntryHash(hash)
    }

    fn entry(seq: u64) -> Entry {
        let head = Head { seq: Seq(seq), hash: hash(seq) };
        Entry { chain: chain(1), head, prev_hash: (seq > 1).then(|| hash(seq - 1)), deps: vec![], ops: vec![] }
    }

    #[test]
    fn what_is_next_is_taken_once_and_what_is_overtaken_is_let_go() {
        let mut waiting = Waiting::default();
        for seq in [2, 3, 5] {
            waiting.put(&entry(seq), &[7]);
        }
        let mut applied = Vector::default();
        assert_eq!(waiting.take_next(&applied, |_| false), None);
        applied.advance(chain(1), Head { seq: Seq(2), hash: hash(2) });
        assert_eq!(waiting.take_next(&applied, |_| true), None);
        assert_eq!(waiting.take_next(&applied, |_| false), Some((chain(1), vec![7])));
        assert_eq!(waiting.take_next(&applied, |_| false), None);
        assert_eq!((waiting.entries.len(), waiting.bytes), (1, 1));
        waiting.forget(&entry(5));
        assert_eq!((waiting.entries.len(), waiting.bytes), (0, 0));
    }

    #[test]
    fn the_next_entry_of_a_branch_is_found_by_its_predecessor() {
        let mut waiting = Waiting::default();
        waiting.put(&entry(3), &[7]);
        let branch = Chain { boot: BootId([9; 16]), ..chain(1) };
        let mut applied = Vector::default();
        applied.advance(branch, Head { seq: Seq(2), hash: hash(77) });
        assert_eq!(waiting.take_next(&applied, |_| false), None);
        applied.advance(branch, Head { seq: Seq(2), hash: hash(2) });
        assert_eq!(waiting.take_next(&applied, |_| false), Some((chain(1), vec![7])));
    }

    #[test]
    fn memory_is_bounded_at_max_waiting_entries_and_max_waiting_bytes() {
        let mut waiting = Waiting::default();
        for seq in 1..=MAX_WAITING_ENTRIES as u64 + 1 {
            waiting.put(&entry(seq), &[7]);
        }
        assert_eq!(waiting.entries.len(), MAX_WAITING_ENTRIES);
        let mut waiting = Waiting::default();
        waiting.put(&entry(1), &vec![0; MAX_WAITING_BYTES]);
        waiting.put(&entry(2), &[7]);
        assert_eq!(waiting.bytes, MAX_WAITING_BYTES);
        waiting.forget_chain(&chain(1));
        assert_eq!((waiting.len(), waiting.bytes), (0, 0));
    }
}
