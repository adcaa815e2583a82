//! The simulated disk's own small generator: a seed and the order of calls decide everything.

/// SplitMix64: one word of state, equal everywhere.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// A number from 0 to `max`, both included.
    pub(super) fn up_to(&mut self, max: usize) -> usize {
        let many = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        usize::try_from(self.next() % many).unwrap_or(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_and_every_number_in_range() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| random.up_to(3)).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
        assert!((0..=3).all(|n| draw(5).contains(&n)));
        assert_eq!(Random::new(9).up_to(0), 0);
    }
}
