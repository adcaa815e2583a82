//! Every limit and interval of the node, each a named constant with its unit in the name.

/// How often the engine is told that time has passed.
pub const TICK_MS: u64 = 1_000;
/// How often a node tells its peers how far it has come.
pub const STATUS_EVERY_MS: u64 = 3_000;
/// How long an answer to a pull is waited for before another is asked for.
pub const PULL_TIMEOUT_MS: u64 = 10_000;
