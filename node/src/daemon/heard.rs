//! When the other members were last heard, and how long they take to answer.
//!
//! In memory alone: what was before this daemon started is not known, and nothing rests on it. People read it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keepwell_protocol::id::NodeId;

/// What has been heard of one member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sign {
    /// When it last said anything, in Unix milliseconds; none if all it did so far is to answer a ping.
    pub last_seen_ms: Option<u64>,
    /// How long its last answer to a ping took, in milliseconds, rounded up; none if it is not connected.
    pub rtt_ms: Option<u64>,
}

/// What has been heard of all members. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<BTreeMap<NodeId, Sign>>>);

impl Heard {
    /// A member has said something.
    pub fn spoke(&self, node: NodeId, now_ms: u64) {
        self.all().entry(node).or_default().last_seen_ms = Some(now_ms);
    }

    /// A member has answered a ping.
    pub fn answered(&self, node: NodeId, rtt: Duration) {
        self.all().entry(node).or_default().rtt_ms = u64::try_from(rtt.as_micros().div_ceil(1_000)).ok();
    }

    /// A member can no longer be talked to: how long it took says nothing any more.
    pub fn left(&self, node: NodeId) {
        self.all().entry(node).or_default().rtt_ms = None;
    }

    /// What is known of every member that was heard.
    pub fn signs(&self) -> BTreeMap<NodeId, Sign> {
        self.all().clone()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<NodeId, Sign>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_it_spoke_outlives_the_connection_and_how_fast_does_not() {
        let (heard, node) = (Heard::default(), NodeId([1; 32]));
        heard.answered(node, Duration::from_micros(300));
        assert_eq!(heard.signs()[&node], Sign { last_seen_ms: None, rtt_ms: Some(1) });
        heard.spoke(node, 5);
        heard.clone().answered(node, Duration::from_millis(2));
        assert_eq!(heard.signs()[&node], Sign { last_seen_ms: Some(5), rtt_ms: Some(2) });
        heard.left(node);
        assert_eq!(heard.signs()[&node], Sign { last_seen_ms: Some(5), rtt_ms: None });
    }
}
