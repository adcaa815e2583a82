//! Entries that came before what they build on: kept in memory within limits. What does not fit will be pulled again.

use std::collections::BTreeMap;

use keepwell_protocol::id::Seq;
use keepwell_protocol::limits::{MAX_WAITING_BYTES, MAX_WAITING_ENTRIES};
use keepwell_protocol::log::vector::{Chain, Vector};

/// Entries whose signatures are good and whose turn has not come.
#[derive(Default)]
pub(super) struct Waiting {
    entries: BTreeMap<(Chain, Seq), Vec<u8>>,
    bytes: usize,
}

impl Waiting {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keeps an entry, if there is room.
    pub(super) fn put(&mut self, chain: Chain, seq: Seq, bytes: &[u8]) {
        let fits = self.entries.len() < MAX_WAITING_ENTRIES && self.bytes + bytes.len() <= MAX_WAITING_BYTES;
        if fits && !self.entries.contains_key(&(chain, seq)) {
            self.bytes += bytes.len();
            self.entries.insert((chain, seq), bytes.to_vec());
        }
    }

    /// Takes an entry that is next in its chain; those that have been overtaken are let go.
    pub(super) fn take_next(&mut self, applied: &Vector, tried: impl Fn(&Chain) -> bool) -> Option<Vec<u8>> {
        let overtaken: Vec<_> = self.entries.keys().filter(|(chain, seq)| seq.0 <= applied.seq(chain)).copied().collect();
        for key in overtaken {
            self.remove(key);
        }
        let mut keys = self.entries.keys();
        let next = keys.find(|(chain, seq)| seq.0 == applied.seq(chain) + 1 && !tried(chain)).copied()?;
        self.remove(next)
    }

    fn remove(&mut self, key: (Chain, Seq)) -> Option<Vec<u8>> {
        let bytes = self.entries.remove(&key)?;
        self.bytes -= bytes.len();
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepwell_protocol::id::{BootId, EntryHash, NodeId};
    use keepwell_protocol::log::vector::Head;

    fn chain(n: u8) -> Chain {
        Chain { node: NodeId([n; 32]), boot: BootId([n; 16]) }
    }

    #[test]
    fn what_is_next_is_taken_once_and_what_is_overtaken_is_let_go() {
        let mut waiting = Waiting::default();
        for seq in [2, 3, 5] {
            waiting.put(chain(1), Seq(seq), &[7]);
        }
        let mut applied = Vector::default();
        assert_eq!(waiting.take_next(&applied, |_| false), None);
        applied.advance(chain(1), Head { seq: Seq(2), hash: EntryHash([0; 32]) });
        assert_eq!(waiting.take_next(&applied, |_| true), None);
        assert_eq!(waiting.take_next(&applied, |_| false), Some(vec![7]));
        assert_eq!(waiting.take_next(&applied, |_| false), None);
        assert_eq!((waiting.entries.len(), waiting.bytes), (1, 1));
    }

    #[test]
    fn memory_is_bounded_at_max_waiting_entries_and_max_waiting_bytes() {
        let mut waiting = Waiting::default();
        for seq in 0..=MAX_WAITING_ENTRIES as u64 {
            waiting.put(chain(1), Seq(seq), &[7]);
        }
        assert_eq!(waiting.entries.len(), MAX_WAITING_ENTRIES);
        let mut waiting = Waiting::default();
        waiting.put(chain(1), Seq(1), &vec![0; MAX_WAITING_BYTES]);
        waiting.put(chain(1), Seq(2), &[7]);
        assert_eq!(waiting.bytes, MAX_WAITING_BYTES);
    }
}
