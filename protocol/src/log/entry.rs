//! An entry: one signed, hash-chained record of a node's log.
//!
//! Life of an entry: [`Draft::seal`] signs it; its bytes are stored, gossiped and pulled unchanged; [`Entry::open`] checks those
//! bytes wherever they arrive; `admit` decides whether its turn has come; then it is applied, all or nothing.

use std::collections::BTreeSet;

use bincode::{Decode, Encode};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::op::{Op, RawOp};
use super::vector::{Chain, Head};
use crate::id::{BootId, EntryHash, NetworkId, NodeId, Seq};
use crate::limits::{MAX_ENTRY_BYTES, MAX_ENTRY_DEPS, MAX_ENTRY_OPS, MAX_FACT_CHILDREN};
use crate::wire::{self, WireError};

/// What is signed, so that no signature of ours means anything elsewhere.
const SIGNING_DOMAIN: &[u8] = b"keepwell entry v1\0";
/// What entry hashes are derived under.
const HASH_CONTEXT: &str = "keepwell 2026-11-23 entry hash v1";

/// Why bytes are not an acceptable entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Past [`MAX_ENTRY_BYTES`].
    #[error("entry of {size} bytes exceeds the limit of {MAX_ENTRY_BYTES}")]
    TooLarge {
        /// Its size, in bytes.
        size: usize,
    },
    /// Too short to carry a signature.
    #[error("entry is cut short")]
    CutShort,
    /// Not the format.
    #[error("entry is unreadable: {0}")]
    Unreadable(#[from] WireError),
    /// Past [`MAX_ENTRY_OPS`], [`MAX_ENTRY_DEPS`] or [`MAX_FACT_CHILDREN`].
    #[error("entry carries {count} {what}; the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many it carries.
        count: usize,
        /// How many it may carry.
        limit: usize,
    },
    /// Written for another network.
    #[error("entry belongs to network {0}")]
    OtherNetwork(NetworkId),
    /// The author did not sign these bytes.
    #[error("entry does not carry a valid signature of node {0}")]
    BadSignature(NodeId),
    /// A position and a predecessor that contradict each other.
    #[error("entry {0} must name its predecessor, and only the first entry of a boot has none")]
    BrokenChain(Seq),
    /// The boot op opens a boot and stands nowhere else.
    #[error("the first entry of a boot, and no other, begins with its boot op")]
    MisplacedBoot,
    /// A shard is written once in an entry, so that all its changes can be judged before any is applied.
    #[error("entry changes shard {0} twice")]
    RepeatedShard(u8),
    /// Written under a boot id that its author cannot have.
    #[error("boot {0} does not belong to its author")]
    ForeignBoot(BootId),
}

/// The signed part.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Body {
    network: NetworkId,
    node: NodeId,
    boot: BootId,
    seq: Seq,
    prev_hash: Option<EntryHash>,
    deps: Vec<(Chain, Head)>,
    ops: Vec<RawOp>,
}

/// An entry whose bytes, signature and limits have been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose chain it continues.
    pub chain: Chain,
    /// Its place there.
    pub head: Head,
    /// The hash of the entry before it; none for the first of a boot.
    pub prev_hash: Option<EntryHash>,
    /// What its author had applied of others since its own previous entry. With those of its predecessors: its causal past.
    pub deps: Vec<(Chain, Head)>,
    /// What it says.
    pub ops: Vec<Op>,
}

/// An entry before it is signed.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The network it is for.
    pub network: NetworkId,
    /// Its author and boot.
    pub chain: Chain,
    /// Its place in the chain.
    pub seq: Seq,
    /// The entry before it.
    pub prev_hash: Option<EntryHash>,
    /// See [`Entry::deps`].
    pub deps: Vec<(Chain, Head)>,
    /// See [`Entry::ops`].
    pub ops: Vec<Op>,
}

impl Draft {
    /// Signs the draft: the entry's bytes, to be stored and sent as they are.
    pub fn seal(self, key: &SigningKey) -> Vec<u8> {
        let body = Body {
            network: self.network,
            node: self.chain.node,
            boot: self.chain.boot,
            seq: self.seq,
            prev_hash: self.prev_hash,
            deps: self.deps,
            ops: self.ops.iter().map(Op::to_raw).collect(),
        };
        let mut bytes = wire::encode(&body);
        let signature = key.sign(&signed_message(&bytes));
        bytes.extend_from_slice(&signature.to_bytes());
        bytes
    }
}

impl Entry {
    /// Reads and checks an entry of `network`, whoever it came from.
    pub fn open(bytes: &[u8], network: &NetworkId) -> Result<Entry, EntryError> {
        let (body, entry) = read(bytes)?;
        if body.network != *network {
            return Err(EntryError::OtherNetwork(body.network));
        }
        verify(bytes, &body.node)?;
        check_shape(&entry)?;
        Ok(entry)
    }

    /// Reads an entry that this node has checked before and stored.
    pub fn reopen(bytes: &[u8]) -> Result<Entry, EntryError> {
        read(bytes).map(|(_, entry)| entry)
    }

    /// The name of an entry: a hash of all its bytes, signature included.
    pub fn hash_of(bytes: &[u8]) -> EntryHash {
        EntryHash(blake3::derive_key(HASH_CONTEXT, bytes))
    }
}

/// The public half of a node's key is its id.
pub fn node_id(key: &SigningKey) -> NodeId {
    NodeId(key.verifying_key().to_bytes())
}

fn read(bytes: &[u8]) -> Result<(Body, Entry), EntryError> {
    if bytes.len() > MAX_ENTRY_BYTES {
        return Err(EntryError::TooLarge { size: bytes.len() });
    }
    let (signed, _) = bytes.split_last_chunk::<{ Signature::BYTE_SIZE }>().ok_or(EntryError::CutShort)?;
    let body: Body = wire::decode(signed)?;
    let ops = body.ops.iter().cloned().map(Op::from_raw).collect::<Result<Vec<_>, _>>()?;
    let entry = Entry {
        chain: Chain { node: body.node, boot: body.boot },
        head: Head { seq: body.seq, hash: Entry::hash_of(bytes) },
        prev_hash: body.prev_hash,
        deps: body.deps.clone(),
        ops,
    };
    Ok((body, entry))
}

fn verify(bytes: &[u8], node: &NodeId) -> Result<(), EntryError> {
    let refused = || EntryError::BadSignature(*node);
    let (signed, signature) = bytes.split_last_chunk().ok_or(EntryError::CutShort)?;
    let key = VerifyingKey::from_bytes(node.as_bytes()).map_err(|_| refused())?;
    key.verify_strict(&signed_message(signed), &Signature::from_bytes(signature)).map_err(|_| refused())
}

fn check_shape(entry: &Entry) -> Result<(), EntryError> {
    check_counts(entry)?;
    check_shards(entry)?;
    let first = entry.head.seq == Seq::FIRST;
    if entry.head.seq < Seq::FIRST || first != entry.prev_hash.is_none() {
        return Err(EntryError::BrokenChain(entry.head.seq));
    }
    let boots_at: Vec<usize> = (0..entry.ops.len()).filter(|&at| matches!(entry.ops[at], Op::Boot(_))).collect();
    let expected: &[usize] = if first { &[0] } else { &[] };
    if boots_at != expected {
        return Err(EntryError::MisplacedBoot);
    }
    match entry.ops.first() {
        Some(Op::Boot(boot)) if BootId::of(&entry.chain.node, &boot.nonce) != entry.chain.boot => {
            Err(EntryError::ForeignBoot(entry.chain.boot))
        }
        _ => Ok(()),
    }
}

fn check_counts(entry: &Entry) -> Result<(), EntryError> {
    let weight = entry.ops.iter().map(Op::weight).sum();
    let children = |op: &Op| if let Op::LinkFact(fact) = op { fact.children.len() } else { 0 };
    let children = entry.ops.iter().map(children).max().unwrap_or(0);
    let counts = [
        ("ops", weight, MAX_ENTRY_OPS),
        ("deps", entry.deps.len(), MAX_ENTRY_DEPS),
        ("children in one link fact", children, MAX_FACT_CHILDREN),
    ];
    match counts.into_iter().find(|(_, count, limit)| count > limit) {
        Some((what, count, limit)) => Err(EntryError::TooMany { what, count, limit }),
        None => Ok(()),
    }
}

fn check_shards(entry: &Entry) -> Result<(), EntryError> {
    let mut seen = BTreeSet::new();
    for op in &entry.ops {
        if let Op::Change(change) = op
            && !seen.insert(change.shard)
        {
            return Err(EntryError::RepeatedShard(change.shard));
        }
    }
    Ok(())
}

fn signed_message(body: &[u8]) -> Vec<u8> {
    [SIGNING_DOMAIN, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::change::Change;
    use crate::id::{B3, BlobFact, BlobId, StorageId};
    use crate::log::op::{Boot, Holdings, LinkFact};

    const NETWORK: NetworkId = NetworkId([9; 32]);

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn draft(key: &SigningKey, seq: u64, ops: Vec<Op>) -> Draft {
        let chain = Chain { node: node_id(key), boot: BootId::of(&node_id(key), &[1; 16]) };
        let prev_hash = (seq > 1).then_some(EntryHash([5; 32]));
        Draft { network: NETWORK, chain, seq: Seq(seq), prev_hash, deps: vec![], ops }
    }

    fn removals(count: usize) -> Op {
        Op::Holdings(Holdings { added: vec![], removed: vec![BlobId([0; 20]); count] })
    }

    fn boot() -> Op {
        Op::Boot(Boot { storage: StorageId([1; 16]), nonce: [1; 16] })
    }

    #[test]
    fn a_sealed_entry_opens_as_it_was_drafted() {
        let bytes = draft(&key(1), 2, vec![removals(3)]).seal(&key(1));
        let entry = Entry::open(&bytes, &NETWORK).unwrap();
        assert_eq!(entry.chain.node, node_id(&key(1)));
        assert_eq!(entry.ops, vec![removals(3)]);
        assert_eq!(entry.head.hash, Entry::hash_of(&bytes));
    }

    #[test]
    fn a_flip_of_any_byte_is_refused() {
        let bytes = draft(&key(1), 1, vec![boot(), removals(1)]).seal(&key(1));
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(Entry::open(&broken, &NETWORK).is_err(), "flip at {at} passed");
        }
    }

    #[test]
    fn another_signer_or_network_is_refused_by_name() {
        let forged = draft(&key(1), 2, vec![]).seal(&key(2));
        assert!(matches!(Entry::open(&forged, &NETWORK), Err(EntryError::BadSignature(_))));
        let foreign = draft(&key(1), 2, vec![]).seal(&key(1));
        assert!(matches!(Entry::open(&foreign, &NetworkId([8; 32])), Err(EntryError::OtherNetwork(_))));
    }

    #[test]
    fn ops_are_counted_at_and_past_max_entry_ops() {
        let at = draft(&key(1), 2, vec![removals(MAX_ENTRY_OPS)]).seal(&key(1));
        assert!(Entry::open(&at, &NETWORK).is_ok());
        let past = draft(&key(1), 2, vec![removals(MAX_ENTRY_OPS), removals(1)]).seal(&key(1));
        assert!(matches!(Entry::open(&past, &NETWORK), Err(EntryError::TooMany { what: "ops", .. })));
    }

    #[test]
    fn deps_are_counted_at_and_past_max_entry_deps() {
        let with_deps = |count: usize| {
            let mut draft = draft(&key(1), 2, vec![]);
            draft.deps = vec![(draft.chain, Head { seq: Seq(1), hash: EntryHash([0; 32]) }); count];
            Entry::open(&draft.seal(&key(1)), &NETWORK)
        };
        assert!(with_deps(MAX_ENTRY_DEPS).is_ok());
        assert!(matches!(with_deps(MAX_ENTRY_DEPS + 1), Err(EntryError::TooMany { what: "deps", .. })));
    }

    #[test]
    fn children_of_one_fact_are_counted_at_and_past_max_fact_children() {
        let child = BlobFact { sha1: BlobId([1; 20]), b3: B3([1; 32]), size_bytes: 1 };
        let with_children = |count: usize| {
            let fact = LinkFact { parent: BlobId([0; 20]), children: vec![child; count] };
            Entry::open(&draft(&key(1), 2, vec![Op::LinkFact(fact)]).seal(&key(1)), &NETWORK)
        };
        assert!(with_children(MAX_FACT_CHILDREN).is_ok());
        let past = with_children(MAX_FACT_CHILDREN + 1);
        assert!(matches!(past, Err(EntryError::TooMany { what: "children in one link fact", .. })));
    }

    #[test]
    fn an_entry_changes_a_shard_once() {
        let change =
            |shard| Op::Change(Change { shard, epoch: 0, actor_seq: 1, start_op: 1, deps: vec![], prior: None, writes: vec![] });
        let open = |ops| Entry::open(&draft(&key(1), 2, ops).seal(&key(1)), &NETWORK);
        assert!(open(vec![change(1), change(2)]).is_ok());
        assert!(matches!(open(vec![change(1), change(2), change(1)]), Err(EntryError::RepeatedShard(1))));
    }

    #[test]
    fn bytes_are_counted_at_and_past_max_entry_bytes() {
        let with_body = |len: usize| {
            let raw = Op::Unknown(RawOp { kind: 99, body: vec![0; len] });
            draft(&key(1), 2, vec![raw]).seal(&key(1))
        };
        let overhead = with_body(MAX_ENTRY_BYTES / 2).len() - MAX_ENTRY_BYTES / 2;
        let at = with_body(MAX_ENTRY_BYTES - overhead);
        assert_eq!(at.len(), MAX_ENTRY_BYTES);
        assert!(Entry::open(&at, &NETWORK).is_ok());
        let past = with_body(MAX_ENTRY_BYTES - overhead + 1);
        assert!(matches!(Entry::open(&past, &NETWORK), Err(EntryError::TooLarge { .. })));
    }

    #[test]
    fn the_boot_op_opens_a_boot_and_stands_nowhere_else() {
        let open = |seq, ops| Entry::open(&draft(&key(1), seq, ops).seal(&key(1)), &NETWORK);
        assert!(open(1, vec![boot(), removals(1)]).is_ok());
        for (seq, ops) in [(1, vec![]), (1, vec![removals(1), boot()]), (1, vec![boot(), boot()]), (2, vec![boot()])] {
            assert!(matches!(open(seq, ops), Err(EntryError::MisplacedBoot)));
        }
    }

    #[test]
    fn nobody_opens_a_boot_of_another_node() {
        let mut draft = draft(&key(1), 1, vec![boot()]);
        draft.chain.boot = BootId::of(&node_id(&key(2)), &[1; 16]);
        assert!(matches!(Entry::open(&draft.seal(&key(1)), &NETWORK), Err(EntryError::ForeignBoot(_))));
    }

    #[test]
    fn only_the_first_entry_lacks_a_predecessor() {
        let mut orphan = draft(&key(1), 3, vec![]);
        orphan.prev_hash = None;
        assert!(matches!(Entry::open(&orphan.seal(&key(1)), &NETWORK), Err(EntryError::BrokenChain(Seq(3)))));
        let zeroth = draft(&key(1), 0, vec![]);
        assert!(matches!(Entry::open(&zeroth.seal(&key(1)), &NETWORK), Err(EntryError::BrokenChain(Seq(0)))));
    }
    #[test]
    fn the_bytes_of_an_entry_never_change() {
        // Golden values: a change of any of them breaks homes and networks in the field.
        let mut first = draft(&key(1), 1, vec![boot(), removals(1)]);
        first.deps =
            vec![(Chain { node: NodeId([2; 32]), boot: BootId([3; 16]) }, Head { seq: Seq(4), hash: EntryHash([5; 32]) })];
        let bytes = first.seal(&key(1));
        assert_eq!(bytes.len(), 290);
        assert_eq!(blake3::hash(&bytes).to_string(), "9ca89456e52fbfb82c056611a6542a371e9c2504cd7bd05894e14cae3ffe85f9");
        assert_eq!(Entry::hash_of(&bytes).to_string(), "68ec52ea528451307c34588cdf42e43889becdbb8c3f3993a8dbe77ec600e1bc");
        assert_eq!(Entry::open(&bytes, &NETWORK).unwrap(), Entry::reopen(&bytes).unwrap());
    }
}
