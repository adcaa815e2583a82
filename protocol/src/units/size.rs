//! Sizes in bytes: SI and IEC units are read and told apart, IEC is printed.

use std::fmt;
use std::str::FromStr;

use super::{UnitError, UnitFault, parse_digits, split_digits};

const WHAT: &str = "a size";
const EXPECTED: &str = "bytes or a number with a unit, such as `1024`, `500MB` (1000s) or `1.5GiB` (1024s)";

/// IEC units from the largest, each 1,024 times the next, and their bytes as a power of two.
const IEC: [(&str, u32); 7] = [("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

/// Digits after the point that are read: enough for a byte in the largest unit, and few enough for 128-bit arithmetic.
const MAX_DECIMALS: usize = 18;

/// A number of bytes.
///
/// Read from `1024`, `500MB` (1,000s) or `1.5 GiB` (1,024s), the unit in any case. Displayed exactly, in the largest IEC unit
/// that needs at most three decimals; [`SizeBytes::human`] rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SizeBytes(pub u64);

impl SizeBytes {
    /// At most one decimal in the largest unit that gives a number of at least 1: `1.4 GiB`. For people, not to be read back.
    pub fn human(self) -> String {
        let (name, shift) = IEC.into_iter().find(|(_, shift)| self.0 >> shift != 0).unwrap_or(("B", 0));
        if shift == 0 {
            return format!("{} B", self.0);
        }
        let tenths = (u128::from(self.0) * 10) >> shift;
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

impl FromStr for SizeBytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text).map(Self).map_err(|fault| fault.of(WHAT, text, EXPECTED))
    }
}

/// A fraction of a byte is cut off.
fn parse(text: &str) -> Result<u64, UnitFault> {
    if text.is_empty() {
        return Err(UnitFault::Empty);
    }
    let (whole, rest) = split_digits(text);
    let (decimals, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("0", rest),
    };
    if decimals.len() > MAX_DECIMALS {
        return Err(UnitFault::TooPrecise);
    }
    let unit_bytes = u128::from(unit_bytes(rest.trim_start_matches(' '))?);
    let whole_bytes = u128::from(parse_digits(whole)?).checked_mul(unit_bytes).ok_or(UnitFault::OutOfRange)?;
    let scale = 10u128.pow(u32::try_from(decimals.len()).map_err(|_| UnitFault::TooPrecise)?);
    let part_bytes = u128::from(parse_digits(decimals)?) * unit_bytes / scale;
    u64::try_from(whole_bytes + part_bytes).map_err(|_| UnitFault::OutOfRange)
}

/// Bytes of one unit; no unit means bytes.
fn unit_bytes(unit: &str) -> Result<u64, UnitFault> {
    let lower = unit.to_ascii_lowercase();
    let unknown = || UnitFault::UnknownUnit(unit.chars().take(20).collect());
    if matches!(lower.as_str(), "" | "b") {
        return Ok(1);
    }
    let mut letters = lower.chars();
    let power = match letters.next() {
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some('e') => 6,
        _ => return Err(unknown()),
    };
    match letters.as_str() {
        "ib" => Ok(1 << (10 * power)),
        "b" => Ok(1_000u64.pow(power)),
        "" => Err(UnitFault::AmbiguousUnit(unit.to_ascii_uppercase())),
        _ => Err(unknown()),
    }
}

impl fmt::Display for SizeBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |shift: u32| (u128::from(self.0) * 1_000).is_multiple_of(1u128 << shift);
        let (name, shift) = IEC.into_iter().find(|(_, shift)| self.0 >> shift != 0 && exact(*shift)).unwrap_or(("B", 0));
        let thousandths = (u128::from(self.0) * 1_000) >> shift;
        let decimals = format!("{:03}", thousandths % 1_000);
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{}{name}", thousandths / 1_000),
            decimals => write!(f, "{}.{decimals}{name}", thousandths / 1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &str) -> u64 {
        text.parse::<SizeBytes>().map(|size| size.0).unwrap_or_else(|error| panic!("{error}"))
    }

    fn why(text: &str) -> UnitFault {
        text.parse::<SizeBytes>().expect_err("refused").why
    }

    #[test]
    fn sizes_are_read_in_both_systems() {
        assert_eq!(bytes("0"), 0);
        assert_eq!(bytes("1024"), 1_024);
        assert_eq!(bytes("12B"), 12);
        assert_eq!(bytes("500MB"), 500_000_000);
        assert_eq!(bytes("500mib"), 500 << 20);
        assert_eq!(bytes("2TiB"), 2 << 40);
        assert_eq!(bytes("1.5 GiB"), 3 << 29);
        assert_eq!(bytes("0.3KiB"), 307);
        assert_eq!(bytes("18446744073709551615"), u64::MAX);
        assert_eq!(bytes("15.999999999999999999EiB"), u64::MAX - 1);
    }

    #[test]
    fn nonsense_and_overflow_are_refused() {
        assert_eq!(why(""), UnitFault::Empty);
        assert_eq!(why("-1"), UnitFault::UnknownUnit("-1".to_owned()));
        assert_eq!(why("GiB"), UnitFault::NoNumber);
        assert_eq!(why("1.GiB"), UnitFault::NoNumber);
        assert_eq!(why("2T"), UnitFault::AmbiguousUnit("T".to_owned()));
        assert_eq!(why("2ZiB"), UnitFault::UnknownUnit("ZiB".to_owned()));
        assert_eq!(why("16EiB"), UnitFault::OutOfRange);
        assert_eq!(why("18446744073709551616"), UnitFault::OutOfRange);
        assert_eq!(why("18446744073709551615EiB"), UnitFault::OutOfRange);
        assert_eq!(bytes(&format!("0.{}B", "0".repeat(MAX_DECIMALS))), 0);
        assert_eq!(why(&format!("0.{}B", "0".repeat(MAX_DECIMALS + 1))), UnitFault::TooPrecise);
        let error = "5 apples".parse::<SizeBytes>().expect_err("refused");
        assert!(error.to_string().starts_with("`5 apples` is not a size: `apples` is not a unit; expected bytes"), "{error}");
    }

    #[test]
    fn sizes_are_printed_in_iec_units() {
        assert_eq!(SizeBytes(0).to_string(), "0B");
        assert_eq!(SizeBytes(3 << 29).to_string(), "1.5GiB");
        assert_eq!(SizeBytes(500_000_000).to_string(), "488281.25KiB");
        assert_eq!(SizeBytes(1_234_567).to_string(), "1234567B");
        assert_eq!(SizeBytes(1_234_567).human(), "1.1 MiB");
        assert_eq!(SizeBytes(1_023).human(), "1023 B");
        assert_eq!(SizeBytes(u64::MAX).human(), "15.9 EiB");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bytes in any::<u64>(), shift in 0u32..64) {
            for size in [SizeBytes(bytes), SizeBytes(bytes >> shift), SizeBytes(bytes << shift)] {
                prop_assert_eq!(size.to_string().parse(), Ok(size));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9]{0,25}[.]?[0-9]{0,20} ?[a-zA-Zß]{0,3}") {
            let _outcome = text.parse::<SizeBytes>();
        }
    }
}
