//! What a home is: its network, its node, its storage, and the boot that is writing.

use bincode::{Decode, Encode};
use keepwell_protocol::id::{BootId, NetworkId, NodeId, StorageId};
use keepwell_protocol::wire;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::row;
use crate::tables::{Access, Tables, Writing};

const HOME: &str = "home";

/// The identity of a home, fixed when it is made but for the boot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Home {
    /// The network it belongs to.
    pub network: NetworkId,
    /// The node that runs on it.
    pub node: NodeId,
    /// This disk. A copied home keeps it, and counts once.
    pub storage: StorageId,
    /// The boot that is writing; none until the first start.
    pub boot: Option<HomeBoot>,
}

/// A writing life, and where it was begun: a home found elsewhere has been copied or restored, and begins another.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HomeBoot {
    /// Its id.
    pub id: BootId,
    /// What the id is derived from.
    pub nonce: [u8; 16],
    /// Where the home was.
    pub place: DiskPlace,
}

/// Where a home's index lies: a copy lies elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct DiskPlace {
    /// The device number of the index file.
    pub device: u64,
    /// Its inode number.
    pub inode: u64,
}

impl<A: Access> Tables<A> {
    /// This home. None only before it has been made.
    pub fn home(&self) -> Result<Option<Home>, StoreError> {
        row::decode("meta", self.meta.get(HOME))
    }
}

impl Tables<Writing<'_>> {
    /// Writes what this home is.
    pub fn put_home(&mut self, home: &Home) -> Result<(), StoreError> {
        self.meta.insert(HOME, wire::encode(home).as_slice())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
