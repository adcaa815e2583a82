//! An item: one thing in the catalog, by kind and name, and the shard it lives in.

use bincode::{Decode, Encode};

use crate::id::NodeId;
use crate::log::op::PROTECTS;
use crate::name::RefName;

/// What shards are derived under. Never changes: the shard of an item is part of every change.
const SHARD_CONTEXT: &str = "keepwell 2026-11-23 shard v1";

/// What an item is. As with ops, [`PROTECTS`] says that a value of this kind may name data to keep, also to those who do not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Kind(pub u16);

impl Kind {
    /// A ref; its key is `group/key`.
    pub const REF: Kind = Kind(PROTECTS | 1);
    /// The network itself; its key is empty.
    pub const NETWORK: Kind = Kind(2);
    /// A member; its key is the node id.
    pub const NODE: Kind = Kind(3);
    /// That a member was declared dead: nobody waits for it. Its key is the node id.
    pub const DEATH: Kind = Kind(4);
    /// That a member was removed: it is none any more, and only a part of what it wrote counts. Its key is the node id.
    pub const REMOVAL: Kind = Kind(5);

    /// Whether values of this kind may name data that must be kept.
    pub const fn protects(self) -> bool {
        self.0 & PROTECTS != 0
    }

    /// Whether this build knows what values of this kind say.
    pub fn is_known(self) -> bool {
        [Kind::REF, Kind::NETWORK, Kind::NODE, Kind::DEATH, Kind::REMOVAL].contains(&self)
    }
}

/// One thing in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Its name among those of its kind.
    pub key: String,
}

impl Item {
    /// The ref `name` (`group/key`).
    pub fn reference(name: &str) -> Item {
        Item { kind: Kind::REF, key: name.to_owned() }
    }

    /// The network's own item.
    pub fn network() -> Item {
        Item { kind: Kind::NETWORK, key: String::new() }
    }

    /// The member `node`.
    pub fn node(node: &NodeId) -> Item {
        Item { kind: Kind::NODE, key: node.to_string() }
    }

    /// The word that `node` is dead.
    pub fn death(node: &NodeId) -> Item {
        Item { kind: Kind::DEATH, key: node.to_string() }
    }

    /// The word that `node` was removed.
    pub fn removal(node: &NodeId) -> Item {
        Item { kind: Kind::REMOVAL, key: node.to_string() }
    }

    /// Whether its key is one that things of its kind can have. Of an unknown kind, any is.
    pub fn has_legal_key(&self) -> bool {
        match self.kind {
            Kind::REF => RefName::parse(&self.key).is_ok(),
            Kind::NETWORK => self.key.is_empty(),
            Kind::NODE | Kind::DEATH | Kind::REMOVAL => self.key.parse::<NodeId>().is_ok_and(|node| node.to_string() == self.key),
            _ => true,
        }
    }

    /// The shard that writes to this item belong to.
    pub fn shard(&self) -> u8 {
        let mut hasher = blake3::Hasher::new_derive_key(SHARD_CONTEXT);
        hasher.update(&self.kind.0.to_be_bytes());
        hasher.update(self.key.as_bytes());
        hasher.finalize().as_bytes()[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SHARDS;

    #[test]
    fn the_shard_of_an_item_never_changes() {
        // Golden values: a change of any of them splits every network in the field.
        let shards: Vec<u8> = ["lab/raw", "lab/sorted", ""].iter().map(|name| Item::reference(name).shard()).collect();
        assert_eq!(shards, GOLDEN);
        assert_ne!(Item::network().shard(), Item::reference("").shard());
    }

    #[test]
    fn a_key_must_suit_the_kind() {
        let node = NodeId([0xab; 32]);
        for legal in [
            Item::reference("lab/raw"),
            Item::network(),
            Item::node(&node),
            Item::death(&node),
            Item::removal(&node),
            Item { kind: Kind(77), key: "x".into() },
        ] {
            assert!(legal.has_legal_key(), "{legal:?}");
        }
        let key = |kind, key: &str| Item { kind, key: key.into() };
        let upper = node.to_string().to_uppercase();
        for illegal in [
            key(Kind::REF, "raw"),
            key(Kind::NETWORK, "x"),
            key(Kind::NODE, "n1"),
            key(Kind::NODE, &upper),
            key(Kind::DEATH, "n1"),
            key(Kind::REMOVAL, "n1"),
        ] {
            assert!(!illegal.has_legal_key(), "{illegal:?}");
        }
    }

    const GOLDEN: [u8; 3] = [65, 194, 41];

    #[test]
    fn items_spread_over_all_shards() {
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..4_000 {
            seen.insert(Item::reference(&format!("group/{n}")).shard());
        }
        assert_eq!(seen.len(), SHARDS);
    }
}
