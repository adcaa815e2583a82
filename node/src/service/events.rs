//! What has happened here, as the audit log remembers it: a line an event, with what a deletion rested on.

use std::collections::BTreeMap;

use keepwell_protocol::id::{BlobFact, BlobId, NodeId};
use keepwell_protocol::units::SizeBytes;
use keepwell_store::audit::{Note, Noted};
use serde::{Deserialize, Serialize};

use super::Node;
use super::network::{name_of, names};
use crate::failure::Failure;

/// Something that happened, as it stands in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    /// Its number: later ones have higher numbers, and `Last-Event-ID` takes it.
    pub id: u64,
    /// When, in Unix milliseconds, by this node's clock.
    pub at_ms: u64,
    /// What, in one word.
    pub event: String,
    /// The SHA-1s of the blobs that it is about.
    pub blobs: Vec<String>,
    /// Their bytes, as far as they are known.
    pub size_bytes: u64,
    /// The member that it is about, if one.
    pub node: Option<String>,
    /// Why, for people.
    pub why: String,
    /// Of a deletion: who had proven or acknowledged what.
    pub proof: Vec<ProofLine>,
}

/// One part of what a deletion rested on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofLine {
    /// The member.
    pub node: String,
    /// The disk on which it had proven its copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// How far its own log had come when it acknowledged what this node knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<u64>,
}

/// Which events are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Those after the one of this number.
    pub cursor: Option<u64>,
    /// Those not before this time, in Unix milliseconds.
    pub since_ms: Option<u64>,
}

/// At most `limit` events, the oldest first, and the cursor behind which more may be.
pub fn list(node: &dyn Node, query: EventQuery, limit: usize) -> Result<(Vec<EventLine>, Option<u64>), Failure> {
    let snapshot = node.store().snapshot()?;
    let names = names(&snapshot)?;
    let (mut lines, mut cursor) = (Vec::new(), query.cursor);
    while lines.len() < limit {
        let notes = snapshot.notes_after(cursor, limit - lines.len())?;
        let Some((last, _)) = notes.last() else { return Ok((lines, None)) };
        cursor = Some(*last);
        let wanted = notes.into_iter().filter(|(_, noted)| query.since_ms.is_none_or(|since_ms| noted.at_ms >= since_ms));
        lines.extend(wanted.map(|(id, noted)| line(&names, id, noted)));
    }
    Ok((lines, cursor.filter(|last| snapshot.last_note().ok().flatten() != Some(*last))))
}

type Names = BTreeMap<NodeId, String>;

fn line(names: &Names, id: u64, Noted { at_ms, note }: Noted) -> EventLine {
    let bare = |event: &str, why: String| EventLine {
        id,
        at_ms,
        event: event.to_owned(),
        blobs: Vec::new(),
        size_bytes: 0,
        node: None,
        why,
        proof: Vec::new(),
    };
    let of = |event: &str, blob: &BlobFact, why: String| EventLine {
        blobs: vec![blob.sha1.to_string()],
        size_bytes: blob.size_bytes,
        ..bare(event, why)
    };
    let of_id = |event: &str, blob: &BlobId, why: String| EventLine { blobs: vec![blob.to_string()], ..bare(event, why) };
    let of_node = |event: &str, node: &NodeId, why: String| EventLine { node: Some(name_of(names, node)), ..bare(event, why) };
    match note {
        Note::Purged { blobs, seen, acknowledged, by_itself } => {
            let asked = if by_itself { "by itself" } else { "on request" };
            let seen: String = seen.iter().take(SEEN_BYTES).map(|byte| format!("{byte:02x}")).collect();
            EventLine {
                size_bytes: blobs.iter().fold(0, |sum, (_, bytes)| u64::saturating_add(sum, *bytes)),
                blobs: blobs.iter().map(|(id, _)| id.to_string()).collect(),
                proof: acknowledged.iter().map(|(node, seq)| acknowledgement(names, node, *seq)).collect(),
                ..bare("purged", format!("no ref reaches it, as every member knew (catalog {seen}); {asked}"))
            }
        }
        Note::Dropped { blob, proof } => EventLine {
            proof: proof.iter().map(|(node, storage)| proven(names, node, storage.to_string())).collect(),
            ..of("dropped", &blob, "others have proven that they keep theirs".to_owned())
        },
        Note::Deleted { blob } => of("deleted", &blob, "by an operator".to_owned()),
        Note::Forgotten { blob, why } => of("rot", &blob, format!("its bytes here were found {why}: it is not held any more")),
        Note::Restored { blob, by_itself: true } => of("restored", &blob, "a ref reaches it again".to_owned()),
        Note::Restored { blob, by_itself: false } => of("restored", &blob, "on request".to_owned()),
        Note::Collided { kept, refused } => {
            of("collision", &kept, format!("another blob of the same SHA-1 was refused, whose BLAKE3 is {}", refused.b3))
        }
        Note::Forked { node } => of_node("fork", &node, "it wrote two entries at one position".to_owned()),
        Note::Twin => bare("twin", "another machine runs a copy of this home right now".to_owned()),
        Note::IndexDamaged { why } => bare("index_damaged", format!("{why}: nothing is deleted here until it is mended")),
        Note::IndexWhole => bare("index_whole", "the index was read whole and agrees with the log".to_owned()),
        Note::RolledBack { boot } => bare("rollback", format!("this home was restored from an old copy: boot {boot} is over")),
        Note::Refused { node, why } => of_node("refused", &node, why),
        Note::Declared { node, is_dead, by } => {
            of_node(if is_dead { "dead" } else { "revived" }, &node, format!("{} says so", name_of(names, &by)))
        }
        Note::UnlinkFailed { blob, why } => of_id("unlink_failed", &blob, why),
        Note::Unlinked { blob, attempts } => of_id("unlinked", &blob, format!("after {attempts} attempts in vain")),
        Note::Unreadable { blob, why } => of("unreadable", &blob, why),
        Note::Repaired { blob, from } => {
            let from: Vec<String> = from.iter().map(|node| name_of(names, node)).collect();
            of_id("repaired", &blob, format!("fetched again from {}", from.join(", ")))
        }
        Note::Removed { node, is_removed, by } => {
            of_node(if is_removed { "removed" } else { "taken_in_again" }, &node, format!("{} says so", name_of(names, &by)))
        }
        Note::GivenUp { blob, by } => of("given_up", &blob, format!("{by} asked for it, without proof of other copies")),
    }
}

/// Bytes of the digest that are shown.
const SEEN_BYTES: usize = 8;

fn acknowledgement(names: &Names, node: &NodeId, seq: u64) -> ProofLine {
    ProofLine { node: name_of(names, node), storage: None, acknowledged: Some(seq) }
}

fn proven(names: &Names, node: &NodeId, storage: String) -> ProofLine {
    ProofLine { node: name_of(names, node), storage: Some(storage), acknowledged: None }
}

impl EventLine {
    /// What happened, in one line without its time.
    pub fn text(&self) -> String {
        let size = SizeBytes(self.size_bytes).human();
        let what = match (self.blobs.as_slice(), &self.node) {
            ([], Some(node)) => format!(" {node}"),
            ([], None) => String::new(),
            ([blob], _) => format!(" {blob}"),
            (blobs, _) => format!(" {} blobs, {size}", blobs.len()),
        };
        let proof: Vec<&str> = self.proof.iter().map(|proof| proof.node.as_str()).collect();
        let proof = if proof.is_empty() { String::new() } else { format!(" ({})", proof.join(", ")) };
        format!("{}{what}: {}{proof}", self.event, self.why)
    }
}
