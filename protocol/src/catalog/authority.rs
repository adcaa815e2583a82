//! Who may write what: a function of an entry's causal past, so that every node judges alike.
//!
//! The creator of a network is its first admin, by the network id itself. Members may invite members; only admins may make admins or
//! change a member's record, declare it dead, or remove it and take it in again; nobody removes the creator, or themself; a node may change its own name. Everybody who is a member may write refs.

use super::change::Write;
use super::item::{Item, Kind};
use super::member::{DeathBody, NetworkBody, NodeBody, Role};
use super::removal::RemovalBody;
use super::row::Row;
use crate::id::{NetworkId, NodeId};
use crate::limits::MAX_REMOVAL_CUTS;
use crate::wire;

/// Why a write was not its author's to make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Only members write.
    #[error("node {0} is not a member")]
    NotAMember(NodeId),
    /// Only admins make admins or change others' records.
    #[error("node {0} is not an admin")]
    NotAnAdmin(NodeId),
    /// The network's own record is fixed by its id.
    #[error("the network's record does not match its id")]
    WrongNetwork,
    /// There must be somebody left to say who is in.
    #[error("nobody removes themself from a network")]
    Oneself,
    /// All authority rests on the creator's.
    #[error("the creator of a network cannot be removed from it")]
    Creator,
    /// A removal names what still counts, and can only name what it knows.
    #[error("a removal names an entry that its author had not seen")]
    UnseenCut,
    /// A record of the catalog that is not in its format.
    #[error("unreadable record of `{0}`")]
    Unreadable(String),
}

/// Judges writes of one author.
pub struct Authority<'a> {
    /// The network.
    pub network: &'a NetworkId,
    /// Who writes.
    pub author: NodeId,
    /// Who made the network.
    pub creator: Option<NodeId>,
    /// The author's role, as far as its entry's past tells; none for a stranger.
    pub role: Option<Role>,
}

impl Authority<'_> {
    /// Whether the author may make `write` to an item whose present row is `row`.
    pub fn judge(&self, write: &Write, row: &Row) -> Result<(), AuthorityError> {
        match write.item.kind {
            Kind::NETWORK => self.judge_network(write),
            Kind::NODE => self.judge_node(write, row),
            Kind::DEATH => {
                body::<DeathBody>(write)?;
                self.member().and_then(|_| self.admin())
            }
            Kind::REMOVAL => self.judge_removal(write),
            _ => self.member().map(|_| ()),
        }
    }

    fn judge_removal(&self, write: &Write) -> Result<(), AuthorityError> {
        let body = body::<RemovalBody>(write)?;
        self.member().and_then(|_| self.admin())?;
        let Some(body) = body else { return Ok(()) };
        if body.cuts.len() > MAX_REMOVAL_CUTS {
            return Err(AuthorityError::Unreadable(write.item.key.clone()));
        }
        if write.item == Item::removal(&self.author) {
            return Err(AuthorityError::Oneself);
        }
        match self.creator.filter(|creator| write.item == Item::removal(creator)) {
            Some(_) => Err(AuthorityError::Creator),
            None => Ok(()),
        }
    }

    fn judge_network(&self, write: &Write) -> Result<(), AuthorityError> {
        let body: NetworkBody = body(write)?.ok_or(AuthorityError::WrongNetwork)?;
        if body.id() != *self.network || write.item != Item::network() {
            return Err(AuthorityError::WrongNetwork);
        }
        if body.creator == self.author { Ok(()) } else { Err(AuthorityError::NotAnAdmin(self.author)) }
    }

    fn judge_node(&self, write: &Write, row: &Row) -> Result<(), AuthorityError> {
        let role = self.member()?;
        let Some(new) = body::<NodeBody>(write)? else { return self.admin() };
        let old = row.winner().and_then(|value| wire::decode_own::<NodeBody>(&value.body).ok());
        let itself = write.item == Item::node(&self.author);
        match old {
            None if new.role <= role => Ok(()),
            Some(old) if itself && new.role <= old.role => Ok(()),
            _ => self.admin(),
        }
    }

    fn member(&self) -> Result<Role, AuthorityError> {
        self.role.ok_or(AuthorityError::NotAMember(self.author))
    }

    fn admin(&self) -> Result<(), AuthorityError> {
        if self.role == Some(Role::Admin) { Ok(()) } else { Err(AuthorityError::NotAnAdmin(self.author)) }
    }
}

/// The role that the rows of the catalog give `node`: the creator's by the network's record, others' by their own.
pub fn role_of(node: &NodeId, network: &Row, member: &Row) -> Option<Role> {
    if creator_of(network) == Some(*node) {
        return Some(Role::Admin);
    }
    let value = member.winner()?;
    wire::decode_own::<NodeBody>(&value.body).ok().map(|body| body.role)
}

/// Who made the network whose record this is. The network's id tells, so all that it has say the same.
pub fn creator_of(network: &Row) -> Option<NodeId> {
    network.values().iter().find_map(|value| wire::decode_own::<NetworkBody>(&value.body).ok()).map(|body| body.creator)
}

fn body<T: bincode::Decode<()> + bincode::Encode>(write: &Write) -> Result<Option<T>, AuthorityError> {
    let unreadable = |_| AuthorityError::Unreadable(write.item.key.clone());
    write.body.as_deref().map(wire::decode).transpose().map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::change::Order;
    use crate::id::{BootId, Seq, StorageId, ValueId};

    const ADMIN: NodeId = NodeId([1; 32]);
    const MEMBER: NodeId = NodeId([2; 32]);
    const STRANGER: NodeId = NodeId([3; 32]);

    fn network() -> NetworkBody {
        NetworkBody { name: "lab".into(), creator: ADMIN, salt: [7; 32] }
    }

    fn judge(author: NodeId, role: Option<Role>, write: &Write, row: &Row) -> Result<(), AuthorityError> {
        Authority { network: &network().id(), author, creator: Some(ADMIN), role }.judge(write, row)
    }

    fn node(node: NodeId, role: Role) -> Write {
        let body = NodeBody { name: "n".into(), role, storage: StorageId([0; 16]) };
        Write { item: Item::node(&node), replaces: vec![], body: Some(wire::encode(&body)) }
    }

    fn row(write: &Write) -> Row {
        let id = ValueId { boot: BootId([1; 16]), seq: Seq(1), index: 0 };
        let mut row = Row::default();
        row.apply(id, Order { epoch: 0, counter: 1, boot: id.boot }, ADMIN, write);
        row
    }

    #[test]
    fn the_network_record_is_its_creators_and_fixed() {
        let write = |body: &NetworkBody| Write { item: Item::network(), replaces: vec![], body: Some(wire::encode(body)) };
        assert_eq!(judge(ADMIN, None, &write(&network()), &Row::default()), Ok(()));
        let stolen = NetworkBody { creator: STRANGER, ..network() };
        assert_eq!(judge(STRANGER, None, &write(&stolen), &Row::default()), Err(AuthorityError::WrongNetwork));
        assert!(judge(MEMBER, Some(Role::Member), &write(&network()), &Row::default()).is_err());
    }

    #[test]
    fn members_invite_members_and_only_admins_make_admins() {
        let empty = Row::default();
        assert_eq!(judge(MEMBER, Some(Role::Member), &node(STRANGER, Role::Member), &empty), Ok(()));
        assert!(judge(MEMBER, Some(Role::Member), &node(STRANGER, Role::Admin), &empty).is_err());
        assert_eq!(judge(ADMIN, Some(Role::Admin), &node(STRANGER, Role::Admin), &empty), Ok(()));
        assert!(judge(STRANGER, None, &node(STRANGER, Role::Member), &empty).is_err());
    }

    #[test]
    fn nobody_raises_their_own_role_or_changes_anothers_record() {
        let member = row(&node(MEMBER, Role::Member));
        assert!(judge(MEMBER, Some(Role::Member), &node(MEMBER, Role::Admin), &member).is_err());
        assert_eq!(judge(MEMBER, Some(Role::Member), &node(MEMBER, Role::Member), &member), Ok(()));
        let other = row(&node(STRANGER, Role::Member));
        assert!(judge(MEMBER, Some(Role::Member), &node(STRANGER, Role::Member), &other).is_err());
        assert_eq!(judge(ADMIN, Some(Role::Admin), &node(MEMBER, Role::Admin), &member), Ok(()));
    }

    #[test]
    fn only_admins_declare_members_dead_and_take_it_back() {
        let death = |body| Write { item: Item::death(&MEMBER), replaces: vec![], body };
        for body in [Some(wire::encode(&DeathBody { declared_ms: 1 })), None] {
            assert_eq!(judge(ADMIN, Some(Role::Admin), &death(body.clone()), &Row::default()), Ok(()));
            assert!(judge(MEMBER, Some(Role::Member), &death(body.clone()), &Row::default()).is_err());
            assert!(judge(STRANGER, None, &death(body), &Row::default()).is_err());
        }
        assert!(judge(ADMIN, Some(Role::Admin), &death(Some(vec![9])), &Row::default()).is_err());
    }

    #[test]
    fn only_admins_remove_members_and_nobody_the_creator_or_themself() {
        let removal = |of: &NodeId, cuts: usize| {
            let body = RemovalBody { removed_ms: 1, cuts: vec![(BootId([1; 16]), Seq(1)); cuts] };
            Write { item: Item::removal(of), replaces: vec![], body: Some(wire::encode(&body)) }
        };
        let empty = Row::default();
        let admin = |author, write: &Write| judge(author, Some(Role::Admin), write, &empty);
        assert_eq!(admin(ADMIN, &removal(&MEMBER, MAX_REMOVAL_CUTS)), Ok(()));
        assert!(admin(ADMIN, &removal(&MEMBER, MAX_REMOVAL_CUTS + 1)).is_err());
        assert!(judge(STRANGER, Some(Role::Member), &removal(&MEMBER, 1), &empty).is_err());
        assert!(judge(STRANGER, None, &removal(&MEMBER, 1), &empty).is_err());
        assert_eq!(admin(MEMBER, &removal(&MEMBER, 1)), Err(AuthorityError::Oneself));
        assert_eq!(admin(MEMBER, &removal(&ADMIN, 1)), Err(AuthorityError::Creator));
        let again = |role| judge(STRANGER, role, &Write { item: Item::removal(&MEMBER), replaces: vec![], body: None }, &empty);
        assert_eq!(again(Some(Role::Admin)), Ok(()));
        assert!(again(Some(Role::Member)).is_err());
    }

    #[test]
    fn strangers_write_no_refs() {
        let write = Write { item: Item::reference("g/k"), replaces: vec![], body: None };
        assert!(judge(STRANGER, None, &write, &Row::default()).is_err());
        assert_eq!(judge(MEMBER, Some(Role::Member), &write, &Row::default()), Ok(()));
    }
}
