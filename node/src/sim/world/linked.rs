//! A checker of links that are put: whoever says that a blob links to others holds these, and all that they lead to.

use keepwell_protocol::id::BlobId;
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;
use std::collections::BTreeSet;

use super::{Violation, World};
use crate::engine::{Effect, Input, PutOutcome, Reply};

/// Blobs that are put, each with what it is to link to.
pub(super) type Linked = Vec<(BlobId, Vec<BlobId>)>;

/// What an input links to what.
pub(super) fn links_in(input: &Input) -> Linked {
    match input {
        Input::Put { blobs, .. } => blobs.iter().map(|put| (put.blob.fact().sha1, put.children.clone())).collect(),
        _ => Vec::new(),
    }
}

impl World {
    /// S10: who has just linked a blob to others holds all that this leads to. What the blob itself had linked to before is not asked for.
    pub(super) fn check_linked(&self, node: usize, linked: &Linked, effects: &[Effect]) -> Result<(), Violation> {
        let outcomes = effects.iter().find_map(|effect| match effect {
            Effect::Reply(_, Reply::Put(outcomes)) => Some(outcomes),
            _ => None,
        });
        let Some(Ok(snapshot)) = self.nodes[node].engine().map(|engine| engine.store().snapshot()) else { return Ok(()) };
        for ((parent, children), outcome) in linked.iter().zip(outcomes.into_iter().flatten()) {
            if matches!(outcome, PutOutcome::Held { .. }) {
                self.judge(node, |_| match missing(&snapshot, parent, children).map_err(|error| error.to_string())? {
                    Some(id) => Err(format!("S10: blob {parent} was linked to what leads to blob {id}, which is not held")),
                    None => Ok(()),
                })?;
            }
        }
        Ok(())
    }
}

fn missing(snapshot: &Snapshot, parent: &BlobId, children: &[BlobId]) -> Result<Option<BlobId>, StoreError> {
    let (mut seen, mut due) = (BTreeSet::from([*parent]), children.to_vec());
    while let Some(id) = due.pop() {
        if seen.insert(id) {
            if snapshot.blob(&id)?.is_none() {
                return Ok(Some(id));
            }
            due.extend(snapshot.children(&id)?.into_iter().map(|child| child.sha1));
        }
    }
    Ok(None)
}
