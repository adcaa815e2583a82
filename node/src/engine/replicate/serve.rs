//! Answering a pull: the wanted entries in the order in which they were applied here, which is a causal order.

use std::collections::BTreeMap;

use keepwell_protocol::id::{NodeId, Seq};
use keepwell_protocol::limits::MAX_PULL_BYTES;
use keepwell_protocol::log::admit::Applied;
use keepwell_protocol::log::exchange::{Message, Want};
use keepwell_protocol::log::vector::Chain;
use keepwell_store::error::StoreError;

use crate::engine::Step;

/// Sends `to` as much of what it wants as one message carries.
pub(super) fn serve(step: &mut Step<'_, '_>, to: NodeId, wants: &[Want]) -> Result<(), StoreError> {
    let mut due: BTreeMap<u64, (Chain, Seq)> = BTreeMap::new();
    for want in wants {
        for chain in parts_of(step, &want.chain)? {
            enqueue(step, &mut due, chain, want.after)?;
        }
    }
    let (mut entries, mut size, mut more) = (Vec::new(), 0, false);
    while let Some((_, (chain, seq))) = due.pop_first() {
        let Some(bytes) = step.txn.entry(&chain, seq)? else { continue };
        if size + bytes.len() > MAX_PULL_BYTES {
            more = true;
            break;
        }
        size += bytes.len();
        entries.push(bytes);
        enqueue(step, &mut due, chain, seq.0)?;
    }
    step.send(to, &Message::Entries { entries, more });
    Ok(())
}

/// Who asks for a boot that forked, perhaps not knowing that it did, gets all branches of it; who asks for a branch gets that one.
fn parts_of(step: &Step<'_, '_>, chain: &Chain) -> Result<Vec<Chain>, StoreError> {
    let branches = step.txn.branches(&chain.node)?;
    if branches.root(&chain.boot) != chain.boot {
        return Ok(vec![*chain]);
    }
    Ok(branches.candidates(&chain.boot).map(|boot| Chain { boot, ..*chain }).collect())
}

fn enqueue(step: &Step<'_, '_>, due: &mut BTreeMap<u64, (Chain, Seq)>, chain: Chain, after: u64) -> Result<(), StoreError> {
    if let Some((seq, arrival)) = step.txn.next_after(&chain, after)? {
        due.insert(arrival, (chain, seq));
    }
    Ok(())
}
