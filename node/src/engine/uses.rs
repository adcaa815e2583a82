//! A ref that is used on a node without all of what it names: a member that holds it writes the use (R7).
//!
//! Those that hold what the ref names are asked one after the other, until one has. All of it is in memory: what is lost with a connection
//! or a start was one use of many.

use std::collections::BTreeMap;

use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::catalog::usage::{UseReport, UseRequest};
use keepwell_protocol::id::{NodeId, Nonce};
use keepwell_protocol::log::exchange::Message;
use keepwell_protocol::name::RefName;
use keepwell_store::error::StoreError;
use keepwell_store::store::Transaction;

use super::effect::{Effect, Reply};
use super::input::RequestId;
use super::open::draw;
use super::{Engine, Step};
use crate::limits::USE_ELSEWHERE_TIMEOUT_MS;

/// Requests to others that have not been answered.
#[derive(Default)]
pub(super) struct Uses {
    asked: BTreeMap<Nonce, Asked>,
}

struct Asked {
    request: RequestId,
    name: RefName,
    node: NodeId,
    until_ms: u64,
    /// Who is asked after this one.
    others: Vec<NodeId>,
}

impl Engine {
    /// Asks the connected holders of what the ref `name` shows, one after the other, to write that it is used.
    pub(super) fn use_elsewhere(&mut self, step: &mut Step<'_, '_>, request: RequestId, name: RefName) -> Result<(), StoreError> {
        let holders = match self.is_member(step.txn)? {
            true => self.connected_holders(step.txn, &name)?,
            false => Vec::new(),
        };
        self.ask_next(step, request, name, holders);
        Ok(())
    }

    fn ask_next(&mut self, step: &mut Step<'_, '_>, request: RequestId, name: RefName, mut others: Vec<NodeId>) {
        let Some(node) = others.pop() else {
            step.effects.push(Effect::Reply(request, Reply::UsedBy(None)));
            return;
        };
        let nonce = Nonce(draw(step.rng));
        step.send(node, &Message::UseRequest(UseRequest { nonce, name: name.to_string() }));
        let until_ms = step.steady_ms.saturating_add(USE_ELSEWHERE_TIMEOUT_MS);
        self.uses.asked.insert(nonce, Asked { request, name, node, until_ms, others });
    }

    /// Those in reach who are said to hold every blob that the ref shows. They alone know whether they hold what those link to.
    fn connected_holders(&self, txn: &Transaction<'_>, name: &RefName) -> Result<Vec<NodeId>, StoreError> {
        let Some(value) = txn.item(&Item::reference(name.as_str()))?.winner().cloned() else { return Ok(Vec::new()) };
        let Ok(body) = RefBody::of(&value) else { return Ok(Vec::new()) };
        let mut holders: Vec<NodeId> = self.connected_peers().copied().collect();
        for link in body.links {
            let held_by = txn.holders(&link.sha1)?;
            holders.retain(|node| held_by.iter().any(|holding| holding.node == *node));
        }
        Ok(holders)
    }

    /// Writes the use that a member asks for, if all of what the ref names is held here.
    pub(super) fn heard_use_request(
        &mut self,
        step: &mut Step<'_, '_>,
        from: NodeId,
        asked: UseRequest,
    ) -> Result<(), StoreError> {
        let UseRequest { nonce, name } = asked;
        let is_member = self.members(step.txn)?.contains_key(&from);
        let done = match RefName::parse(&name).ok().filter(|_| is_member) {
            Some(name) => self.write_use(step, name)?,
            None => false,
        };
        step.send(from, &Message::UseReport(UseReport { nonce, done }));
        Ok(())
    }

    /// Hears whether a member has written a use; if not, the next one is asked.
    pub(super) fn heard_use_report(&mut self, step: &mut Step<'_, '_>, from: NodeId, report: UseReport) {
        if self.uses.asked.get(&report.nonce).is_none_or(|asked| asked.node != from) {
            return;
        }
        let Some(asked) = self.uses.asked.remove(&report.nonce) else { return };
        if report.done {
            step.effects.push(Effect::Reply(asked.request, Reply::UsedBy(Some(from))));
        } else {
            self.ask_next(step, asked.request, asked.name, asked.others);
        }
    }

    /// As time passes: whoever has gone or does not answer is passed over.
    pub(super) fn uses_on_tick(&mut self, step: &mut Step<'_, '_>) {
        for (nonce, asked) in std::mem::take(&mut self.uses.asked) {
            if self.is_connected(&asked.node) && step.steady_ms < asked.until_ms {
                self.uses.asked.insert(nonce, asked);
            } else {
                self.ask_next(step, asked.request, asked.name, asked.others);
            }
        }
    }
}
