//! The invitations that this node has given: kept on disk, so that a ticket outlives a restart and is never used twice.
//!
//! Only a hash of each secret is kept: whoever reads the file cannot join by it. A use is written down, durably, before the member is
//! taken in, so that a crash in between costs a ticket and never doubles one; the same machine may come again with the same ticket.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use keepwell_protocol::catalog::member::Role;
use keepwell_protocol::id::NodeId;
use keepwell_protocol::ticket::JoinRefusal;
use serde::{Deserialize, Serialize};

use crate::failure::{Code, Failure};
use crate::files::{Overwrite, write_whole};
use crate::limits::{MAX_INVITES, MAX_INVITES_BYTES};

const FILE: &str = "invites.json";
const MODE: u32 = 0o600;
/// What secrets are hashed under.
const CONTEXT: &str = "keepwell 2026-11-23 invitation v1";

/// The invitations of one home.
#[derive(Debug)]
pub struct Invites {
    path: PathBuf,
    list: Vec<Invite>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Invite {
    /// The hash of its secret, in hexadecimal.
    secret_hash: String,
    /// Whether it makes admins.
    admin: bool,
    /// When it lapses, in Unix milliseconds.
    expires_ms: u64,
    /// How many machines may still join by it.
    uses_left: u32,
    /// The nodes that have.
    used_by: BTreeSet<String>,
}

/// Why the list of invitations is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum InvitesError {
    /// The file cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not say what it should.
    #[error("{} is damaged: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Past [`MAX_INVITES`].
    #[error("{MAX_INVITES} invitations are open; wait until some have lapsed")]
    TooMany,
}

impl From<InvitesError> for Failure {
    fn from(error: InvitesError) -> Self {
        let message = error.to_string();
        match error {
            InvitesError::File { path, source, .. } => Failure { message, ..Failure::file("", &path, &source) },
            _ => Failure::new(Code::Internal, message),
        }
    }
}

impl Invites {
    /// Reads the invitations of the home at `home`.
    pub fn open(home: &Path) -> Result<Invites, InvitesError> {
        let path = home.join(FILE);
        let failed = |source| InvitesError::File { what: "read", path: path.clone(), source };
        let size = match std::fs::metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Invites { path, list: Vec::new() }),
            Err(error) => return Err(failed(error)),
        };
        if size > MAX_INVITES_BYTES {
            return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "too large to be ours")));
        }
        let bytes = std::fs::read(&path).map_err(failed)?;
        let list = serde_json::from_slice(&bytes).map_err(|source| InvitesError::Damaged { path: path.clone(), source })?;
        Ok(Invites { path, list })
    }

    /// Keeps a new invitation; those that have lapsed are let go.
    pub fn add(&mut self, now_ms: u64, secret: &[u8; 16], role: Role, uses: u32, expires_ms: u64) -> Result<(), InvitesError> {
        let mut list: Vec<Invite> = self.list.iter().filter(|invite| invite.expires_ms > now_ms).cloned().collect();
        if list.len() >= MAX_INVITES {
            return Err(InvitesError::TooMany);
        }
        let (admin, used_by) = (role == Role::Admin, BTreeSet::new());
        list.push(Invite { secret_hash: hash(secret), admin, expires_ms, uses_left: uses, used_by });
        self.replace(list)
    }

    /// Spends a use of the invitation with this secret on `node`, durably; the role that it gives.
    pub fn redeem(&mut self, now_ms: u64, secret: &[u8; 16], node: &NodeId) -> Result<Result<Role, JoinRefusal>, InvitesError> {
        let (wanted, node) = (hash(secret), node.to_string());
        let mut list = self.list.clone();
        let Some(invite) = list.iter_mut().find(|invite| invite.secret_hash == wanted) else {
            return Ok(Err(JoinRefusal::Unknown));
        };
        let role = if invite.admin { Role::Admin } else { Role::Member };
        // Whoever has joined by it may come again, also late: the first answer may have been lost.
        if invite.used_by.contains(&node) {
            return Ok(Ok(role));
        }
        if now_ms >= invite.expires_ms {
            return Ok(Err(JoinRefusal::Expired));
        }
        if invite.uses_left == 0 {
            return Ok(Err(JoinRefusal::Used));
        }
        invite.uses_left -= 1;
        invite.used_by.insert(node);
        self.replace(list)?;
        Ok(Ok(role))
    }

    fn replace(&mut self, list: Vec<Invite>) -> Result<(), InvitesError> {
        let bytes = serde_json::to_vec(&list).map_err(|source| InvitesError::Damaged { path: self.path.clone(), source })?;
        write_whole(&self.path, &bytes, MODE, Overwrite::Yes).map_err(|source| InvitesError::File {
            what: "write",
            path: self.path.clone(),
            source,
        })?;
        self.list = list;
        Ok(())
    }
}

fn hash(secret: &[u8; 16]) -> String {
    blake3::Hash::from_bytes(blake3::derive_key(CONTEXT, secret)).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);
    const OTHER: NodeId = NodeId([2; 32]);

    fn invites(home: &tempfile::TempDir) -> Invites {
        Invites::open(home.path()).unwrap()
    }

    #[test]
    fn a_ticket_is_used_once_also_after_a_restart_and_again_by_the_same_machine() {
        let home = tempfile::tempdir().unwrap();
        invites(&home).add(1, &[7; 16], Role::Member, 1, 1_000).unwrap();
        assert_eq!(invites(&home).redeem(2, &[7; 16], &NODE).unwrap(), Ok(Role::Member));
        assert_eq!(invites(&home).redeem(3, &[7; 16], &OTHER).unwrap(), Err(JoinRefusal::Used));
        assert_eq!(invites(&home).redeem(5_000, &[7; 16], &NODE).unwrap(), Ok(Role::Member));
    }

    #[test]
    fn a_forged_or_expired_ticket_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let mut invites = invites(&home);
        invites.add(1, &[7; 16], Role::Admin, 2, 1_000).unwrap();
        assert_eq!(invites.redeem(2, &[8; 16], &NODE).unwrap(), Err(JoinRefusal::Unknown));
        assert_eq!(invites.redeem(999, &[7; 16], &NODE).unwrap(), Ok(Role::Admin));
        assert_eq!(invites.redeem(1_000, &[7; 16], &OTHER).unwrap(), Err(JoinRefusal::Expired));
    }

    #[test]
    fn the_file_shows_no_secret_and_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        invites(&home).add(1, b"sixteen letters!", Role::Member, 1, 1_000).unwrap();
        let file = home.path().join(FILE);
        assert!(!std::fs::read_to_string(&file).unwrap().contains("sixteen"));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, MODE);
    }

    #[test]
    fn invitations_are_bounded_at_max_invites_and_lapsed_ones_make_room() {
        let home = tempfile::tempdir().unwrap();
        let mut invites = invites(&home);
        for number in 0..MAX_INVITES {
            let secret = u128::try_from(number).unwrap().to_be_bytes();
            invites.add(1, &secret, Role::Member, 1, 1_000).unwrap();
        }
        assert!(matches!(invites.add(1, &[9; 16], Role::Member, 1, 2_000), Err(InvitesError::TooMany)));
        assert!(invites.add(1_000, &[9; 16], Role::Member, 1, 2_000).is_ok());
    }

    #[test]
    fn a_damaged_or_oversized_file_is_told_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(FILE);
        std::fs::write(&file, "not a list").unwrap();
        assert!(matches!(Invites::open(home.path()), Err(InvitesError::Damaged { .. })));
        let at = |size: u64| {
            std::fs::File::create(&file).unwrap().set_len(size).unwrap();
            Invites::open(home.path())
        };
        assert!(matches!(at(MAX_INVITES_BYTES), Err(InvitesError::Damaged { .. })));
        assert!(matches!(at(MAX_INVITES_BYTES + 1), Err(InvitesError::File { .. })));
    }
}
