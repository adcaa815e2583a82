//! What is counted as it changes, so that nobody has to scan for it.

use crate::error::StoreError;
use crate::tables::{Access, Tables, Writing};
use redb::ReadableTable;

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Blobs that this node's log says it holds.
    Blobs,
    /// Their bytes.
    BlobBytes,
    /// Refs with a value.
    Refs,
    /// Ops and items of kinds that this build does not know and that may protect data.
    UnknownProtecting,
    /// Values of refs that ask for more than one copy.
    Replicated,
    /// Bytes of the blobs in the trash.
    TrashBytes,
}

impl Count {
    const fn name(self) -> &'static str {
        match self {
            Count::Blobs => "blobs",
            Count::BlobBytes => "blob_bytes",
            Count::Refs => "refs",
            Count::UnknownProtecting => "unknown_protecting",
            Count::Replicated => "replicated",
            Count::TrashBytes => "trash_bytes",
        }
    }
}

impl<A: Access> Tables<A> {
    /// How many there are.
    pub fn count(&self, count: Count) -> Result<u64, StoreError> {
        Ok(self.counts.get(count.name())?.map_or(0, |row| row.value()))
    }
}

impl Tables<Writing<'_>> {
    /// Counts `change` more, or fewer when it is negative.
    pub fn add_to_count(&mut self, count: Count, change: i64) -> Result<(), StoreError> {
        let now = self.count(count)?.checked_add_signed(change);
        let now = now.ok_or_else(|| StoreError::Inconsistent(format!("count of {} would fall below zero", count.name())))?;
        self.put_count(count, now)
    }

    /// Notes how many there are. Nothing has no row, so that a count which was rebuilt equals one that was kept.
    pub(crate) fn put_count(&mut self, count: Count, now: u64) -> Result<(), StoreError> {
        match now {
            0 => drop(self.counts.remove(count.name())?),
            _ => drop(self.counts.insert(count.name(), now)?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
