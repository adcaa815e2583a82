//! The bytes of one simulated file or database: what is durable, what is visible, and the changes between them.

use std::mem;

use super::random::Random;

/// Disks write sectors whole; a torn write is cut between them (bytes).
const SECTOR_BYTES: usize = 512;

/// A change that is visible but not yet durable.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// Bytes on a simulated disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    durable: Vec<u8>,
    visible: Vec<u8>,
    pending: Vec<Change>,
}

impl Contents {
    /// What a reader sees.
    pub(super) fn visible(&self) -> &[u8] {
        &self.visible
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        overwrite(&mut self.visible, offset, bytes);
        self.pending.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        set_len(&mut self.visible, len);
        self.pending.push(Change::SetLen(len));
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// What the machine finds when it starts again: the durable bytes, and of each later change all, a part or nothing.
    pub(super) fn crash(&mut self, random: &mut Random) {
        for change in mem::take(&mut self.pending) {
            change.survive(&mut self.durable, random);
        }
        self.visible.clone_from(&self.durable);
    }

    /// Flips the lowest bit of one byte, for readers and for good. Says whether there is such a byte.
    pub(super) fn flip_bit(&mut self, offset: usize) -> bool {
        for bytes in [&mut self.durable, &mut self.visible] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 1;
            }
        }
        offset < self.visible.len()
    }
}

impl Change {
    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes: new } => overwrite(bytes, offset, &new),
            Self::SetLen(len) => set_len(bytes, len),
        }
    }

    fn survive(self, durable: &mut Vec<u8>, random: &mut Random) {
        match (self, random.up_to(3)) {
            (_, 0) => {}
            (Self::Write { offset, bytes }, 1) => tear(durable, offset, &bytes, random),
            // The file has grown, but its new bytes never reached the disk.
            (Self::Write { offset, bytes }, 2) => reach(durable, offset + bytes.len()),
            (change, _) => change.apply(durable),
        }
    }
}

/// Applies a random selection of the sectors of a write.
fn tear(durable: &mut Vec<u8>, offset: usize, bytes: &[u8], random: &mut Random) {
    let mut at = offset;
    let end = offset + bytes.len();
    while at < end {
        let next = end.min((at / SECTOR_BYTES + 1) * SECTOR_BYTES);
        if random.coin() {
            overwrite(durable, at, &bytes[at - offset..next - offset]);
        }
        at = next;
    }
}

fn overwrite(target: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    reach(target, end);
    target[offset..end].copy_from_slice(bytes);
}

fn reach(target: &mut Vec<u8>, len: usize) {
    if target.len() < len {
        set_len(target, len);
    }
}

/// As `resize`, which without optimisation goes byte by byte: an index begins with a million zeros.
fn set_len(target: &mut Vec<u8>, len: usize) {
    target.truncate(len);
    target.extend_from_slice(&vec![0; len - target.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_crashes(seeds: u64, prepare: impl Fn(&mut Contents)) -> Vec<Vec<u8>> {
        (0..seeds)
            .map(|seed| {
                let mut contents = Contents::default();
                prepare(&mut contents);
                contents.crash(&mut Random::new(seed));
                contents.visible
            })
            .collect()
    }

    #[test]
    fn synced_bytes_always_survive() {
        let found = after_crashes(50, |contents| {
            contents.write(0, &[7; 2_000]);
            contents.sync();
        });
        assert!(found.iter().all(|bytes| *bytes == [7; 2_000]));
    }

    #[test]
    fn an_unsynced_write_may_be_whole_lost_zero_or_torn_at_a_sector() {
        let found = after_crashes(50, |contents| contents.write(100, &[7; 2_000]));
        let sevens = |bytes: &Vec<u8>| bytes.iter().filter(|byte| **byte == 7).count();
        assert!(found.iter().any(Vec::is_empty));
        assert!(found.iter().any(|bytes| sevens(bytes) == 2_000));
        assert!(found.iter().any(|bytes| bytes.len() == 2_100 && sevens(bytes) == 0));
        let torn: Vec<_> = found.iter().filter(|bytes| ![0, 2_000].contains(&sevens(bytes))).collect();
        assert!(!torn.is_empty());
        for bytes in torn {
            assert!(bytes[100..].chunk_by(|a, b| a == b).all(|run| !run.is_empty()));
            let edges = (101..bytes.len()).filter(|&at| bytes[at] != bytes[at - 1]);
            assert!(edges.into_iter().all(|at| at % SECTOR_BYTES == 0), "cut within a sector");
        }
    }

    #[test]
    fn an_unsynced_length_may_be_lost() {
        let found = after_crashes(50, |contents| {
            contents.write(0, &[7; 10]);
            contents.sync();
            contents.set_len(0);
        });
        assert!(found.iter().any(Vec::is_empty) && found.iter().any(|bytes| bytes.len() == 10));
    }
}
