//! Which refusals have been reported: the same one once in a while, and never more than a bounded number.

use std::collections::BTreeMap;
use std::time::Instant;

use super::limits::{MAX_REFUSALS, REFUSAL_REPEAT};

/// The refusals of the last while.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    reported: BTreeMap<(String, String), Instant>,
}

impl Refusals {
    /// Whether this one is news. While as many as can be remembered are fresh, nothing is.
    pub(super) fn is_news(&mut self, who: &str, reason: &str, now: Instant) -> bool {
        let key = (who.to_owned(), reason.to_owned());
        if self.reported.get(&key).is_some_and(|at| is_fresh(*at, now)) {
            return false;
        }
        if self.reported.len() >= MAX_REFUSALS {
            self.reported.retain(|_, at| is_fresh(*at, now));
        }
        let is_room = self.reported.len() < MAX_REFUSALS || self.reported.contains_key(&key);
        if is_room {
            self.reported.insert(key, now);
        }
        is_room
    }
}

fn is_fresh(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < REFUSAL_REPEAT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_is_news_again_after_refusal_repeat() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        assert!(refusals.is_news("a", "x", start));
        assert!(!refusals.is_news("a", "x", start + REFUSAL_REPEAT / 2));
        assert!(refusals.is_news("a", "y", start) && refusals.is_news("b", "x", start));
        assert!(refusals.is_news("a", "x", start + REFUSAL_REPEAT));
    }

    #[test]
    fn no_more_than_max_refusals_are_kept_or_told() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let told = (0..2 * MAX_REFUSALS).filter(|n| refusals.is_news(&n.to_string(), "x", start)).count();
        assert_eq!((told, refusals.reported.len()), (MAX_REFUSALS, MAX_REFUSALS));
        assert!(refusals.is_news("late", "x", start + REFUSAL_REPEAT));
        assert_eq!(refusals.reported.len(), 1);
    }
}
