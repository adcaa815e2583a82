//! Members: who they are, taking one in, and saying that one is dead.

use keepwell_protocol::catalog::authority::{Authority, AuthorityError, creator_of, role_of};
use keepwell_protocol::catalog::change::Write;
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::member::{DeathBody, NodeBody, Role};
use keepwell_protocol::id::NodeId;
use keepwell_protocol::wire;
use keepwell_store::audit::Note;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;
use keepwell_store::tables::{Access, Tables};

use super::author::{Batch, OwnWrite};
use super::effect::{Effect, Reply};
use super::input::RequestId;
use super::{Engine, Step};

impl Engine {
    /// Whether the catalog, as far as it is known here, says that this node is a member.
    pub(super) fn is_member(&self, txn: &Transaction<'_>) -> Result<bool, StoreError> {
        Ok(self.role(txn)?.is_some())
    }

    pub(super) fn role(&self, txn: &Transaction<'_>) -> Result<Option<Role>, StoreError> {
        role(txn, &self.home.node)
    }

    /// Writes the record of a node that has proven its invitation.
    pub(super) fn admit_member(
        &self,
        step: &mut Step<'_, '_>,
        request: RequestId,
        node: &NodeId,
        body: &NodeBody,
    ) -> Result<(), StoreError> {
        let Some(role) = self.role(step.txn)? else {
            step.effects.push(Effect::Reply(request, Reply::NotAMember));
            return Ok(());
        };
        let mut writes = vec![OwnWrite { item: Item::node(node), body: Some(wire::encode(body)) }];
        let was_removed = !step.txn.item(&Item::removal(node))?.is_empty();
        if was_removed {
            writes.push(OwnWrite { item: Item::removal(node), body: None });
        }
        let outcome = self.write_all_as(step, role, writes)?;
        if was_removed && outcome.is_ok() {
            step.txn.note(step.now_ms, Note::Removed { node: *node, is_removed: false, by: self.home.node })?;
        }
        let reply = outcome.map_or_else(Reply::MayNotAdmit, |()| Reply::Admitted);
        step.effects.push(Effect::Reply(request, reply));
        Ok(())
    }

    /// Declares a member dead, or takes that back.
    pub(super) fn declare(
        &self,
        step: &mut Step<'_, '_>,
        request: RequestId,
        node: &NodeId,
        is_dead: bool,
    ) -> Result<(), StoreError> {
        let Some(role) = self.role(step.txn)? else {
            step.effects.push(Effect::Reply(request, Reply::NotAMember));
            return Ok(());
        };
        let body = is_dead.then(|| wire::encode(&DeathBody { declared_ms: step.now_ms }));
        // Said twice it is no news, but who may not say it is told so all the same.
        let is_so = step.txn.item(&Item::death(node))?.is_empty() != is_dead;
        let outcome = match is_so {
            true => self.judge(step.txn, role, &Item::death(node), body.as_deref())?,
            false => self.write_as(step, role, Item::death(node), body)?,
        };
        if !is_so && outcome.is_ok() {
            step.txn.note(step.now_ms, Note::Declared { node: *node, is_dead, by: self.home.node })?;
        }
        let reply = outcome.map_or_else(Reply::MayNotAdmit, |()| Reply::Declared);
        step.effects.push(Effect::Reply(request, reply));
        Ok(())
    }

    /// Writes what authority rests on, if this node may.
    pub(super) fn write_as(
        &self,
        step: &mut Step<'_, '_>,
        role: Role,
        item: Item,
        body: Option<Vec<u8>>,
    ) -> Result<Result<(), AuthorityError>, StoreError> {
        self.write_all_as(step, role, vec![OwnWrite { item, body }])
    }

    fn write_all_as(
        &self,
        step: &mut Step<'_, '_>,
        role: Role,
        writes: Vec<OwnWrite>,
    ) -> Result<Result<(), AuthorityError>, StoreError> {
        for OwnWrite { item, body } in &writes {
            if let Err(refused) = self.judge(step.txn, role, item, body.as_deref())? {
                return Ok(Err(refused));
            }
        }
        self.publish(step, Batch { writes, ..Batch::default() })?;
        Ok(Ok(()))
    }

    /// As every node will judge it: an entry that others refuse must not be written.
    pub(super) fn judge(
        &self,
        txn: &Transaction<'_>,
        role: Role,
        item: &Item,
        body: Option<&[u8]>,
    ) -> Result<Result<(), AuthorityError>, StoreError> {
        let write = Write { item: item.clone(), replaces: vec![], body: body.map(<[u8]>::to_vec) };
        let creator = creator_of(&txn.item(&Item::network())?);
        let authority = Authority { network: &self.home.network, author: self.home.node, creator, role: Some(role) };
        Ok(authority.judge(&write, &txn.item(item)?))
    }
}

/// What `node` may do in its network, as far as the catalog is known here; none if it is no member.
pub fn role<A: Access>(tables: &Tables<A>, node: &NodeId) -> Result<Option<Role>, StoreError> {
    let is_removed = !tables.item(&Item::removal(node))?.is_empty();
    Ok(role_of(node, &tables.item(&Item::network())?, &tables.item(&Item::node(node))?).filter(|_| !is_removed))
}
