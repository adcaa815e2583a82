//! BLAKE3 in groups of 64 KiB: any range of a blob can be verified without the rest.
//!
//! The tree of a blob has three storeys. A **group** is 64 KiB of bytes; a **span** is 1,024 groups; the root covers the spans.
//! Both sizes are powers of two, so a group and a span are subtrees of BLAKE3's own tree, and the root is the plain BLAKE3 of
//! the bytes. The value of a subtree says nothing about the blob's hash when the subtree *is* the whole blob (BLAKE3 finishes its
//! root differently), so whatever covers the whole blob is compared with the hash itself: [`Expected`] carries that difference.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use keepwell_protocol::id::B3;

use super::shape::{Shape, in_range};
use crate::limits::{GROUP_BYTES, GROUPS_PER_SPAN};

/// Why bytes or values are not those of the blob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// There are more or fewer values than a blob of this size has.
    #[error("{found} values where the blob has {wanted}")]
    Count {
        /// As the blob's size demands.
        wanted: u64,
        /// As given.
        found: u64,
    },
    /// A group has another length than the blob's size demands.
    #[error("a group of {found} bytes where the blob has {wanted}")]
    Length {
        /// As the blob's size demands (bytes).
        wanted: u64,
        /// As given (bytes).
        found: u64,
    },
    /// The blob ends before this index.
    #[error("index {index} is beyond the end of the blob")]
    OutOfRange {
        /// Of the group or span that was asked for.
        index: u64,
    },
    /// The hash differs: these are not the blob's bytes.
    #[error("the hash does not match")]
    Mismatch,
}

/// What a subtree is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The value of a subtree that is a part of the blob.
    Part(ChainingValue),
    /// The blob's hash: the subtree is the whole blob.
    Whole(B3),
}

impl Expected {
    /// Whether the fold of these values, left to right, is what was expected.
    fn is_fold_of(&self, values: &[ChainingValue]) -> bool {
        match self {
            Self::Part(value) => fold(values) == Some(*value),
            Self::Whole(b3) => fold_root(values) == Some(*b3),
        }
    }
}

/// The group values of one span of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Span {
    /// The value of each group, in order; only the blob's last span has fewer than 1,024.
    pub groups: Vec<ChainingValue>,
}

impl Span {
    /// The span's own value, or `None` for a span without groups.
    pub fn value(&self) -> Option<ChainingValue> {
        fold(&self.groups)
    }
}

/// The group values of a whole blob: what a range is verified by, beside the blob's hash.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outboard {
    /// In order; empty for a blob of one group, which its hash verifies.
    pub spans: Vec<Span>,
}

impl Outboard {
    /// The span values that stand beside the hash: see [`Shape::span_values`].
    pub fn span_values(&self) -> Vec<ChainingValue> {
        if self.spans.len() == 1 {
            return Vec::new();
        }
        self.spans.iter().filter_map(Span::value).collect()
    }

    /// Checks every value against the blob's hash.
    ///
    /// # Errors
    /// `Count` or `Mismatch` when these are not the values of that blob.
    pub fn verify(&self, b3: B3, size_bytes: u64) -> Result<(), GroupError> {
        let shape = Shape::of(size_bytes);
        let wanted = if shape.groups() == 1 { 0 } else { shape.spans() };
        expect_count(wanted, self.spans.len())?;
        let values = self.span_values();
        verify_span_values(b3, size_bytes, &values)?;
        for (index, span) in (0..).zip(&self.spans) {
            verify_span(size_bytes, index, &span.groups, &expected_span(b3, size_bytes, &values, index)?)?;
        }
        Ok(())
    }
}

/// Checks the span values of a blob against its hash. For a blob of one span the right list is the empty one.
///
/// # Errors
/// `Count` or `Mismatch` when these are not the values of that blob.
pub fn verify_span_values(b3: B3, size_bytes: u64, values: &[ChainingValue]) -> Result<(), GroupError> {
    let wanted = Shape::of(size_bytes).span_values();
    expect_count(wanted, values.len())?;
    if wanted == 0 || Expected::Whole(b3).is_fold_of(values) { Ok(()) } else { Err(GroupError::Mismatch) }
}

/// What the span of this index is compared with, given span values that [`verify_span_values`] accepted.
///
/// # Errors
/// `OutOfRange` beyond the last span.
pub fn expected_span(b3: B3, size_bytes: u64, values: &[ChainingValue], span: u64) -> Result<Expected, GroupError> {
    in_range(span, Shape::of(size_bytes).spans())?;
    expected_among(b3, Shape::of(size_bytes).spans(), values, span)
}

/// Checks the group values of one span. For a blob of one group the right list is the empty one.
///
/// # Errors
/// `OutOfRange`, `Count` or `Mismatch` when these are not the values of that span.
pub fn verify_span(size_bytes: u64, span: u64, groups: &[ChainingValue], expected: &Expected) -> Result<(), GroupError> {
    let wanted = Shape::of(size_bytes).group_values(span)?;
    expect_count(wanted, groups.len())?;
    if wanted == 0 || expected.is_fold_of(groups) { Ok(()) } else { Err(GroupError::Mismatch) }
}

/// What the group of this index (counted from the blob's start) is compared with, given the values of its span as
/// [`verify_span`] accepted them.
///
/// # Errors
/// `OutOfRange` beyond the last group.
pub fn expected_group(b3: B3, size_bytes: u64, span_groups: &[ChainingValue], group: u64) -> Result<Expected, GroupError> {
    in_range(group, Shape::of(size_bytes).groups())?;
    expected_among(b3, Shape::of(size_bytes).groups(), span_groups, group % GROUPS_PER_SPAN as u64)
}

/// Checks the bytes of one group, its index counted from the blob's start.
///
/// # Errors
/// `OutOfRange`, `Length` or `Mismatch` when these are not the bytes of that group.
pub fn verify_group(size_bytes: u64, group: u64, bytes: &[u8], expected: &Expected) -> Result<(), GroupError> {
    let wanted = Shape::of(size_bytes).group_bytes(group)?;
    if bytes.len() as u64 != wanted {
        return Err(GroupError::Length { wanted, found: bytes.len() as u64 });
    }
    let same = match expected {
        Expected::Whole(b3) => blake3::hash(bytes).as_bytes() == b3.as_bytes(),
        // Only a blob of one group can be empty, and only its hash stands for it.
        Expected::Part(_) if bytes.is_empty() => false,
        Expected::Part(value) => group_value(group, bytes) == *value,
    };
    if same { Ok(()) } else { Err(GroupError::Mismatch) }
}

fn expected_among(b3: B3, siblings: u64, values: &[ChainingValue], index: u64) -> Result<Expected, GroupError> {
    if siblings == 1 {
        return Ok(Expected::Whole(b3));
    }
    let value = usize::try_from(index).ok().and_then(|at| values.get(at));
    value.map(|value| Expected::Part(*value)).ok_or(GroupError::OutOfRange { index })
}

fn expect_count(wanted: u64, found: usize) -> Result<(), GroupError> {
    let found = found as u64;
    if found == wanted { Ok(()) } else { Err(GroupError::Count { wanted, found }) }
}

/// The value of a group that is a part of a blob. The bytes are not empty.
fn group_value(group: u64, bytes: &[u8]) -> ChainingValue {
    group_hasher(group).update(bytes).finalize_non_root()
}

fn group_hasher(group: u64) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(group * GROUP_BYTES as u64);
    hasher
}

/// The value of the subtree over these values, or `None` for none.
fn fold(values: &[ChainingValue]) -> Option<ChainingValue> {
    match halves(values) {
        Some((left, right)) => Some(merge_subtrees_non_root(&fold(left)?, &fold(right)?, Mode::Hash)),
        None => values.first().copied(),
    }
}

/// The hash of the blob whose parts have these values, or `None` for fewer than two: one value is no part.
fn fold_root(values: &[ChainingValue]) -> Option<B3> {
    let (left, right) = halves(values)?;
    Some(B3(*merge_subtrees_root(&fold(left)?, &fold(right)?, Mode::Hash).as_bytes()))
}

/// BLAKE3's rule: the left subtree is the largest power of two that leaves something on the right.
fn halves(values: &[ChainingValue]) -> Option<(&[ChainingValue], &[ChainingValue])> {
    let largest = values.len().checked_sub(1).filter(|&rest| rest > 0)?;
    Some(values.split_at(1 << largest.ilog2()))
}

/// Computes a blob's BLAKE3 and its group values from its bytes in order, in pieces of any length.
///
/// Life: new, any number of `update`, one `finish`. The open group is closed only when a byte beyond it arrives, because the last
/// group of a blob of one group must be finished as a root.
#[derive(Debug, Clone, Default)]
pub struct GroupHasher {
    open: blake3::Hasher,
    open_bytes: usize,
    closed: u64,
    spans: Vec<Span>,
}

impl GroupHasher {
    /// A hasher at the start of a blob.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the blob.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.open_bytes == GROUP_BYTES {
                self.close_group();
            }
            let (now, later) = bytes.split_at(bytes.len().min(GROUP_BYTES - self.open_bytes));
            self.open.update(now);
            self.open_bytes += now.len();
            bytes = later;
        }
    }

    /// The blob's hash, and its group values when it has more than one group.
    pub fn finish(mut self) -> (B3, Outboard) {
        if self.closed == 0 {
            return (B3(*self.open.finalize().as_bytes()), Outboard::default());
        }
        self.close_group();
        let outboard = Outboard { spans: self.spans };
        let root = match outboard.spans.as_slice() {
            [only] => fold_root(&only.groups),
            _ => fold_root(&outboard.span_values()),
        };
        (root.expect("invariant: more than one group, so there are two values to fold"), outboard)
    }

    fn close_group(&mut self) {
        let value = self.open.finalize_non_root();
        if self.closed.is_multiple_of(GROUPS_PER_SPAN as u64) {
            self.spans.push(Span::default());
        }
        self.spans.last_mut().expect("invariant: a span was pushed with its first group").groups.push(value);
        self.closed += 1;
        self.open = group_hasher(self.closed);
        self.open_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SPAN_BYTES;

    const GROUP: usize = GROUP_BYTES;
    const SMALL_SIZES: [usize; 17] = [
        0,
        1,
        1_023,
        1_024,
        1_025,
        GROUP - 1,
        GROUP,
        GROUP + 1,
        2 * GROUP - 1,
        2 * GROUP,
        2 * GROUP + 1,
        3 * GROUP,
        3 * GROUP + 1,
        5 * GROUP,
        7 * GROUP + 1_025,
        8 * GROUP,
        9 * GROUP - 1_024,
    ];

    fn bytes_of(size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(b"groups").finalize_xof().fill(&mut bytes);
        bytes
    }

    fn hashed(bytes: &[u8], piece: usize) -> (B3, Outboard) {
        let mut hasher = GroupHasher::new();
        bytes.chunks(piece).for_each(|piece| hasher.update(piece));
        hasher.finish()
    }

    /// Follows a verifier's path from the hash down to the given groups.
    fn verify_from_the_hash(bytes: &[u8], b3: B3, outboard: &Outboard, groups: impl Iterator<Item = u64>) {
        let size = bytes.len() as u64;
        let values = outboard.span_values();
        outboard.verify(b3, size).unwrap();
        for group in groups {
            let span = group / GROUPS_PER_SPAN as u64;
            let empty = Span::default();
            let span_groups = &outboard.spans.get(usize::try_from(span).unwrap()).unwrap_or(&empty).groups;
            let expected = expected_span(b3, size, &values, span).unwrap();
            verify_span(size, span, span_groups, &expected).unwrap();
            let expected = expected_group(b3, size, span_groups, group).unwrap();
            let start = usize::try_from(group).unwrap() * GROUP;
            let mut piece = bytes[start..bytes.len().min(start + GROUP)].to_vec();
            verify_group(size, group, &piece, &expected).unwrap();
            if let Some(last) = piece.last_mut() {
                *last ^= 1;
                assert_eq!(verify_group(size, group, &piece, &expected), Err(GroupError::Mismatch), "{size} {group}");
            }
            piece.push(0);
            assert!(matches!(verify_group(size, group, &piece, &expected), Err(GroupError::Length { .. })));
        }
    }

    #[test]
    fn the_hash_is_the_plain_blake3_and_every_group_verifies() {
        for size in SMALL_SIZES {
            let bytes = bytes_of(size);
            for piece in [1_000, GROUP, GROUP + 1, usize::MAX] {
                let (b3, outboard) = hashed(&bytes, piece);
                assert_eq!(b3.as_bytes(), blake3::hash(&bytes).as_bytes(), "{size} in pieces of {piece}");
                assert_eq!(outboard.spans.is_empty(), size <= GROUP);
                verify_from_the_hash(&bytes, b3, &outboard, 0..Shape::of(size as u64).groups());
            }
        }
    }

    #[test]
    fn the_edges_of_a_span_hold() {
        let bytes = bytes_of(SPAN_BYTES + GROUP + 1);
        for size in
            [SPAN_BYTES - 1, SPAN_BYTES, SPAN_BYTES + 1, SPAN_BYTES + GROUP - 1, SPAN_BYTES + GROUP, SPAN_BYTES + GROUP + 1]
        {
            let bytes = &bytes[..size];
            let (b3, outboard) = hashed(bytes, 1 << 20);
            assert_eq!(b3.as_bytes(), blake3::hash(bytes).as_bytes(), "{size}");
            assert_eq!(outboard.spans.len(), if size <= SPAN_BYTES { 1 } else { 2 });
            let last = Shape::of(size as u64).groups() - 1;
            verify_from_the_hash(bytes, b3, &outboard, [0, 1, 511, last - 1, last].into_iter());
        }
    }

    #[test]
    fn many_spans_fold_like_blake3_does() {
        // Values stand for themselves: five spans need no bytes to show the shape of the tree.
        let value = |n: u8| [n; 32];
        let merge = |left, right| merge_subtrees_non_root(&left, &right, Mode::Hash);
        let four = merge(merge(value(0), value(1)), merge(value(2), value(3)));
        let root = merge_subtrees_root(&four, &value(4), Mode::Hash);
        let values: Vec<_> = (0..5).map(value).collect();
        let size = 4 * SPAN_BYTES as u64 + 1;
        assert_eq!(verify_span_values(B3(*root.as_bytes()), size, &values), Ok(()));
        let mut swapped = values.clone();
        swapped.swap(1, 2);
        assert_eq!(verify_span_values(B3(*root.as_bytes()), size, &swapped), Err(GroupError::Mismatch));
        assert!(verify_span_values(B3(*root.as_bytes()), size - 1, &values).is_err(), "four spans have four values");
    }

    #[test]
    fn a_changed_missing_or_surplus_value_is_refused() {
        let bytes = bytes_of(5 * GROUP + 7);
        let (b3, outboard) = hashed(&bytes, GROUP);
        let size = bytes.len() as u64;
        for index in 0..6 {
            let mut wrong = outboard.clone();
            wrong.spans[0].groups[index][31] ^= 0x80;
            assert_eq!(wrong.verify(b3, size), Err(GroupError::Mismatch));
        }
        let mut short = outboard.clone();
        short.spans[0].groups.pop();
        assert_eq!(short.verify(b3, size), Err(GroupError::Count { wanted: 6, found: 5 }));
        let mut long = outboard.clone();
        long.spans.push(Span { groups: vec![[0; 32]] });
        assert_eq!(long.verify(b3, size), Err(GroupError::Count { wanted: 1, found: 2 }));
        assert_eq!(Outboard::default().verify(b3, size), Err(GroupError::Count { wanted: 1, found: 0 }));
    }

    #[test]
    fn a_group_does_not_verify_in_another_place() {
        let bytes = vec![5; 3 * GROUP];
        let (b3, outboard) = hashed(&bytes, GROUP);
        let groups = &outboard.spans[0].groups;
        assert_ne!(groups[0], groups[1], "the place of a group is part of its value");
        let second = expected_group(b3, bytes.len() as u64, groups, 1).unwrap();
        assert_eq!(verify_group(bytes.len() as u64, 0, &bytes[..GROUP], &second), Err(GroupError::Mismatch));
        assert!(expected_group(b3, bytes.len() as u64, groups, 3).is_err());
        assert!(expected_span(b3, bytes.len() as u64, &[], 1).is_err());
    }

    #[test]
    fn a_part_is_not_taken_for_the_whole() {
        let bytes = bytes_of(GROUP);
        let (b3, _) = hashed(&bytes, GROUP);
        let as_part = Expected::Part(group_value(0, &bytes));
        // The broken variant: a verifier that forgets root finalisation would compare the part's value with the hash.
        assert_ne!(as_part, Expected::Part(*b3.as_bytes()));
        assert_eq!(verify_group(GROUP as u64, 0, &bytes, &Expected::Whole(b3)), Ok(()));
        assert!(verify_group(GROUP as u64, 0, &bytes, &Expected::Part(*b3.as_bytes())).is_err());
        assert!(verify_group(0, 0, &[], &Expected::Part([0; 32])).is_err());
    }
}
