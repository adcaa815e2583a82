//! Leases of a daemon's home: each operation is a request.

use axum::http::Method;
use keepwell_protocol::id::BlobId;
use serde::Deserialize;

use super::{Client, encoded};
use crate::api::leases::LeaseRequest;
use crate::engine::{LeaseOp, LeaseUse};
use crate::failure::Failure;
use crate::service::leases::LeaseLine;

#[derive(Deserialize)]
struct LeaseList {
    leases: Vec<LeaseLine>,
}

impl Client {
    pub(super) fn change_lease(&self, op: LeaseOp) -> Result<LeaseLine, Failure> {
        let (used, request, what) = match op {
            LeaseOp::Add { owner, ttl_ms, is_flat, blobs } => {
                let owner = Some(owner.to_string());
                let request = LeaseRequest { ttl_ms: Some(ttl_ms), flat: is_flat, blobs: texts(&blobs), owner };
                return self.ask_with(Method::POST, "/leases", &[], &request);
            }
            LeaseOp::Renew { used, ttl_ms } => (used, LeaseRequest { ttl_ms: Some(ttl_ms), ..LeaseRequest::default() }, "renew"),
            LeaseOp::Give { used, blobs } => (used, LeaseRequest { blobs: texts(&blobs), ..LeaseRequest::default() }, "blobs"),
            LeaseOp::Remove(LeaseUse { lease, owner }) => {
                return self.ask(Method::DELETE, &format!("/leases/{lease}?owner={}", encoded(owner.as_str())), &[]);
            }
        };
        let request = LeaseRequest { owner: Some(used.owner.to_string()), ..request };
        self.ask_with(Method::POST, &format!("/leases/{}/{what}", used.lease), &[], &request)
    }

    pub(super) fn all_leases(&self) -> Result<Vec<LeaseLine>, Failure> {
        Ok(self.ask::<LeaseList>(Method::GET, "/leases", &[])?.leases)
    }
}

fn texts(blobs: &[BlobId]) -> Vec<String> {
    blobs.iter().map(ToString::to_string).collect()
}
