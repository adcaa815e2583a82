//! The answers, as they stand in JSON: one of these a line. Keys are only ever added.

mod clock;
mod gc;
mod standing;

use keepwell_protocol::json::Json;
use serde::{Deserialize, Serialize};

use super::list::ReachLine;

pub use clock::ClockLine;
pub use gc::{GcItemLine, GcLastLine, GcLine, GcReport, GcStateLine, PressureLine};
pub use standing::Standing;

/// A home that was made.
#[derive(Debug, Clone, Serialize)]
pub struct InitLine {
    /// Its folder.
    pub home: String,
    /// What its node is called.
    pub name: String,
    /// The node's id.
    pub node: String,
    /// The network's id.
    pub network: String,
    /// What the network is called.
    pub network_name: String,
}

/// A blob or a directory that was put.
#[derive(Debug, Clone, Serialize)]
pub struct PutLine {
    /// What was put, as it was named; `-` for standard input.
    pub path: String,
    /// Its URI, with its label.
    pub uri: String,
    /// Its SHA-1.
    pub sha1: String,
    /// Its BLAKE3.
    pub b3: String,
    /// Its size; of a directory, that of the directory object.
    pub size_bytes: u64,
    /// Whether it was here before.
    pub existed: bool,
    /// How many files the directory has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<usize>,
}

/// A file or a directory that was written.
#[derive(Debug, Clone, Serialize)]
pub struct GetLine {
    /// Where it is.
    pub path: String,
    /// The SHA-1 of the file; none for a tree that is no directory object.
    pub sha1: Option<String>,
    /// The bytes of all its files.
    pub size_bytes: u64,
    /// How many files the tree has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<usize>,
}

/// What is known of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatLine {
    /// Its SHA-1.
    pub sha1: String,
    /// How well it is known.
    pub state: BlobState,
    /// Its size, if known.
    pub size_bytes: Option<u64>,
    /// What the URI that was asked about calls it.
    pub label: Option<String>,
    /// How many blobs it links to, as known here.
    pub links: usize,
    /// How many nodes say that they hold it.
    pub copies: usize,
}

/// How well a blob is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobState {
    /// No record anywhere.
    Unknown,
    /// The catalog knows it; it is not here.
    Recorded,
    /// It is here.
    Here,
    /// It is here, and was read whole not long ago.
    Verified,
    /// A file outside the home is known to have its bytes.
    Linked,
    /// It was deleted, and is not gone yet.
    Trashed,
}

impl BlobState {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            BlobState::Unknown => "unknown",
            BlobState::Recorded => "recorded",
            BlobState::Here => "here",
            BlobState::Verified => "verified",
            BlobState::Linked => "linked",
            BlobState::Trashed => "trashed",
        }
    }
}

/// A ref and its value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RefLine {
    /// The path before the key.
    pub group: String,
    /// The last part of the name.
    pub key: String,
    /// The user's object.
    pub obj: Json,
    /// The user's notes on it.
    pub meta: Json,
    /// The name of this value.
    pub rev: String,
    /// The node that wrote it.
    pub set_by: String,
    /// When, by that node's clock.
    pub set_at_ms: u64,
    /// When it lapses.
    pub expires_ms: Option<u64>,
    /// The blobs that the object names.
    pub links: Vec<LinkLine>,
    /// What others wrote without knowing of this value. Left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Vec<ConflictLine>>,
    /// On how many nodes all it needs is known to be, durably.
    pub durable: u32,
    /// On how many it shall be.
    pub copies: u32,
    /// The members that are said to hold what it needs and have not proven it. Only where proof was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproven: Option<Vec<String>>,
    /// What all that it reaches comes to. Only where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<ReachLine>,
    /// `backed` or `unbacked`.
    pub state: String,
}

/// A blob that a ref names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinkLine {
    /// Its SHA-1.
    pub sha1: String,
    /// Its BLAKE3, if known.
    pub b3: Option<String>,
    /// Its size, if known.
    pub size_bytes: Option<u64>,
    /// Whether it is on this node.
    pub here: bool,
}

/// Another value of a ref.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConflictLine {
    /// Its name.
    pub rev: String,
    /// Its object.
    pub obj: Json,
    /// Its notes.
    pub meta: Json,
    /// The node that wrote it.
    pub set_by: String,
    /// When, by that node's clock.
    pub set_at_ms: u64,
}

/// A blob that was taken in over HTTP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldLine {
    /// Its URI, with its label.
    pub uri: String,
    /// Its SHA-1.
    pub sha1: String,
    /// Its BLAKE3.
    pub b3: String,
    /// Its size.
    pub size_bytes: u64,
    /// Whether it was here before.
    pub existed: bool,
    /// The ref that names it now, if one was asked for.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<RefLine>,
}

/// How a node does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusLine {
    /// What it is called.
    pub name: String,
    /// Its id.
    pub node: String,
    /// The network's id.
    pub network: String,
    /// How it stands to the network.
    #[serde(default)]
    pub standing: Standing,
    /// Whether damage was found in its index: then it deletes nothing.
    #[serde(default)]
    pub index_damaged: bool,
    /// Whether a daemon answers.
    pub daemon: bool,
    /// The other members.
    pub peers: Vec<PeerLine>,
    /// Blobs held here.
    pub blobs: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// Bytes of what was deleted and can still be brought back.
    #[serde(default)]
    pub trash_bytes: u64,
    /// How full the disk is.
    #[serde(flatten, default)]
    pub pressure: PressureLine,
    /// How many bytes the home may hold; none is what the disk has.
    pub max_size_bytes: Option<u64>,
    /// Refs in the catalog.
    pub refs: u64,
    /// Whether all members are known to know all that is known here.
    pub converged: bool,
    /// The members of which that is not known.
    pub unacknowledged: Vec<String>,
    /// Blobs of which there are fewer copies than wanted.
    pub under_replicated: u64,
    /// When something was last deleted as garbage.
    pub last_gc_ms: Option<u64>,
    /// Whether what has a deadline ends by this machine's clock.
    pub clock: ClockLine,
    /// Deleted blobs whose files could not be moved out of the way so far.
    #[serde(default)]
    pub unlinks_failed: u64,
    /// When all that is held had last been read again.
    #[serde(default)]
    pub last_scrub_ms: Option<u64>,
    /// Blobs that were found lost or rotten here, as far as is remembered.
    #[serde(default)]
    pub rotten: u64,
}

/// Another member of the network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerLine {
    /// What it is called.
    pub name: String,
    /// Its id.
    pub node: String,
    /// Whether it can be talked to.
    pub connected: bool,
    /// How long an answer takes, in milliseconds, rounded up; none if it is not connected.
    pub rtt_ms: Option<u64>,
    /// When it last said anything, in Unix milliseconds; none if it has not since the daemon started.
    pub last_seen_ms: Option<u64>,
}

/// The end of a list that was cut.
#[derive(Debug, Clone, Serialize)]
pub struct NextLine {
    /// What to pass as the cursor for the rest.
    pub next: String,
}

/// One thing that `fsck` found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProblemLine {
    /// The blob, if it is about one.
    pub sha1: Option<String>,
    /// The file or table, if it is about one.
    pub path: Option<String>,
    /// The kind of problem.
    pub problem: String,
    /// What exactly.
    pub detail: String,
    /// The refs that name the blob.
    pub refs: Vec<String>,
    /// What was done about it; none if nothing was.
    pub repair: Option<String>,
}

/// What `fsck` came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FsckLine {
    /// Blobs looked at.
    pub checked: u64,
    /// Whether no problem is left.
    pub ok: bool,
    /// Problems found.
    pub problems: u64,
    /// Problems mended.
    pub repaired: u64,
    /// What was not looked at, because the home is at work: `index`, its checksums and whether its tables are those of the log, or of
    /// that `tables` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<String>,
}

/// One setting.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigLine {
    /// Its key in `config.toml`.
    pub key: String,
    /// Its value, as it would stand there.
    pub value: String,
    /// Who set it.
    pub origin: String,
}

/// Who holds a blob, as far as the catalog knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhereLine {
    /// Its SHA-1.
    pub sha1: String,
    /// Its size; none if nobody is known to hold it.
    pub size_bytes: Option<u64>,
    /// Who holds it.
    pub holders: Vec<HolderLine>,
}

/// One holder of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderLine {
    /// What the node is called.
    pub name: String,
    /// Its id.
    pub node: String,
    /// Whether it is this node.
    pub here: bool,
    /// When the bytes were last read and found whole; known of this node alone.
    pub verified_ms: Option<u64>,
}

/// A member of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLine {
    /// What it is called.
    pub name: String,
    /// Its id.
    pub node: String,
    /// `self`, `connected` or `absent`.
    pub state: String,
    /// Where it was reached.
    pub addresses: Vec<String>,
    /// How long an answer takes, in milliseconds, rounded up; none if it is not connected.
    pub rtt_ms: Option<u64>,
    /// When it last said anything, in Unix milliseconds; none if it has not since the daemon started.
    pub last_seen_ms: Option<u64>,
}

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteLine {
    /// What the new machine is to be given.
    pub ticket: String,
    /// When it lapses, in Unix milliseconds.
    pub expires_ms: u64,
    /// How many machines may join by it.
    pub uses: u32,
}

/// A blob that was fetched, or was here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchLine {
    /// Its SHA-1.
    pub sha1: String,
    /// The bytes of everything that it needs, itself included.
    pub size_bytes: u64,
    /// Bytes of it that came over the network.
    pub received_bytes: u64,
    /// The nodes that they came from.
    pub from: Vec<String>,
    /// Whether all of it was here before.
    pub existed: bool,
}

/// A fetch that goes on, as whoever watches it is told in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchingLine {
    /// How far it is.
    pub progress: ProgressLine,
}

/// How far a fetch of one blob, and of all that it needs, has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressLine {
    /// The SHA-1 of the blob that was asked for.
    pub sha1: String,
    /// Bytes that are here of those that were missing. They may become fewer, when what a node sent was of no use.
    pub done_bytes: u64,
    /// Bytes that were missing when it began.
    pub wanted_bytes: u64,
}

/// A home that has joined a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JoinLine {
    /// Its folder.
    pub home: String,
    /// What its node is called.
    pub name: String,
    /// The node's id.
    pub node: String,
    /// The network's id.
    pub network: String,
    /// What the network is called.
    pub network_name: String,
    /// The member that took it in.
    pub via: String,
}

/// One thing that `doctor` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckLine {
    /// What was looked at, in one word.
    pub check: String,
    /// How it is.
    pub state: CheckState,
    /// What was found.
    pub message: String,
    /// What to do about it; empty if there is nothing to do.
    pub hint: String,
    /// The word of the code with which a command would fail for it; problems alone have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// How something is that `doctor` looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// It works, and may not go on to, or not for everybody.
    Warn,
    /// It does not work.
    Problem,
}

impl CheckLine {
    /// The same with what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        CheckLine { hint: hint.into(), ..self }
    }
}

impl CheckState {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            CheckState::Ok => "ok",
            CheckState::Warn => "warn",
            CheckState::Problem => "problem",
        }
    }
}

/// A copy that was to be given up or taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropLine {
    /// The blob's SHA-1.
    pub sha1: String,
    /// Whether this node has given up its copy.
    pub dropped: bool,
    /// The bytes that this freed.
    pub freed_bytes: u64,
    /// What stood in the way.
    pub missing: Vec<MissingLine>,
    /// Of a copy that was given up without proof: the refs that reach it, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<String>,
}

/// One thing that stood in the way of giving up a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingLine {
    /// What it takes.
    pub need: String,
    /// Why that is not there.
    pub why: String,
    /// On which node, if on one.
    pub node: Option<String>,
}
