//! How a node does, in one line.

use keepwell_store::counts::Count;
use keepwell_store::error::StoreError;

use super::copies::under_replicated;
use super::refs::name_of;
use super::types::{ClockLine, Standing, StatusLine};
use super::{Node, pressure};
use crate::failure::Failure;

/// The state of `node` by its records. `daemon`: whether a daemon answers.
pub fn status(node: &dyn Node, max_size_bytes: Option<u64>, daemon: bool) -> Result<StatusLine, Failure> {
    let snapshot = node.store().snapshot()?;
    let home = snapshot.home()?.ok_or_else(|| StoreError::Inconsistent("the home does not say what it is".into()))?;
    let scrubbed = snapshot.scrub_state()?;
    Ok(StatusLine {
        name: name_of(&snapshot, &home.node)?,
        node: home.node.to_string(),
        network: home.network.to_string(),
        standing: Standing::of(&snapshot, &home.node)?,
        index_damaged: node.is_index_damaged(),
        daemon,
        peers: Vec::new(),
        blobs: snapshot.count(Count::Blobs)?,
        size_bytes: snapshot.count(Count::BlobBytes)?,
        trash_bytes: snapshot.count(Count::TrashBytes)?,
        pressure: pressure::line(&node.pressure()?),
        max_size_bytes,
        refs: snapshot.count(Count::Refs)?,
        // Nobody else is there to know less, or more.
        converged: true,
        unacknowledged: Vec::new(),
        under_replicated: under_replicated(node, &snapshot)?,
        last_gc_ms: snapshot.last_collection()?.map(|last| last.at_ms),
        clock: ClockLine::default(),
        unlinks_failed: snapshot.failed_unlinks()?.len() as u64,
        last_scrub_ms: scrubbed.last.map(|pass| pass.ended_ms),
        rotten: scrubbed.rotten,
    })
}
