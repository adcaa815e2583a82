//! Durations in milliseconds, written as `30d`, `12h` or `1d12h`.

use std::fmt;
use std::str::FromStr;

use super::{UnitError, UnitFault, parse_digits, split_digits};

const WHAT: &str = "a duration";
const EXPECTED: &str = "numbers with units, such as `30d`, `12h`, `15m`, `10s` or `1d12h`";

/// A unit and its milliseconds.
type Unit = (&'static str, u64);

/// Units from the largest and their milliseconds. A year is 365 days: an amount of time, not a place in the calendar.
static UNITS: [Unit; 7] =
    [("y", 365 * 86_400_000), ("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Years and weeks are not printed: `30d` reads better than `4w2d`.
const PRINTED_FROM: usize = 2;

/// A span of time in milliseconds.
///
/// Read from numbers with units (`y w d h m s ms`, each at most once, the largest first), printed in days and smaller units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DurationMs(pub u64);

impl FromStr for DurationMs {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text).map(Self).map_err(|fault| fault.of(WHAT, text, EXPECTED))
    }
}

fn parse(text: &str) -> Result<u64, UnitFault> {
    if text.is_empty() {
        return Err(UnitFault::Empty);
    }
    let (mut rest, mut units, mut total_ms) = (text, &UNITS[..], 0u64);
    while !rest.is_empty() {
        let (digits, after) = split_digits(rest);
        let count = parse_digits(digits)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (unit_ms, smaller) = find_unit(unit, units)?;
        let part_ms = count.checked_mul(unit_ms).ok_or(UnitFault::OutOfRange)?;
        total_ms = total_ms.checked_add(part_ms).ok_or(UnitFault::OutOfRange)?;
        (rest, units) = (after, smaller);
    }
    Ok(total_ms)
}

/// The milliseconds of a unit, and the units that may still follow it.
fn find_unit(unit: &str, units: &'static [Unit]) -> Result<(u64, &'static [Unit]), UnitFault> {
    if let Some(at) = units.iter().position(|(name, _)| *name == unit) {
        return Ok((units[at].1, &units[at + 1..]));
    }
    Err(match unit {
        "" => UnitFault::NoUnit,
        _ if UNITS.iter().any(|(name, _)| *name == unit) => UnitFault::UnitOrder,
        _ => UnitFault::UnknownUnit(unit.chars().take(20).collect()),
    })
}

impl fmt::Display for DurationMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest_ms = self.0;
        for (name, unit_ms) in &UNITS[PRINTED_FROM..] {
            let count = rest_ms / unit_ms;
            rest_ms %= unit_ms;
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(text: &str) -> u64 {
        text.parse::<DurationMs>().map(|duration| duration.0).unwrap_or_else(|error| panic!("{error}"))
    }

    fn why(text: &str) -> UnitFault {
        text.parse::<DurationMs>().expect_err("refused").why
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(ms("0s"), 0);
        assert_eq!(ms("30d"), 30 * 86_400_000);
        assert_eq!(ms("12h"), 12 * 3_600_000);
        assert_eq!(ms("15m"), 900_000);
        assert_eq!(ms("100ms"), 100);
        assert_eq!(ms("2w"), ms("14d"));
        assert_eq!(ms("1y"), ms("365d"));
        assert_eq!(ms("1d12h"), ms("36h"));
        assert_eq!(ms("1m1ms"), 60_001);
    }

    #[test]
    fn nonsense_and_overflow_are_refused() {
        assert_eq!(why(""), UnitFault::Empty);
        assert_eq!(why("30"), UnitFault::NoUnit);
        assert_eq!(why("1h30"), UnitFault::NoUnit);
        assert_eq!(why("d"), UnitFault::NoNumber);
        assert_eq!(why("-1d"), UnitFault::NoNumber);
        assert_eq!(why("1.5h"), UnitFault::UnknownUnit(".".to_owned()));
        assert_eq!(why("3M"), UnitFault::UnknownUnit("M".to_owned()));
        assert_eq!(why("1h1d"), UnitFault::UnitOrder);
        assert_eq!(why("1h1h"), UnitFault::UnitOrder);
        assert_eq!(ms("18446744073709551615ms"), u64::MAX);
        assert_eq!(why("18446744073709551616ms"), UnitFault::OutOfRange);
        assert_eq!(why("18446744073709551615s"), UnitFault::OutOfRange);
        assert_eq!(why("1s18446744073709551615ms"), UnitFault::OutOfRange);
    }

    #[test]
    fn durations_are_printed_in_days_and_less() {
        assert_eq!(DurationMs(0).to_string(), "0s");
        assert_eq!(DurationMs(ms("30d")).to_string(), "30d");
        assert_eq!(DurationMs(ms("36h")).to_string(), "1d12h");
        assert_eq!(DurationMs(1_001).to_string(), "1s1ms");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(ms in any::<u64>(), shift in 0u32..64) {
            let duration = DurationMs(ms >> shift);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "([0-9]{0,21}[ywdhmsß]{0,2}){0,3}") {
            let _outcome = text.parse::<DurationMs>();
        }
    }
}
