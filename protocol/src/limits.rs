//! Every limit of the protocol, in one place, each a named constant with its unit in the name.

// --- Entries and the log ---

/// The format version that this build writes and reads. See `wire`.
pub const WIRE_VERSION: u8 = 1;
/// Memory that decoding one message may claim, in bytes: several times the largest message, for the width of types in memory.
pub const MAX_DECODED_BYTES: usize = 16 << 20;
/// Bytes of one whole signed entry.
pub const MAX_ENTRY_BYTES: usize = 1 << 20;
/// Catalog writes, link facts and holding changes in one entry, counted together.
pub const MAX_ENTRY_OPS: usize = 10_000;
/// Heads that one entry may name as what its author had newly applied.
pub const MAX_ENTRY_DEPS: usize = 4_096;
/// Entries up to this size are gossiped whole; larger ones are announced and pulled. In bytes.
pub const MAX_GOSSIP_ENTRY_BYTES: usize = 32 << 10;

// --- The catalog ---

/// The catalog's shards: for ever, since the shard of an item is part of every change.
pub const SHARDS: usize = 256;
/// Operations after which a shard's epoch rolls.
pub const EPOCH_OPS: u32 = 1_000;
/// Bytes of writes after which a shard's epoch rolls.
pub const EPOCH_BYTES: u32 = 256 << 10;
/// Epochs that a change may skip past the newest its author has seen: none honest ever does.
pub const MAX_EPOCH_SKIP: u32 = 1;
/// Changes that one change of a shard's document may name as its direct predecessors.
pub const MAX_CHANGE_DEPS: usize = 64;
/// Earlier writes that one write may replace: the conflicts that were visible to its author.
pub const MAX_REPLACES: usize = 1_024;
/// Bytes of one item's body (a ref's links come on top of its object and meta).
pub const MAX_BODY_BYTES: usize = 256 << 10;
/// Children in one link fact; a parent with more has several facts, whose children add up.
pub const MAX_FACT_CHILDREN: usize = 8_192;

const _: () = assert!(MAX_FACT_CHILDREN <= MAX_ENTRY_OPS, "one fact fits in an entry's count");
const _: () = assert!(MAX_FACT_CHILDREN * 64 < MAX_ENTRY_BYTES, "one fact fits in an entry's bytes");
const _: () = assert!(MAX_BODY_BYTES < MAX_ENTRY_BYTES / 2, "one write fits in an entry");
const _: () = assert!(MAX_GOSSIP_ENTRY_BYTES < MAX_ENTRY_BYTES);
