//! Points in time: Unix milliseconds, read and printed as RFC 3339.
//!
//! The calendar is the proleptic Gregorian one. Days are counted in years that begin on 1 March, so that a leap day is the last
//! day of its year, and in eras of 400 years, which all have 146,097 days. With that start the first days of the months are at
//! (153 m + 2) / 5, rounded down, for m = 0 (March) to 11 (February): five months alternate 31 and 30 days, and repeat.

use std::fmt;
use std::str::FromStr;

use super::{DurationMs, UnitError, UnitFault, parse_digits};

const WHAT: &str = "a time";
const EXPECTED: &str = "RFC 3339 from 1970 to 9999, such as `2026-12-31T23:59:59Z`";
const EXPECTED_EXPIRY: &str = "a time such as `2026-12-31T23:59:59Z`, or a duration from now such as `30d`";

const DAY_MS: u64 = 86_400_000;
const DAYS_PER_ERA: u64 = 146_097;
/// Days from 1 March of year 0 to 1 January 1970.
const DAYS_TO_EPOCH: u64 = 719_468;

/// A point in time from 1970 to 9999, in milliseconds since 1970-01-01T00:00:00Z without leap seconds.
///
/// Read from RFC 3339 with any offset, digits below the millisecond cut off; printed in UTC, with milliseconds only if there are some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TimeMs(u64);

impl TimeMs {
    /// 9999-12-31T23:59:59.999Z, the last time that has a name.
    pub const MAX: TimeMs = TimeMs(253_402_300_799_999);

    /// The time so many milliseconds after 1970; errors after the year 9999.
    pub fn from_unix_ms(unix_ms: u64) -> Result<Self, UnitError> {
        if unix_ms <= Self::MAX.0 {
            Ok(Self(unix_ms))
        } else {
            Err(UnitFault::OutOfRange.of(WHAT, &unix_ms.to_string(), EXPECTED))
        }
    }

    /// Milliseconds since 1970.
    pub const fn unix_ms(self) -> u64 {
        self.0
    }

    /// This time and a duration later; errors after the year 9999.
    pub fn after(self, duration: DurationMs) -> Result<Self, UnitError> {
        Self::from_unix_ms(self.0.saturating_add(duration.0))
    }
}

/// Reads what `--expires` takes: a time, or a duration from `now_ms` (Unix milliseconds). A time that has passed is returned as
/// it is; errors say which of the two was expected.
pub fn parse_expires(text: &str, now_ms: u64) -> Result<TimeMs, UnitError> {
    let refused = |fault: UnitFault| fault.of("an expiry", text, EXPECTED_EXPIRY);
    // A duration has neither a `-` nor a `:`, a time has both.
    if text.contains(['-', ':']) {
        return text.parse::<TimeMs>().map_err(|error| refused(error.why));
    }
    let duration = text.parse::<DurationMs>().map_err(|error| refused(error.why))?;
    let deadline_ms = now_ms.checked_add(duration.0).ok_or_else(|| refused(UnitFault::OutOfRange))?;
    TimeMs::from_unix_ms(deadline_ms).map_err(|error| refused(error.why))
}

impl FromStr for TimeMs {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text).map(Self).map_err(|fault| fault.of(WHAT, text, EXPECTED))
    }
}

/// `YYYY-MM-DDTHH:MM:SS[.fff…](Z|±HH:MM)`; RFC 3339 lets `T` and `Z` be small, and a space stand for `T`.
fn parse(text: &str) -> Result<u64, UnitFault> {
    let (date, rest) = text.split_at_checked(10).ok_or(UnitFault::NotATime)?;
    let (clock, rest) =
        rest.strip_prefix(['T', 't', ' ']).and_then(|rest| rest.split_at_checked(8)).ok_or(UnitFault::NotATime)?;
    let (fraction_ms, offset) = parse_fraction(rest)?;
    let local_ms = parse_date(date)? * DAY_MS + parse_clock(clock)? * 1_000 + fraction_ms;
    let unix_ms = i64::try_from(local_ms).map_err(|_| UnitFault::OutOfRange)? - parse_offset_ms(offset)?;
    u64::try_from(unix_ms).ok().filter(|unix_ms| *unix_ms <= TimeMs::MAX.0).ok_or(UnitFault::OutOfRange)
}

/// Days since 1970.
fn parse_date(date: &str) -> Result<u64, UnitFault> {
    let (year, month, day) = three_numbers(date, '-')?;
    if year < 1970 {
        return Err(UnitFault::OutOfRange);
    }
    if !(1..=12).contains(&month) {
        return Err(UnitFault::NoSuch("month"));
    }
    if !(1..=days_in_month(year, month)).contains(&day) {
        return Err(UnitFault::NoSuch("day"));
    }
    Ok(days_from_civil(year, month, day))
}

/// Seconds of the day. Unix time has no leap seconds, so there is no second 60.
fn parse_clock(clock: &str) -> Result<u64, UnitFault> {
    let (hour, minute, second) = three_numbers(clock, ':')?;
    match (hour, minute, second) {
        (24.., _, _) => Err(UnitFault::NoSuch("hour")),
        (_, 60.., _) => Err(UnitFault::NoSuch("minute")),
        (_, _, 60..) => Err(UnitFault::NoSuch("second")),
        _ => Ok(hour * 3_600 + minute * 60 + second),
    }
}

/// Three numbers and two separators. The whole has a fixed length, and all but the first number have two digits.
fn three_numbers(text: &str, separator: char) -> Result<(u64, u64, u64), UnitFault> {
    let mut parts = text.split(separator);
    let (Some(first), Some(second), Some(third), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(UnitFault::NotATime);
    };
    if second.len() != 2 || third.len() != 2 {
        return Err(UnitFault::NotATime);
    }
    let number = |digits| parse_digits(digits).map_err(|_| UnitFault::NotATime);
    Ok((number(first)?, number(second)?, number(third)?))
}

/// The milliseconds after the seconds, and what follows them.
fn parse_fraction(text: &str) -> Result<(u64, &str), UnitFault> {
    let Some(rest) = text.strip_prefix('.') else { return Ok((0, text)) };
    let (digits, rest) = super::split_digits(rest);
    if digits.is_empty() {
        return Err(UnitFault::NotATime);
    }
    let ms = digits.bytes().chain([b'0', b'0']).take(3).fold(0, |ms, digit| ms * 10 + u64::from(digit - b'0'));
    Ok((ms, rest))
}

/// How far ahead of UTC the clock was.
fn parse_offset_ms(offset: &str) -> Result<i64, UnitFault> {
    let sign = match offset.as_bytes().first() {
        Some(b'Z' | b'z') if offset.len() == 1 => return Ok(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Err(UnitFault::NotATime),
    };
    let (hours, minutes) = offset[1..].split_once(':').ok_or(UnitFault::NotATime)?;
    if hours.len() != 2 || minutes.len() != 2 {
        return Err(UnitFault::NotATime);
    }
    let seconds = parse_clock(&format!("{hours}:{minutes}:00"))?;
    i64::try_from(seconds * 1_000).map(|ms| sign * ms).map_err(|_| UnitFault::OutOfRange)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a legal date at or after it.
const fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let march_year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (march_year / 400, march_year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - DAYS_TO_EPOCH
}

/// Year, month and day of a number of days since 1970-01-01.
const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_EPOCH;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    // Take the leap days out, then a year is 365 days: every 4 years one, every 100 none, and the era's last day is one.
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

impl fmt::Display for TimeMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0 / DAY_MS);
        let (seconds, ms) = (self.0 % DAY_MS / 1_000, self.0 % 1_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if ms > 0 { write!(f, ".{ms:03}Z") } else { f.write_str("Z") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unix_ms(text: &str) -> u64 {
        text.parse::<TimeMs>().map(TimeMs::unix_ms).unwrap_or_else(|error| panic!("{error}"))
    }

    fn why(text: &str) -> UnitFault {
        text.parse::<TimeMs>().expect_err("refused").why
    }

    #[test]
    fn known_times_have_known_numbers() {
        let known = [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2001-09-09T01:46:40Z", 1_000_000_000_000),
            ("2038-01-19T03:14:08Z", 2_147_483_648_000),
            ("2100-03-01T00:00:00.001Z", 4_107_542_400_001),
            ("9999-12-31T23:59:59.999Z", TimeMs::MAX.unix_ms()),
        ];
        for (text, ms) in known {
            assert_eq!(unix_ms(text), ms);
            assert_eq!(TimeMs::from_unix_ms(ms).unwrap().to_string(), text);
        }
    }

    #[test]
    fn offsets_fractions_and_small_letters_are_read() {
        assert_eq!(unix_ms("2001-09-09T03:46:40+02:00"), 1_000_000_000_000);
        assert_eq!(unix_ms("2001-09-08T20:16:40-05:30"), 1_000_000_000_000);
        assert_eq!(unix_ms("2001-09-09 01:46:40.5z"), 1_000_000_000_500);
        assert_eq!(unix_ms("2001-09-09t01:46:40.0019999Z"), 1_000_000_000_001);
    }

    #[test]
    fn what_no_calendar_has_is_refused() {
        for text in
            ["", "now", "2026-12-31", "2026-12-31T23:59:59", "2026-1-31T23:59:59Z", "2026-12-31T23:59Z", "2026-12-31T23:59:59.Z"]
        {
            assert_eq!(why(text), UnitFault::NotATime, "{text}");
        }
        for text in ["2026-12-31T23:59:59+2:00", "2026-12-31T23:59:59Zz", "ü026-12-31T23:59:59Z", "+026-12-31T23:59:59Z"] {
            assert_eq!(why(text), UnitFault::NotATime, "{text}");
        }
        assert_eq!(why("2026-13-01T00:00:00Z"), UnitFault::NoSuch("month"));
        assert_eq!(why("2100-02-29T00:00:00Z"), UnitFault::NoSuch("day"));
        assert_eq!(why("2026-01-00T00:00:00Z"), UnitFault::NoSuch("day"));
        assert_eq!(why("2026-01-01T24:00:00Z"), UnitFault::NoSuch("hour"));
        assert_eq!(why("2026-01-01T00:60:00Z"), UnitFault::NoSuch("minute"));
        assert_eq!(why("2016-12-31T23:59:60Z"), UnitFault::NoSuch("second"));
        assert_eq!(why("1969-12-31T23:59:59Z"), UnitFault::OutOfRange);
        assert_eq!(why("1970-01-01T00:00:00+01:00"), UnitFault::OutOfRange);
        assert_eq!(why("9999-12-31T23:59:59-01:00"), UnitFault::OutOfRange);
        assert!(TimeMs::from_unix_ms(TimeMs::MAX.unix_ms() + 1).is_err());
        assert!(TimeMs::MAX.after(DurationMs(1)).is_err());
    }

    #[test]
    fn an_expiry_is_a_time_or_a_duration_from_now() {
        let expires = |text: &str, now_ms| parse_expires(text, now_ms).map(TimeMs::unix_ms);
        assert_eq!(expires("30d", 1_000), Ok(30 * DAY_MS + 1_000));
        assert_eq!(expires("2001-09-09T01:46:40Z", u64::MAX), Ok(1_000_000_000_000));
        assert_eq!(expires("1ms", u64::MAX).expect_err("overflow").why, UnitFault::OutOfRange);
        assert_eq!(expires("8000y", 0).map(drop), Ok(()));
        assert_eq!(expires("8100y", 0).expect_err("after 9999").why, UnitFault::OutOfRange);
        let error = expires("soon", 0).expect_err("no number");
        assert!(error.to_string().contains("expected a time such as"), "{error}");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = (1970, 1, 1);
        for days in 0..=TimeMs::MAX.unix_ms() / DAY_MS {
            assert_eq!(civil_from_days(days), expected);
            assert_eq!(days_from_civil(expected.0, expected.1, expected.2), days);
            let (year, month, day) = expected;
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                _ if day == days_in_month(year, month) => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
        assert_eq!(expected, (10_000, 1, 1));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(ms in 0..=TimeMs::MAX.unix_ms()) {
            let time = TimeMs::from_unix_ms(ms).unwrap();
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tü][0-9:]{8}[.0-9]{0,4}[-+Zé]([0-9]{2}:[0-9ü]{2})?") {
            let _outcome = text.parse::<TimeMs>();
        }
    }
}
