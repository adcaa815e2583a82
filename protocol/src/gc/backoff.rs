//! Trying again: later each time, and at a time that nobody else hits upon (R10). What is drawn is an argument.

/// How long to wait before the next try, in milliseconds: anything from nothing to twice as long as before, and no longer than `most_ms`
/// (full jitter). `tries` is how often it was in vain so far; `draw` is random.
pub fn full_jitter_ms(base_ms: u64, most_ms: u64, tries: u32, draw: u64) -> u64 {
    let longer_ms = base_ms.saturating_mul(1_u64.checked_shl(tries).unwrap_or(u64::MAX)).min(most_ms);
    match longer_ms.checked_add(1) {
        Some(bound) => draw % bound,
        None => draw,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_may_be_twice_as_long_up_to_the_longest() {
        let longest = |tries| (0..2_000).map(|draw| full_jitter_ms(10, 1_000, tries, draw)).max().unwrap();
        assert_eq!([0, 1, 2, 6, 7, 63, 64, u32::MAX].map(longest), [10, 20, 40, 640, 1_000, 1_000, 1_000, 1_000]);
    }

    #[test]
    fn every_length_comes_up_and_nothing_overflows() {
        let mut waits: Vec<u64> = (0..11).map(|draw| full_jitter_ms(10, 1_000, 0, draw)).collect();
        waits.sort_unstable();
        assert_eq!(waits, (0..=10).collect::<Vec<u64>>());
        assert_eq!(full_jitter_ms(u64::MAX, u64::MAX, 3, 7), 7);
    }
}
