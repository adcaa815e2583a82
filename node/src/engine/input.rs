//! What can happen to a node.

use keepwell_protocol::catalog::member::NodeBody;
use keepwell_protocol::gc::permit::Permit;
use keepwell_protocol::gc::pressure::Room;
use keepwell_protocol::id::{BlobFact, BlobId, NodeId};
use keepwell_protocol::name::{LotName, RefName};
use keepwell_store::audit::Note;
use keepwell_store::blobs::BlobRecord;
use keepwell_store::place::Placed;
use keepwell_store::trash::Retrieved;

use super::Probed;
use super::leases::{LeaseOp, LeaseUse};

/// Ties an answer to what was asked. Chosen by the asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

impl RequestId {
    /// Of what nobody has asked for: its answer is for nobody. Askers do not choose it.
    pub const NOBODY: RequestId = RequestId(0);
}

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// Blobs have been taken in, or are held and get links.
    Put {
        /// Whom to answer.
        request: RequestId,
        /// The blobs.
        blobs: Vec<PutBlob>,
        /// The lease that they shall be under, if any: when it cannot be used, nothing is put.
        lease: Option<LeaseUse>,
    },
    /// A lease is to be taken, or changed.
    Lease {
        /// Whom to answer.
        request: RequestId,
        /// How.
        op: LeaseOp,
    },
    /// Refs are to be written: all of them or none.
    WriteRefs {
        /// Whom to answer.
        request: RequestId,
        /// What to write, in order.
        ops: Vec<RefOp>,
    },
    /// A ref is used here, and not all that it names is: a member that holds it is to write that.
    UseElsewhere {
        /// Whom to answer.
        request: RequestId,
        /// Which ref.
        name: RefName,
    },
    /// A node has proven that it was invited: it becomes a member.
    Admit {
        /// Whom to answer.
        request: RequestId,
        /// Who it is.
        node: NodeId,
        /// Its record.
        body: NodeBody,
    },
    /// An admin says that a member is dead, or alive after all.
    Declare {
        /// Whom to answer.
        request: RequestId,
        /// Of whom.
        node: NodeId,
        /// Whether it is dead.
        is_dead: bool,
    },
    /// An admin says that a member is none any more.
    Remove {
        /// Whom to answer.
        request: RequestId,
        /// Of whom.
        node: NodeId,
    },
    /// A verdict permits the deletion of a blob from this node.
    Delete {
        /// Whom to answer.
        request: RequestId,
        /// The verdict.
        permit: Permit,
    },
    /// What nothing needs is to be purged, or it is asked what stands in the way.
    Collect {
        /// Whom to answer.
        request: RequestId,
        /// How.
        how: Collect,
    },
    /// Copies are to be given up here, as far as others prove theirs.
    Drop {
        /// Whom to answer.
        request: RequestId,
        /// Of which blobs, at most `MAX_QUESTION_BLOBS` of the protocol.
        blobs: Vec<BlobId>,
    },
    /// Another member is to be asked to give up copies of its own.
    DropFrom {
        /// Whom to answer.
        request: RequestId,
        /// Which member.
        node: NodeId,
        /// Of which blobs, at most `MAX_QUESTION_BLOBS` of the protocol.
        blobs: Vec<BlobId>,
    },
    /// Copies are to be given up here without proof, because an operator says so.
    GiveUp {
        /// Whom to answer.
        request: RequestId,
        /// Of which blobs, at most `MAX_QUESTION_BLOBS` of the protocol.
        blobs: Vec<BlobId>,
        /// Who says so.
        by: String,
    },
    /// On how many disks are these blobs, as others prove now?
    Confirm {
        /// Whom to answer.
        request: RequestId,
        /// Which blobs, at most `MAX_QUESTION_BLOBS` of the protocol.
        blobs: Vec<BlobId>,
    },
    /// A worker has looked at the copies that somebody asks about.
    Probed(Probed),
    /// The bytes of a blob in the trash are back in place: it is to be held again.
    Restore {
        /// Whom to answer.
        request: RequestId,
        /// The blob.
        retrieved: Retrieved,
    },
    /// A fetch of copies is over.
    Brought {
        /// The blobs that were asked for, whether they have come or not.
        blobs: Vec<BlobId>,
    },
    /// How full the disk is.
    Room(Room),
    /// How long the step took that purged something by itself.
    Took {
        /// In microseconds.
        cost_us: u64,
    },
    /// A look at the disk has found that a record's bytes are missing or rotten.
    Forget {
        /// Whom to answer.
        request: RequestId,
        /// Whose.
        blob: BlobId,
        /// Which record: one that has taken its place since is another copy.
        record: BlobRecord,
        /// What was found.
        why: String,
    },
    /// Something is to be remembered that happened outside the engine.
    Note {
        /// Whom to answer.
        request: RequestId,
        /// What.
        note: Note,
    },
    /// A check has found damage in the index: nothing is deleted by what it says from now on.
    IndexDamaged {
        /// Whom to answer.
        request: RequestId,
        /// What was found.
        why: String,
    },
    /// A check has found the index whole.
    IndexWhole {
        /// When the check began, in Unix milliseconds.
        began_ms: u64,
    },
    /// A member can be talked to.
    Connected {
        /// Who.
        peer: NodeId,
    },
    /// A member can no longer be talked to.
    Disconnected {
        /// Who.
        peer: NodeId,
    },
    /// A connected member sent a message.
    Received {
        /// Who, by the connection's own proof.
        from: NodeId,
        /// The message, as it came.
        bytes: Vec<u8>,
    },
    /// Somebody passed on an entry.
    Gossiped {
        /// The entry, as it came.
        entry: Vec<u8>,
    },
    /// What a clock that nobody sets shows: given before the inputs of each step, where there is one.
    Elapsed {
        /// The time since this machine was started, its sleep included, in milliseconds.
        boot_ms: u64,
    },
    /// Some time has passed: see `TICK_MS` in `node/src/limits.rs`.
    Tick,
}

impl Input {
    /// Whether the step that takes it may purge a portion of garbage.
    pub fn may_purge(&self) -> bool {
        match self {
            Input::Collect { how, .. } => how.limit > 0,
            Input::Tick | Input::Room(_) => true,
            _ => false,
        }
    }

    /// Copies are to be given up here, or on the member `from`.
    pub fn dropping(request: RequestId, blobs: Vec<BlobId>, from: Option<NodeId>) -> Input {
        match from {
            None => Input::Drop { request, blobs },
            Some(node) => Input::DropFrom { request, node, blobs },
        }
    }
}

/// How to collect garbage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collect {
    /// How long a blob stays after it was put although nothing needs it, in milliseconds; none is the usual grace.
    pub grace_ms: Option<u64>,
    /// At most so many blobs in one step; with 0 nothing changes, and only what stands in the way is told.
    pub limit: usize,
}

/// A blob that is put.
#[derive(Debug)]
pub struct PutBlob {
    /// Its bytes.
    pub blob: Stored,
    /// What it refers to, said by its user or its format. All of it must be held here.
    pub children: Vec<BlobId>,
}

/// Where the bytes of a put blob are.
#[derive(Debug)]
pub enum Stored {
    /// In place, waiting for their record.
    New(Placed),
    /// Held already.
    Known(BlobFact),
}

impl Stored {
    /// What it is.
    pub fn fact(&self) -> BlobFact {
        match self {
            Stored::New(placed) => placed.fact(),
            Stored::Known(fact) => *fact,
        }
    }
}

/// One write to one ref.
#[derive(Debug, Clone)]
pub enum RefOp {
    /// Gives it a value.
    Set(RefSet),
    /// Deletes it.
    Delete {
        /// Which.
        name: RefName,
        /// Only if this is its rev.
        if_rev: Option<String>,
    },
    /// Uses it, which puts off its expiry.
    Touch {
        /// Which.
        name: RefName,
    },
}

/// A value for a ref.
#[derive(Debug, Clone)]
pub struct RefSet {
    /// Which ref.
    pub name: RefName,
    /// The object, compact JSON with sorted keys.
    pub obj: String,
    /// The meta, likewise.
    pub meta: String,
    /// The blobs that the object names, each once, in its order.
    pub links: Vec<BlobId>,
    /// When it lapses, in Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// How long it lives after its last use, in milliseconds.
    pub ttl_access_ms: Option<u64>,
    /// Copies wanted.
    pub copies: u32,
    /// The account to charge; none is the default lot.
    pub lot: Option<LotName>,
    /// Only if this is its rev; the empty string: only if it does not exist.
    pub if_rev: Option<String>,
    /// Accept it although something it needs is not here: an unbacked value.
    pub allow_missing: bool,
}

impl RefSet {
    /// A plain value: one copy, for ever, whatever was there.
    pub fn new(name: RefName, obj: impl Into<String>, links: Vec<BlobId>) -> RefSet {
        RefSet {
            name,
            obj: obj.into(),
            meta: "{}".into(),
            links,
            expires_ms: None,
            ttl_access_ms: None,
            copies: 1,
            lot: None,
            if_rev: None,
            allow_missing: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_purge_is_a_tick_and_a_collection_that_is_no_mere_look() {
        let collect = |limit| Input::Collect { request: RequestId(1), how: Collect { grace_ms: None, limit } };
        assert!(Input::Tick.may_purge() && collect(1).may_purge());
        assert!(!collect(0).may_purge() && !Input::WriteRefs { request: RequestId(1), ops: vec![] }.may_purge());
    }
}
