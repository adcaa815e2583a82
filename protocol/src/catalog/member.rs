//! The network and its members: who may write at all, and what for.

use bincode::{Decode, Encode};

use crate::id::{NetworkId, NodeId, StorageId};

/// What network ids are derived under.
const NETWORK_CONTEXT: &str = "keepwell 2026-11-23 network id v1";

/// What a member may do beyond reading, storing and naming data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Role {
    /// Nothing beyond that, and inviting other members.
    Member,
    /// Make admins, remove members, declare them dead.
    Admin,
}

impl Role {
    /// The word for it in commands and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Admin => "admin",
        }
    }
}

/// The body of the network's item: why everyone believes its first admin.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NetworkBody {
    /// What its members call it.
    pub name: String,
    /// Who made it: an admin without anybody's leave.
    pub creator: NodeId,
    /// Random bytes that tell apart two networks of one creator.
    pub salt: [u8; 32],
}

impl NetworkBody {
    /// The id of this network: it commits to the creator, so nobody can claim to have made a network they did not.
    pub fn id(&self) -> NetworkId {
        let mut hasher = blake3::Hasher::new_derive_key(NETWORK_CONTEXT);
        hasher.update(self.creator.as_bytes());
        hasher.update(&self.salt);
        NetworkId(*hasher.finalize().as_bytes())
    }
}

/// The body of a member's item.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NodeBody {
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The disk that its copies are on.
    pub storage: StorageId,
}
