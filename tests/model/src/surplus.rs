//! Surplus copies of one blob that stays live: however its holders give them up, as many copies stay as were promised.
//!
//! **The world.** A few nodes hold the blob. One of them has written a ref on it; the others learn that, or purge their copy while they
//! do not know it (what a purge waits for is the other model's matter: here, whoever knows no ref may lose its copy at any time).
//! A second write may raise the number of copies. Nodes begin attempts, ask, answer, decide, give up, crash, fetch the blob again.
//!
//! **The promise**, in every state: at least one durable copy; and once a write is confirmed (R7), as many as it asks for, for ever.
//! Copies of the honest alone count, and a disk counts once.
//!
//! **The network.** What was sent stays sent: a message may arrive late, twice, after its attempt has ended, or never. A question may
//! be put to anybody. A "no" is not sent: one that is lost permits no less, since only the count of yeses permits.
//!
//! **The bounds**: nodes, writes, attempts a node and in all, crashes, fetches; every test names them. Two things are one step without
//! loss: an answer is formed as one transaction, as the engine does; and a confirmation is heard as soon as it is given, because that
//! makes the promise earlier and frees the author earlier than any delay would. Yeses for a confirmation add up over a crash of the
//! author, for the same reason.

mod machines;
#[cfg(test)]
mod tests;
mod world;

/// Which world is explored, and by which rules.
#[derive(Debug, Clone)]
pub(crate) struct Surplus {
    /// How many copies each write asks for: the first is there from the beginning, the others may follow.
    pub copies: &'static [u32],
    /// The disk of each node: as many as there are nodes.
    pub disks: &'static [u8],
    /// A node that holds nothing and vouches for everything.
    pub liar: Option<usize>,
    /// How many attempts one node begins at most.
    pub attempts_each: u8,
    /// How many attempts all begin together at most.
    pub attempts_in_all: u8,
    /// How many crashes there are at most.
    pub crashes: u8,
    /// How many times a node fetches the blob again at most.
    pub fetches: u8,
    /// How many times a node is rolled back at most: it forgets the raise. Authors are not (that is a fork), and
    /// nobody forgets the first write: what a purge waits for then is the other model's matter.
    pub rollbacks: u8,
    /// A node that those which were rolled back cannot reach, though their question to others may.
    pub out_of_reach: Option<usize>,
    /// Who gives way to whom.
    pub yields: Yields,
    /// The rules that are left out.
    pub without: &'static [Rule],
}

/// Which of two nodes that are giving up their copies yields to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Yields {
    /// The one that keeps the blob rather, by rank.
    ByRank,
    /// Whoever is asked.
    Always,
    /// Nobody.
    Never,
}

/// A rule that a model can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// R3: who gives up its copy vouches for it to nobody.
    Flag,
    /// R3: the flag is set before the first question leaves.
    FlagFirst,
    /// R2: an answer counts for its attempt alone.
    BoundAnswers,
    /// R2: no two attempts of a node have the same nonce.
    FreshNonces,
    /// R4: only what is durable is vouched for.
    DurableOnly,
    /// R4: who vouches to one that gives up its copy knows what that one knew.
    AskerIncluded,
    /// R4, R7: who confirms a write has persisted it.
    WriteIncluded,
    /// R4: who vouches sees the blob live.
    LiveThere,
    /// R6, R7: a write that reaches the blob ends the attempt of whoever learns of it or makes it.
    AddCancels,
    /// R6: how many copies are needed is looked up when it is decided.
    NeedNow,
    /// R7: an author keeps its own copy until enough others have confirmed theirs.
    AuthorKeeps,
    /// R8: an answer rests on what is persisted.
    PersistFirst,
    /// R11: who was rolled back hears from everybody in reach before it drops, purges or vouches.
    HearFirst,
    /// R11: before it drops, it hears also from those out of reach.
    HearAll,
    /// R5: those that may lie count on top.
    LiarMargin,
    /// R5: a disk counts once.
    DiskOnce,
    /// R10: who yields ends its own attempt.
    YieldEnds,
}

impl Surplus {
    fn is_in_force(&self, rule: Rule) -> bool {
        !self.without.contains(&rule)
    }
}
