//! Blobs that are held here although nothing needs them: recorded, not live, and past their grace.
//!
//! A blob gets the next number each time it becomes unneeded, so that numbers order blobs by how long they have been without
//! interruption: one that was needed in between has a higher number. Numbers are never used again. What is said here is exact only
//! when reach is settled; until then a blob may stand here that is about to become live.
//!
//! The grace is the lease that a put or a fetch brings with it: for so long a blob stays without a ref. It is over when its row has
//! been taken out of `graces`, which is done by whoever has a clock. A row that is not of the record's present grace says nothing.

use keepwell_protocol::id::BlobId;
use keepwell_protocol::wire;
use redb::{ReadableTable, ReadableTableMetadata};

use crate::blobs::BlobRecord;
use crate::error::StoreError;
use crate::row;
use crate::store::Transaction;
use crate::tables::{Access, Tables, Writing};

/// The row of `meta` with the number that the next unneeded blob gets.
const NEXT_NUMBER: &str = "next_unneeded";

impl<A: Access> Tables<A> {
    /// At most `limit` unneeded blobs with numbers below `number`, those first that have been unneeded for longest.
    pub fn unneeded_before(&self, number: u64, limit: usize) -> Result<Vec<(u64, BlobId)>, StoreError> {
        let rows = self.unneeded.range(..number)?.take(limit);
        rows.map(|row| row.map(|(number, id)| (number.value(), (*id.value()).into())).map_err(StoreError::from)).collect()
    }

    /// The number that the next blob gets: all that are unneeded now have lower ones.
    pub fn next_unneeded_number(&self) -> Result<u64, StoreError> {
        Ok(row::decode("meta", self.meta.get(NEXT_NUMBER))?.unwrap_or(0))
    }

    /// How many blobs are unneeded.
    pub fn unneeded_count(&self) -> Result<u64, StoreError> {
        Ok(self.unneeded.len()?)
    }

    /// The number of `id` if it is unneeded.
    pub fn is_unneeded_since(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        Ok(self.unneeded_numbers.get(id.as_bytes())?.map(|row| row.value()))
    }

    /// When to call [`Transaction::end_graces`] next, in Unix milliseconds.
    pub fn next_grace_ms(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.graces.first()?.map(|(key, _)| key.value().0))
    }

    /// All graces that have not been ended, by when they end: also those that were renewed since, which say nothing.
    pub fn graces(&self) -> Result<Vec<(u64, BlobId)>, StoreError> {
        let rows = self.graces.iter()?;
        rows.map(|row| row.map(|(key, _)| (key.value().0, (*key.value().1).into())).map_err(StoreError::from)).collect()
    }

    /// Whether the grace of a blob with this record has not been ended.
    pub fn is_in_grace(&self, id: &BlobId, record: &BlobRecord) -> Result<bool, StoreError> {
        Ok(self.graces.get((record.grace_until_ms, id.as_bytes()))?.is_some())
    }
}

impl Transaction<'_> {
    /// Ends graces that are over at `now_ms`, at most `limit`; whether no more are. Their blobs become unneeded if they are not live.
    pub fn end_graces(&mut self, now_ms: u64, limit: usize) -> Result<bool, StoreError> {
        let first = self.next_unneeded_number()?;
        let (mut number, mut left) = (first, limit);
        while left > 0 && self.is_grace_due(now_ms)? {
            let due = self.graces.pop_first()?.map(|(key, _)| BlobId::from(*key.value().1));
            if let Some(id) = due {
                number += u64::from(self.give_number(&id, number)?);
            }
            left -= 1;
        }
        if number > first {
            self.put_next_number(number)?;
        }
        Ok(left > 0 || !self.is_grace_due(now_ms)?)
    }

    /// Gives a blob that is held grace until `until_ms`, if its present grace does not last as long. Whether it is held.
    pub fn renew_grace(&mut self, id: &BlobId, until_ms: u64) -> Result<bool, StoreError> {
        let Some(record) = self.blob(id)? else { return Ok(false) };
        self.renew_grace_of(id, &record, until_ms)?;
        Ok(true)
    }

    /// As [`Transaction::renew_grace`], for a blob of which `record` is to be recorded; whether it has been.
    pub(crate) fn renew_grace_of(&mut self, id: &BlobId, record: &BlobRecord, until_ms: u64) -> Result<bool, StoreError> {
        // A grace that has been ended says nothing by its time, however late that is: the clock may have been set back.
        let is_longer = record.grace_until_ms < until_ms || !self.is_in_grace(id, record)?;
        if is_longer {
            self.put_record(id, &BlobRecord { grace_until_ms: until_ms, ..*record })?;
            self.begin_grace(id, until_ms)?;
            self.drop_unneeded(id)?;
        }
        Ok(is_longer)
    }

    fn is_grace_due(&self, now_ms: u64) -> Result<bool, StoreError> {
        Ok(self.next_grace_ms()?.is_some_and(|until_ms| until_ms <= now_ms))
    }
}

impl Tables<Writing<'_>> {
    /// Notes the grace that stands in the record of `id`.
    pub(crate) fn begin_grace(&mut self, id: &BlobId, until_ms: u64) -> Result<(), StoreError> {
        self.graces.insert((until_ms, id.as_bytes()), ())?;
        Ok(())
    }

    /// Gives `id` the next number if it is unneeded and has none. Called whenever one of the things that need it has gone.
    pub(crate) fn number_if_unneeded(&mut self, id: &BlobId) -> Result<(), StoreError> {
        let number = self.next_unneeded_number()?;
        if self.give_number(id, number)? { self.put_next_number(number + 1) } else { Ok(()) }
    }

    /// Gives `id` this number if it is unneeded and has none; whether it has it now. The caller notes which one is next.
    fn give_number(&mut self, id: &BlobId, number: u64) -> Result<bool, StoreError> {
        let Some(record) = self.blob(id)? else { return Ok(false) };
        if self.is_needed(id, &record)? || self.is_unneeded_since(id)?.is_some() {
            return Ok(false);
        }
        self.unneeded.insert(number, id.as_bytes())?;
        self.unneeded_numbers.insert(id.as_bytes(), number)?;
        Ok(true)
    }

    fn put_next_number(&mut self, number: u64) -> Result<(), StoreError> {
        self.meta.insert(NEXT_NUMBER, wire::encode(&number).as_slice())?;
        Ok(())
    }

    /// Gives numbers to all unneeded blobs that have none, after what is live has been counted anew.
    pub(crate) fn number_all_unneeded(&mut self) -> Result<(), StoreError> {
        let mut unneeded = Vec::new();
        self.visit_blobs(&BlobId([0; 20]), |id, record| {
            if !self.is_needed(&id, &record)? {
                unneeded.push(id);
            }
            Ok::<_, StoreError>(true)
        })?;
        unneeded.iter().try_for_each(|id| self.number_if_unneeded(id))
    }

    /// Notes that `id` is needed, or not held.
    pub(crate) fn drop_unneeded(&mut self, id: &BlobId) -> Result<(), StoreError> {
        let number = self.unneeded_numbers.remove(id.as_bytes())?.map(|row| row.value());
        if let Some(number) = number {
            self.unneeded.remove(number)?;
        }
        Ok(())
    }

    fn is_needed(&self, id: &BlobId, record: &BlobRecord) -> Result<bool, StoreError> {
        Ok(self.is_live(id)? || self.is_in_grace(id, record)?)
    }
}

#[cfg(test)]
mod tests;
