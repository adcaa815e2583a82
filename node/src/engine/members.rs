//! Members: who they are, and taking one in.

use keepwell_protocol::catalog::authority::role_of;
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::member::NodeBody;
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
        let node = &self.home.node;
        Ok(role_of(node, &txn.item(&Item::network())?, &txn.item(&Item::node(node))?).is_some())
    }

    /// Writes the record of a node that has proven its invitation.
    pub(super) fn admit_member(
        &self,
        step: &mut Step<'_, '_>,
        request: RequestId,
        node: &NodeId,
        body: &NodeBody,
    ) -> Result<(), StoreError> {
        if !self.is_member(step.txn)? {
            step.effects.push(Effect::Reply(request, Reply::NotAMember));
            return Ok(());
        }
        let write = OwnWrite { item: Item::node(node), body: Some(wire::encode(body)) };
        self.publish(step, Batch { writes: vec![write], ..Batch::default() })?;
        step.effects.push(Effect::Reply(request, Reply::Admitted));
        Ok(())
    }
}
