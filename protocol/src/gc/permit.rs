//! A permit: the only thing that lets a store delete a blob.
//!
//! Life of a permit: a verdict mints it for one blob, inside the deleting transaction; the store's delete takes it by value and it is
//! gone. It can be neither copied nor stored nor sent, so a delete without a fresh verdict cannot be written.

use crate::id::BlobId;

/// What a deletion rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// A surplus copy of a live blob.
    Drop,
    /// Nothing reaches the blob, and the catalog has converged on that.
    Purge,
    /// An operator asked for it by name, and is named in the audit log.
    Operator,
}

/// Leave to delete one blob from this node, once.
#[derive(Debug)]
#[must_use = "a permit is spent by the store's delete"]
pub struct Permit {
    blob: BlobId,
    ground: Ground,
}

impl Permit {
    /// The blob that may be deleted.
    pub fn blob(&self) -> BlobId {
        self.blob
    }

    /// What the deletion rests on.
    pub fn ground(&self) -> Ground {
        self.ground
    }

    /// The end of a verdict. Only the machines beside this file come here.
    pub(super) fn mint(blob: BlobId, ground: Ground) -> Permit {
        Permit { blob, ground }
    }

    /// A permit without a verdict: for tests of the deleting machinery alone.
    #[cfg(any(test, feature = "mint"))]
    pub fn mint_for_test(blob: BlobId, ground: Ground) -> Permit {
        Permit { blob, ground }
    }
}

/// Nothing outside this module can make a permit:
///
/// ```compile_fail,E0451
/// use keepwell_protocol::gc::permit::{Ground, Permit};
/// let _ = Permit { blob: keepwell_protocol::id::BlobId([0; 20]), ground: Ground::Purge };
/// ```
///
/// and nothing can spend one twice:
///
/// ```compile_fail,E0382
/// fn spend(_: keepwell_protocol::gc::permit::Permit) {}
/// fn twice(permit: keepwell_protocol::gc::permit::Permit) {
///     spend(permit);
///     spend(permit);
/// }
/// ```
#[cfg(doctest)]
struct PermitsCannotBeForged;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_names_its_blob_and_ground() {
        let permit = Permit::mint_for_test(BlobId([1; 20]), Ground::Drop);
        assert_eq!((permit.blob(), permit.ground()), (BlobId([1; 20]), Ground::Drop));
    }
}
