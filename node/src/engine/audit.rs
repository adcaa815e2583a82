//! What the engine writes into the audit log, in the transaction that does it.

use keepwell_protocol::catalog::item::Kind;
use keepwell_protocol::gc::sweep::Converged;
use keepwell_protocol::id::{BlobFact, NodeId};
use keepwell_protocol::log::entry::Entry;
use keepwell_protocol::log::op::Op;
use keepwell_protocol::wire;
use keepwell_store::audit::Note;
use keepwell_store::error::StoreError;

use super::effect::{Effect, Event};
use super::{Engine, Step};

impl Step<'_, '_> {
    /// Tells people of something, now and whenever they ask.
    pub(super) fn tell(&mut self, event: Event) -> Result<(), StoreError> {
        self.txn.note(self.now_ms, note_of(&event))?;
        self.effects.push(Effect::Tell(event));
        Ok(())
    }

    /// Remembers whom an entry that counts declares dead, or alive after all, removes, or takes in again.
    pub(super) fn note_declarations(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let changes = entry.ops.iter().filter_map(|op| if let Op::Change(change) = op { Some(change) } else { None });
        for write in changes.flat_map(|change| &change.writes) {
            // A key that is no node was refused with its entry.
            let Ok(node) = write.item.key.parse::<NodeId>() else { continue };
            let (is_so, by) = (write.body.is_some(), entry.chain.node);
            match write.item.kind {
                Kind::DEATH => self.txn.note(self.now_ms, Note::Declared { node, is_dead: is_so, by })?,
                Kind::REMOVAL => self.txn.note(self.now_ms, Note::Removed { node, is_removed: is_so, by })?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Remembers what a purge rested on.
    pub(super) fn note_purge(
        &self,
        step: &mut Step<'_, '_>,
        converged: &Converged<'_>,
        purged: &[BlobFact],
        by_itself: bool,
    ) -> Result<(), StoreError> {
        let blobs = purged.iter().map(|fact| (fact.sha1, fact.size_bytes)).collect();
        let seen = *blake3::hash(&wire::encode(converged.seen())).as_bytes();
        let waited_for = self.waited_for(step.txn)?.into_iter();
        let acknowledged = waited_for.filter_map(|node| Some((node, self.acks().get(&node)?.seq))).collect();
        step.txn.note(step.now_ms, Note::Purged { blobs, seen, acknowledged, by_itself })
    }
}

fn note_of(event: &Event) -> Note {
    match event {
        Event::EntryRefused { chain, reason } => Note::Refused { node: chain.node, why: reason.clone() },
        Event::Forked { chain } => Note::Forked { node: chain.node },
        Event::Dropped { blob, proof } => Note::Dropped { blob: *blob, proof: proof.clone() },
        Event::Twin => Note::Twin,
        Event::RolledBack { old } => Note::RolledBack { boot: *old },
    }
}
