//! What nodes have acknowledged: the promises that the checkers hold them to.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::id::{BlobFact, BlobId, ValueId};
use keepwell_protocol::name::RefName;

use super::leases::Acknowledged;
use super::rot::Flipped;
use crate::engine::{PutOutcome, Reply};

/// Everything that some user was told is done.
#[derive(Default)]
pub(super) struct Oracle {
    /// Values that were acknowledged, with the ref and the node that wrote them.
    pub(super) values: BTreeMap<ValueId, (usize, RefName)>,
    /// Blobs that a node has acknowledged and must hold.
    pub(super) held: BTreeSet<(usize, BlobFact)>,
    /// Leases that a node has acknowledged.
    pub(super) leases: Acknowledged,
    /// Copies that were purged.
    pub(super) purged: u64,
    /// Surplus copies that were given up.
    pub(super) dropped: u64,
    /// Blobs of which a copy may have been lost with a disk.
    pub(super) lost: BTreeSet<BlobId>,
    /// Copies in which a bit has flipped.
    pub(super) flipped: Flipped,
}

impl Oracle {
    /// Notes what node `node` told its user. `unaware`: another one that goes on under its boot, neither of which can know.
    pub(super) fn note(&mut self, node: usize, unaware: Option<usize>, reply: Reply) -> Result<(), String> {
        match reply {
            Reply::Put(outcomes) => {
                for outcome in outcomes {
                    if let PutOutcome::Held { fact, .. } = outcome {
                        self.held.insert((node, fact));
                    }
                }
                Ok(())
            }
            Reply::Refs(Ok(outcomes)) => {
                for outcome in outcomes {
                    let Some(rev) = outcome.rev else { continue };
                    // A use that was not worth a write leaves the value that there was.
                    if outcome.previous.is_some_and(|value| value.id == rev) {
                        continue;
                    }
                    let before = self.values.insert(rev, (node, outcome.name));
                    if before.is_some_and(|(author, _)| Some(author) != unaware) {
                        return Err(format!("S14: the value id {rev} was given twice"));
                    }
                }
                Ok(())
            }
            Reply::Collected(collected) => {
                collected.purged.into_iter().for_each(|fact| self.purged(node, fact));
                Ok(())
            }
            Reply::Restored(restored) => {
                self.held.extend(restored.map(|fact| (node, fact)));
                Ok(())
            }
            Reply::Leased(id, lease) => {
                self.leases.insert((node, id), lease.expires_ms);
                Ok(())
            }
            Reply::Declared
            | Reply::UsedBy(_)
            | Reply::LeaseRefused(_)
            | Reply::Refs(Err(_))
            | Reply::Admitted
            | Reply::Noted
            | Reply::NotAMember
            | Reply::MayNotAdmit(_)
            | Reply::Gone(_)
            | Reply::Dropped(_)
            | Reply::NotConnected(_)
            | Reply::Late(_)
            | Reply::Confirmed(_) => Ok(()),
        }
    }

    /// A node has purged its copy.
    pub(super) fn purged(&mut self, node: usize, fact: BlobFact) {
        self.held.remove(&(node, fact));
        self.purged += 1;
    }

    /// A node has given up its copy.
    pub(super) fn gave_up(&mut self, node: usize, fact: BlobFact) {
        self.held.remove(&(node, fact));
        self.dropped += 1;
    }

    /// A disk was copied, and another node holds on it what this one does.
    pub(super) fn copied(&mut self, node: usize, copy: usize) {
        let held: Vec<BlobFact> = self.held.iter().filter(|(holder, _)| *holder == node).map(|(_, fact)| *fact).collect();
        self.held.extend(held.into_iter().map(|fact| (copy, fact)));
    }

    /// A node was stopped for good, and its disk is lost.
    pub(super) fn stopped(&mut self, node: usize) {
        self.lost.extend(self.held.iter().filter(|(holder, _)| *holder == node).map(|(_, fact)| fact.sha1));
        self.held.retain(|(holder, _)| *holder != node);
        self.leases.retain(|(giver, _), _| *giver != node);
    }

    /// An old disk was put back: the copies since are gone with the new one, and so are writes that nobody else had heard of.
    pub(super) fn lost_disk(&mut self, node: usize) {
        self.lost.extend(self.held.iter().filter(|(holder, _)| *holder == node).map(|(_, fact)| fact.sha1));
        self.held.retain(|(holder, _)| *holder != node);
        self.values.retain(|_, (author, _)| *author != node);
        self.leases.retain(|(giver, _), _| *giver != node);
    }
}
