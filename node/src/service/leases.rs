//! Leases, as their users see them: taken, renewed, given blobs, removed and listed.

use keepwell_protocol::id::LeaseId;
use keepwell_protocol::units::DurationMs;
use keepwell_store::leases::Lease;
use serde::{Deserialize, Serialize};

use super::Node;
use crate::engine::leases::usable;
use crate::engine::{LeaseOp, LeaseUse};
use crate::failure::Failure;
use crate::limits::{MAX_LEASE_BLOBS, MAX_LEASE_TTL_MS};

/// A lease, as it stands in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseLine {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// When it ends, or has ended.
    pub expires_ms: u64,
    /// Whether it protects its blobs without what they link to.
    pub flat: bool,
    /// How many blobs it has been given.
    pub blobs: u64,
}

impl LeaseLine {
    fn new(id: &LeaseId, lease: Lease) -> LeaseLine {
        let Lease { owner, expires_ms, is_flat, blobs, .. } = lease;
        LeaseLine { id: id.to_string(), owner, expires_ms, flat: is_flat, blobs }
    }
}

/// Takes a lease, or changes one; what it is then.
pub fn change(node: &dyn Node, op: LeaseOp) -> Result<LeaseLine, Failure> {
    check(&op)?;
    let (id, lease) = node.lease(op)?;
    Ok(LeaseLine::new(&id, lease))
}

/// The leases that have not ended, in order of their ids.
pub fn list(node: &dyn Node) -> Result<Vec<LeaseLine>, Failure> {
    let now_ms = node.now_ms();
    let all = node.store().snapshot()?.all_leases()?.into_iter();
    Ok(all.filter(|(_, lease)| !lease.is_expired(now_ms)).map(|(id, lease)| LeaseLine::new(&id, lease)).collect())
}

/// Whether something can be put under this lease, as far as can be said before: the put itself looks again.
pub(super) fn check_use(node: &dyn Node, used: &LeaseUse) -> Result<(), Failure> {
    usable(&*node.store().snapshot()?, used, node.now_ms())?.map(drop).map_err(Failure::from)
}

/// What no request may ask for, whatever leases there are.
fn check(op: &LeaseOp) -> Result<(), Failure> {
    let (ttl_ms, blobs) = match op {
        LeaseOp::Add { ttl_ms, blobs, .. } => (Some(*ttl_ms), blobs.as_slice()),
        LeaseOp::Renew { ttl_ms, .. } => (Some(*ttl_ms), &[][..]),
        LeaseOp::Upload { ttl_ms, .. } => (Some(*ttl_ms), &[][..]),
        LeaseOp::Give { blobs, .. } => (None, blobs.as_slice()),
        LeaseOp::Remove(_) => (None, &[][..]),
    };
    if blobs.len() > MAX_LEASE_BLOBS {
        return Err(Failure::usage(format!("a request puts at most {MAX_LEASE_BLOBS} blobs under a lease"))
            .hint("name what links to them, or use several leases")
            .about("limit", MAX_LEASE_BLOBS));
    }
    match ttl_ms {
        Some(0) => {
            Err(Failure::usage("a lease of no time protects nothing").hint("say how long it shall last, such as `--ttl 24h`"))
        }
        Some(ttl_ms) if ttl_ms > MAX_LEASE_TTL_MS => {
            Err(Failure::usage(format!("a lease lasts at most {}", DurationMs(MAX_LEASE_TTL_MS)))
                .hint("renew it in time, or name the data with `keepwell ref set`")
                .about("limit", MAX_LEASE_TTL_MS))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;
    use crate::limits::LEASE_TTL_MS;
    use keepwell_protocol::id::BlobId;

    fn add(ttl_ms: u64, blobs: usize) -> LeaseOp {
        let owner = "ann".parse().unwrap();
        LeaseOp::Add { owner, ttl_ms, is_flat: false, blobs: vec![BlobId([1; 20]); blobs] }
    }

    #[test]
    fn a_lease_lasts_some_time_and_at_most_max_lease_ttl() {
        for ttl_ms in [1, LEASE_TTL_MS, MAX_LEASE_TTL_MS] {
            check(&add(ttl_ms, 0)).unwrap();
        }
        let used = || LeaseUse { lease: LeaseId([1; 16]), owner: "ann".parse().unwrap() };
        for ttl_ms in [0, MAX_LEASE_TTL_MS + 1] {
            assert_eq!(check(&add(ttl_ms, 0)).unwrap_err().code, Code::Usage);
            assert_eq!(check(&LeaseOp::Renew { used: used(), ttl_ms }).unwrap_err().code, Code::Usage);
        }
    }

    #[test]
    fn a_request_puts_at_most_max_lease_blobs_under_a_lease() {
        let give = |blobs| {
            let used = LeaseUse { lease: LeaseId([1; 16]), owner: "ann".parse().unwrap() };
            LeaseOp::Give { used, blobs: vec![BlobId([1; 20]); blobs] }
        };
        for op in [add(1, MAX_LEASE_BLOBS), give(MAX_LEASE_BLOBS)] {
            check(&op).unwrap();
        }
        for op in [add(1, MAX_LEASE_BLOBS + 1), give(MAX_LEASE_BLOBS + 1)] {
            assert_eq!(check(&op).unwrap_err().code, Code::Usage);
        }
    }
}
