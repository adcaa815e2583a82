//! Where nodes can be reached, and when to try next.
//!
//! A target is a node with its addresses, or a bare address whose node is not known yet. It waits, is dialled, and waits
//! longer after each failure; a link that lasts begins anew. Time and jitter are arguments.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keepwell_protocol::id::NodeId;
use libp2p::Multiaddr;

use super::limits::{DIAL_BACKOFF_MAX, DIAL_BACKOFF_MIN, DISCONNECT_PAUSE, MAX_ADDRESSES_PER_NODE, MAX_TARGETS};

/// Whom to dial.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// A node, at any of its addresses.
    Node(NodeId),
    /// Whoever answers there.
    Address(Multiaddr),
}

/// What is known of a target.
#[derive(Debug)]
struct Entry {
    /// The latest first.
    addresses: Vec<Multiaddr>,
    failures: u32,
    due: Instant,
    is_dialled: bool,
}

/// The addresses of all targets.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: BTreeMap<Target, Entry>,
}

impl Book {
    /// Remembers addresses, and says whether any is new. A target that is new, or has a new address, is due at once.
    pub(super) fn learn(&mut self, target: Target, addresses: impl IntoIterator<Item = Multiaddr>, now: Instant) -> bool {
        if self.entries.len() >= MAX_TARGETS && !self.entries.contains_key(&target) {
            return false;
        }
        let fresh = || Entry { addresses: Vec::new(), failures: 0, due: now, is_dialled: false };
        let entry = self.entries.entry(target).or_insert_with(fresh);
        let mut is_news = false;
        for address in addresses {
            let known = entry.addresses.iter().position(|known| *known == address);
            is_news |= known.is_none();
            known.map(|at| entry.addresses.remove(at));
            entry.addresses.insert(0, address);
            entry.addresses.truncate(MAX_ADDRESSES_PER_NODE);
        }
        if is_news {
            entry.due = now;
        }
        is_news
    }

    /// Tries a node again now, whatever happened before.
    pub(super) fn retry_now(&mut self, target: &Target, now: Instant) {
        if let Some(entry) = self.entries.get_mut(target) {
            (entry.failures, entry.due) = (0, now);
        }
    }

    /// The targets to dial now, and where. They count as dialled until told otherwise.
    pub(super) fn due(&mut self, now: Instant, wanted: impl Fn(&Target) -> bool) -> Vec<(Target, Vec<Multiaddr>)> {
        let due = self.entries.iter_mut().filter(|(target, entry)| {
            let is_due = !entry.is_dialled && entry.due <= now && !entry.addresses.is_empty();
            is_due && wanted(target)
        });
        let dialled = due.map(|(target, entry)| {
            entry.is_dialled = true;
            (target.clone(), entry.addresses.clone())
        });
        dialled.collect()
    }

    /// The target was not reached, or not for long. `jitter` is any number from 0 to 1.
    pub(super) fn failed(&mut self, target: &Target, now: Instant, jitter: f64) {
        if let Some(entry) = self.entries.get_mut(target) {
            entry.due = now + backoff(entry.failures, jitter);
            entry.failures = entry.failures.saturating_add(1);
            entry.is_dialled = false;
        }
    }

    /// This node cut the target off itself.
    pub(super) fn penalised(&mut self, target: &Target, now: Instant) {
        if let Some(entry) = self.entries.get_mut(target) {
            (entry.due, entry.is_dialled) = (now + DISCONNECT_PAUSE, false);
        }
    }

    /// Nobody is dialling this target any more; when it is due stays.
    pub(super) fn reached(&mut self, target: &Target) {
        if let Some(entry) = self.entries.get_mut(target) {
            entry.is_dialled = false;
        }
    }

    /// A link to this target has lasted.
    pub(super) fn proved(&mut self, target: &Target) {
        if let Some(entry) = self.entries.get_mut(target) {
            entry.failures = 0;
        }
    }

    /// No dial is under way any more: the network was restarted.
    pub(super) fn reset(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.is_dialled = false);
    }

    /// Forgets a target.
    pub(super) fn forget(&mut self, target: &Target) {
        self.entries.remove(target);
    }

    /// The addresses of a target, the latest first.
    pub(super) fn addresses(&self, target: &Target) -> Vec<Multiaddr> {
        self.entries.get(target).map(|entry| entry.addresses.clone()).unwrap_or_default()
    }
}

/// How long to wait after a failure that followed `failures` others: between half of the doubled pause and all of it.
fn backoff(failures: u32, jitter: f64) -> Duration {
    let doubled = DIAL_BACKOFF_MIN.saturating_mul(2_u32.saturating_pow(failures.min(16)));
    doubled.min(DIAL_BACKOFF_MAX).mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()
    }

    fn target(n: u8) -> Target {
        Target::Node(NodeId([n; 32]))
    }

    #[test]
    fn pauses_double_from_min_to_max_with_jitter() {
        assert_eq!(backoff(0, 1.0), DIAL_BACKOFF_MIN);
        assert_eq!(backoff(0, 0.0), DIAL_BACKOFF_MIN / 2);
        assert_eq!(backoff(1, 1.0), DIAL_BACKOFF_MIN * 2);
        assert_eq!(backoff(u32::MAX, 1.0), DIAL_BACKOFF_MAX);
    }

    #[test]
    fn a_target_is_dialled_once_until_it_failed_and_waited() {
        let (mut book, start) = (Book::default(), Instant::now());
        assert!(book.learn(target(1), [at(1)], start));
        assert_eq!(book.due(start, |_| true), [(target(1), vec![at(1)])]);
        assert!(book.due(start, |_| true).is_empty());
        book.failed(&target(1), start, 1.0);
        assert!(book.due(start, |_| true).is_empty());
        assert_eq!(book.due(start + DIAL_BACKOFF_MIN, |_| true).len(), 1);
        book.failed(&target(1), start, 1.0);
        book.retry_now(&target(1), start);
        assert!(book.due(start, |_| false).is_empty());
        assert_eq!(book.due(start, |_| true).len(), 1);
    }

    #[test]
    fn a_new_address_makes_a_target_due_and_the_latest_are_kept() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.learn(target(1), [at(1)], start);
        book.failed(&target(1), start, 1.0);
        assert!(!book.learn(target(1), [at(1)], start) && book.due(start, |_| true).is_empty());
        assert!(book.learn(target(1), (2..40).map(at), start));
        let kept = book.addresses(&target(1));
        assert_eq!((kept.len(), &kept[0]), (MAX_ADDRESSES_PER_NODE, &at(39)));
        assert_eq!(book.due(start, |_| true).len(), 1);
    }

    #[test]
    fn who_was_cut_off_waits_for_disconnect_pause() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.learn(target(1), [at(1)], start);
        book.penalised(&target(1), start);
        assert!(book.due(start + DISCONNECT_PAUSE / 2, |_| true).is_empty());
        assert_eq!(book.due(start + DISCONNECT_PAUSE, |_| true).len(), 1);
    }

    #[test]
    fn no_more_than_max_targets_are_remembered() {
        let (mut book, start) = (Book::default(), Instant::now());
        let learned = (0..MAX_TARGETS + 10).filter(|port| book.learn(Target::Address(at(*port)), [at(*port)], start)).count();
        assert_eq!(learned, MAX_TARGETS);
        book.forget(&Target::Address(at(0)));
        assert!(book.learn(target(1), [at(1)], start));
    }
}
