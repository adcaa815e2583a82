//! Every limit and interval of the node, each a named constant with its unit in the name.

use std::time::Duration;

/// How often the engine is told that time has passed.
pub const TICK_MS: u64 = 1_000;
/// How often a node tells its peers how far it has come.
pub const STATUS_EVERY_MS: u64 = 3_000;
/// How long an answer to a pull is waited for before another is asked for.
pub const PULL_TIMEOUT_MS: u64 = 10_000;
/// How long a bulk stream may be idle before the serving side closes it.
pub const BULK_IDLE: Duration = Duration::from_secs(120);
/// How long one answer on a bulk stream may take to begin, and to end.
pub const BULK_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Questions that may be open on a bulk stream. Of a mebibyte each, they fill the way to a distant node.
pub const QUESTIONS_AHEAD: usize = 8;
/// Bytes of small blobs that are read from the disk at once. A batch may end one small blob past this.
pub const SERVE_BATCH_BYTES: usize = 1 << 20;
