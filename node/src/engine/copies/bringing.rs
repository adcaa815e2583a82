//! Fetching what lacks copies: in batches, when it is this node's turn, and later again what nobody gave.

use keepwell_protocol::gc::pressure::Level;
use keepwell_protocol::id::{BlobId, StorageId};
use keepwell_protocol::place::rank::turn;
use keepwell_store::error::StoreError;
use rand_chacha::rand_core::Rng;

use super::{Lack, Reckoning};
use crate::engine::effect::Effect;
use crate::engine::{Engine, EngineRng, Step};
use crate::limits::{
    COPY_BATCH_BLOBS, COPY_BATCH_BYTES, COPY_RETRY_MS, COPY_TRIES, COPY_TURN_MS, MAX_COPY_BATCHES, MAX_COPY_RETRY_MS,
};

/// A blob that lacks copies.
#[derive(Debug)]
pub(super) struct Short {
    /// When that was noticed.
    since_ms: u64,
    /// When it is to be fetched, or looked at again.
    next_ms: u64,
    /// How often nobody gave it.
    tries: u32,
    is_coming: bool,
}

impl Short {
    pub(super) fn since(now_ms: u64) -> Short {
        Short { since_ms: now_ms, next_ms: now_ms, tries: 0, is_coming: false }
    }

    pub(super) fn try_soon(&mut self) {
        (self.next_ms, self.tries) = (self.since_ms, 0);
    }

    /// Nobody gave it: some time later, at random, so that nodes that met at one holder meet less.
    fn failed(&mut self, now_ms: u64, rng: &mut EngineRng) {
        let longest_ms = COPY_RETRY_MS.saturating_mul(1 << self.tries.min(16)).min(MAX_COPY_RETRY_MS);
        self.tries += 1;
        self.next_ms = now_ms.saturating_add(1 + rng.next_u64() % longest_ms);
        self.is_coming = false;
    }
}

impl Engine {
    /// Asks for what is this node's to fetch now, as far as fetches under way leave room.
    pub(super) fn bring_what_is_due(&mut self, step: &mut Step<'_, '_>, reckoning: &mut Reckoning) -> Result<(), StoreError> {
        // Who is short of space leaves them to the next in turn.
        let is_full = self.pressure().pressure.level != Level::None;
        while !is_full && self.copies.coming < MAX_COPY_BATCHES {
            let batch = self.due_batch(step, reckoning)?;
            if batch.is_empty() {
                break;
            }
            self.copies.coming += 1;
            step.effects.push(Effect::Bring(batch));
        }
        Ok(())
    }

    fn due_batch(&mut self, step: &Step<'_, '_>, reckoning: &mut Reckoning) -> Result<Vec<BlobId>, StoreError> {
        let is_due = |short: &Short| !short.is_coming && short.next_ms <= step.steady_ms;
        let due: Vec<BlobId> = self.copies.short.iter().filter(|(_, short)| is_due(short)).map(|(id, _)| *id).collect();
        let (mut batch, mut bytes) = (Vec::new(), 0_u64);
        for id in due {
            if batch.len() == COPY_BATCH_BLOBS || bytes >= COPY_BATCH_BYTES {
                break;
            }
            let wanted = if step.txn.is_live(&id)? { reckoning.wanted.copies(step.txn, &id)? } else { 0 };
            let Some(lack) = self.lack(step.txn, reckoning, &id, wanted)? else {
                self.copies.short.remove(&id);
                continue;
            };
            let Some(short) = self.copies.short.get(&id) else { continue };
            let turns = u64::try_from(self.turn(reckoning, &id, &lack)).unwrap_or(u64::MAX);
            let turn_ms = short.since_ms.saturating_add(turns.saturating_mul(COPY_TURN_MS));
            let Some(short) = self.copies.short.get_mut(&id) else { continue };
            if turn_ms > step.steady_ms {
                // Somebody before it may go: it is looked at again before its turn comes.
                short.next_ms = turn_ms.min(step.steady_ms + COPY_TURN_MS);
                continue;
            }
            short.is_coming = true;
            let size_bytes = step.txn.holders(&id)?.first().map_or(0, |holding| holding.fact.size_bytes);
            bytes = bytes.saturating_add(size_bytes);
            batch.push(id);
        }
        Ok(batch)
    }

    /// When it is this node's turn: how many others that could take a copy, and are in reach, come before.
    fn turn(&self, reckoning: &Reckoning, id: &BlobId, lack: &Lack) -> usize {
        let could = |(node, storage): &(&_, &StorageId)| {
            !lack.storages.contains(*storage) && !lack.holders.contains(node) && self.is_connected(node)
        };
        let others = reckoning.members.iter().filter(could).map(|(_, storage)| storage);
        turn(&self.home.storage, others, lack.missing, id)
    }

    /// A batch has been fetched, as far as anybody gave it.
    pub(in crate::engine) fn brought(&mut self, step: &mut Step<'_, '_>, blobs: &[BlobId]) -> Result<(), StoreError> {
        self.copies.coming = self.copies.coming.saturating_sub(1);
        for id in blobs {
            let Some(short) = self.copies.short.get_mut(id) else { continue };
            // What fails again and again makes room for others. A member that comes into reach is reason to look for it anew.
            if step.txn.blob(id)?.is_some() || short.tries + 1 >= COPY_TRIES {
                self.copies.short.remove(id);
            } else {
                short.failed(step.steady_ms, step.rng);
            }
        }
        Ok(())
    }
}
