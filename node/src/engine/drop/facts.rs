//! What a decision about copies looks at: the members and their disks, what refs want, and what stands in the way of all alike.

use std::collections::BTreeMap;

use keepwell_protocol::gc::Need;
use keepwell_protocol::gc::attempt::DropFacts;
use keepwell_protocol::gc::question::Why;
use keepwell_protocol::gc::start::Start;
use keepwell_protocol::id::{BlobId, BootId, NodeId, StorageId};
use keepwell_protocol::log::compare::contains;
use keepwell_store::counts::Count;
use keepwell_store::error::StoreError;
use keepwell_store::home::Home;
use keepwell_store::store::Transaction;

use crate::engine::copies::Wanted;
use crate::engine::{Engine, Step};

/// What holds for every blob that is decided in one step.
pub(super) struct Facts {
    /// The other members, with the disks that their records name.
    pub(super) members: BTreeMap<NodeId, StorageId>,
    boot: BootId,
    refuses: Option<Why>,
    is_settled: bool,
    understands_all: bool,
    wanted: Wanted,
    /// Members that may lie and are believed all the same (f of R5).
    liars: u32,
}

/// What holds for one blob.
pub(super) struct About {
    /// The most copies that a ref asks for which reaches it; 0 if none reaches it.
    pub(super) copies: u32,
    /// A digest of the values that reach it.
    pub(super) reached_by: u64,
    pub(super) is_pinned: bool,
}

impl Engine {
    pub(super) fn facts(&mut self, txn: &Transaction<'_>) -> Result<Facts, StoreError> {
        let members = self.members(txn)?;
        let waited_for = self.waited_for(txn)?;
        Ok(Facts {
            boot: self.own_chain()?.boot,
            refuses: self.refuses_by_itself(txn)?.or(self.start(txn)?.refuses_to_drop(&waited_for)),
            is_settled: txn.is_settled()?,
            understands_all: txn.count(Count::UnknownProtecting)? == 0,
            wanted: Wanted::default(),
            liars: self.settings.liars,
            members,
        })
    }

    /// Notes the members with whom there has been a whole exchange since the start (R11).
    pub(super) fn hear_exchanges(&mut self, txn: &Transaction<'_>) -> Result<(), StoreError> {
        let mut heard = Vec::new();
        for (node, ack) in self.acks() {
            if !self.dropping.start.has_exchanged(node) && contains(&**txn, &ack.persisted)? {
                heard.push(*node);
            }
        }
        if !heard.is_empty() {
            // An exchange with who is no member says nothing.
            let removed = txn.removed()?;
            heard.retain(|node| !removed.contains(node));
        }
        heard.into_iter().for_each(|node| self.dropping.start.exchanged(node));
        Ok(())
    }

    /// Whom this node has heard from since it started, as of now.
    pub(in crate::engine) fn start(&mut self, txn: &Transaction<'_>) -> Result<&Start, StoreError> {
        self.hear_exchanges(txn)?;
        Ok(&self.dropping.start)
    }

    /// The members that are waited for and have not been heard since the start.
    pub(super) fn unheard(&self, txn: &Transaction<'_>) -> Result<Vec<NodeId>, StoreError> {
        let waited_for = self.waited_for(txn)?.into_iter();
        Ok(waited_for.filter(|node| !self.dropping.start.has_exchanged(node)).collect())
    }
}

impl Facts {
    /// Whether anything may be given up now at all.
    pub(super) fn allow_drops(&self) -> bool {
        self.refuses.is_none() && self.is_settled && self.understands_all
    }

    /// What holds for `id` now.
    pub(super) fn about(&mut self, step: &Step<'_, '_>, id: &BlobId) -> Result<About, StoreError> {
        // The grace of a put is for what nothing names yet; whoever says that a copy may go means that too. A lease covers all that it
        // reaches, live or not.
        let is_pinned = step.txn.covering_lease(id, step.ends_ms)?.is_some();
        let asked = self.wanted.asked(step.txn, id)?;
        Ok(About { copies: asked.copies, reached_by: asked.digest, is_pinned })
    }

    /// How many copies it must have, as far as refs ask for them, and how many of those who prove theirs may lie.
    pub(super) fn need(&self, about: &About) -> Need {
        Need { copies: about.copies, liars: self.liars }
    }

    /// What a decision to drop looks at.
    pub(super) fn for_drop<'a>(&'a self, home: &'a Home, about: &About) -> DropFacts<'a> {
        DropFacts {
            boot: &self.boot,
            storage: &home.storage,
            refuses: self.refuses,
            is_settled: self.is_settled,
            is_live: about.copies > 0,
            reached_by: about.reached_by,
            // The one place where rules will say what they want here: see `keepwell_protocol::place`.
            is_placed: false,
            is_pinned: about.is_pinned,
            understands_all: self.understands_all,
            need: self.need(about),
            members: &self.members,
        }
    }
}
