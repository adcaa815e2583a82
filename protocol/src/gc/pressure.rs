//! Whether a disk is so full that something should go, how much, and how soon the trash may.
//!
//! Pressure begins at the high mark and ends at the low one, so that a disk at the edge is not worked on all the time. An emergency
//! begins when the reserve is touched. What goes under pressure is judged as it is without: fullness says when, never whether.

use std::fmt;
use std::str::FromStr;

use crate::limits::MIN_TRASH_AGE_MS;
use crate::units::{SizeBytes, UnitError, UnitFault};

const WHAT: &str = "a mark of a disk";
const EXPECTED: &str = "a percentage such as `90%`, or a size such as `800GiB`";
/// Millionths in a percent.
const PPM: u64 = 10_000;
/// Millionths in a whole.
const WHOLE: u128 = 1_000_000;

/// A part of a disk.
///
/// Read from `90%`, with up to four decimals, or from a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// So many millionths of what the disk has room for.
    Part(u32),
    /// So many bytes.
    Bytes(u64),
}

/// Where pressure begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marks {
    /// When so much is used, something should go.
    pub high: Mark,
    /// Until no more than this is used.
    pub low: Mark,
    /// When less than this is free, it is an emergency.
    pub reserve: Mark,
}

/// How full something is that has an end: a disk, or what a home may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Room {
    /// All of it, in bytes.
    pub total_bytes: u64,
    /// What is used, in bytes; of what a home may hold, it can be more.
    pub used_bytes: u64,
}

/// How much it presses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing needs to go.
    #[default]
    None,
    /// The high mark was reached, and the low one has not been since.
    High,
    /// The reserve is touched.
    Emergency,
}

/// How full all of it was found the last time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Pressure {
    /// How much it presses.
    pub level: Level,
    /// What should go until the low mark is reached; 0 without pressure.
    pub to_free_bytes: u64,
    /// What must go until the reserve is whole again; 0 but in an emergency.
    pub short_bytes: u64,
    /// Which of the rooms press, as bits in their order: each has begun to by itself, and ends by itself.
    pub pressing: u8,
}

/// A part of the trash that should go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sooner {
    /// What was deleted then or before, in Unix milliseconds, the oldest first.
    pub until_ms: u64,
    /// No more once so many bytes have gone.
    pub enough_bytes: u64,
}

impl Marks {
    /// What holds unless somebody says otherwise.
    pub const DEFAULT: Marks = Marks { high: Mark::Part(900_000), low: Mark::Part(850_000), reserve: Mark::Part(20_000) };
}

impl Default for Marks {
    fn default() -> Self {
        Marks::DEFAULT
    }
}

impl Room {
    /// What is left, in bytes.
    pub fn free_bytes(self) -> u64 {
        self.total_bytes.saturating_sub(self.used_bytes)
    }
}

impl Mark {
    fn of(self, total_bytes: u64) -> u64 {
        match self {
            Mark::Part(ppm) => u64::try_from(u128::from(total_bytes) * u128::from(ppm) / WHOLE).unwrap_or(u64::MAX),
            Mark::Bytes(bytes) => bytes,
        }
    }
}

impl Pressure {
    /// What follows when the rooms are found like this, after what was found before. The fullest counts.
    #[must_use]
    pub fn see(self, marks: &Marks, rooms: &[Room]) -> Pressure {
        let mut all = Pressure::default();
        for (bit, room) in (0..u8::BITS).map(|shift| 1_u8 << shift).zip(rooms) {
            let high_bytes = marks.high.of(room.total_bytes);
            // A low mark above the high one, in other units, is no lower end.
            let over_bytes = room.used_bytes.saturating_sub(marks.low.of(room.total_bytes).min(high_bytes));
            let short_bytes = marks.reserve.of(room.total_bytes).saturating_sub(room.free_bytes());
            let goes_on = self.pressing & bit != 0 && over_bytes > 0;
            let level = match room.used_bytes >= high_bytes || goes_on {
                _ if short_bytes > 0 => Level::Emergency,
                true => Level::High,
                false => continue,
            };
            all = Pressure {
                level: all.level.max(level),
                to_free_bytes: all.to_free_bytes.max(over_bytes).max(short_bytes),
                short_bytes: all.short_bytes.max(short_bytes),
                pressing: all.pressing | bit,
            };
        }
        all
    }

    /// What of the trash should go now, if the oldest blob in it was deleted at `oldest_ms`. In an emergency nothing is too young, but no
    /// more of what is young goes than makes the reserve whole.
    pub fn sooner(&self, now_ms: u64, oldest_ms: u64) -> Option<Sooner> {
        let old_ms = now_ms.saturating_sub(MIN_TRASH_AGE_MS);
        match self.level {
            Level::None => None,
            _ if oldest_ms <= old_ms => Some(Sooner { until_ms: old_ms, enough_bytes: self.to_free_bytes }),
            Level::High => None,
            Level::Emergency => Some(Sooner { until_ms: now_ms, enough_bytes: self.short_bytes }),
        }
    }
}

impl Level {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::High => "high",
            Level::Emergency => "emergency",
        }
    }
}

impl FromStr for Mark {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let other = |error: UnitError| error.why.of(WHAT, text, EXPECTED);
        match text.strip_suffix('%') {
            Some(part) => percent(part).map(Mark::Part).ok_or_else(|| UnitFault::OutOfRange.of(WHAT, text, EXPECTED)),
            None => text.parse::<SizeBytes>().map(|size| Mark::Bytes(size.0)).map_err(other),
        }
    }
}

/// The millionths that a number of percents, from 0 to 100, stands for.
fn percent(text: &str) -> Option<u32> {
    let (whole, decimals) = text.trim_end().split_once('.').unwrap_or((text.trim_end(), "0"));
    let digits = |text: &str| !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) {
        return None;
    }
    let ppm = whole.parse::<u64>().ok()? * PPM + format!("{decimals:0<4}").parse::<u64>().ok()?;
    u32::try_from(ppm).ok().filter(|ppm| u128::from(*ppm) <= WHOLE)
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Mark::Bytes(bytes) => SizeBytes(bytes).fmt(f),
            Mark::Part(ppm) => {
                let decimals = format!("{:04}", u64::from(ppm) % PPM);
                match decimals.trim_end_matches('0') {
                    "" => write!(f, "{}%", u64::from(ppm) / PPM),
                    decimals => write!(f, "{}.{decimals}%", u64::from(ppm) / PPM),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks { high: Mark::Part(900_000), low: Mark::Part(500_000), reserve: Mark::Bytes(10) };
    const NOW_MS: u64 = 1_800_000_000_000;

    fn room(used: u64) -> Room {
        Room { total_bytes: 1_000, used_bytes: used }
    }

    fn pressure(level: Level, to_free_bytes: u64, short_bytes: u64) -> Pressure {
        Pressure { level, to_free_bytes, short_bytes, pressing: 1 }
    }

    #[test]
    fn it_begins_at_the_high_mark_and_ends_at_the_low_one() {
        let calm = Pressure::default();
        assert_eq!(calm.see(&MARKS, &[room(899)]), calm);
        let high = calm.see(&MARKS, &[room(900)]);
        assert_eq!(high, pressure(Level::High, 400, 0));
        let less = high.see(&MARKS, &[room(501)]);
        assert_eq!(less, pressure(Level::High, 1, 0));
        let over = less.see(&MARKS, &[room(500)]);
        assert_eq!(over, calm);
        assert_eq!(over.see(&MARKS, &[room(501)]), calm, "between the marks nothing begins");
        assert_eq!(high.see(&MARKS, &[]), calm, "nothing was measured");
        assert_eq!(calm.see(&MARKS, &[room(1_300)]), pressure(Level::Emergency, 800, 10), "more than there may be");
    }

    #[test]
    fn less_than_the_reserve_is_an_emergency_and_no_longer_when_it_is_whole() {
        let calm = Pressure::default();
        assert_eq!(calm.see(&MARKS, &[room(990)]).level, Level::High);
        let emergency = calm.see(&MARKS, &[room(991)]);
        assert_eq!(emergency, pressure(Level::Emergency, 491, 1));
        assert_eq!(emergency.see(&MARKS, &[room(990)]).level, Level::High);
        let wide = Marks { reserve: Mark::Part(600_000), ..MARKS };
        assert_eq!(calm.see(&wide, &[room(450)]), pressure(Level::Emergency, 50, 50), "also below the other marks");
        let none = Marks { reserve: Mark::Bytes(0), ..MARKS };
        assert_eq!(calm.see(&none, &[room(1_000)]).level, Level::High);
    }

    #[test]
    fn the_fullest_of_several_counts_and_bytes_are_bytes_of_each() {
        let calm = Pressure::default();
        let both = calm.see(&MARKS, &[room(600), room(950), room(901)]);
        assert_eq!(both, Pressure { pressing: 6, ..pressure(Level::High, 450, 0) });
        assert_eq!(
            both.see(&MARKS, &[room(899), room(500), room(700)]),
            Pressure { pressing: 4, ..pressure(Level::High, 200, 0) }
        );
        assert_eq!(both.see(&MARKS, &[room(899), room(500), room(500)]), calm, "what had not begun needs not end");
        let marks = Marks { high: Mark::Bytes(300), low: Mark::Bytes(400), reserve: Mark::Bytes(0) };
        assert_eq!(calm.see(&marks, &[room(299)]), calm);
        assert_eq!(
            calm.see(&marks, &[room(310)]),
            pressure(Level::High, 10, 0),
            "a low mark above the high one is as low as that"
        );
        let endless = Room { total_bytes: u64::MAX, used_bytes: 0 };
        assert_eq!(calm.see(&Marks::DEFAULT, &[endless]), calm);
    }

    #[test]
    fn the_trash_goes_sooner_under_pressure_and_what_is_younger_than_min_trash_age_in_an_emergency_alone() {
        let (high, emergency) = (pressure(Level::High, 400, 0), pressure(Level::Emergency, 400, 30));
        let old_ms = NOW_MS - MIN_TRASH_AGE_MS;
        assert_eq!(Pressure::default().sooner(NOW_MS, 0), None);
        assert_eq!(high.sooner(NOW_MS, old_ms), Some(Sooner { until_ms: old_ms, enough_bytes: 400 }));
        assert_eq!(high.sooner(NOW_MS, old_ms + 1), None);
        assert_eq!(emergency.sooner(NOW_MS, old_ms), Some(Sooner { until_ms: old_ms, enough_bytes: 400 }));
        assert_eq!(emergency.sooner(NOW_MS, old_ms + 1), Some(Sooner { until_ms: NOW_MS, enough_bytes: 30 }));
    }

    #[test]
    fn marks_are_percentages_or_sizes() {
        let read = |text: &str| text.parse::<Mark>().map_err(|error| error.to_string());
        assert_eq!(read("90%"), Ok(Mark::Part(900_000)));
        assert_eq!(read("99.5 %"), Ok(Mark::Part(995_000)));
        assert_eq!((read("0%"), read("100%")), (Ok(Mark::Part(0)), Ok(Mark::Part(1_000_000))));
        assert_eq!(read("2GiB"), Ok(Mark::Bytes(2 << 30)));
        for bad in ["100.0001%", "101%", "-1%", "%", "1.%", "1.00001%", "ninety"] {
            assert!(read(bad).unwrap_err().contains("is not a mark of a disk"), "{bad}");
        }
        for shown in ["90%", "99.5%", "0%", "0.0001%", "1.5GiB"] {
            assert_eq!(read(shown).unwrap().to_string(), shown);
        }
    }
}
