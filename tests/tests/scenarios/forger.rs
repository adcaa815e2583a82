//! A member that signs what no engine would write.

use ed25519_dalek::SigningKey;
use keepwell_protocol::id::{BootId, Seq, StorageId};
use keepwell_protocol::log::entry::{Draft, Entry, node_id};
use keepwell_protocol::log::op::{Boot, Op};
use keepwell_protocol::log::vector::{Chain, Head};

use super::lab::Lab;

/// What its boot is derived from.
const NONCE: [u8; 16] = [77; 16];

/// Writes entries that the engine would never write, under a boot of its own.
pub(super) struct Forger {
    pub(super) key: SigningKey,
    pub(super) chain: Chain,
    pub(super) deps: Vec<(Chain, Head)>,
    pub(super) last: Option<Head>,
}

impl Forger {
    /// Machine `machine` of the lab turns bad: it knows all that machine 0 knows.
    pub(super) fn member(lab: &Lab, machine: usize) -> Forger {
        let known = lab.machines[0].engine().store().snapshot().unwrap().vector().unwrap();
        Forger::new(lab.machines[machine].key.clone(), known.0.into_iter().collect())
    }

    pub(super) fn new(key: SigningKey, deps: Vec<(Chain, Head)>) -> Forger {
        let chain = Chain { node: node_id(&key), boot: BootId::of(&node_id(&key), &NONCE) };
        Forger { key, chain, deps, last: None }
    }

    pub(super) fn draft(&mut self, lab: &Lab, ops: Vec<Op>) -> Draft {
        let mut all = Vec::new();
        if self.last.is_none() {
            all.push(Op::Boot(Boot { storage: StorageId([7; 16]), nonce: NONCE }));
        }
        all.extend(ops);
        Draft {
            network: lab.machines[0].engine().home().network,
            chain: self.chain,
            seq: self.last.map_or(Seq::FIRST, |head| head.seq.next()),
            prev_hash: self.last.map(|head| head.hash),
            deps: std::mem::take(&mut self.deps),
            ops: all,
        }
    }

    pub(super) fn entry(&mut self, lab: &Lab, ops: Vec<Op>) -> Vec<u8> {
        let bytes = self.draft(lab, ops).seal(&self.key);
        self.last = Entry::reopen(&bytes).ok().map(|entry| entry.head);
        bytes
    }
}
