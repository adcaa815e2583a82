//! Every limit of the protocol, each a named constant, so that what a peer or a user may send is known before it is read.
//!
//! A limit is inclusive: a value of exactly that size is accepted, one more is refused. Each is tested at and past its edge
//! beside the code that enforces it; relations between limits are asserted here at compile time.

// ---- Words: names, URIs, JSON objects, directories ------------------------------------------------------------------------

/// Bytes of a whole ref name, `group/key`, in UTF-8.
pub const MAX_NAME_BYTES: usize = 4_096;

/// Bytes of the name of a node or a network. Fewer than the digits of a node id, so that a name is never taken for an id, and
/// enough for one label of a host name.
pub const MAX_NODE_NAME_BYTES: usize = 63;

/// Bytes of a lot's name. Lots are often named after storage paths, hence more than a node's.
pub const MAX_LOT_NAME_BYTES: usize = 1_024;

/// Bytes of an owner's name: a user and a machine, or what a program calls itself.
pub const MAX_OWNER_NAME_BYTES: usize = 128;

/// Bytes of a blob's label. Kachery's labels may be whole paths, hence more than a file name's.
pub const MAX_LABEL_BYTES: usize = 1_024;

/// Bytes of one file or folder name: what the file systems that a directory is restored to can hold.
pub const MAX_SEGMENT_BYTES: usize = 255;

/// Bytes of a URI as written, percent-encoding included.
pub const MAX_URI_BYTES: usize = 16_384;

/// Nested arrays and objects in the obj or meta of a ref, and in a document scanned for links.
pub const MAX_JSON_DEPTH: usize = 64;

/// Bytes of a ref's obj and meta together, as JSON text.
pub const MAX_OBJ_META_BYTES: usize = 65_536;
/// Bytes of a condition on the meta of refs.
pub const MAX_FILTER_BYTES: usize = 4_096;

/// Bytes of a JSON blob that `put --scan json` reads for links.
pub const MAX_SCAN_BYTES: usize = 64 << 20;

/// Distinct blobs that a ref's obj may name. A ref that needs more names a directory or a JSON blob which links to them.
pub const MAX_DIRECT_LINKS: usize = 1_024;

/// Components of a path inside a directory object, the file's own name included.
pub const MAX_DIRECTORY_DEPTH: usize = 60;

/// Files and folders in one directory object.
pub const MAX_DIRECTORY_ENTRIES: usize = 1_000_000;

/// Bytes of a directory object's JSON.
pub const MAX_DIRECTORY_BYTES: usize = 256 << 20;

/// Nested JSON objects of the deepest legal directory: two a folder (`dirs` and the folder), and the innermost `files`.
pub(crate) const MAX_DIRECTORY_JSON_DEPTH: usize = 2 * MAX_DIRECTORY_DEPTH + 2;

/// What serde_json itself refuses; ours must be met first, so that the error is ours.
const SERDE_JSON_DEPTH: usize = 127;

/// Bytes that one byte may take when percent-encoded.
const PERCENT_FACTOR: usize = 3;

const _: () = assert!(MAX_JSON_DEPTH <= SERDE_JSON_DEPTH && MAX_DIRECTORY_JSON_DEPTH <= SERDE_JSON_DEPTH);
const _: () = assert!(
    MAX_URI_BYTES >= "keepwell://".len() + PERCENT_FACTOR * MAX_NAME_BYTES,
    "every legal ref name can be written as a URI"
);
const _: () = assert!(
    MAX_URI_BYTES >= "sha1dir://?label=".len() + 40 + PERCENT_FACTOR * MAX_LABEL_BYTES,
    "every legal label can be written in a URI"
);
const _: () = assert!(MAX_NODE_NAME_BYTES < 2 * crate::id::NodeId::LEN, "no node name reads as a node id");
const _: () = assert!(MAX_SEGMENT_BYTES <= MAX_LABEL_BYTES, "every file name can be a label");
const _: () = assert!(MAX_OBJ_META_BYTES <= MAX_SCAN_BYTES && MAX_SCAN_BYTES <= MAX_DIRECTORY_BYTES);
// ---- End of words ---------------------------------------------------------------------------------------------------------

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

/// Bytes of entries in one answer to a pull; it always has room for one entry.
pub const MAX_PULL_BYTES: usize = 4 << 20;
/// Bytes of one message between two nodes.
pub const MAX_MESSAGE_BYTES: usize = MAX_PULL_BYTES + (64 << 10);
/// Chains that one pull may ask for.
pub const MAX_WANTS: usize = 4_096;
/// Entries kept in memory until what they build on has arrived; what does not fit is pulled again.
pub const MAX_WAITING_ENTRIES: usize = 1_024;
/// Bytes of such entries.
pub const MAX_WAITING_BYTES: usize = 16 << 20;

const _: () = assert!(MAX_PULL_BYTES >= MAX_ENTRY_BYTES, "an answer has room for any one entry");
const _: () = assert!(MAX_MESSAGE_BYTES <= MAX_DECODED_BYTES);

// --- Garbage collection ---

/// Blobs that one question about copies may name.
pub const MAX_QUESTION_BLOBS: usize = 1_024;
/// Nodes that a report on a copy names for each reason at most.
pub const MAX_REPORTED_NODES: usize = 16;
/// The largest part of all time that collections may be given, in millionths.
pub const MAX_PAUSE_PPM: u32 = 500_000;
/// What a collection costs at least when the pause after it is reckoned, in microseconds: cheap ones do not follow each other at once.
pub const MIN_COST_US: u64 = 5_000;
/// By how much longer it takes each time until a collection that something stands in the way of is tried again, in milliseconds.
pub const RETRY_MORE_MS: u64 = 1_000;
/// How long it takes at most: whoever is in the way may go out of it at any time (milliseconds).
pub const RETRY_MOST_MS: u64 = 10_000;
/// How long what was deleted can be brought back at least while a disk is under pressure, its reserve untouched (milliseconds).
pub const MIN_TRASH_AGE_MS: u64 = 10 * 60 * 1_000;

const _: () = assert!(RETRY_MORE_MS <= RETRY_MOST_MS);
const _: () = assert!(MAX_QUESTION_BLOBS * 64 < MAX_MESSAGE_BYTES, "a question fits in a message beside its vector");

// --- Clocks and what ends by them ---

/// How far a clock may be from the median of all that are known before nothing ends by it (milliseconds).
pub const MAX_CLOCK_SKEW_MS: u64 = 10 * 60 * 1_000;
/// By how much a clock may be set before nothing ends by it until that is confirmed (milliseconds).
pub const MAX_CLOCK_JUMP_MS: u64 = 60 * 60 * 1_000;
/// How long what a member said of its clock counts (milliseconds).
pub const CLOCK_HEARD_FOR_MS: u64 = 60 * 1_000;

/// How long each member leaves to the one before it to write the mark of a value that has expired (milliseconds).
pub const MARK_TURN_MS: u64 = 10 * 1_000;
/// How many uses of a ref count while it lives on after the last, at most.
pub const TOUCHES_PER_TTL: u64 = 10;
/// How long after the last use that counted the next one does at the latest (milliseconds).
pub const MAX_TOUCH_STEP_MS: u64 = 60 * 60 * 1_000;

const _: () = assert!(MAX_CLOCK_SKEW_MS < MAX_CLOCK_JUMP_MS && CLOCK_HEARD_FOR_MS < MAX_CLOCK_SKEW_MS);

// --- Membership ---

/// Bytes of a ticket's text: what people copy by hand and terminals take in one line.
pub const MAX_TICKET_BYTES: usize = 4_096;
/// Addresses in one ticket.
pub const MAX_TICKET_ADDRESSES: usize = 16;

// --- Bulk transfer ---

/// Bytes of one range on a bulk stream.
pub const MAX_RANGE_BYTES: usize = 1 << 20;
/// Small blobs that one request may ask for.
pub const MAX_SMALL_BLOBS: usize = 1_024;
/// Blobs up to this size are fetched whole, many in a request; larger ones in verified ranges. In bytes.
pub const MAX_SMALL_BYTES: u64 = 64 << 10;
/// BLAKE3 values in one reply: enough for the spans of 4 TiB.
pub const MAX_SPAN_VALUES: usize = 65_536;
/// Bytes of one frame on a bulk stream, the bytes of blobs not counted.
pub const MAX_BULK_FRAME_BYTES: usize = MAX_SPAN_VALUES * 32 + 64;

const _: () = assert!(MAX_SMALL_BYTES <= MAX_RANGE_BYTES as u64, "a small blob is one reply");
const _: () = assert!(MAX_BULK_FRAME_BYTES <= MAX_DECODED_BYTES);

// --- The catalog ---

/// The catalog's shards: for ever, since the shard of an item is part of every change.
pub const SHARDS: usize = 256;
/// Operations after which a shard's epoch rolls.
pub const EPOCH_OPS: u32 = 1_000;
/// Bytes of writes after which a shard's epoch rolls.
pub const EPOCH_BYTES: u32 = 256 << 10;
/// Changes that one change of a shard's document may name as its direct predecessors.
pub const MAX_CHANGE_DEPS: usize = 64;
/// Earlier writes that one write may replace: the conflicts that were visible to its author.
pub const MAX_REPLACES: usize = 1_024;
/// Bytes of one item's body (a ref's links come on top of its object and meta).
pub const MAX_BODY_BYTES: usize = 256 << 10;
/// Parts of a member's boots whose last entry that counts one removal names. Of more, those with the fewest entries are not named.
pub const MAX_REMOVAL_CUTS: usize = 8_192;
/// Children in one link fact; a parent with more has several facts, whose children add up.
pub const MAX_FACT_CHILDREN: usize = 8_192;

const _: () = assert!(MAX_FACT_CHILDREN <= MAX_ENTRY_OPS, "one fact fits in an entry's count");
const _: () = assert!(MAX_FACT_CHILDREN * 64 < MAX_ENTRY_BYTES, "one fact fits in an entry's bytes");
const _: () = assert!(MAX_REMOVAL_CUTS * 26 < MAX_BODY_BYTES, "one removal fits in a body");
const _: () = assert!(MAX_BODY_BYTES < MAX_ENTRY_BYTES / 2, "one write fits in an entry");
const _: () = assert!(MAX_GOSSIP_ENTRY_BYTES < MAX_ENTRY_BYTES);
