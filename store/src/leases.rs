//! Leases: protection of blobs on this node alone, with an owner and an end in time.
//!
//! Life of a lease: it is added, given blobs, renewed by its owner while that one lives, and removed by it, or by anybody once it has
//! expired. Whoever is not its owner is refused, and so is an owner who comes too late: what it protected may be gone. A lease makes
//! nothing live, and no other node knows of it. It keeps what would otherwise be unneeded: the blobs themselves and, unless it is
//! *flat*, what links reach from them. The grace of a put or a fetch, which nobody owns, keeps like a lease that is not flat.
//!
//! A blob that only a lease keeps is not numbered as unneeded: it waits for the end of that lease, so that collecting garbage does
//! not meet it again and again. What has ended goes in portions, row by row.

use std::collections::BTreeSet;

use bincode::{Decode, Encode};
use keepwell_protocol::id::{BlobId, LeaseId};
use keepwell_protocol::wire;
use redb::{ReadableTable, ReadableTableMetadata};

use crate::error::StoreError;
use crate::row;
use crate::tables::{Access, Tables, Writing};

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Lease {
    /// Who may renew and remove it: a name that its owner gave.
    pub owner: String,
    /// When it was added, in Unix milliseconds.
    pub created_ms: u64,
    /// From when on it protects nothing, in Unix milliseconds.
    pub expires_ms: u64,
    /// Whether it protects its blobs without what they link to.
    pub is_flat: bool,
    /// How many blobs it has been given.
    pub blobs: u64,
}

impl Lease {
    /// Whether it protects nothing any more.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms <= now_ms
    }
}

/// Why a lease was not changed. Nothing has happened then.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// There is none of that id: it was never added, or has ended.
    #[error("no lease `{0}`")]
    NotFound(LeaseId),
    /// The id is taken.
    #[error("lease `{0}` exists already")]
    Exists(LeaseId),
    /// It belongs to somebody else.
    #[error("lease `{lease}` belongs to `{owner}`")]
    NotOwner {
        /// Which.
        lease: LeaseId,
        /// To whom.
        owner: String,
    },
    /// It protects nothing any more, and what it protected may be gone.
    #[error("lease `{0}` has expired")]
    Expired(LeaseId),
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<redb::StorageError> for LeaseError {
    fn from(error: redb::StorageError) -> Self {
        LeaseError::Store(error.into())
    }
}

/// What keeps a blob here without its being live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeping {
    /// A lease on `root`.
    Lease {
        /// Which.
        lease: LeaseId,
        /// The blob that it was given.
        root: BlobId,
    },
    /// The grace of `root`, which was put or fetched a while ago.
    Grace {
        /// The blob.
        root: BlobId,
        /// Its end, in Unix milliseconds.
        until_ms: u64,
    },
}

impl<A: Access> Tables<A> {
    /// The lease `id`, expired or not.
    pub fn lease(&self, id: &LeaseId) -> Result<Option<Lease>, StoreError> {
        row::decode("leases", self.leases.get(id.as_bytes()))
    }

    /// All leases, in order of their ids, also those that have expired and have not been ended.
    pub fn all_leases(&self) -> Result<Vec<(LeaseId, Lease)>, StoreError> {
        let rows = self.leases.iter()?;
        rows.map(|row| {
            let (id, lease) = row?;
            Ok((LeaseId(*id.value()), row::decode_bytes("leases", lease.value())?))
        })
        .collect()
    }

    /// The blobs that a lease was given, ascending by SHA-1 from `from` on, at most `limit` of them.
    pub fn leased_blobs(&self, id: &LeaseId, from: &BlobId, limit: usize) -> Result<Vec<BlobId>, StoreError> {
        let rows = self.lease_blobs.range((id.as_bytes(), from.as_bytes())..=(id.as_bytes(), &[0xff; 20]))?;
        rows.take(limit).map(|row| Ok(BlobId(*row?.0.value().1))).collect()
    }

    /// When the next lease expires, in Unix milliseconds: when to call [`Tables::end_leases`].
    pub fn next_lease_expiry_ms(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.all_leases()?.into_iter().map(|(_, lease)| lease.expires_ms).min())
    }

    /// How many leases there are, with those that have expired and have not been ended.
    pub fn lease_count(&self) -> Result<u64, StoreError> {
        Ok(self.leases.len()?)
    }

    /// The blobs that are not live and that leases cover, held or not.
    ///
    /// A lease covers nothing from the millisecond on in which it expires.
    pub fn covered_by_leases(&self, now_ms: u64) -> Result<BTreeSet<BlobId>, StoreError> {
        let (mut flat, mut deep) = (Vec::new(), Vec::new());
        for (id, lease) in self.all_leases()?.into_iter().filter(|(_, lease)| !lease.is_expired(now_ms)) {
            let blobs = self.leased_blobs(&id, &BlobId([0; BlobId::LEN]), usize::MAX)?;
            if lease.is_flat { flat.extend(blobs) } else { deep.extend(blobs) }
        }
        let mut covered = self.not_live_closure(deep)?;
        for id in flat {
            if !self.is_live(&id)? {
                covered.insert(id);
            }
        }
        Ok(covered)
    }

    /// The lease that covers `blob` for longest: one on itself or, if it is not flat, on something whose links reach it, live or not.
    ///
    /// While there is one, this node keeps the blob (SAFETY.md S22).
    pub fn covering_lease(&self, blob: &BlobId, now_ms: u64) -> Result<Option<(LeaseId, Lease)>, StoreError> {
        if self.leases.is_empty()? {
            return Ok(None);
        }
        let mut longest: Option<(LeaseId, Lease)> = None;
        let (mut seen, mut due) = (BTreeSet::from([*blob]), vec![*blob]);
        while let Some(root) = due.pop() {
            for (id, lease) in self.leases_on(&root)? {
                let covers = !lease.is_expired(now_ms) && (!lease.is_flat || root == *blob);
                if covers && longest.as_ref().is_none_or(|(_, longest)| longest.expires_ms < lease.expires_ms) {
                    longest = Some((id, lease));
                }
            }
            due.extend(self.parents(&root)?.into_iter().filter(|parent| seen.insert(*parent)));
        }
        Ok(longest)
    }

    /// The blobs that wait for the end of a lease, each with the lease. Some may be live meanwhile, or have gone.
    pub fn waiting_for_leases(&self) -> Result<Vec<(LeaseId, BlobId)>, StoreError> {
        let rows = self.lease_waits.iter()?;
        rows.map(|row| row.map(|(key, _)| (LeaseId(*key.value().0), BlobId(*key.value().1))).map_err(StoreError::from)).collect()
    }

    /// The leases and graces that keep `blob` here, in order: on itself, or on what links to it and is not live.
    pub fn lease_roots_of(&self, blob: &BlobId, now_ms: u64) -> Result<Vec<Keeping>, StoreError> {
        let mut keeping = Vec::new();
        let (mut seen, mut due) = (BTreeSet::from([*blob]), vec![*blob]);
        while let Some(root) = due.pop() {
            let leases = self.leases_on(&root)?.into_iter();
            let reaches = |lease: &Lease| !lease.is_expired(now_ms) && (!lease.is_flat || root == *blob);
            keeping.extend(leases.filter(|(_, lease)| reaches(lease)).map(|(lease, _)| Keeping::Lease { lease, root }));
            keeping.extend(self.grace_of(&root)?.map(|until_ms| Keeping::Grace { root, until_ms }));
            due.extend(self.unlive_parents(&root, &mut seen)?);
        }
        keeping.sort_unstable();
        Ok(keeping)
    }

    /// Until when graces keep `blob` here, its own or those of what links to it: the end of the last of them. None if none does.
    pub fn graced_until_ms(&self, blob: &BlobId) -> Result<Option<u64>, StoreError> {
        if self.graces.is_empty()? {
            return Ok(None);
        }
        let (mut longest, mut seen, mut due) = (None, BTreeSet::from([*blob]), vec![*blob]);
        while let Some(root) = due.pop() {
            longest = longest.max(self.grace_of(&root)?);
            due.extend(self.unlive_parents(&root, &mut seen)?);
        }
        Ok(longest)
    }

    /// The parents that no ref reaches and that have not been seen: what is below a live blob is live, and needs neither lease nor grace.
    fn unlive_parents(&self, blob: &BlobId, seen: &mut BTreeSet<BlobId>) -> Result<Vec<BlobId>, StoreError> {
        let mut unlive = Vec::new();
        for parent in self.parents(blob)? {
            if !self.is_live(&parent)? && seen.insert(parent) {
                unlive.push(parent);
            }
        }
        Ok(unlive)
    }

    /// `roots` and everything that links reach from them, as far as it is not live. What is below a live blob is live itself.
    fn not_live_closure(&self, roots: Vec<BlobId>) -> Result<BTreeSet<BlobId>, StoreError> {
        let (mut reached, mut due) = (BTreeSet::new(), roots);
        while let Some(id) = due.pop() {
            if !self.is_live(&id)? && reached.insert(id) {
                due.extend(self.mentions(&id)?);
            }
        }
        Ok(reached)
    }

    /// The end of the grace that `id` has, if it is held and has one.
    pub(crate) fn grace_of(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        let Some(record) = self.blob(id)? else { return Ok(None) };
        Ok(self.is_in_grace(id, &record)?.then_some(record.grace_until_ms))
    }

    pub(crate) fn leases_on(&self, blob: &BlobId) -> Result<Vec<(LeaseId, Lease)>, StoreError> {
        let mut leases = Vec::new();
        for row in self.leased_by.range((blob.as_bytes(), &[0; 16])..=(blob.as_bytes(), &[0xff; 16]))? {
            let id = LeaseId(*row?.0.value().1);
            leases.extend(self.lease(&id)?.map(|lease| (id, lease)));
        }
        Ok(leases)
    }
}

impl Tables<Writing<'_>> {
    /// Adds a lease without blobs.
    pub fn add_lease(
        &mut self,
        id: &LeaseId,
        owner: &str,
        now_ms: u64,
        expires_ms: u64,
        is_flat: bool,
    ) -> Result<(), LeaseError> {
        if self.lease(id)?.is_some() {
            return Err(LeaseError::Exists(*id));
        }
        let lease = Lease { owner: owner.to_owned(), created_ms: now_ms, expires_ms, is_flat, blobs: 0 };
        Ok(self.put_lease(id, &lease)?)
    }

    /// Lets a lease last until `expires_ms`.
    pub fn renew_lease(&mut self, id: &LeaseId, owner: &str, now_ms: u64, expires_ms: u64) -> Result<(), LeaseError> {
        let lease = self.lease_of(id, owner, now_ms)?;
        Ok(self.put_lease(id, &Lease { expires_ms, ..lease })?)
    }

    /// Gives blobs to a lease, held or not.
    pub fn add_to_lease(&mut self, id: &LeaseId, owner: &str, now_ms: u64, blobs: &[BlobId]) -> Result<(), LeaseError> {
        let mut lease = self.lease_of(id, owner, now_ms)?;
        for blob in blobs {
            if self.lease_blobs.insert((id.as_bytes(), blob.as_bytes()), ())?.is_none() {
                self.leased_by.insert((blob.as_bytes(), id.as_bytes()), ())?;
                lease.blobs += 1;
            }
        }
        Ok(self.put_lease(id, &lease)?)
    }

    /// Ends a lease, for its owner; for anybody once it has expired. It protects nothing any more, and [`Tables::end_leases`] removes it.
    pub fn remove_lease(&mut self, id: &LeaseId, owner: &str, now_ms: u64) -> Result<(), LeaseError> {
        let lease = match self.lease_of(id, owner, now_ms) {
            Ok(lease) => lease,
            Err(LeaseError::Expired(_)) => return Ok(()),
            Err(refused) => return Err(refused),
        };
        // A clock that is set back does not bring it back.
        Ok(self.put_lease(id, &Lease { expires_ms: 0, ..lease })?)
    }

    /// Removes leases that have expired, and at most `limit` of their rows; whether no more have. What waited for them is numbered.
    pub fn end_leases(&mut self, now_ms: u64, limit: usize) -> Result<bool, StoreError> {
        let mut left = limit;
        for (id, _) in self.all_leases()?.into_iter().filter(|(_, lease)| lease.is_expired(now_ms)) {
            if left == 0 {
                return Ok(false);
            }
            let removed = self.end_lease(&id, left)?;
            if removed == left && self.lease(&id)?.is_some() {
                return Ok(false);
            }
            // A lease without rows is work too.
            left -= removed.max(1);
        }
        Ok(true)
    }

    /// Notes that `blob` is unneeded but for `lease`: it gets its number when that one ends.
    pub fn wait_for_lease(&mut self, blob: &BlobId, lease: &LeaseId) -> Result<(), StoreError> {
        self.lease_waits.insert((lease.as_bytes(), blob.as_bytes()), ())?;
        self.drop_unneeded(blob)
    }

    /// The lease `id`, which `owner` may change.
    fn lease_of(&self, id: &LeaseId, owner: &str, now_ms: u64) -> Result<Lease, LeaseError> {
        match self.lease(id)? {
            None => Err(LeaseError::NotFound(*id)),
            Some(lease) if lease.is_expired(now_ms) => Err(LeaseError::Expired(*id)),
            Some(lease) if lease.owner != owner => Err(LeaseError::NotOwner { lease: *id, owner: lease.owner }),
            Some(lease) => Ok(lease),
        }
    }

    fn put_lease(&mut self, id: &LeaseId, lease: &Lease) -> Result<(), StoreError> {
        self.leases.insert(id.as_bytes(), wire::encode(lease).as_slice())?;
        Ok(())
    }

    /// Removes up to `limit` rows of an expired lease, and it with the last of them; how many.
    fn end_lease(&mut self, id: &LeaseId, limit: usize) -> Result<usize, StoreError> {
        let waits = self.lease_waits.range((id.as_bytes(), &[0; 20])..=(id.as_bytes(), &[0xff; 20]))?.take(limit);
        let waits = waits.map(|row| Ok(BlobId(*row?.0.value().1))).collect::<Result<Vec<_>, StoreError>>()?;
        for blob in &waits {
            self.lease_waits.remove((id.as_bytes(), blob.as_bytes()))?;
            self.number_if_unneeded(blob)?;
        }
        let blobs = self.leased_blobs(id, &BlobId([0; BlobId::LEN]), limit - waits.len())?;
        for blob in &blobs {
            self.leased_by.remove((blob.as_bytes(), id.as_bytes()))?;
            self.lease_blobs.remove((id.as_bytes(), blob.as_bytes()))?;
        }
        if self.leased_blobs(id, &BlobId([0; BlobId::LEN]), 1)?.is_empty() && waits.len() < limit {
            self.leases.remove(id.as_bytes())?;
        }
        Ok(waits.len() + blobs.len())
    }
}

#[cfg(test)]
mod tests;
