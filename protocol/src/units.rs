//! Quantities as people write them: sizes, durations and times, each a newtype over a plain number.
//!
//! Printing is exact, so that what is printed can be read back. Anything too large is an error and never wraps.

mod duration;
mod size;
mod time;

pub use duration::DurationMs;
pub use size::SizeBytes;
pub use time::{TimeMs, parse_expires};

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not {what}: {why}; expected {expected}", .text.escape_debug())]
pub struct UnitError {
    /// The kind of quantity, with its article.
    pub what: &'static str,
    /// The beginning of the refused text.
    pub text: String,
    /// What is wrong with it.
    pub why: UnitFault,
    /// Examples of what can be read.
    pub expected: &'static str,
}

/// What is wrong with a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitFault {
    /// No text at all.
    #[error("it is empty")]
    Empty,
    /// Digits were expected.
    #[error("a number is missing")]
    NoNumber,
    /// A number without a unit, where a unit is needed.
    #[error("the number has no unit")]
    NoUnit,
    /// A unit that nobody knows.
    #[error("`{}` is not a unit", .0.escape_debug())]
    UnknownUnit(String),
    /// `K`, `M` and so on: 1,000 or 1,024?
    #[error("`{0}` may mean `{0}B` or `{0}iB`")]
    AmbiguousUnit(String),
    /// `1h1d`, `1h1h`.
    #[error("each unit may stand once, the largest first")]
    UnitOrder,
    /// More digits after the point than can matter.
    #[error("it has too many digits after the point")]
    TooPrecise,
    /// Not of the form of a date and time.
    #[error("it is not written as a date and a time")]
    NotATime,
    /// A month, day, hour, minute or second that no calendar has.
    #[error("there is no such {0}")]
    NoSuch(&'static str),
    /// More than the number type holds, or a year after 9999.
    #[error("it is out of range")]
    OutOfRange,
}

impl UnitFault {
    pub(crate) fn of(self, what: &'static str, text: &str, expected: &'static str) -> UnitError {
        UnitError { what, text: text.chars().take(100).collect(), why: self, expected }
    }
}

/// Cuts the leading ASCII digits off; the rest begins with something else.
fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Reads digits alone; an empty text or a number above 64 bits is refused.
fn parse_digits(digits: &str) -> Result<u64, UnitFault> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UnitFault::NoNumber);
    }
    digits.parse().map_err(|_| UnitFault::OutOfRange)
}
