//! The time since this machine was started: a clock that nobody sets.

use rustix::time::{ClockId, clock_gettime};

/// What goes on while a machine sleeps, where there is such a clock.
#[cfg(target_os = "linux")]
const SINCE_START: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const SINCE_START: ClockId = ClockId::Monotonic;

/// In milliseconds.
pub(crate) fn boot_ms() -> u64 {
    let time = clock_gettime(SINCE_START);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_goes_on_and_never_back() {
        let first = super::boot_ms();
        assert!(first > 0 && super::boot_ms() >= first);
    }
}
