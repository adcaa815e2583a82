//! When the values of refs lapse, in the order of time. What is due is a matter of the clock, and that is the caller's.

use keepwell_protocol::id::{BootId, Seq, ValueId};
use redb::ReadableTable;

use crate::error::StoreError;
use crate::tables::{Access, Tables, Writing};

/// A value of a ref that lapses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    /// When, in Unix milliseconds.
    pub expires_ms: u64,
    /// Of which ref.
    pub name: String,
    /// Which value.
    pub value: ValueId,
}

impl<A: Access> Tables<A> {
    /// The values whose time has come, the earliest first, at most `limit` of them.
    pub fn expired_values(&self, now_ms: u64, limit: usize) -> Result<Vec<Expiry>, StoreError> {
        let mut expired = Vec::new();
        for row in self.expiries.iter()?.take(limit) {
            let (key, _) = row?;
            let (expires_ms, name, boot, seq, index) = key.value();
            if expires_ms > now_ms {
                break;
            }
            let value = ValueId { boot: BootId(*boot), seq: Seq(seq), index };
            expired.push(Expiry { expires_ms, name: name.to_owned(), value });
        }
        Ok(expired)
    }

    /// When the next value lapses, in Unix milliseconds.
    pub fn next_expiry_ms(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.expiries.first()?.map(|(key, _)| key.value().0))
    }
}

impl Tables<Writing<'_>> {
    /// Notes that a value of the ref `name` lapses then.
    pub fn put_expiry(&mut self, name: &str, value: &ValueId, expires_ms: u64) -> Result<(), StoreError> {
        self.expiries.insert((expires_ms, name, value.boot.as_bytes(), value.seq.0, value.index), ())?;
        Ok(())
    }

    /// Notes that a value of the ref `name`, which lapses then, is gone.
    pub fn remove_expiry(&mut self, name: &str, value: &ValueId, expires_ms: u64) -> Result<(), StoreError> {
        self.expiries.remove((expires_ms, name, value.boot.as_bytes(), value.seq.0, value.index))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
