//! Every limit and interval of the node, each a named constant with its unit in the name; relations are checked by the compiler.

use std::time::Duration;

use keepwell_protocol::limits::{MAX_ENTRY_OPS, MAX_QUESTION_BLOBS};

/// How long a command waits for the lock of a home that another process is using, unless told otherwise (milliseconds).
pub const LOCK_WAIT_MS: u64 = 30_000;

/// How often a waiting command tries the lock: no system call waits for one with a time limit (milliseconds).
pub const LOCK_POLL_MS: u64 = 20;

/// Blobs that one put records in one transaction. More share the cost of a commit; fewer show their names sooner.
pub const PUT_BATCH_BLOBS: usize = 1_000;

/// Bytes after which a put records what it has taken in, however few blobs that is.
pub const PUT_BATCH_BYTES: u64 = 256 << 20;

/// How long a blob stays after it was put or fetched although no ref needs it (milliseconds).
pub const PUT_GRACE_MS: u64 = 24 * 60 * 60 * 1_000;

/// How long after it was last read whole a blob counts as verified (milliseconds).
pub const VERIFIED_FOR_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Bytes of a `config.toml`.
pub const MAX_CONFIG_BYTES: u64 = 64 << 10;

/// How long what was deleted can be brought back (milliseconds).
pub const MAX_TRASH_AGE_MS: u64 = 24 * 60 * 60 * 1_000;
/// How often a portion of the old trash is removed (milliseconds).
pub const TRASH_EVERY_MS: u64 = 10_000;
/// Blobs in one such portion: others who write wait for its one commit.
pub const TRASH_PORTION: usize = 256;
/// Threads that move the files of deleted blobs: as many may hang and the rest still goes on.
pub const MOVERS: usize = 4;
/// How long after a failure the move of a file is tried again; each time twice as long (milliseconds).
pub const UNLINK_RETRY_MS: u64 = 1_000;
/// The longest that it is left alone (milliseconds).
pub const UNLINK_RETRY_MAX_MS: u64 = 60 * 60 * 1_000;
/// Queued moves that one tick looks at for those which are due again.
pub const UNLINK_LOOKS_PER_TICK: usize = 64;
/// How long a call to the file system may take before people are told that it hangs.
pub const HUNG_AFTER: Duration = Duration::from_secs(10);
/// How long `gc --run` waits for the files of what it has deleted to be moved, so that it can tell what could not be (milliseconds).
pub const MOVES_WAIT_MS: u64 = 2_000;
/// Blobs that one step has brought back from the trash because a ref reaches them again: the engine waits while their files are moved.
pub const RETRIEVES_PER_STEP: usize = 32;
/// Blobs in the trash that one tick looks at while it is walked for such blobs.
pub const TRASH_LOOKS_PER_TICK: usize = 256;
/// How often the trash is walked although nothing says that it must be: for what could not be brought back (milliseconds).
pub const TRASH_WALK_EVERY_MS: u64 = 60 * 60 * 1_000;
/// Blobs that one step purges, of a command without a daemon: nobody waits for the step to end.
pub const PURGE_BATCH_BLOBS: usize = 4_096;
/// Blobs that a step purges without being asked. Nobody waits for them to go, and somebody may be waiting for the step: the file of each
/// is moved and noted by itself.
pub const UNASKED_PORTION: usize = 64;
/// Blobs that are asked about in one round, of a command that gives up copies or wants them proven: others wait for the steps in which
/// the questions are answered, and the copies go.
pub const DROP_PORTION: usize = 64;
/// Graces that one step ends, unless it purges more blobs than that.
pub const GRACES_PER_STEP: usize = 300;
/// Values past their deadline that one step looks at, and ends if that is for this node to do.
pub const EXPIRIES_PER_STEP: usize = 256;
/// How long a lease lasts unless told otherwise (milliseconds).
pub const LEASE_TTL_MS: u64 = 24 * 60 * 60 * 1_000;
/// How long one may last from when it is taken or renewed: who needs something for longer names it by a ref (milliseconds).
pub const MAX_LEASE_TTL_MS: u64 = 366 * 24 * 60 * 60 * 1_000;
/// Blobs that one request puts under a lease.
pub const MAX_LEASE_BLOBS: usize = 10_000;
/// Leases at once.
pub const MAX_LEASES: usize = 10_000;
/// Rows of expired leases that one step removes.
pub const LEASE_ROWS_PER_STEP: usize = 2_000;
/// How long an upload waits for its next piece (milliseconds).
pub const UPLOAD_TTL_MS: u64 = 24 * 60 * 60 * 1_000;
/// Uploads that a node keeps open.
pub const MAX_UPLOADS: usize = 1_000;
/// Links that one step follows to tell what is live.
pub const SETTLE_MENTIONS: usize = 2_000;
/// Blobs that may be kept by a cycle of links alone and are looked at in one step.
pub const CYCLES_PER_STEP: usize = 16;

/// How long the links of what nobody holds any more are remembered: until no trash can bring it back (milliseconds).
pub const FACTS_AFTER_MS: u64 = MAX_TRASH_AGE_MS + 60 * 60 * 1_000;
/// The part of that time which each member leaves to the one before it to forget them.
pub const FACT_TURNS: u64 = 150;
/// Blobs of which the links are forgotten at once.
pub const FACTS_PER_SWEEP: usize = 256;
/// Blobs from which links may lead to such a blob, at most: what has more above it keeps its links.
pub const FACT_BLOBS_ABOVE: usize = 1_000;
/// Blobs that are remembered to wait for that; of further ones, a later walk tells.
pub const MAX_FACTS_DUE: usize = 10_000;
/// How often all links are looked through for what has gone unnoticed (milliseconds).
pub const FACT_WALK_EVERY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Blobs with links that are looked at in one tick for that.
pub const FACT_LOOKS_PER_TICK: usize = 200;

/// Within how long all that is held is read, unless told otherwise (milliseconds).
pub const SCRUB_PERIOD_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// How much of it is read in a second at most, unless told otherwise (bytes).
pub const SCRUB_RATE_BYTES: u64 = 64 << 20;
/// How much of it is read in a second at least while a pass is under way (bytes).
pub const MIN_SCRUB_RATE_BYTES: u64 = 1 << 20;
/// Blobs that are read between two notes of how far the pass has come.
pub const SCRUB_PORTION_BLOBS: usize = 256;
/// Bytes after which that is noted, however few blobs they are.
pub const SCRUB_PORTION_BYTES: u64 = 64 << 20;
/// The shortest pause of whoever reads slowly.
pub const SCRUB_NAP: Duration = Duration::from_millis(10);
/// How often a daemon reads its index whole, to find damage in it; the first time when it starts.
pub const INDEX_CHECK_EVERY: Duration = Duration::from_secs(6 * 60 * 60);
/// When it tries again after a check that came to nothing.
pub const INDEX_CHECK_RETRY: Duration = Duration::from_secs(60);
/// How much of the index is read in a second at most (bytes).
pub const INDEX_CHECK_RATE_BYTES: u64 = 32 << 20;
/// How often what was lost here is asked of the others again.
pub const REPAIR_EVERY: Duration = Duration::from_secs(10);

/// Blobs that the node looks at in one tick, whether they lack copies.
pub const COPY_LOOKS_PER_TICK: usize = 500;
/// Likewise at the end of any other step.
pub const COPY_LOOKS_PER_STEP: usize = 50;
/// Blobs that are remembered to be looked at, whether they lack copies; beyond that all that is live is.
pub const MAX_COPY_LOOKS_DUE: usize = 50_000;
/// Blobs that lack copies that are remembered at a time.
pub const MAX_SHORT_BLOBS: usize = 2_048;
/// How long each node has to take a copy before it is the next one's turn, in milliseconds.
pub const COPY_TURN_MS: u64 = 30_000;
/// Blobs of which copies are fetched at once.
pub const COPY_BATCH_BLOBS: usize = 256;
/// The bytes at which no more blobs are fetched at once.
pub const COPY_BATCH_BYTES: u64 = 64 << 20;
/// Batches that are fetched at a time.
pub const MAX_COPY_BATCHES: usize = 4;
/// After how many milliseconds a copy that nobody gave is tried again, at most; twice as many after each time.
pub const COPY_RETRY_MS: u64 = 2_000;
/// And never more than that.
pub const MAX_COPY_RETRY_MS: u64 = 5 * 60 * 1_000;
/// How often a copy is tried until a member that comes into reach is reason to try it again.
pub const COPY_TRIES: u32 = 12;

/// For how long a member may be silent, by the time that this node has run, before it is not waited for any more (milliseconds).
pub const ABSENT_AFTER_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// For how much of that it must have been silent since this node started last: what a disk says of silence may be of long ago (milliseconds).
pub const ABSENT_AFTER_START_MS: u64 = 60 * 60 * 1_000;
/// The longest time between two ticks that counts as running: a machine that slept could not have heard anybody (milliseconds).
pub const MAX_TICK_GAP_MS: u64 = 5_000;
/// How often it is written down for how long members have been silent (milliseconds).
pub const SILENCE_NOTED_EVERY_MS: u64 = 10 * 60 * 1_000;
/// How long others are asked about copies that are to be given up (milliseconds).
pub const DROP_TIMEOUT_MS: u64 = 10_000;
/// How long another member is waited for that was asked to give up its copies: its own round, and the way there and back (milliseconds).
pub const DROP_FROM_TIMEOUT_MS: u64 = 15_000;
/// How long a member is waited for that was asked to write the use of a ref, before the next one is asked (milliseconds).
pub const USE_ELSEWHERE_TIMEOUT_MS: u64 = 5_000;
/// Rounds at once in which this node gives up copies because other members ask it to; of more, nothing is heard.
pub const MAX_ROUNDS_OF_OTHERS: usize = 16;
/// How long an answer is waited for before the question is asked again (milliseconds).
pub const ASK_AGAIN_MS: u64 = 3_000;
/// Questions of others whose copies are looked at, at once; of more, nothing is heard, and they come again.
pub const MAX_PROBES: usize = 64;
/// Records that one look for surplus copies goes through while space is short.
pub const SURPLUS_LOOKS: usize = 1_000;
/// Copies that are given up at once because space is short: others look at theirs for each.
pub const SURPLUS_BATCH: usize = 64;
/// By how much longer it may take each time until a copy that had to stay is asked about again while space is short (milliseconds).
pub const SURPLUS_RETRY_MORE_MS: u64 = 5_000;
/// How long that may take at most (milliseconds).
pub const SURPLUS_RETRY_MOST_MS: u64 = 10 * 60 * 1_000;
/// Blobs of which it is remembered that they had to stay. Of further ones it is tried again sooner.
pub const MAX_REFUSED_DROPS: usize = 10_000;
/// How long it takes at most until something is written again on a disk that was full, if nobody asks for it (milliseconds).
pub const FULL_DISK_RETRY_MOST_MS: u64 = 60 * 1_000;
/// Blobs behind a new root that are looked for among those which are being given up; behind larger roots all are taken to be.
pub const NEW_ROOT_VISITS: usize = 10_000;

/// Inputs that one step takes: more share the cost of a commit, fewer answer sooner.
pub const MAX_STEP_INPUTS: usize = 1_000;
/// How often the engine is told that time has passed.
pub const TICK_MS: u64 = 1_000;
/// How often a node tells its peers how far it has come.
pub const STATUS_EVERY_MS: u64 = 3_000;
/// How long an answer to a pull is waited for before another is asked for.
pub const PULL_TIMEOUT_MS: u64 = 10_000;
/// Chains of which it is remembered, and so told once, that something in them does not count. Of further ones nothing is told.
pub const MAX_REFUSED_CHAINS: usize = 1_024;
/// Small blobs that are asked for and recorded together.
pub const FETCH_BATCH_BLOBS: usize = 1_000;
/// Bytes of them.
pub const FETCH_BATCH_BYTES: u64 = 16 << 20;
/// Reasons that one failure to fetch tells.
pub const MAX_REASONS: usize = 16;
/// How often whoever watches a fetch is told how far it is.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// How long an invitation lasts unless told otherwise (milliseconds).
pub const INVITE_LASTS_MS: u64 = 15 * 60 * 1_000;
/// Machines that one invitation may be for.
pub const MAX_INVITE_USES: u32 = 100;
/// Blobs whose closures one request fetches.
pub const MAX_FETCH_ROOTS: usize = 1_024;
/// Invitations that may be open at once.
pub const MAX_INVITES: usize = 256;
/// Bytes of the file that keeps them.
pub const MAX_INVITES_BYTES: u64 = 1 << 20;
/// Addresses that are remembered of one member.
pub const MAX_ADDRESSES_OF_A_NODE: usize = 8;
/// Bytes of the file that remembers them.
pub const MAX_ADDRESSES_BYTES: u64 = 1 << 20;
/// How long a daemon that starts waits until it can be reached.
pub const LISTEN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long `join` waits until the new node has heard that it is a member.
pub const JOIN_SYNC_TIMEOUT: Duration = Duration::from_secs(60);
/// How long `doctor` waits for a daemon that has taken its question.
pub const DOCTOR_TIMEOUT: Duration = Duration::from_secs(10);
/// Free bytes on the disk of a home below which `doctor` warns.
pub const LOW_SPACE_BYTES: u64 = 1 << 30;
/// Free bytes below which it calls the disk full: the index alone may need as much for one large transaction.
pub const OUT_OF_SPACE_BYTES: u64 = 64 << 20;
/// How far in the future a ref may seem to have been set before a clock is called wrong (milliseconds).
pub const CLOCK_SKEW_MS: u64 = 5 * 60 * 1_000;
/// How long after it was last written to the file of a put counts as left behind (milliseconds).
pub const STALE_INGEST_MS: u64 = 60 * 60 * 1_000;
/// How long a client that sends too much may pause before it is answered in the middle of it.
pub const UNWANTED_BODY_PAUSE: Duration = Duration::from_millis(500);
/// How long a bulk stream may be idle before the serving side closes it.
pub const BULK_IDLE: Duration = Duration::from_secs(120);
/// How long one answer on a bulk stream may take to begin, and to end.
pub const BULK_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Questions that may be open on a bulk stream. Of a mebibyte each, they fill the way to a distant node.
pub const QUESTIONS_AHEAD: usize = 8;
/// Answers that wait on a bulk stream behind the one which is being sent: the disk is read meanwhile.
pub const ANSWERS_AHEAD: usize = 1;
/// Bytes of small blobs that are read from the disk at once. A batch may end one small blob past this.
pub const SERVE_BATCH_BYTES: usize = 1 << 20;

/// Bytes of a JSON request. A directory object of the largest size has its links in one.
pub const MAX_JSON_BODY_BYTES: usize = 64 << 20;
/// Requests that are worked on at once; those beyond are told to come again.
pub const MAX_REQUESTS: usize = 256;
/// Pieces of a blob that wait between the socket and the disk, in either direction.
pub const PIECES_AHEAD: usize = 8;
/// Blobs that one request asks about.
pub const MAX_STAT_BLOBS: usize = 10_000;
/// How long one request waits for copies (milliseconds).
pub const MAX_CONFIRM_WAIT_MS: u64 = 60 * 60 * 1_000;
/// Blobs that `why` looks at on its way up to what keeps one.
pub const WHY_VISITS: usize = 10_000;
/// Roots that `why` tells of; more are only said to be there.
pub const WHY_ROOTS: usize = 1_000;
/// Refs that one request writes.
pub const MAX_BATCH_REFS: usize = 10_000;
/// Refs in a list when the request does not say how many.
pub const LIST_REFS: usize = 1_000;
/// Refs in a list at most; the rest is behind its cursor.
pub const MAX_LIST_REFS: usize = 10_000;
/// Refs that `ref rm --glob` removes in one step.
pub const REMOVE_BATCH_REFS: usize = 1_000;
/// Refs that one page of a list looks at in vain, and blobs that it counts.
pub const LIST_VISITS: usize = 2_000;
/// Blobs that reach another one, at most, where the refs of all of them are listed.
pub const CONTAINS_VISITS: usize = 10_000;
/// Events in a list when the request does not say how many.
pub const LIST_EVENTS: usize = 1_000;
/// Events in a list at most; the rest is behind its cursor.
pub const MAX_LIST_EVENTS: usize = 10_000;
/// Ingests that one request asks for.
pub const MAX_NEW_INGESTS: usize = 1_000;
/// Ingests that clients were given and have not committed; of more, the oldest is forgotten.
pub const MAX_OPEN_INGESTS: usize = 10_000;
/// Blobs that one request commits.
pub const MAX_COMMIT_ITEMS: usize = 1_000;
/// Bytes of small blobs that a client sends in one request.
pub const COMMIT_INLINE_BYTES: usize = 8 << 20;
/// Bytes of a blob that a client sends at once.
pub const SEND_PIECE_BYTES: usize = 256 << 10;
/// Bytes of a path that a socket can have: what the operating system has room for, less the end.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;
/// How long a daemon that is asked to stop waits for the requests under way.
pub const STOP_GRACE: Duration = Duration::from_secs(2);

const _: () = assert!(PUT_BATCH_BLOBS <= MAX_COMMIT_ITEMS, "a batch of a put is one commit");
const _: () = assert!(COMMIT_INLINE_BYTES / 3 * 4 + COMMIT_INLINE_BYTES < MAX_JSON_BODY_BYTES, "small blobs in base64 fit");
const _: () = assert!(REMOVE_BATCH_REFS <= MAX_BATCH_REFS);
const _: () = assert!(LIST_EVENTS <= MAX_LIST_EVENTS);
const _: () = assert!(LIST_REFS <= MAX_LIST_REFS && MAX_NEW_INGESTS < MAX_OPEN_INGESTS);
const _: () = assert!(MAX_TRASH_AGE_MS < FACTS_AFTER_MS && FACTS_PER_SWEEP < MAX_FACTS_DUE);
const _: () = assert!(UNASKED_PORTION <= PURGE_BATCH_BLOBS);
const _: () = assert!(RETRIEVES_PER_STEP < TRASH_LOOKS_PER_TICK);
const _: () = assert!(TRASH_WALK_EVERY_MS < MAX_TRASH_AGE_MS, "what could not be brought back is tried again before it goes");
const _: () = assert!(LOCK_POLL_MS < LOCK_WAIT_MS && LEASE_TTL_MS <= MAX_LEASE_TTL_MS);
const _: () = assert!(ABSENT_AFTER_START_MS < ABSENT_AFTER_MS);
const _: () = assert!(TICK_MS < MAX_TICK_GAP_MS && SILENCE_NOTED_EVERY_MS < ABSENT_AFTER_MS);
const _: () = assert!(STATUS_EVERY_MS < MAX_TICK_GAP_MS && ASK_AGAIN_MS < DROP_TIMEOUT_MS);
const _: () = assert!(DROP_TIMEOUT_MS + 2 * TICK_MS < DROP_FROM_TIMEOUT_MS);
const _: () = assert!(
    DROP_PORTION <= MAX_QUESTION_BLOBS && SURPLUS_BATCH <= MAX_QUESTION_BLOBS && SURPLUS_RETRY_MORE_MS <= SURPLUS_RETRY_MOST_MS
);
const _: () = assert!(SCRUB_PERIOD_MS <= VERIFIED_FOR_MS && MIN_SCRUB_RATE_BYTES <= SCRUB_RATE_BYTES);
const _: () = assert!(OUT_OF_SPACE_BYTES < LOW_SPACE_BYTES);
const _: () = assert!(PUT_BATCH_BLOBS <= MAX_ENTRY_OPS, "the holdings of one batch fit in one entry");
