//! The header `Range`: which bytes of a blob a request wants.

use std::ops::Range;

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that the blob has not.
    Unsatisfiable,
}

/// Reads `bytes=A-B`, `bytes=A-` and `bytes=-N`. What else a header says is ignored, as HTTP allows: several ranges, other units.
pub(super) fn wanted(header: Option<&str>, size_bytes: u64) -> Wanted {
    let spec = header.and_then(|text| text.strip_prefix("bytes=")).and_then(|spec| spec.trim().split_once('-'));
    let Some((first, last)) = spec else { return Wanted::Whole };
    match (number(first), number(last)) {
        (Some(first), None) if last.is_empty() => part(first, size_bytes, size_bytes),
        (Some(first), Some(last)) if first <= last => part(first, last.saturating_add(1), size_bytes),
        (None, Some(0)) if first.is_empty() => Wanted::Unsatisfiable,
        (None, Some(tail)) if first.is_empty() => part(size_bytes.saturating_sub(tail), size_bytes, size_bytes),
        _ => Wanted::Whole,
    }
}

fn part(start: u64, end: u64, size_bytes: u64) -> Wanted {
    if start >= size_bytes { Wanted::Unsatisfiable } else { Wanted::Part(start..end.min(size_bytes)) }
}

fn number(text: &str) -> Option<u64> {
    let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a number has room for mean the end of any blob.
    all_digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_http_has_its_end() {
        let cases = [
            ("bytes=0-3", Wanted::Part(0..4)),
            ("bytes=4-", Wanted::Part(4..10)),
            ("bytes=-4", Wanted::Part(6..10)),
            ("bytes=-40", Wanted::Part(0..10)),
            ("bytes=9-99", Wanted::Part(9..10)),
            ("bytes=9-99999999999999999999", Wanted::Part(9..10)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=3-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=x", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
        ];
        for (header, expected) in cases {
            assert_eq!(wanted(Some(header), 10), expected, "{header}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }
}
