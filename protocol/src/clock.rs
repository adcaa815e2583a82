//! Whether this machine's clock is to be trusted with what ends by time.
//!
//! Nothing that is safe rests on a clock. But what has a deadline ends by one, and a clock that is years ahead would end all of it at
//! once. So this node compares its clock with those of the members that it hears, and with the time since the machine was started,
//! which nobody sets. While they contradict it, and while there are others and none of them has told its time, there is a [`Doubt`].
//!
//! A jump is doubted until the clock is back, or until somebody confirms it whose clock has not jumped meanwhile: when all clocks of a lab
//! follow one bad source of time, nobody does, and people must look.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::NodeId;
use crate::limits::{CLOCK_HEARD_FOR_MS, MAX_CLOCK_JUMP_MS, MAX_CLOCK_SKEW_MS};
use crate::units::DurationMs;

/// Why a clock is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It has never been read.
    Unread,
    /// It was set by so much, in milliseconds: forward, or back if negative.
    Jumped(i128),
    /// It is so much ahead of what most members say, in milliseconds, or behind if negative.
    Off(i128),
    /// Nobody else has told the time lately.
    Unheard,
}

impl Doubt {
    /// Whether something contradicts the clock, rather than that nobody confirms it.
    pub fn is_contradicted(self) -> bool {
        matches!(self, Doubt::Jumped(_) | Doubt::Off(_))
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let long = |ms: &i128| DurationMs(u64::try_from(ms.unsigned_abs()).unwrap_or(u64::MAX));
        match self {
            Doubt::Unread => f.write_str("the clock of this machine has not been read yet"),
            Doubt::Jumped(by_ms) => {
                let to = if *by_ms > 0 { "forward" } else { "back" };
                write!(f, "the clock of this machine was set {to} by {}, and nobody has confirmed that", long(by_ms))
            }
            Doubt::Off(by_ms) => {
                let to = if *by_ms > 0 { "ahead of" } else { "behind" };
                write!(f, "the clock of this machine is {} {to} those of the others", long(by_ms))
            }
            Doubt::Unheard => f.write_str("no other member has told the time lately"),
        }
    }
}

/// What a clock shows beyond the time since this machine was started: the same at all times, unless somebody sets the clock.
#[derive(Debug, Clone, Copy)]
struct Course {
    ahead_ms: i128,
    /// What it was before it jumped, if it has; small corrections are followed.
    settled_ms: i128,
}

impl Course {
    fn begin(ahead_ms: i128) -> Course {
        Course { ahead_ms, settled_ms: ahead_ms }
    }

    fn go_on(&mut self, ahead_ms: i128) {
        self.ahead_ms = ahead_ms;
        if !self.has_jumped() {
            self.settled_ms = ahead_ms;
        }
    }

    fn jumped_by(&self) -> i128 {
        self.ahead_ms - self.settled_ms
    }

    fn has_jumped(&self) -> bool {
        self.jumped_by().unsigned_abs() > u128::from(MAX_CLOCK_JUMP_MS)
    }

    fn confirm(&mut self) {
        self.settled_ms = self.ahead_ms;
    }
}

/// What is known of this machine's clock and of those of others. In memory: after a start everything is heard anew.
#[derive(Debug, Clone, Default)]
pub struct ClockGuard {
    own: Option<Course>,
    /// The time since the machine was started, as of the last reading.
    boot_ms: u64,
    /// The clocks of others, and when each was last heard, by the time since the machine was started.
    heard: BTreeMap<NodeId, (Course, u64)>,
}

impl ClockGuard {
    /// Reads the clock. `boot_ms` is the time since the machine was started, its sleep included.
    pub fn read(&mut self, now_ms: u64, boot_ms: u64) {
        self.boot_ms = boot_ms;
        let ahead_ms = i128::from(now_ms) - i128::from(boot_ms);
        self.own.get_or_insert(Course::begin(ahead_ms)).go_on(ahead_ms);
        self.confirm();
    }

    /// Hears what the clock of `peer` shows.
    pub fn hear(&mut self, peer: NodeId, now_ms: u64) {
        if self.own.is_none() {
            return;
        }
        let ahead_ms = i128::from(now_ms) - i128::from(self.boot_ms);
        let (course, at_ms) = self.heard.entry(peer).or_insert((Course::begin(ahead_ms), self.boot_ms));
        course.go_on(ahead_ms);
        *at_ms = self.boot_ms;
        self.confirm();
    }

    /// Whether anybody has told the time since this process was started.
    pub fn has_heard(&self) -> bool {
        !self.heard.is_empty()
    }

    /// Why the clock is not to be trusted now, if so. Whether there is anybody who could tell the time is for the caller to know: without
    /// others, [`Doubt::Unheard`] is none.
    pub fn doubt(&self) -> Option<Doubt> {
        let Some(own) = &self.own else { return Some(Doubt::Unread) };
        if own.has_jumped() {
            return Some(Doubt::Jumped(own.jumped_by()));
        }
        if self.fresh().next().is_none() {
            return Some(Doubt::Unheard);
        }
        let off_ms = self.off_by(own);
        (off_ms.unsigned_abs() > u128::from(MAX_CLOCK_SKEW_MS)).then_some(Doubt::Off(off_ms))
    }

    /// Where clocks agree again, the jumps that brought them there were right.
    fn confirm(&mut self) {
        let Some(mut own) = self.own else { return };
        let agrees = |course: &Course| (course.ahead_ms - own.ahead_ms).unsigned_abs() <= u128::from(MAX_CLOCK_SKEW_MS);
        if own.has_jumped() {
            let is_witnessed = self.fresh().any(|course| agrees(course) && !course.has_jumped());
            if is_witnessed && self.off_by(&own).unsigned_abs() <= u128::from(MAX_CLOCK_SKEW_MS) {
                own.confirm();
            }
        } else {
            self.heard.values_mut().map(|(course, _)| course).filter(|course| agrees(course)).for_each(Course::confirm);
        }
        self.own = Some(own);
    }

    /// How far the clock is ahead of the median of all that are known, itself included: of two that are in the middle, of the one
    /// that it is further from. So a clock that most agree with is right, and where two disagree neither is.
    fn off_by(&self, own: &Course) -> i128 {
        let mut all: Vec<i128> = self.fresh().map(|course| own.ahead_ms - course.ahead_ms).chain([0]).collect();
        all.sort_unstable();
        let (low, high) = (all[(all.len() - 1) / 2], all[all.len() / 2]);
        if low.unsigned_abs() > high.unsigned_abs() { low } else { high }
    }

    fn fresh(&self) -> impl Iterator<Item = &Course> {
        let is_fresh = |at_ms: u64| self.boot_ms.saturating_sub(at_ms) <= CLOCK_HEARD_FOR_MS;
        self.heard.values().filter(move |(_, at_ms)| is_fresh(*at_ms)).map(|(course, _)| course)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;
    const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1_000;

    fn peer(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    /// A guard that has read NOW_MS when the machine had run for a second, and has heard these clocks.
    fn guard(peers: &[u64]) -> ClockGuard {
        let mut guard = ClockGuard::default();
        guard.read(NOW_MS, 1_000);
        for (n, now_ms) in peers.iter().enumerate() {
            guard.hear(peer(u8::try_from(n).unwrap()), *now_ms);
        }
        guard
    }

    #[test]
    fn a_clock_that_was_not_read_is_doubted_and_so_is_one_that_nobody_confirms() {
        let mut guard = ClockGuard::default();
        guard.hear(peer(1), NOW_MS);
        assert_eq!(guard.doubt(), Some(Doubt::Unread));
        guard.read(NOW_MS, 1_000);
        assert_eq!((guard.doubt(), guard.has_heard()), (Some(Doubt::Unheard), false));
        guard.hear(peer(1), NOW_MS);
        assert_eq!((guard.doubt(), guard.has_heard()), (None, true));
    }

    #[test]
    fn one_may_be_max_clock_skew_away_from_the_others_and_no_more() {
        for sign in [1, -1] {
            let at = |skew_ms: u64| guard(&[NOW_MS.checked_add_signed(sign * i64::try_from(skew_ms).unwrap()).unwrap()]).doubt();
            assert_eq!(at(MAX_CLOCK_SKEW_MS), None);
            let off_ms = i128::from(-sign) * i128::from(MAX_CLOCK_SKEW_MS + 1);
            assert_eq!(at(MAX_CLOCK_SKEW_MS + 1), Some(Doubt::Off(off_ms)));
        }
    }

    #[test]
    fn one_wrong_clock_among_three_is_doubted_by_itself_alone() {
        assert_eq!(guard(&[NOW_MS, NOW_MS + YEAR_MS]).doubt(), None);
        assert_eq!(guard(&[NOW_MS - YEAR_MS, NOW_MS]).doubt(), None);
        assert_eq!(guard(&[NOW_MS - YEAR_MS, NOW_MS - YEAR_MS]).doubt(), Some(Doubt::Off(i128::from(YEAR_MS))));
        assert_eq!(guard(&[NOW_MS + YEAR_MS, NOW_MS + YEAR_MS]).doubt(), Some(Doubt::Off(-i128::from(YEAR_MS))));
        assert_eq!(guard(&[NOW_MS, NOW_MS + YEAR_MS, NOW_MS + YEAR_MS]).doubt(), Some(Doubt::Off(-i128::from(YEAR_MS))));
    }

    #[test]
    fn what_was_said_longer_than_clock_heard_for_ago_says_nothing() {
        let mut guard = guard(&[NOW_MS + YEAR_MS]);
        guard.read(NOW_MS + CLOCK_HEARD_FOR_MS, 1_000 + CLOCK_HEARD_FOR_MS);
        assert!(matches!(guard.doubt(), Some(Doubt::Off(_))));
        guard.read(NOW_MS + CLOCK_HEARD_FOR_MS + 1, 1_001 + CLOCK_HEARD_FOR_MS);
        assert_eq!(guard.doubt(), Some(Doubt::Unheard));
    }

    #[test]
    fn a_clock_that_is_set_by_more_than_max_clock_jump_is_doubted_until_it_is_back() {
        for sign in [1, -1] {
            let at = |by_ms: u64| NOW_MS.checked_add_signed(sign * i64::try_from(by_ms).unwrap()).unwrap();
            let mut guard = guard(&[]);
            guard.read(at(MAX_CLOCK_JUMP_MS), 1_000);
            assert_eq!(guard.doubt(), Some(Doubt::Unheard), "which is followed");
            guard.read(at(2 * MAX_CLOCK_JUMP_MS + 1), 1_000);
            assert_eq!(guard.doubt(), Some(Doubt::Jumped(i128::from(sign) * i128::from(MAX_CLOCK_JUMP_MS + 1))));
            guard.read(at(2 * MAX_CLOCK_JUMP_MS + 1) + 5_000, 6_000);
            assert!(matches!(guard.doubt(), Some(Doubt::Jumped(_))), "time alone heals nothing");
            guard.read(at(MAX_CLOCK_JUMP_MS) + 9_000, 10_000);
            assert_eq!(guard.doubt(), Some(Doubt::Unheard));
        }
    }

    #[test]
    fn time_that_passes_is_no_jump_however_long_nothing_was_read() {
        let mut guard = guard(&[]);
        guard.read(NOW_MS + YEAR_MS, 1_000 + YEAR_MS);
        assert_eq!(guard.doubt(), Some(Doubt::Unheard));
    }

    #[test]
    fn a_jump_that_brings_a_clock_to_the_others_is_right() {
        let mut guard = guard(&[NOW_MS + YEAR_MS]);
        assert!(matches!(guard.doubt(), Some(Doubt::Off(_))));
        guard.read(NOW_MS + YEAR_MS, 1_000);
        assert_eq!(guard.doubt(), None);
        // From there on it is the clock as it should be.
        guard.read(NOW_MS, 1_000);
        assert_eq!(guard.doubt(), Some(Doubt::Jumped(-i128::from(YEAR_MS))));
    }

    #[test]
    fn clocks_that_jump_together_confirm_nothing() {
        let mut guard = guard(&[NOW_MS, NOW_MS]);
        guard.read(NOW_MS + YEAR_MS, 1_000);
        guard.hear(peer(0), NOW_MS + YEAR_MS);
        guard.hear(peer(1), NOW_MS + YEAR_MS);
        assert_eq!(guard.doubt(), Some(Doubt::Jumped(i128::from(YEAR_MS))));
        guard.hear(peer(2), NOW_MS + YEAR_MS);
        assert_eq!(guard.doubt(), None, "one that was heard first after that does");
    }

    #[test]
    fn a_peer_that_is_set_right_is_a_witness_again() {
        let mut guard = guard(&[NOW_MS + YEAR_MS, NOW_MS, NOW_MS]);
        guard.hear(peer(0), NOW_MS + 2 * YEAR_MS);
        assert!(guard.heard[&peer(0)].0.has_jumped());
        guard.hear(peer(0), NOW_MS);
        assert!(!guard.heard[&peer(0)].0.has_jumped());
    }

    #[test]
    fn any_time_that_a_peer_may_tell_is_taken() {
        for now_ms in [0, u64::MAX] {
            assert!(matches!(guard(&[now_ms]).doubt(), Some(Doubt::Off(_))));
        }
    }

    #[test]
    fn doubts_are_told_in_words() {
        assert_eq!(Doubt::Off(-90_000_000).to_string(), "the clock of this machine is 1d1h behind those of the others");
        let set = "the clock of this machine was set forward by 2h, and nobody has confirmed that";
        assert_eq!(Doubt::Jumped(7_200_000).to_string(), set);
        assert!(Doubt::Jumped(1).is_contradicted() && Doubt::Off(1).is_contradicted());
        assert!(!Doubt::Unheard.is_contradicted() && !Doubt::Unread.is_contradicted());
    }
}
