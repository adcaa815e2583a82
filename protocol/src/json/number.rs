//! The order of numbers as they are written, with all their digits: nothing is rounded.

use std::cmp::Ordering;

use serde_json::Number;

/// Which of two numbers is larger.
///
/// An exponent of more digits than 64 bits hold counts as the largest, or the smallest, that they do.
pub(super) fn compare(left: &Number, right: &Number) -> Ordering {
    let (left, right) = (Decimal::of(left.as_str()), Decimal::of(right.as_str()));
    match (left.sign(), right.sign()) {
        (0, 0) => Ordering::Equal,
        (1, 1) => left.magnitude().cmp(&right.magnitude()),
        (-1, -1) => right.magnitude().cmp(&left.magnitude()),
        (left, right) => left.cmp(&right),
    }
}

/// ± 0.d₁d₂… · 10^`scale`, where d₁ and the last digit are no zeros.
struct Decimal {
    is_negative: bool,
    digits: Vec<u8>,
    scale: i64,
}

impl Decimal {
    /// What a JSON number says. The text is one: it was read by a parser.
    fn of(text: &str) -> Decimal {
        let (text, is_negative) = text.strip_prefix('-').map_or((text, false), |text| (text, true));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..zeros);
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        let point = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_sub(i64::try_from(zeros).unwrap_or(i64::MAX));
        let scale = exponent_of(exponent).saturating_add(point);
        Decimal { is_negative, digits, scale }
    }

    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    /// Of two with digits, the larger is larger.
    fn magnitude(&self) -> (i64, &[u8]) {
        (self.scale, &self.digits)
    }
}

fn exponent_of(text: &str) -> i64 {
    let (digits, is_negative) = match text.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    let size =
        digits.bytes().fold(0i64, |size, digit| size.saturating_mul(10).saturating_add(i64::from(digit.wrapping_sub(b'0'))));
    if is_negative { size.saturating_neg() } else { size }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Number {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_are_ordered_by_all_their_digits() {
        let ascending = [
            "-1e400",
            "-123456789012345678901234567891",
            "-123456789012345678901234567890",
            "-2",
            "-0.5",
            "-1e-400",
            "0",
            "1e-400",
            "0.3",
            "0.30000000000000004",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
            "1e400",
            "1e99999999999999999999",
        ];
        for (at, left) in ascending.iter().enumerate() {
            for (other, right) in ascending.iter().enumerate() {
                assert_eq!(compare(&number(left), &number(right)), at.cmp(&other), "{left} {right}");
            }
        }
    }

    #[test]
    fn one_number_may_be_written_in_many_ways() {
        for (left, right) in [
            ("0", "-0.0"),
            ("0e5", "0"),
            ("100", "1e2"),
            ("1.50", "1.5"),
            ("0.001", "1E-3"),
            ("12.5e1", "125"),
            ("1e+2", "100.0"),
        ] {
            assert_eq!(compare(&number(left), &number(right)), Ordering::Equal, "{left} {right}");
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_are_ordered_as_they_are(left: i64, right: i64, zeros in 0usize..4) {
            let written = |value: i64| number(&format!("{value}{}e-{zeros}", "0".repeat(zeros)));
            prop_assert_eq!(compare(&written(left), &number(&right.to_string())), left.cmp(&right));
        }

        #[test]
        fn fractions_are_ordered_as_they_are(left in -1e9..1e9f64, right in -1e9..1e9f64) {
            let written = |value: f64| number(&format!("{value}"));
            prop_assert_eq!(Some(compare(&written(left), &written(right))), left.partial_cmp(&right));
        }
    }
}
