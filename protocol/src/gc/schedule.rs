//! When to collect garbage: a schedule after containerd's, with its five keys.
//!
//! Collecting holds up those who write. So a collection is followed by a pause that is to its mean cost as the pause threshold asks for;
//! within it, what was deleted waits. Without anything to collect, nothing is due and nobody needs to wake up.
//!
//! Life of a schedule: it starts with the process; what has become garbage and what was written is noted; when it is due, a collection
//! [begins](Schedule::begin), and [ends](Schedule::end) with what it cost. containerd has no timer for what ends by itself; this one is
//! told the earliest such end ([`Schedule::arm`]), and wakes for it.
//!
//! Safety rests on nothing here: a collection asks its own questions, whenever it comes.

use crate::limits::{MAX_PAUSE_PPM, MIN_COST_US, RETRY_MORE_MS, RETRY_MOST_MS};

/// The keys of a schedule. The defaults are containerd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keys {
    /// The part of all time that collections may take, in millionths. At most [`MAX_PAUSE_PPM`] counts; 0 makes each pause a second.
    pub pause_ppm: u32,
    /// So many deletions start a collection without waiting for the end of the pause. With 0 none do.
    pub deletion_threshold: u64,
    /// So many writes are worth a collection at the end of the pause, although nothing is known to have been deleted. With 0 none are.
    pub mutation_threshold: u64,
    /// How long what starts a collection waits for more, in milliseconds.
    pub schedule_delay_ms: u64,
    /// How long after the start the first collection comes, in milliseconds. With 0 the first one waits for a reason.
    pub startup_delay_ms: u64,
}

impl Keys {
    /// containerd's defaults.
    pub const DEFAULT: Keys =
        Keys { pause_ppm: 20_000, deletion_threshold: 0, mutation_threshold: 100, schedule_delay_ms: 0, startup_delay_ms: 100 };
}

impl Default for Keys {
    fn default() -> Self {
        Keys::DEFAULT
    }
}

/// What a collection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// There was nothing to collect; that it was cheap says nothing of others.
    Nothing,
    /// Nothing is left.
    Done,
    /// There is more than one collection takes.
    More,
    /// Something stands in the way: it is tried again after a while, and after a longer one each time.
    Blocked,
}

/// The pause before anything is known of costs, in milliseconds.
const FIRST_INTERVAL_MS: u64 = 1_000;
const PPM: u64 = 1_000_000;

/// When the next collection is due.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Schedule {
    keys: Keys,
    /// When it is looked at next whether a collection is needed, if it is.
    next_ms: Option<u64>,
    /// The pause between two collections.
    interval_ms: u64,
    /// When the last collection ended, and with which pause before the next one.
    last: Option<(u64, u64)>,
    /// The cost of all collections, and how many they were.
    costs: (u64, u64),
    deletions: u64,
    mutations: u64,
    is_triggered: bool,
    is_running: bool,
    /// When something ends by itself next.
    deadline_ms: Option<u64>,
    /// The latest time that was told: a clock that is set back must not put everything off.
    seen_ms: u64,
}

impl Schedule {
    /// Starts at `now_ms`.
    pub fn start(keys: Keys, now_ms: u64) -> Schedule {
        let keys = Keys { pause_ppm: keys.pause_ppm.min(MAX_PAUSE_PPM), ..keys };
        Schedule {
            keys,
            next_ms: (keys.startup_delay_ms > 0).then(|| now_ms.saturating_add(keys.startup_delay_ms)),
            interval_ms: FIRST_INTERVAL_MS,
            last: None,
            costs: (0, 0),
            deletions: 0,
            mutations: 0,
            is_triggered: false,
            is_running: false,
            deadline_ms: None,
            seen_ms: now_ms,
        }
    }

    /// Notes what has become garbage, and how much was written.
    pub fn note(&mut self, now_ms: u64, deletions: u64, mutations: u64) {
        self.see(now_ms);
        self.deletions = self.deletions.saturating_add(deletions);
        self.mutations = self.mutations.saturating_add(mutations);
        let is_many = |count, threshold| threshold > 0 && count >= threshold;
        let is_unplanned = self.next_ms.is_none() && !self.is_running;
        if is_many(self.deletions, self.keys.deletion_threshold) || is_unplanned && self.is_needed() {
            self.plan(now_ms);
        }
    }

    /// Asks for a collection whether or not anything is known to need one.
    pub fn trigger(&mut self, now_ms: u64) {
        self.see(now_ms);
        self.is_triggered = true;
        self.plan(now_ms);
    }

    /// Says when something will end by itself next, of all that will.
    pub fn arm(&mut self, deadline_ms: Option<u64>) {
        self.deadline_ms = deadline_ms;
    }

    /// When to look again whether a collection is due. None: when something has been noted.
    pub fn next_ms(&self) -> Option<u64> {
        if self.is_running {
            return None;
        }
        // What ended before the last collection was there for it to see.
        let deadline_ms = self.deadline_ms.filter(|deadline_ms| self.last.is_none_or(|(last_ms, _)| *deadline_ms > last_ms));
        let rested_ms = self.last.map(|(last_ms, pause_ms)| last_ms.saturating_add(pause_ms)).or(self.next_ms);
        let wake_ms = deadline_ms.map(|deadline_ms| deadline_ms.max(rested_ms.unwrap_or(0)));
        match self.next_ms {
            Some(next_ms) if self.last.is_none() || self.is_needed() => {
                Some(wake_ms.map_or(next_ms, |wake_ms| wake_ms.min(next_ms)))
            }
            _ => wake_ms,
        }
    }

    /// Whether a collection is to begin now.
    pub fn is_due(&mut self, now_ms: u64) -> bool {
        self.see(now_ms);
        if self.is_running {
            return false;
        }
        if self.next_ms().is_some_and(|next_ms| next_ms <= now_ms) {
            return true;
        }
        // A look that found no reason: the next one is a pause later.
        if let Some(next_ms) = self.next_ms.filter(|next_ms| *next_ms <= now_ms) {
            let missed = (now_ms - next_ms) / self.interval_ms.max(1) + 1;
            self.next_ms = Some(next_ms.saturating_add(missed.saturating_mul(self.interval_ms)));
        }
        false
    }

    /// A collection begins: it sees all that has been noted.
    pub fn begin(&mut self) {
        self.is_running = true;
        (self.deletions, self.mutations, self.is_triggered) = (0, 0, false);
    }

    /// The collection that began has ended, after `cost_us` microseconds.
    pub fn end(&mut self, now_ms: u64, cost_us: u64, end: End) {
        self.see(now_ms);
        self.is_running = false;
        let before_ms = self.last.map_or(0, |(_, pause_ms)| pause_ms);
        if matches!(end, End::More | End::Blocked) {
            self.deletions = self.deletions.max(1);
        }
        if matches!(end, End::Done | End::More) {
            self.costs = (self.costs.0.saturating_add(cost_us), self.costs.1 + 1);
        }
        let pause_ms = match end {
            End::Blocked => before_ms.saturating_add(RETRY_MORE_MS).min(RETRY_MOST_MS),
            _ => self.interval(),
        };
        self.interval_ms = self.interval();
        self.last = Some((now_ms, pause_ms));
        self.next_ms = Some(now_ms.saturating_add(pause_ms));
    }

    /// Whether something speaks for a collection at the end of the pause.
    fn is_needed(&self) -> bool {
        let is_much_written = self.keys.mutation_threshold > 0 && self.mutations >= self.keys.mutation_threshold;
        self.is_triggered || self.deletions > 0 || is_much_written
    }

    /// Plans a collection, unless one comes before that anyway.
    fn plan(&mut self, now_ms: u64) {
        let at_ms = now_ms.saturating_add(self.keys.schedule_delay_ms);
        if !self.is_running && self.next_ms.is_none_or(|next_ms| next_ms > at_ms) {
            self.next_ms = Some(at_ms);
        }
    }

    /// The pause in which collections of the mean cost so far take the part of the time that they may.
    fn interval(&self) -> u64 {
        let ppm = u64::from(self.keys.pause_ppm);
        if ppm == 0 {
            return FIRST_INTERVAL_MS;
        }
        let mean_us = (self.costs.0 / self.costs.1.max(1)).max(MIN_COST_US);
        mean_us.saturating_mul(PPM - ppm) / ppm / 1_000
    }

    /// Takes the time. When the clock was set back, all that was planned moves with it.
    fn see(&mut self, now_ms: u64) {
        if now_ms < self.seen_ms {
            let back_ms = self.seen_ms - now_ms;
            self.next_ms = self.next_ms.map(|next_ms| next_ms.saturating_sub(back_ms));
            self.last = self.last.map(|(last_ms, pause_ms)| (last_ms.saturating_sub(back_ms), pause_ms));
        }
        self.seen_ms = now_ms;
    }
}

#[cfg(test)]
mod tests;
