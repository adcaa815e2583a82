//! How rows are read: one function, so that an unreadable row always names its table.

use bincode::Decode;
use keepwell_protocol::wire;
use redb::{AccessGuard, StorageError};

use crate::error::StoreError;

/// What [`decode`] takes: the outcome of looking up a row.
type Found<'a> = Result<Option<AccessGuard<'a, &'static [u8]>>, StorageError>;

/// The record in the row that was `found` in `table`.
pub(crate) fn decode<T: Decode<()>>(table: &'static str, found: Found<'_>) -> Result<Option<T>, StoreError> {
    found?.map(|row| decode_bytes(table, row.value())).transpose()
}

/// The record in the bytes of a row of `table`.
pub(crate) fn decode_bytes<T: Decode<()>>(table: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    wire::decode_own(bytes).map_err(|source| StoreError::Unreadable { table, source })
}
