//! Memory that begins at a page, so that a disk can take it as it is.

use std::ops::{Deref, DerefMut};

/// What addresses, offsets and lengths of a write around the page cache must be multiples of (bytes): a page, and on nearly every
/// file system at least its block. Where more is asked for, the write is refused and goes through the page cache.
pub(super) const PAGE_BYTES: usize = 4_096;

/// Bytes in memory, the first of them at a page's start. Made once and reused: fresh memory costs a fault a page.
pub struct PageBuffer {
    /// Never grows, so that it stays where it is.
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl PageBuffer {
    /// So many zeros.
    pub fn zeroed(len: usize) -> Self {
        let memory = vec![0; len + PAGE_BYTES - 1];
        // Where nothing can be said about alignment any start will do: it is a matter of speed alone.
        let start = memory.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES - 1);
        Self { memory, start, len }
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// Whether these bytes begin at a page.
pub(super) fn begins_at_a_page(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_of_any_length_begins_at_a_page() {
        for len in [0, 1, PAGE_BYTES - 1, PAGE_BYTES, 3 * PAGE_BYTES + 1, 1 << 20] {
            let mut buffer = PageBuffer::zeroed(len);
            assert_eq!((buffer.len(), begins_at_a_page(&buffer)), (len, true));
            buffer.fill(7);
            assert!(buffer.iter().all(|&byte| byte == 7));
            let moved = buffer;
            assert!(begins_at_a_page(&moved), "moving a buffer leaves its bytes where they are");
        }
    }
}
