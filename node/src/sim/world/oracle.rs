//! What nodes have acknowledged: the promises that the checkers hold them to.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_protocol::id::{BlobFact, ValueId};
use keepwell_protocol::name::RefName;

use crate::engine::{PutOutcome, Reply};

/// Everything that some user was told is done.
#[derive(Default)]
pub(super) struct Oracle {
    /// Values that were acknowledged, with the ref and the node that wrote them.
    pub(super) values: BTreeMap<ValueId, (usize, RefName)>,
    /// Blobs that a node has acknowledged and must hold.
    pub(super) held: BTreeSet<(usize, BlobFact)>,
}

impl Oracle {
    /// Notes what node `node` told its user.
    pub(super) fn note(&mut self, node: usize, reply: Reply) -> Result<(), String> {
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
                    if self.values.insert(rev, (node, outcome.name)).is_some() {
                        return Err(format!("S14: the value id {rev} was given twice"));
                    }
                }
                Ok(())
            }
            Reply::Refs(Err(_)) | Reply::Admitted | Reply::NotAMember | Reply::MayNotAdmit(_) | Reply::Gone(_) => Ok(()),
        }
    }

    /// An old disk was put back: the copies since are gone with the new one, and so are writes that nobody else had heard of.
    pub(super) fn lost_disk(&mut self, node: usize) {
        self.held.retain(|(holder, _)| *holder != node);
        self.values.retain(|_, (author, _)| *author != node);
    }
}
