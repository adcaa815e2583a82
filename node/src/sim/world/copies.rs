//! Copies that nodes fetch by themselves, from whoever they can hear, and what must have come of it.

use std::sync::Arc;

use keepwell_protocol::id::BlobId;
use keepwell_store::error::StoreError;
use keepwell_store::hash::hash_bytes;
use keepwell_store::store::Snapshot;

use super::deletions::all_wanted;
use super::{Violation, World};
use crate::engine::{Input, PutBlob, RequestId, Stored};

impl World {
    /// A node fetches blobs, each from the first node in reach that has it.
    pub(super) fn bring(&mut self, node: usize, blobs: Vec<BlobId>) -> Result<(), Violation> {
        for id in &blobs {
            let givers = (0..self.nodes.len()).filter(|giver| {
                *giver != node
                    && self.network.can_hear(*giver, node)
                    && !self.paused.contains_key(giver)
                    && !(self.has_liar() && self.is_hostile(*giver))
            });
            // What has rotten is noticed as it comes, and asked of the next.
            let bytes = givers.filter_map(|giver| self.nodes[giver].read(id)).find(|bytes| hash_bytes(bytes).fact.sha1 == *id);
            let Some(bytes) = bytes.filter(|_| self.nodes[node].is_running()) else { continue };
            match self.nodes[node].take_in(&bytes) {
                Ok((placed, false)) => {
                    self.summary.copies_brought += 1;
                    let blobs = vec![PutBlob { blob: Stored::New(placed), children: Vec::new() }];
                    self.give(node, Input::Put { request: RequestId(10), blobs, lease: None })?;
                }
                Ok((_, true)) => {}
                Err(error) => self.work_failed(node, &error)?,
            }
        }
        self.give(node, Input::Brought { blobs })
    }
}

/// S23: when nothing goes wrong any more, what refs reach is on as many nodes as they ask for, or on all, unless nobody has it.
pub(super) fn check_enough(world: &World) -> Result<(), String> {
    let engines = world.keepers().filter_map(|(_, node)| node.engine());
    let snapshots: Vec<Arc<Snapshot>> =
        engines.map(|engine| engine.store().snapshot()).collect::<Result<_, _>>().map_err(text)?;
    let Some(catalog) = snapshots.first() else { return Ok(()) };
    for (id, copies) in all_wanted(catalog).map_err(text)? {
        let mut held = 0;
        for snapshot in &snapshots {
            held += usize::from(snapshot.blob(&id).map_err(text)?.is_some());
        }
        // Whoever fetches counts what others say that they hold, a liar too.
        let enough = usize::try_from(copies - u32::from(world.has_liar()).min(copies)).unwrap_or(usize::MAX).min(snapshots.len());
        if held > 0 && held < enough {
            return Err(format!("S23: {held} nodes hold blob {id}, and {copies} copies are wanted"));
        }
    }
    Ok(())
}

fn text(error: StoreError) -> String {
    error.to_string()
}
