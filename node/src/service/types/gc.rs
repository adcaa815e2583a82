//! The lines about how garbage collection does.

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
}
