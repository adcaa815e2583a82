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

/// The body of the item that says that a member is dead. That it is there is what counts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeathBody {
    /// When it was declared, by the clock of the admin's machine, in Unix milliseconds: told to users, never a ground for anything.
    pub declared_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    fn network() -> NetworkBody {
        NetworkBody { name: "lab".into(), creator: NodeId([1; 32]), salt: [2; 32] }
    }

    #[test]
    fn bodies_round_trip() {
        assert_eq!(wire::decode::<NetworkBody>(&wire::encode(&network())).unwrap(), network());
        for role in [Role::Member, Role::Admin] {
            let body = NodeBody { name: "ada".into(), role, storage: StorageId([3; 16]) };
            assert_eq!(wire::decode::<NodeBody>(&wire::encode(&body)).unwrap(), body);
        }
    }

    #[test]
    fn a_role_that_this_build_does_not_know_is_refused() {
        let mut bytes = wire::encode(&Role::Admin);
        *bytes.last_mut().unwrap() += 1;
        assert!(wire::decode::<Role>(&bytes).is_err());
    }

    #[test]
    fn an_admin_is_above_a_member_and_both_have_a_word() {
        assert!(Role::Admin > Role::Member);
        assert_eq!([Role::Member, Role::Admin].map(Role::word), ["member", "admin"]);
    }

    #[test]
    fn a_networks_id_commits_to_its_creator_and_salt_and_not_to_its_name() {
        assert_eq!(NetworkBody { name: "other".into(), ..network() }.id(), network().id());
        assert_ne!(NetworkBody { creator: NodeId([9; 32]), ..network() }.id(), network().id());
        assert_ne!(NetworkBody { salt: [9; 32], ..network() }.id(), network().id());
    }

    #[test]
    fn the_bytes_of_bodies_never_change() {
        // Golden bytes: a change of any of them breaks homes and networks in the field.
        let hex = data_encoding::HEXLOWER;
        assert_eq!(
            hex.encode(&wire::encode(&network())),
            "01036c616201010101010101010101010101010101010101010101010101010101010101010202020202020202020202020202020202020202020202020202020202020202"
        );
        let node = NodeBody { name: "ada".into(), role: Role::Admin, storage: StorageId([3; 16]) };
        assert_eq!(hex.encode(&wire::encode(&node)), "01036164610103030303030303030303030303030303");
        assert_eq!(hex.encode(&wire::encode(&DeathBody { declared_ms: 1 })), "0101");
        assert_eq!(network().id().to_string(), "584534e30a2ebc632f6b4ef8f08505848bdcaefd2d436a482317d2992218a512");
    }
}
