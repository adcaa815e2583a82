//! Giving out the bytes of one blob, or a range of them.

use std::ops::Range;
use std::str::FromStr;

use keepwell_protocol::uri::Target;

use super::backend::{Backend, OpenBlob};
use super::resolve::{Resolved, resolve};
use crate::failure::Failure;

/// A range of bytes as users write it: `A-B` is the bytes from A up to, and without, B; `A-` all from A on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// The byte after the last one; none is the end of the blob.
    pub end: Option<u64>,
}

/// A text that is not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a range such as `0-100` (the first hundred bytes) or `100-` (the rest)")]
pub struct ParseRangeError;

impl FromStr for ByteRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        let (start, end) = text.split_once('-').ok_or(ParseRangeError)?;
        let digits = |text: &str| {
            let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if all_digits { text.parse().map_err(|_| ParseRangeError) } else { Err(ParseRangeError) }
        };
        let range = ByteRange { start: digits(start)?, end: if end.is_empty() { None } else { Some(digits(end)?) } };
        if range.end.is_some_and(|end| end < range.start) { Err(ParseRangeError) } else { Ok(range) }
    }
}

impl ByteRange {
    /// The bytes of a blob of this size. A range may end past the blob, but not begin there.
    fn within(self, size_bytes: u64) -> Result<Range<u64>, Failure> {
        if self.start > size_bytes {
            let message = format!("the range begins at byte {}, the blob has {size_bytes}", self.start);
            return Err(Failure::usage(message).hint("ask for less").about("size_bytes", size_bytes));
        }
        Ok(self.start..self.end.unwrap_or(size_bytes).min(size_bytes))
    }
}

/// The blob that `target` names, and which bytes of it are meant. Each is verified before it is given out.
pub fn open<'b>(
    backend: &'b dyn Backend,
    target: &Target,
    range: Option<ByteRange>,
) -> Result<(Box<dyn OpenBlob + 'b>, Range<u64>), Failure> {
    let uri = match resolve(backend, target)? {
        Resolved::Blob(uri) => uri,
        Resolved::Tree(_) => {
            let failure = Failure::usage(format!("{target} is a tree of files, and `cat` gives out one"));
            return Err(failure.hint("name a file in it, or restore it with `keepwell get`"));
        }
    };
    let blob = backend.open(&uri)?;
    let range = range.map_or(Ok(0..blob.size_bytes()), |range| range.within(blob.size_bytes()))?;
    Ok((blob, range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_its_start_and_not_its_end() {
        let range = |text: &str| text.parse::<ByteRange>().map(|range| range.within(10).ok());
        assert_eq!(range("0-4"), Ok(Some(0..4)));
        assert_eq!(range("4-4"), Ok(Some(4..4)));
        assert_eq!(range("4-"), Ok(Some(4..10)));
        assert_eq!(range("4-99"), Ok(Some(4..10)));
        assert_eq!(range("10-"), Ok(Some(10..10)));
        assert_eq!(range("11-"), Ok(None));
        for text in ["", "-", "-5", "5", "5-4", "a-b", "+1-2", "0-99999999999999999999"] {
            assert_eq!(range(text), Err(ParseRangeError), "{text}");
        }
    }
}
