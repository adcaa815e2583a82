//! Garbage collection: when a node may give up a copy. Machines of one idea each; what they decide depends on their arguments alone.
//!
//! A blob that no ref reaches is *purged* when the catalog has converged on that: [`sweep`]. A surplus copy of a live blob is *dropped*
//! when enough other nodes have proven that they keep theirs: [`attempt`] asks, [`question`] says what travels, [`witness`] answers.
//! With [`request`]s one node asks another
//! to drop what is its own; an [`operator`] does so without proof. All end in the one thing that lets a store delete: a [`permit`]. [`start`] holds all of it back until a node that has started has
//! heard from the others. [`schedule`] says when it is worth looking, [`pressure`] when it is needed, [`backoff`] when to try again. The rules R1 to R12 are those of the design; the models in
//! `tests/model` drive these very machines.
//!
//! Absent here: any lock, lease or timeout that safety rests on. Clocks say when something is tried, never whether it may happen.

pub mod attempt;
pub mod backoff;
pub mod operator;
pub mod permit;
pub mod pressure;
pub mod question;
pub mod request;
pub mod schedule;
pub mod start;
pub mod sweep;
pub mod unlink;
pub mod witness;

use bincode::{Decode, Encode};

/// How many copies a blob shall have, and how many members may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Need {
    /// The most that a ref, lot or rule asks for; at least 1.
    pub copies: u32,
    /// Members that may lie and are believed all the same.
    pub liars: u32,
}

impl Need {
    /// Other storages that must prove their copy before one may go (R5).
    pub fn others_to_drop(self) -> u32 {
        self.copies.max(1).saturating_add(self.liars)
    }

    /// Other storages that must prove their copy before a value counts as durable beside the author's own (R7).
    pub fn others_to_confirm(self) -> u32 {
        self.copies.max(1).saturating_sub(1).saturating_add(self.liars)
    }
}

/// Why a copy may not go now. Each is something that can change, and is shown to whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Missing {
    /// This node has no copy to give up.
    Copy,
    /// No attempt is under way: there was none, or it ended because something wants the blob or another node gives up its copy first.
    Attempt,
    /// This node may delete nothing now.
    Leave(question::Why),
    /// What reaches the blob is still being computed.
    Settled,
    /// Only surplus copies of live blobs are dropped, and no ref reaches this one: it is for a purge.
    Live,
    /// A ref reaches it.
    Dead,
    /// A rule wants it here.
    Unplaced,
    /// Something here uses it.
    Unpinned,
    /// The catalog holds entries of a kind that this build does not know and that may protect it.
    Knowledge,
    /// Too few other storages have proven their copy.
    Copies {
        /// How many have.
        have: u32,
        /// How many must.
        need: u32,
    },
    /// A member has not said that it knows what this node knew when it found the blob unreached.
    Acknowledgement(crate::id::NodeId),
    /// It has been unreached for less long than the sweep is old.
    Sweep,
    /// It was put or fetched lately, or something that links to it was.
    GraceOver,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_needs_one_more_than_a_confirmation_and_liars_count_on_top() {
        let need = |copies, liars| Need { copies, liars };
        assert_eq!((need(1, 0).others_to_drop(), need(1, 0).others_to_confirm()), (1, 0));
        assert_eq!((need(3, 1).others_to_drop(), need(3, 1).others_to_confirm()), (4, 3));
        assert_eq!(need(0, 0).others_to_drop(), 1, "the last copy never goes by this way");
    }
}
