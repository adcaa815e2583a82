//! What a file was at one moment, for whoever reads it slowly while others write: a block is saved before it is first overwritten.
//!
//! Writers wait for no reader. A reader reads the file first, and then asks whether the block was saved: if it was not, nobody had
//! begun to overwrite it when it was read.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::check::Unfinished;
use crate::limits::MAX_SAVED_BYTES;

/// The unit in which bytes are saved.
pub(super) const BLOCK_BYTES: u64 = 4_096;

/// The file as it was when this was made.
#[derive(Debug)]
pub(super) struct Before {
    len: u64,
    saved: Mutex<Saved>,
}

#[derive(Debug, Default)]
struct Saved {
    blocks: BTreeMap<u64, Vec<u8>>,
    /// Why the file cannot be told any more.
    is_over: Option<Unfinished>,
}

impl Before {
    /// For a file of `len` bytes.
    pub(super) fn new(len: u64) -> Before {
        Before { len, saved: Mutex::default() }
    }

    /// How long the file was.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Saves what `from..end` of the file was. To be called before that is overwritten or cut off.
    pub(super) fn save(&self, file: &dyn StorageBackend, from: u64, end: u64) {
        let mut saved = self.saved();
        for number in from / BLOCK_BYTES..end.min(self.len).div_ceil(BLOCK_BYTES) {
            if saved.is_over.is_some() {
                return;
            }
            if saved.blocks.contains_key(&number) {
                continue;
            }
            if saved.bytes() + BLOCK_BYTES > MAX_SAVED_BYTES {
                return saved.give_up(Unfinished::Overwritten);
            }
            match self.block_of(file, number) {
                Ok(block) => drop(saved.blocks.insert(number, block)),
                // Whoever writes is not to fail for that.
                Err(_) => return saved.give_up(Unfinished::Unsaved),
            }
        }
    }

    /// The block as it was; none if it is in the file still. A block of the file counts only if this was asked after it had been read.
    pub(super) fn saved_block(&self, number: u64) -> io::Result<Option<Vec<u8>>> {
        let saved = self.saved();
        match saved.is_over {
            Some(why) => Err(io::Error::other(why.to_string())),
            None => Ok(saved.blocks.get(&number).cloned()),
        }
    }

    /// A block as it is in the file now; what lies beyond the end that it had is zeros.
    pub(super) fn block_of(&self, file: &dyn StorageBackend, number: u64) -> io::Result<Vec<u8>> {
        let from = number * BLOCK_BYTES;
        let there = usize::try_from(self.len.saturating_sub(from).min(BLOCK_BYTES)).map_err(io::Error::other)?;
        let mut block = vec![0; there];
        if there > 0 {
            file.read(from, &mut block)?;
        }
        block.resize(usize::try_from(BLOCK_BYTES).map_err(io::Error::other)?, 0);
        Ok(block)
    }

    /// Whether so much was overwritten that whoever reads should make haste.
    pub(super) fn is_half_full(&self) -> bool {
        self.saved().bytes() >= MAX_SAVED_BYTES / 2
    }

    /// Saves nothing any more.
    pub(super) fn give_up(&self, why: Unfinished) {
        self.saved().give_up(why);
    }

    /// Why the file cannot be told as it was, if so.
    pub(super) fn is_over(&self) -> Option<Unfinished> {
        self.saved().is_over
    }

    fn saved(&self) -> MutexGuard<'_, Saved> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Saved {
    fn bytes(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_BYTES
    }

    fn give_up(&mut self, why: Unfinished) {
        self.is_over.get_or_insert(why);
        self.blocks = BTreeMap::new();
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    fn file(blocks: u64) -> InMemoryBackend {
        let file = InMemoryBackend::new();
        file.set_len(blocks * BLOCK_BYTES).unwrap();
        file
    }

    fn block(byte: u8) -> Vec<u8> {
        vec![byte; usize::try_from(BLOCK_BYTES).unwrap()]
    }

    #[test]
    fn each_block_is_saved_once_as_it_was_at_first() {
        let file = file(4);
        let before = Before::new(4 * BLOCK_BYTES);
        for byte in 1..3 {
            let (from, data) = (BLOCK_BYTES - 1, [byte; 2]);
            before.save(&file, from, from + 2);
            file.write(from, &data).unwrap();
        }
        assert_eq!(before.saved_block(0).unwrap(), Some(block(0)));
        assert_eq!(before.saved_block(1).unwrap(), Some(block(0)));
        assert_eq!(before.saved_block(2).unwrap(), None, "it is as it was");
    }

    #[test]
    fn what_is_cut_off_is_saved_and_what_is_written_past_the_end_is_not() {
        let file = file(3);
        file.write(2 * BLOCK_BYTES, &block(7)).unwrap();
        let before = Before::new(3 * BLOCK_BYTES - 5);
        before.save(&file, BLOCK_BYTES + 1, u64::MAX);
        let mut last = block(7);
        last[usize::try_from(BLOCK_BYTES).unwrap() - 5..].fill(0);
        assert_eq!(before.saved_block(1).unwrap(), Some(block(0)));
        assert_eq!(before.saved_block(2).unwrap(), Some(last));
        assert_eq!((before.saved_block(0).unwrap(), before.saved_block(3).unwrap()), (None, None));
    }

    #[test]
    fn max_saved_bytes_are_saved_and_past_that_nothing_is_told_any_more() {
        let most = MAX_SAVED_BYTES / BLOCK_BYTES;
        let file = file(most + 1);
        let before = Before::new((most + 1) * BLOCK_BYTES);
        before.save(&file, 0, (most / 2 - 1) * BLOCK_BYTES);
        assert!(!before.is_half_full());
        before.save(&file, 0, most / 2 * BLOCK_BYTES);
        assert!(before.is_half_full());
        before.save(&file, 0, most * BLOCK_BYTES);
        assert_eq!((before.is_over(), before.saved_block(most - 1).unwrap()), (None, Some(block(0))));
        before.save(&file, 0, most * BLOCK_BYTES + 1);
        assert_eq!(before.is_over(), Some(Unfinished::Overwritten));
        assert!(before.saved_block(0).is_err() && !before.is_half_full(), "and the memory is free again");
    }

    #[test]
    fn what_cannot_be_read_before_it_is_overwritten_ends_it_and_not_the_writer() {
        let before = Before::new(2 * BLOCK_BYTES);
        before.save(&file(1), 0, 2 * BLOCK_BYTES);
        assert_eq!(before.is_over(), Some(Unfinished::Unsaved));
    }
}
