//! The line about how a node stands to its network.

use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::id::NodeId;
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;
use serde::{Deserialize, Serialize};

use crate::engine::members::role;

/// How a node stands to its network, as far as it knows itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is a member like any other.
    #[default]
    Member,
    /// An admin declared it dead: nobody waits for it, and it deletes nothing.
    Dead,
    /// An admin removed it: it is no member any more.
    Removed,
    /// It has not heard yet that it is a member.
    Unknown,
}

impl Standing {
    /// How `node` stands as of `snapshot`.
    pub fn of(snapshot: &Snapshot, node: &NodeId) -> Result<Standing, StoreError> {
        Ok(if !snapshot.item(&Item::removal(node))?.is_empty() {
            Standing::Removed
        } else if role(snapshot, node)?.is_none() {
            Standing::Unknown
        } else if !snapshot.item(&Item::death(node))?.is_empty() {
            Standing::Dead
        } else {
            Standing::Member
        })
    }

    /// What is to be known of it, and what to do; none for a member.
    pub fn advice(self) -> Option<(&'static str, &'static str)> {
        match self {
            Standing::Member => None,
            Standing::Dead => Some((
                "declared dead: the others do not wait for this node, and it deletes nothing",
                "if it is to stay, run `keepwell node revive` with its name on the machine of an admin",
            )),
            Standing::Removed => Some((
                "removed from the network: the others take nothing from this node, and it deletes nothing",
                "take out what you need with `keepwell get`; to come back, ask an admin for an invitation and join with a new home",
            )),
            Standing::Unknown => Some((
                "this node has not heard yet that it is a member",
                "start it with `keepwell up`, and let it reach the machine that invited it",
            )),
        }
    }
}
