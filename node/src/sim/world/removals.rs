//! A member is removed in mid-story: the first node's admin says so, the others hear of it late, and the removed one goes on until each has
//! heard. What it had alone is gone with it, which is no broken promise; what it does to the others is.

use std::collections::BTreeSet;

use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::id::BlobId;
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;

use super::model::Model;
use super::node::SimNode;
use super::{Happening, Violation, World};
use crate::engine::{Input, RequestId};

/// After how long the admin, who could not do it, tries again, in milliseconds.
const AGAIN_MS: u64 = 1_000;

impl World {
    /// Has some member removed at some time in the middle of it all.
    pub(super) fn plan_removal(&mut self) {
        let (of, at_ms) =
            (1 + self.draw(self.plan.nodes as u64 - 1), self.plan.active_ms / 4 + self.draw(self.plan.active_ms / 3));
        self.after(at_ms, Happening::Remove(usize::try_from(of).unwrap_or(1)));
    }

    /// The admin removes a member.
    pub(super) fn remove(&mut self, of: usize) -> Result<(), Violation> {
        if self.removed.is_some() {
            return Ok(());
        }
        if !self.paused.contains_key(&0) {
            let node = self.nodes[of].id();
            self.give(0, Input::Remove { request: RequestId(11), node })?;
        }
        // A crash may have come before it was made, or after.
        match self.knows_removed(0, of) {
            true => self.removal_was_made(of),
            false => {
                self.after(AGAIN_MS, Happening::Remove(of));
                Ok(())
            }
        }
    }

    fn removal_was_made(&mut self, of: usize) -> Result<(), Violation> {
        self.note(format!("node {of} is removed"));
        self.tell_of_all(format!("node {of} is removed"));
        (self.removed, self.summary.removals) = (Some(of), self.summary.removals + 1);
        let text = |error: String| self.violation(error);
        let Some(engine) = self.nodes[0].engine() else { return Ok(()) };
        let known =
            engine.store().snapshot().and_then(|snapshot| Model::of(&snapshot)).map_err(|error| text(error.to_string()))?;
        // What the admin had heard of it counts, and must be known to all.
        self.oracle.values.retain(|id, (author, name)| *author != of || known.has_write(&Item::reference(name.as_ref()), id));
        let acknowledged = self.oracle.held.iter().filter(|(holder, _)| *holder == of).map(|(_, fact)| fact.sha1);
        let its: BTreeSet<BlobId> = acknowledged.chain(self.nodes[of].all_blobs()).collect();
        for id in its {
            self.tell(id, format!("node {of}, which holds it, is removed"));
            self.note_loss_by_removal(&id);
        }
        Ok(())
    }

    /// When nobody but who was removed has a blob, it is gone with it.
    pub(super) fn note_loss_by_removal(&mut self, id: &BlobId) {
        if self.removed.is_some() && !self.is_kept_by_some(id) {
            self.oracle.lost.insert(*id);
        }
    }

    /// Whether nobody but who was removed has a blob, and only by its word does anything in `roots` reach it.
    pub(super) fn is_gone_with_removed(&self, catalog: &Snapshot, roots: &[BlobId], id: &BlobId) -> Result<bool, StoreError> {
        Ok(self.removed.is_some() && !Model::of(catalog)?.reaches(roots, id))
    }

    pub(super) fn is_removed(&self, node: usize) -> bool {
        self.removed == Some(node)
    }

    /// Whether `node` runs and has heard that `of` was removed.
    pub(super) fn knows_removed(&self, node: usize, of: usize) -> bool {
        let snapshot = self.nodes[node].engine().and_then(|engine| engine.store().snapshot().ok());
        snapshot.and_then(|snapshot| snapshot.removed().ok()).is_some_and(|removed| removed.contains(&self.nodes[of].id()))
    }

    /// Whether one of the two will not talk to the other any more.
    pub(super) fn is_cut_off(&self, a: usize, b: usize) -> bool {
        [(a, b), (b, a)].into_iter().any(|(node, other)| self.is_removed(other) && self.knows_removed(node, other))
    }

    /// Whoever has heard of the removal ends its connection: a while after, so that the removed one can hear of it.
    pub(super) fn cut_off_removed(&mut self) -> Result<(), Violation> {
        let Some(of) = self.removed else { return Ok(()) };
        for node in (0..self.nodes.len()).filter(|node| *node != of).collect::<Vec<_>>() {
            if self.is_cut_off(node, of) {
                self.disconnect(node, of)?;
            }
        }
        Ok(())
    }

    /// The nodes whose copies count for `node`: not those of a liar, nor of who was removed, as far as it knows.
    pub(super) fn keepers_as_known_to(&self, node: usize) -> impl Iterator<Item = (usize, &SimNode)> {
        let knows = self.removed.is_some_and(|of| self.knows_removed(node, of));
        let counts = move |at: usize| self.counts_as_keeper(at) || self.is_removed(at) && !knows;
        self.nodes.iter().enumerate().filter(move |(at, _)| counts(*at))
    }
}
