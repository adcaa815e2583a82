//! Looks at all nodes in the middle of a run: what must hold at every moment, and needs no peace to be seen.

use std::collections::BTreeSet;
use std::sync::Arc;

use keepwell_protocol::catalog::item::Kind;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::id::{BlobId, ValueId};
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;

use super::stories::ways_to;
use super::{Happening, Violation, World};
use crate::engine::closure;

/// Milliseconds between two looks. Each walks over the catalogs of all nodes.
const LOOK_EVERY_MS: u64 = 2_500;

impl World {
    pub(super) fn look(&mut self) -> Result<(), Violation> {
        self.after(LOOK_EVERY_MS, Happening::Look);
        self.summary.looks += 1;
        self.cut_off_removed()?;
        for node in 0..self.nodes.len() {
            self.judge(node, |world| world.check_held(node))?;
        }
        self.judge(0, World::check_known_to_all)
    }

    /// S3: what a running node has acknowledged is recorded. S22: so is what was put under a lease of it that lasts.
    fn check_held(&self, node: usize) -> Result<(), String> {
        let Some(engine) = self.nodes[node].engine() else { return Ok(()) };
        // One that was paused may have deleted something and not told yet; one whose disk has just failed cannot be asked.
        let Ok(snapshot) = engine.store().snapshot() else { return Ok(()) };
        for (_, fact) in self.oracle.held.iter().filter(|(holder, _)| *holder == node) {
            if snapshot.blob(&fact.sha1).map_err(text)?.is_none() {
                return Err(format!("S3: blob {} was acknowledged and is not recorded", fact.sha1));
            }
        }
        let live = self.oracle.leases.iter().filter(|((giver, _), until_ms)| *giver == node && **until_ms > self.clock_of(node));
        for ((_, lease), _) in live {
            for id in snapshot.leased_blobs(lease, &BlobId([0; BlobId::LEN]), usize::MAX).map_err(text)? {
                if snapshot.blob(&id).map_err(text)?.is_none() && !self.oracle.flipped.contains_key(&(node, id)) {
                    return Err(format!("S22: lease {lease} lasts, and blob {id} under it is not held"));
                }
            }
        }
        Ok(())
    }

    /// S18: what a value reaches that all nodes know is held by somebody, while all of them run.
    fn check_known_to_all(&self) -> Result<(), String> {
        let engines = self.honest().filter_map(|(_, node)| node.engine());
        let snapshots: Vec<Arc<Snapshot>> = engines.filter_map(|engine| engine.store().snapshot().ok()).collect();
        let keepers = self.keepers().filter_map(|(_, node)| node.engine());
        let keepers: Vec<Arc<Snapshot>> = keepers.filter_map(|engine| engine.store().snapshot().ok()).collect();
        if snapshots.len() < self.honest().count() || keepers.len() < self.keepers().count() {
            return Ok(());
        }
        let mut known = values(&snapshots[0]).map_err(text)?;
        for other in &snapshots[1..] {
            let theirs: BTreeSet<ValueId> = values(other).map_err(text)?.into_iter().map(|(id, _)| id).collect();
            known.retain(|(id, _)| theirs.contains(id));
        }
        let roots: Vec<BlobId> = known.into_iter().flat_map(|(_, links)| links).collect();
        let mut lost = None;
        let visited = closure::visit(&snapshots[0], &roots, |id| {
            let mut is_held = self.oracle.lost.contains(&id);
            for snapshot in &keepers {
                is_held = is_held || snapshot.blob(&id)?.is_some();
            }
            is_held = is_held || self.is_gone_with_removed(&snapshots[0], &roots, &id)?;
            lost = if is_held { None } else { Some(id) };
            Ok(is_held)
        });
        visited.map_err(text)?;
        let Some(id) = lost else { return Ok(()) };
        let ways = ways_to(&snapshots[0], &id).map_err(text)?.join("\n");
        Err(format!("S18: all nodes know a value that reaches blob {id}, and nobody holds it\n{ways}"))
    }
}

/// The backed values of all refs, with what they name.
fn values(snapshot: &Snapshot) -> Result<Vec<(ValueId, Vec<BlobId>)>, StoreError> {
    let mut all = Vec::new();
    snapshot.visit_items::<StoreError>(Kind::REF, "", |_, row| {
        for value in row.values() {
            if let Ok(body) = RefBody::of(value)
                && !body.unbacked
                && !snapshot.came_back(&value.id)?
            {
                all.push((value.id, body.links.iter().map(|link| link.sha1).collect()));
            }
        }
        Ok(true)
    })?;
    Ok(all)
}

fn text(error: StoreError) -> String {
    error.to_string()
}
