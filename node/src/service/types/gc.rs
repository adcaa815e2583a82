//! The lines about garbage collection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How garbage collection does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcStateLine {
    /// Whether the node collects by itself.
    pub auto: bool,
    /// The last collection that deleted something.
    pub last: Option<GcLastLine>,
    /// Blobs that nothing needs now and whose grace is over.
    pub unneeded: u64,
    /// Why none of them may go now, if so.
    pub blocked_by: Option<String>,
    /// Bytes that lie in the trash.
    pub trash_bytes: u64,
    /// How full the disk is.
    #[serde(flatten)]
    pub pressure: PressureLine,
}

/// How full the disk is, and what the home may hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PressureLine {
    /// `none`, `high` or `emergency`.
    pub pressure: String,
    /// What should go until the low mark is reached.
    pub to_free_bytes: u64,
    /// Why no more goes right now.
    pub waiting_for: Vec<String>,
}

/// A collection that deleted something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcLastLine {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// How many blobs went.
    pub blobs: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Whether the node did so by itself.
    pub by_itself: bool,
    /// How many blobs that nothing reaches it looked at.
    #[serde(default)]
    pub scanned: u64,
    /// How many of them it kept, by why.
    #[serde(default)]
    pub kept: BTreeMap<String, u64>,
    /// The longest that others have waited for a step which deleted, since the daemon started, in microseconds.
    #[serde(default)]
    pub longest_step_us: Option<u64>,
    /// Deleted blobs whose files could not be moved out of the way so far.
    #[serde(default)]
    pub errors: u64,
}

/// A blob that garbage collection would delete, or has deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcItemLine {
    /// Its SHA-1.
    pub sha1: String,
    /// What becomes of it: `purge`, when nothing needs it.
    pub action: String,
    /// Its size.
    pub size_bytes: u64,
    /// The account that it is charged to.
    pub lot: String,
    /// Why it may go.
    pub reason: String,
    /// Why it may not go now, if so.
    pub blocked_by: Option<String>,
}

/// What a garbage collection came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcLine {
    /// Whether it deleted anything, or only looked.
    pub run: bool,
    /// How many blobs could go.
    pub candidates: u64,
    /// The bytes that this node no longer holds. Their space is free when the trash is emptied.
    pub freed_bytes: u64,
    /// How many blobs were kept, by why.
    pub kept: BTreeMap<String, u64>,
    /// Bytes that lie in the trash now.
    #[serde(default)]
    pub trash_bytes: u64,
    /// Deleted blobs whose files could not be moved out of the way so far. That is tried again; `doctor` tells why.
    #[serde(default)]
    pub unlinks_failed: u64,
}

/// A garbage collection, blob by blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// What could go.
    pub blobs: Vec<GcItemLine>,
    /// Lists of HTTP say where they go on; this one is whole.
    pub next: Option<String>,
    /// All of it together.
    #[serde(flatten)]
    pub summary: GcLine,
}
