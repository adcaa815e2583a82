//! The rules that the model can leave out, one at a time. Each is broken at the border: the machines themselves stay as they are.

/// A rule that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    /// All rules are in force.
    Nothing,
    /// R7: whoever knows that somebody holds the closure writes values that name it. The acknowledgement barrier stands alone.
    OwnCopy,
    /// R7: a touch revives a value that is known to be deleted, on a node that does not hold the closure.
    TouchNeedsCopy,
    /// A node purges what is not live in its own view, whoever has acknowledged what.
    Barrier,
    /// R11: acknowledgements that were heard before a crash or a rollback count afterwards.
    AcksOfThisBoot,
    /// Vectors say how many entries of a chain are known, not which.
    Hashes,
    /// R7: an attempt goes on when a new value is written or learnt, and what reached the blob when it was flagged is not compared.
    AddCancels,
    /// R7: an attempt goes on then, and the comparison is left.
    AddCancelsAlone,
    /// R8: a node vouches for, and writes upon, a copy that a crash takes away.
    CopyPersists,
    /// R8: a node tells, acknowledges and answers upon entries that a crash takes away.
    EntryPersists,
    /// R4: whoever answers need not know what the asker knew.
    AnswererKnows,
    /// R11: only members in reach need be heard before a drop, as the design had it.
    DropsInReach,
    /// R11: nobody need be heard after a start.
    Start,
    /// A link fact is written by a node that holds the parent alone.
    FactNeedsClosure,
    /// A link fact is removed as soon as its parent is not live in its remover's own view.
    FactBarrier,
    /// A value that makes its object live does not write the link facts of its closure again.
    FactsAnew,
    /// Who holds the parent lets its facts end.
    HolderSaysAgain,
    /// Who was taken for absent before a start is so after it, too: a rollback brings the silence of long ago back.
    AbsenceOutlivesStart,
    /// What a member had when it acknowledged need not be applied before a purge.
    Resync,
    /// Who knows that an admin declared it dead deletes all the same.
    DeadDelete,
    /// The word of one who is known to be removed counts for a drop.
    RemovedVouch,
    /// What lies past a cut counts wherever it was heard.
    Cut,
    /// A sweep that is under way when a removal is heard goes on, and what it found unreached is not looked at again.
    SweepOutlivesRemoval,
    /// Both: a link fact is removed at once, and nobody says it again.
    FactBarrierAndHolders,
}

impl Broken {
    /// Whether link facts end before the catalog has converged.
    pub(crate) fn ends_facts_at_once(self) -> bool {
        matches!(self, Broken::FactBarrier | Broken::FactBarrierAndHolders)
    }

    /// Whether who holds a parent lets its facts end.
    pub(crate) fn silences_holders(self) -> bool {
        matches!(self, Broken::HolderSaysAgain | Broken::FactBarrierAndHolders)
    }
}
