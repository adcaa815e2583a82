//! How a blob divides into groups and spans: arithmetic on its size alone.

use super::groups::GroupError;
use crate::limits::{GROUP_BYTES, GROUPS_PER_SPAN, SPAN_BYTES};

/// How a blob of one size divides into groups and spans. An empty blob has one, empty, group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    size_bytes: u64,
}

impl Shape {
    /// The shape of a blob of this many bytes.
    pub const fn of(size_bytes: u64) -> Self {
        Self { size_bytes }
    }

    /// Groups in the blob, at least 1.
    pub fn groups(self) -> u64 {
        self.size_bytes.div_ceil(GROUP_BYTES as u64).max(1)
    }

    /// Spans in the blob, at least 1.
    pub fn spans(self) -> u64 {
        self.size_bytes.div_ceil(SPAN_BYTES as u64).max(1)
    }

    /// Span values that stand beside the blob's hash: none for a blob of one span, whose group values fold to the hash itself.
    pub fn span_values(self) -> u64 {
        if self.spans() == 1 { 0 } else { self.spans() }
    }

    /// Group values in one span: none for a blob of one group, which the hash itself verifies.
    ///
    /// # Errors
    /// `OutOfRange` beyond the last span.
    pub fn group_values(self, span: u64) -> Result<u64, GroupError> {
        in_range(span, self.spans())?;
        if self.groups() == 1 {
            return Ok(0);
        }
        Ok((self.groups() - span * GROUPS_PER_SPAN as u64).min(GROUPS_PER_SPAN as u64))
    }

    /// The length of one group: whole but for the last (bytes).
    ///
    /// # Errors
    /// `OutOfRange` beyond the last group.
    pub fn group_bytes(self, group: u64) -> Result<u64, GroupError> {
        in_range(group, self.groups())?;
        Ok((self.size_bytes - group * GROUP_BYTES as u64).min(GROUP_BYTES as u64))
    }
}

/// Refuses an index beyond the last of so many.
pub(super) fn in_range(index: u64, count: u64) -> Result<(), GroupError> {
    if index < count { Ok(()) } else { Err(GroupError::OutOfRange { index }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: u64 = GROUP_BYTES as u64;
    const SPAN: u64 = SPAN_BYTES as u64;

    #[test]
    fn a_shape_counts_at_every_edge() {
        let cases = [
            (0, 1, 1, 0),
            (1, 1, 1, 0),
            (GROUP, 1, 1, 0),
            (GROUP + 1, 2, 1, 0),
            (SPAN, 1_024, 1, 0),
            (SPAN + 1, 1_025, 2, 2),
            (3 * SPAN, 3_072, 3, 3),
        ];
        for (size_bytes, groups, spans, span_values) in cases {
            let shape = Shape::of(size_bytes);
            assert_eq!((shape.groups(), shape.spans(), shape.span_values()), (groups, spans, span_values), "{size_bytes}");
        }
    }

    #[test]
    fn the_last_group_and_span_are_short() {
        let shape = Shape::of(SPAN + GROUP + 5);
        assert_eq!((shape.group_values(0), shape.group_values(1)), (Ok(1_024), Ok(2)));
        assert_eq!((shape.group_bytes(0), shape.group_bytes(1_025)), (Ok(GROUP), Ok(5)));
        assert_eq!(shape.group_values(2), Err(GroupError::OutOfRange { index: 2 }));
        assert_eq!(shape.group_bytes(1_026), Err(GroupError::OutOfRange { index: 1_026 }));
        assert_eq!((Shape::of(0).group_bytes(0), Shape::of(GROUP).group_values(0)), (Ok(0), Ok(0)));
    }

    #[test]
    fn the_largest_size_does_not_overflow() {
        let shape = Shape::of(u64::MAX);
        assert_eq!(shape.group_bytes(shape.groups() - 1), Ok(GROUP - 1));
        assert_eq!(shape.group_values(shape.spans() - 1), Ok(1_024));
        assert!(shape.group_bytes(u64::MAX).is_err());
    }
}
