//! Every named number of this crate, with the relations between them checked by the compiler.

/// Notes that the audit log keeps. The largest, of a step that purged as many blobs as one may, has some kilobytes.
pub const AUDIT_ROWS: u64 = 20_000;

/// Memory that the index may use for its pages (bytes).
pub const INDEX_CACHE_BYTES: usize = 32 * 1024 * 1024;

/// What is kept in memory of what was overwritten while the index is checked: past it, the check is given up (bytes).
pub const MAX_SAVED_BYTES: u64 = 64 * 1024 * 1024;

/// Space that blobs leave free on the disk, so that the index can always grow: a full index cannot even be cleared (bytes).
pub const INDEX_RESERVE_BYTES: u64 = 32 * 1024 * 1024;

/// Blobs up to this size live in the database, larger ones in files (bytes).
pub const INLINE_MAX_BYTES: usize = 16 * 1024;

/// The piece of a blob whose BLAKE3 subtree value is kept, so that it can be verified alone (bytes).
pub const GROUP_BYTES: usize = 64 * 1024;

/// The piece of a blob whose group values travel and are stored together; itself a BLAKE3 subtree (bytes).
pub const SPAN_BYTES: usize = 64 * 1024 * 1024;

/// Groups in a whole span.
pub const GROUPS_PER_SPAN: usize = SPAN_BYTES / GROUP_BYTES;

/// One buffer of the copying and hashing loop (bytes); large enough for a disk to be busy with it alone.
pub const COPY_BUFFER_BYTES: usize = 1024 * 1024;

/// Buffers that circulate between the reading and the hashing threads.
pub const COPY_BUFFERS: usize = 8;

/// Pieces of this size and more are written around the page cache, and read without filling it, where that is possible (bytes).
pub const DIRECT_BYTES: usize = 1024 * 1024;

/// The beginning of a file that is kept in the page cache all the same, since small blobs are read again soon (bytes).
pub const CACHED_HEAD_BYTES: u64 = 8 * 1024 * 1024;

/// Inputs shorter than this are hashed by the reading thread alone: others cost more than they save (bytes).
pub const THREADS_FROM_BYTES: usize = 1024 * 1024;

/// The first, smaller buffer of a read: most blobs end in it, and a large buffer would cost more than their hash (bytes).
pub const FIRST_BUFFER_BYTES: usize = 32 * 1024;

/// How often the SHA-1 state of a growing prefix is saved, so that a resumed fetch need not hash again (bytes).
pub const SHA1_STATE_EVERY_BYTES: usize = SPAN_BYTES;

/// How much of an upload is taken between two syncs: what a crash can cost its client (bytes).
pub const UPLOAD_SYNC_EVERY_BYTES: usize = 64 * COPY_BUFFER_BYTES;

/// Blobs above a doubtful one that are looked at to find out whether it is kept by a cycle alone.
pub const MAX_CYCLE_BLOBS: usize = 10_000;

// A subtree of BLAKE3 is complete only when it holds a power of two of chunks.
const _: () = assert!(GROUP_BYTES.is_power_of_two() && GROUP_BYTES >= blake3::CHUNK_LEN);
const _: () = assert!(SPAN_BYTES.is_power_of_two() && SPAN_BYTES > GROUP_BYTES);
// Ingest knows an inline blob by its first buffer, so that buffer must be able to hold more.
const _: () = assert!(FIRST_BUFFER_BYTES > INLINE_MAX_BYTES && THREADS_FROM_BYTES > FIRST_BUFFER_BYTES);
// Whole groups in a buffer are hashed in place, without being cut.
const _: () = assert!(COPY_BUFFER_BYTES.is_multiple_of(GROUP_BYTES) && THREADS_FROM_BYTES.is_multiple_of(GROUP_BYTES));
// What one ingest holds in memory; its first buffer is one of those that circulate.
const _: () = assert!(COPY_BUFFER_BYTES * COPY_BUFFERS <= 8 * 1024 * 1024 && THREADS_FROM_BYTES == COPY_BUFFER_BYTES);
// Whoever writes large blobs hands over pieces that need no copy.
const _: () = assert!(COPY_BUFFER_BYTES >= DIRECT_BYTES && CACHED_HEAD_BYTES.is_multiple_of(DIRECT_BYTES as u64));
// A saved SHA-1 state carries no half block.
const _: () = assert!(SHA1_STATE_EVERY_BYTES.is_multiple_of(crate::hash::sha1_state::BLOCK_BYTES));
// A file always has group values to verify ranges by, or is one group.
const _: () = assert!(INLINE_MAX_BYTES <= GROUP_BYTES);
