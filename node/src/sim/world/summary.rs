//! What a run came to, and how its trace names what nodes are given.

use std::fmt;

use crate::engine::Input;

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// A hash over everything that happened: equal for equal plans.
    pub trace_hash: [u8; 32],
    /// Inputs that nodes were given.
    pub inputs: u64,
    /// Writes to refs that were acknowledged.
    pub refs_written: u64,
    /// Puts that were acknowledged.
    pub blobs_put: u64,
    /// Copies that were purged.
    pub copies_purged: u64,
    /// Surplus copies that were given up.
    pub copies_dropped: u64,
    /// Copies that nodes fetched by themselves.
    pub copies_brought: u64,
    /// Those of the purged that nobody had asked for.
    pub copies_purged_unasked: u64,
    /// Those of the given up that went in the end, when all disks were full.
    pub copies_dropped_unasked: u64,
    /// Marks of values whose time was over.
    pub marks: u64,
    /// Those of them that a clock which was a little ahead wrote too early.
    pub early_marks: u64,
    /// Times that a node crashed.
    pub crashes: u64,
    /// Times that an old state of a disk was put back.
    pub rollbacks: u64,
    /// Disks of running nodes that were copied.
    pub twins: u64,
    /// Boots that forked, as far as all nodes know in the end.
    pub forks: u64,
    /// Refs that ended with more than one value.
    pub conflicts: u64,
    /// Times that the links of a blob were forgotten, with its last fact.
    pub unlinked: u64,
    /// Times that a disk was full for a while.
    pub full_disks: u64,
    /// Calls to a disk that failed, each once.
    pub io_errors: u64,
    /// Times that a node took nothing in for a while.
    pub pauses: u64,
    /// Times that the network parted and came together in quick succession.
    pub flaps: u64,
    /// Those of the crashes that came while a node was starting after another.
    pub crashes_in_recovery: u64,
    /// Bits that flipped in the files of blobs.
    pub flips: u64,
    /// Copies that scrubs found rotten and gave up.
    pub rot_found: u64,
    /// Questions that a liar answered.
    pub lies: u64,
    /// Positions of a log at which different members were told different things.
    pub equivocations: u64,
    /// Floods of messages.
    pub floods: u64,
    /// Times that somebody who broke the protocol was shut out.
    pub refusals: u64,
    /// Members that were removed.
    pub removals: u64,
    /// Entries that are void by that in the end.
    pub void: u64,
    /// Times that a checker looked at all nodes in the middle of it.
    pub looks: u64,
}

impl Summary {
    /// Adds what another run came to; the hash stays.
    pub fn add(&mut self, other: &Summary) {
        let mut theirs = other.clone();
        for ((sum, _), (more, _)) in self.counts().into_iter().zip(theirs.counts()) {
            *sum += *more;
        }
    }

    fn counts(&mut self) -> [(&mut u64, &'static str); 30] {
        [
            (&mut self.inputs, "events"),
            (&mut self.refs_written, "refs written"),
            (&mut self.blobs_put, "blobs put"),
            (&mut self.copies_purged, "copies purged"),
            (&mut self.copies_purged_unasked, "purged unasked"),
            (&mut self.copies_dropped, "copies dropped"),
            (&mut self.copies_dropped_unasked, "dropped unasked in the end"),
            (&mut self.copies_brought, "copies brought"),
            (&mut self.marks, "values ended"),
            (&mut self.early_marks, "ended early"),
            (&mut self.crashes, "crashes"),
            (&mut self.crashes_in_recovery, "crashes in recovery"),
            (&mut self.rollbacks, "old disks put back"),
            (&mut self.twins, "twins"),
            (&mut self.forks, "forks"),
            (&mut self.conflicts, "conflicts"),
            (&mut self.unlinked, "times links were forgotten"),
            (&mut self.full_disks, "full disks"),
            (&mut self.io_errors, "failing disks"),
            (&mut self.pauses, "pauses"),
            (&mut self.flaps, "flapping networks"),
            (&mut self.flips, "flipped bits"),
            (&mut self.rot_found, "rotten copies given up"),
            (&mut self.lies, "lies"),
            (&mut self.equivocations, "equivocations"),
            (&mut self.floods, "floods"),
            (&mut self.refusals, "refusals"),
            (&mut self.removals, "removals"),
            (&mut self.void, "entries past their cut"),
            (&mut self.looks, "looks at all nodes at once"),
        ]
    }
}

/// What there was of anything, on one line.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = self.clone();
        let there = all.counts().into_iter().filter(|(count, _)| **count > 0).map(|(count, what)| format!("{count} {what}"));
        f.write_str(&there.collect::<Vec<_>>().join(", "))
    }
}

pub(super) fn name_of(input: &Input) -> &'static str {
    match input {
        Input::Put { .. } => "a put",
        Input::Lease { .. } => "a lease",
        Input::WriteRefs { .. } => "a write of refs",
        Input::UseElsewhere { .. } => "a use of a ref that another is to write",
        Input::Admit { .. } => "a new member",
        Input::Confirm { .. } => "a question how durable something is",
        Input::Declare { .. } => "a declaration",
        Input::Remove { .. } => "a removal",
        Input::Delete { .. } => "a delete",
        Input::Collect { .. } => "a collection",
        Input::Drop { .. } => "a request to drop",
        Input::GiveUp { .. } => "a command to give up copies",
        Input::DropFrom { .. } => "a request to have another drop",
        Input::Probed(_) => "what a look at copies found",
        Input::Restore { .. } => "a restoration",
        Input::Forget { .. } => "a forget",
        Input::Brought { .. } => "the end of a fetch",
        Input::Note { .. } => "a note",
        Input::IndexWhole { .. } => "an index without damage",
        Input::IndexDamaged { .. } => "damage in the index",
        Input::Took { .. } => "the time",
        Input::Connected { .. } => "a connection",
        Input::Disconnected { .. } => "a disconnection",
        Input::Received { .. } => "a message",
        Input::Gossiped { .. } => "gossip",
        Input::Room(_) => "how full its disk is",
        Input::Elapsed { .. } => "the time since it was started",
        Input::Tick => "a tick",
    }
}

pub(super) fn received_bytes(input: &Input) -> &[u8] {
    match input {
        Input::Received { bytes, .. } => bytes,
        Input::Gossiped { entry } => entry,
        _ => &[],
    }
}
