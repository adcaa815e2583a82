//! What an entry says: catalog changes, link facts, holdings, and the start of a boot.
//!
//! On the wire each op is framed as `{kind, body}`, and the kind itself says whether the op may protect data. So a node that meets a
//! kind from a later version can keep it, pass it on, and know whether deleting anything is still safe.

use bincode::{Decode, Encode};

use crate::catalog::change::Change;
use crate::id::{BlobFact, BlobId, StorageId, ValueId};
use crate::limits::MAX_FACT_CHILDREN;
use crate::wire::{self, WireError};

/// The bit of an op's kind that says: this may name data that must be kept.
pub const PROTECTS: u16 = 0x8000;

const KIND_BOOT: u16 = 1;
const KIND_HOLDINGS: u16 = 2;
/// Does not protect: a build that does not know it keeps the facts, and so no less than others do.
const KIND_UNLINK: u16 = 3;
const KIND_CHANGE: u16 = PROTECTS | 1;
const KIND_LINK_FACT: u16 = PROTECTS | 2;

/// One op as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RawOp {
    /// What it is; with [`PROTECTS`] set if it may protect data.
    pub kind: u16,
    /// Its own encoding.
    pub body: Vec<u8>,
}

/// One op as this build understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The first op of every boot: which disk its node runs on.
    Boot(Boot),
    /// What the author's storage has come to hold, and no longer holds.
    Holdings(Holdings),
    /// Writes to one shard of the catalog.
    Change(Change),
    /// Blobs that a blob refers to.
    LinkFact(LinkFact),
    /// The end of such facts.
    Unlink(Unlink),
    /// An op of a later version: kept and passed on as it is.
    Unknown(RawOp),
}

/// The start of a boot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Boot {
    /// The disk that the node's copies are on: copies on one storage count once.
    pub storage: StorageId,
    /// What the boot's id is derived from, with the node's.
    pub nonce: [u8; 16],
}

/// A change of what one storage durably holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Holdings {
    /// Now held, whole and durable.
    pub added: Vec<BlobFact>,
    /// No longer held.
    pub removed: Vec<BlobId>,
}

/// `parent` refers to `children`. Several facts of one parent add up.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LinkFact {
    /// The blob whose bytes or user say so.
    pub parent: BlobId,
    /// What it needs in order to be of use.
    pub children: Vec<BlobFact>,
}

/// Facts of `parent` that its author knew are no more. What says the same under another id stays.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Unlink {
    /// The blob that they are of.
    pub parent: BlobId,
    /// Their ids.
    pub facts: Vec<ValueId>,
}

impl LinkFact {
    /// The facts that say together that `parent` refers to `children`, each within its limit.
    pub fn of(parent: BlobId, children: &[BlobFact]) -> Vec<LinkFact> {
        children.chunks(MAX_FACT_CHILDREN).map(|part| LinkFact { parent, children: part.to_vec() }).collect()
    }
}

impl Op {
    /// The op as it travels.
    pub fn to_raw(&self) -> RawOp {
        match self {
            Op::Boot(boot) => RawOp { kind: KIND_BOOT, body: wire::encode(boot) },
            Op::Holdings(holdings) => RawOp { kind: KIND_HOLDINGS, body: wire::encode(holdings) },
            Op::Change(change) => RawOp { kind: KIND_CHANGE, body: wire::encode(change) },
            Op::LinkFact(fact) => RawOp { kind: KIND_LINK_FACT, body: wire::encode(fact) },
            Op::Unlink(unlink) => RawOp { kind: KIND_UNLINK, body: wire::encode(unlink) },
            Op::Unknown(raw) => raw.clone(),
        }
    }

    /// The op that `raw` carries; unknown kinds are no error.
    pub fn from_raw(raw: RawOp) -> Result<Op, WireError> {
        Ok(match raw.kind {
            KIND_BOOT => Op::Boot(wire::decode(&raw.body)?),
            KIND_HOLDINGS => Op::Holdings(wire::decode(&raw.body)?),
            KIND_CHANGE => Op::Change(wire::decode(&raw.body)?),
            KIND_LINK_FACT => Op::LinkFact(wire::decode(&raw.body)?),
            KIND_UNLINK => Op::Unlink(wire::decode(&raw.body)?),
            _ => Op::Unknown(raw),
        })
    }

    /// How much this op counts against the limit of an entry.
    pub fn weight(&self) -> usize {
        match self {
            Op::Boot(_) | Op::Unknown(_) => 1,
            Op::Holdings(holdings) => holdings.added.len() + holdings.removed.len(),
            Op::Change(change) => change.writes.len(),
            Op::LinkFact(fact) => fact.children.len().max(1),
            Op::Unlink(unlink) => unlink.facts.len().max(1),
        }
    }

    /// How many writes with an id of their own (values and link facts) this op contains.
    pub fn ids(&self) -> u32 {
        match self {
            Op::LinkFact(_) => 1,
            Op::Change(change) => u32::try_from(change.writes.len()).unwrap_or(u32::MAX),
            Op::Boot(_) | Op::Holdings(_) | Op::Unlink(_) | Op::Unknown(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{B3, BootId, Seq};

    fn blob(n: u8) -> BlobFact {
        BlobFact { sha1: BlobId([n; 20]), b3: B3([n; 32]), size_bytes: n.into() }
    }

    fn unlink() -> Op {
        let facts = vec![ValueId { boot: BootId([6; 16]), seq: Seq(300), index: 2 }];
        Op::Unlink(Unlink { parent: BlobId([4; 20]), facts })
    }

    #[test]
    fn ops_round_trip() {
        let ops = [
            Op::Boot(Boot { storage: StorageId([3; 16]), nonce: [4; 16] }),
            Op::Holdings(Holdings { added: vec![blob(1)], removed: vec![BlobId([2; 20])] }),
            Op::LinkFact(LinkFact { parent: BlobId([4; 20]), children: vec![blob(5)] }),
            unlink(),
        ];
        for op in ops {
            assert_eq!(Op::from_raw(op.to_raw()).unwrap(), op);
        }
    }

    #[test]
    fn an_unknown_kind_is_kept_byte_for_byte_and_says_whether_it_protects() {
        let raw = RawOp { kind: PROTECTS | 77, body: vec![1, 2, 3] };
        let op = Op::from_raw(raw.clone()).unwrap();
        assert_eq!(op, Op::Unknown(raw.clone()));
        assert_eq!(op.to_raw(), raw);
    }

    #[test]
    fn the_end_of_facts_protects_nothing_so_that_older_builds_keep_them_and_go_on() {
        assert_eq!(unlink().to_raw().kind & PROTECTS, 0);
        assert_eq!((unlink().weight(), unlink().ids()), (1, 0));
    }

    #[test]
    fn many_children_become_several_facts_split_at_max_fact_children() {
        let children = vec![blob(1); MAX_FACT_CHILDREN + 1];
        assert_eq!(LinkFact::of(BlobId([9; 20]), &children[..MAX_FACT_CHILDREN]).len(), 1);
        let facts = LinkFact::of(BlobId([9; 20]), &children);
        assert_eq!(facts.iter().map(|fact| fact.children.len()).collect::<Vec<_>>(), [MAX_FACT_CHILDREN, 1]);
    }
    #[test]
    fn the_bytes_of_ops_never_change() {
        // Golden bytes: a change of any of them breaks homes and networks in the field.
        let golden = |op: Op| (op.to_raw().kind, data_encoding::HEXLOWER.encode(&op.to_raw().body));
        let boot = Op::Boot(Boot { storage: StorageId([3; 16]), nonce: [4; 16] });
        assert_eq!(golden(boot), (0x0001, "010303030303030303030303030303030304040404040404040404040404040404".into()));
        let holdings = Op::Holdings(Holdings { added: vec![blob(1)], removed: vec![BlobId([2; 20])] });
        assert_eq!(golden(holdings), (0x0002, "01010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010202020202020202020202020202020202020202".into()));
        let fact = Op::LinkFact(LinkFact { parent: BlobId([4; 20]), children: vec![blob(5)] });
        assert_eq!(golden(fact), (0x8002, "010404040404040404040404040404040404040404010505050505050505050505050505050505050505050505050505050505050505050505050505050505050505050505050505050505".into()));
        assert_eq!(
            golden(unlink()),
            (0x0003, "0104040404040404040404040404040404040404040106060606060606060606060606060606fb2c0102".into())
        );
        let raw = RawOp { kind: PROTECTS | 77, body: vec![1, 2, 3] };
        assert_eq!(data_encoding::HEXLOWER.encode(&wire::encode(&raw)), "01fb4d8003010203");
    }
}
