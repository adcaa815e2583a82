//! What is known of blobs, from records alone: many at once, without a look at the disk.

use std::collections::BTreeSet;

use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_protocol::name::Label;
use keepwell_store::store::Snapshot;

use super::Node;
use super::network::holdings;
use super::types::{BlobState, StatLine};
use crate::failure::Failure;
use crate::limits::VERIFIED_FOR_MS;

/// A blob that is asked about, and what its asker calls it.
pub type Asked = (BlobId, Option<Label>);

/// One line for each, in order.
pub fn stat(node: &dyn Node, asked: &[Asked]) -> Result<Vec<StatLine>, Failure> {
    let snapshot = node.store().snapshot()?;
    let removed = snapshot.removed()?;
    asked.iter().map(|(id, label)| stat_in(&snapshot, &removed, node.now_ms(), id, label.as_ref())).collect()
}

/// What `snapshot` knows of one blob; `removed` are the members that were removed.
pub(super) fn stat_in(
    snapshot: &Snapshot,
    removed: &BTreeSet<NodeId>,
    now_ms: u64,
    id: &BlobId,
    label: Option<&Label>,
) -> Result<StatLine, Failure> {
    let record = snapshot.blob(id)?;
    let holders = holdings(snapshot, removed, id)?;
    let links = snapshot.children(id)?.len();
    let held_size = holders.first().map(|holding| holding.fact.size_bytes);
    let state = match &record {
        Some(record) => state_of(record.verified_ms, now_ms),
        None if snapshot.trashed(id)?.is_some() => BlobState::Trashed,
        None if !holders.is_empty() || links > 0 || !snapshot.refs_naming(id)?.is_empty() => BlobState::Recorded,
        None => BlobState::Unknown,
    };
    Ok(StatLine {
        sha1: id.to_string(),
        state,
        size_bytes: record.map(|record| record.size_bytes).or(held_size),
        label: label.map(ToString::to_string),
        links,
        copies: holders.len(),
    })
}

/// A clock that was set back does not make a blob unverified.
fn state_of(verified_ms: Option<u64>, now_ms: u64) -> BlobState {
    match verified_ms {
        Some(verified_ms) if now_ms.saturating_sub(verified_ms) <= VERIFIED_FOR_MS => BlobState::Verified,
        _ => BlobState::Here,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_counts_as_verified_for_verified_for_ms() {
        assert_eq!(state_of(Some(1_000), 1_000 + VERIFIED_FOR_MS), BlobState::Verified);
        assert_eq!(state_of(Some(1_000), 1_001 + VERIFIED_FOR_MS), BlobState::Here);
        assert_eq!(state_of(Some(1_000), 0), BlobState::Verified);
        assert_eq!(state_of(None, 0), BlobState::Here);
    }

    #[test]
    fn the_words_of_json_and_text_are_the_same() {
        for state in
            [BlobState::Unknown, BlobState::Recorded, BlobState::Here, BlobState::Verified, BlobState::Linked, BlobState::Trashed]
        {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
    }
}
