//! What the world must do once a step is durable, in the order given.

use keepwell_protocol::catalog::authority::AuthorityError;
use keepwell_protocol::catalog::row::Value;
use keepwell_protocol::gc::Missing;
use keepwell_protocol::gc::question::{Question, Why};
use keepwell_protocol::id::{BlobFact, BlobId, BootId, LeaseId, NodeId, StorageId, ValueId};
use keepwell_protocol::log::vector::Chain;
use keepwell_protocol::name::RefName;
use keepwell_store::collected::Scanned;
use keepwell_store::ingest::IngestId;
use keepwell_store::leases::Lease;

use super::input::RequestId;
use super::leases::LeaseRefusal;

/// One thing to do.
#[derive(Debug)]
pub enum Effect {
    /// Gossip an entry of ours. A hint: whoever misses it will pull it.
    Publish(Vec<u8>),
    /// Send a message to a connected member.
    Send {
        /// To whom.
        to: NodeId,
        /// An encoded message.
        bytes: Vec<u8>,
    },
    /// A peer broke the protocol: log it once with the reason, and close the connection.
    Refuse {
        /// Who.
        peer: NodeId,
        /// What it did.
        reason: String,
    },
    /// Something that people should hear of.
    Tell(Event),
    /// Answer a request.
    Reply(RequestId, Reply),
    /// Move the bytes of a deleted blob out of the way: `Store::unlink`.
    Unlink(BlobId),
    /// Look at the copies that a connected member asks about, with `Store::probe`, and report as `Input::Probed`.
    Probe {
        /// Who asks.
        from: NodeId,
        /// What.
        question: Question,
        /// What the choice of the part that is read comes from.
        seed: u64,
    },
    /// Fetch copies of these blobs alone from whoever holds them, and tell by `Input::Brought` when that is over.
    Bring(Vec<BlobId>),
    /// The node has purged something by itself. How long the step and the effects before this one
    /// took is to be told by `Input::Took`.
    Collected(Collected),
    /// Bring back from the trash what is needed again: `Store::try_retrieve`, then `Input::Restore` for nobody. If that fails, it is asked
    /// for again.
    Retrieve(BlobId),
    /// Remove the file of an upload that has ended, if it is there.
    Discard(IngestId),
    /// Remove for good what has been in the trash for long, or for long enough on a full disk: `Store::empty_some_trash`, a portion of it.
    EmptyTrash {
        /// What was deleted then or before, in Unix milliseconds.
        until_ms: u64,
        /// No more once so many bytes have gone.
        enough_bytes: u64,
    },
}

/// Something that people should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An entry breaks a rule: it is kept in the log, and nothing of what it says counts, here and everywhere.
    EntryRefused {
        /// Whose.
        chain: Chain,
        /// Why.
        reason: String,
    },
    /// A node signed two entries of one position: it was cloned, rolled back, or lies.
    Forked {
        /// Whose chain.
        chain: Chain,
    },
    /// This node has given up its copy of a blob.
    Dropped {
        /// What is gone.
        blob: BlobFact,
        /// Who had proven a copy, and on which disk.
        proof: Vec<(NodeId, StorageId)>,
    },
    /// Another process runs on a copy of this home, at the same time and under the same key.
    Twin,
    /// Others know entries of this node that its own disk does not: the disk was rolled back. It goes on under a new boot.
    RolledBack {
        /// The boot that was lost.
        old: BootId,
    },
}

/// An answer.
#[derive(Debug)]
pub enum Reply {
    /// To a put: one outcome a blob, in order.
    Put(Vec<PutOutcome>),
    /// To a write of refs: one outcome an op, or the reason why none was made.
    Refs(Result<Vec<RefOutcome>, RefRefusal>),
    /// To a use of a ref that somebody else was to write: who has, if anybody.
    UsedBy(Option<NodeId>),
    /// To an admission.
    Admitted,
    /// To a declaration.
    Declared,
    /// To an admission or a declaration that is not this node's to make.
    MayNotAdmit(AuthorityError),
    /// To anything that writes, on a node that is not a member, or does not know yet that it is.
    NotAMember,
    /// To a change of a lease: what it is now.
    Leased(LeaseId, Lease),
    /// To a change of a lease, or a put under one: why nothing was done.
    LeaseRefused(LeaseRefusal),
    /// To a collection.
    Collected(Collected),
    /// To a request to give up copies.
    Dropped(Dropped),
    /// To a request to ask another member: it is not connected.
    NotConnected(NodeId),
    /// To a request to ask another member: it has not answered in time.
    Late(NodeId),
    /// To the question how durable something is.
    Confirmed(Confirmed),
    /// To a restoration: what is held again, unless it was held already or has gone from the trash.
    Restored(Option<BlobFact>),
    /// To what was to be remembered.
    Noted,
    /// To a delete or a forget: what is gone, if it was held.
    Gone(Option<BlobFact>),
}

/// What one step of a collection came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// The blobs that are gone from this node.
    pub purged: Vec<BlobFact>,
    /// What stands in the way of the next one; nothing if there is none, or if nothing does.
    pub missing: Vec<Missing>,
    /// Whether there is more to do right now.
    pub more: bool,
    /// What was looked at.
    pub scanned: Scanned,
    /// Whatever was deleted by then, in Unix milliseconds, has been in the trash for long enough; none if nobody may go by this clock, or others do
    /// not count on this node.
    pub trash_until_ms: Option<u64>,
}

/// What a request to give up copies came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    /// One for each blob, in no order.
    pub outcomes: Vec<DropOutcome>,
    /// Members that have not been heard since this node started: as long as there are any, nothing is given up.
    pub unheard: Vec<NodeId>,
}

/// How durable some blobs are right now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// On how many disks each of them is at least, this node's included.
    pub copies: u32,
    /// Members that are said to hold some and have not proven it.
    pub unproven: Vec<NodeId>,
}

/// What became of a copy that was to be given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropOutcome {
    /// Of which blob.
    pub blob: BlobId,
    /// What is gone from this node.
    pub gone: Option<BlobFact>,
    /// Who has proven a copy, and on which disk.
    pub proof: Vec<(NodeId, StorageId)>,
    /// What stood in the way.
    pub missing: Vec<Missing>,
    /// Who would not vouch for a copy, and why.
    pub refusals: Vec<(NodeId, Why)>,
    /// Who is said to hold one and has not answered, or cannot be asked.
    pub silent: Vec<NodeId>,
}

impl DropOutcome {
    /// Nobody was asked, because something else is missing.
    pub(super) fn refused(blob: BlobId, missing: Vec<Missing>) -> DropOutcome {
        DropOutcome { blob, gone: None, proof: Vec::new(), missing, refusals: Vec::new(), silent: Vec::new() }
    }
}

/// What became of a blob that was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is held, durably, with its links.
    Held {
        /// What it is.
        fact: BlobFact,
        /// Whether it was held before.
        existed: bool,
    },
    /// Another blob with its SHA-1 is held; the first is kept.
    Collision {
        /// The one that is kept.
        kept: BlobFact,
    },
    /// Its putter had found it here, and it has been deleted since: it is to be put with its bytes.
    Gone {
        /// The blob.
        sha1: BlobId,
    },
    /// It refers to blobs that are not held here; nothing of it was stored.
    Missing {
        /// The blob.
        sha1: BlobId,
        /// What is missing.
        children: Vec<BlobId>,
    },
}

/// What became of a write to a ref.
#[derive(Debug, Clone)]
pub struct RefOutcome {
    /// Which ref.
    pub name: RefName,
    /// The new value's id; none after a delete.
    pub rev: Option<ValueId>,
    /// The value that was shown before.
    pub previous: Option<Value>,
}

/// Why no ref was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefRefusal {
    /// There is no such ref.
    #[error("no ref `{0}`")]
    NotFound(RefName),
    /// Somebody wrote it meanwhile.
    #[error("ref `{name}` is at rev {found}, not {expected}")]
    RevMismatch {
        /// Which ref.
        name: RefName,
        /// The rev that was asked for.
        expected: String,
        /// The rev it has; `none` if it does not exist.
        found: String,
    },
    /// It names blobs that are not all held here.
    #[error("ref `{name}` needs {} blobs that are not stored here", missing.len())]
    Missing {
        /// Which ref.
        name: RefName,
        /// The blobs, the first ones if there are many.
        missing: Vec<BlobId>,
    },
}
