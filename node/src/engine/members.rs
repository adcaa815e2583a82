//! Members: who they are, and taking one in.

use keepwell_protocol::catalog::authority::{Authority, role_of};
use keepwell_protocol::catalog::change::Write;
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::id::NodeId;
use keepwell_protocol::wire;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use super::author::{Batch, OwnWrite};
use super::effect::{Effect, Reply};
use super::input::RequestId;
use super::{Engine, Step};

impl Engine {
    /// Whether the catalog, as far as it is known here, says that this node is a member.
    pub(super) fn is_member(&self, txn: &Transaction<'_>) -> Result<bool, StoreError> {
        Ok(self.role(txn)?.is_some())
    }

    fn role(&self, txn: &Transaction<'_>) -> Result<Option<Role>, StoreError> {
        let node = &self.home.node;
        Ok(role_of(node, &txn.item(&Item::network())?, &txn.item(&Item::node(node))?))
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
        let (item, body) = (Item::node(node), Some(wire::encode(body)));
        // As every node will judge it: an entry that others refuse must not be written.
        let write = Write { item: item.clone(), replaces: vec![], body: body.clone() };
        let authority = Authority { network: &self.home.network, author: self.home.node, role: Some(role) };
        if let Err(refused) = authority.judge(&write, &step.txn.item(&item)?) {
            step.effects.push(Effect::Reply(request, Reply::MayNotAdmit(refused)));
            return Ok(());
        }
        self.publish(step, Batch { writes: vec![OwnWrite { item, body }], ..Batch::default() })?;
        step.effects.push(Effect::Reply(request, Reply::Admitted));
        Ok(())
    }
}
