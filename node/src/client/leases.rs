//! Leases and uploads of a daemon's home: each operation is a request.

use axum::http::Method;
use keepwell_protocol::id::BlobId;
use keepwell_protocol::name::OwnerName;
use serde::Deserialize;

use super::{Client, encoded};
use crate::api::leases::{AddRequest, GiveRequest, RenewRequest};
use crate::engine::{LeaseOp, LeaseUse};
use crate::failure::Failure;
use crate::service::leases::LeaseLine;
use crate::service::uploads::UploadLine;

#[derive(Deserialize)]
struct LeaseList {
    leases: Vec<LeaseLine>,
}

#[derive(Deserialize)]
struct UploadList {
    uploads: Vec<UploadLine>,
}

impl Client {
    pub(super) fn change_lease(&self, op: LeaseOp) -> Result<LeaseLine, Failure> {
        let path = |used: &LeaseUse, what: &str| format!("/leases/{}{what}", used.lease);
        let named = |owner: &OwnerName| Some(owner.to_string());
        match op {
            LeaseOp::Add { owner, ttl_ms, is_flat, blobs } => {
                let request = AddRequest { ttl_ms: Some(ttl_ms), flat: is_flat, blobs: texts(&blobs), owner: named(&owner) };
                self.ask_with(Method::POST, "/leases", &[], &request)
            }
            LeaseOp::Renew { used, ttl_ms } => {
                let request = RenewRequest { ttl_ms: Some(ttl_ms), owner: named(&used.owner) };
                self.ask_with(Method::POST, &path(&used, "/renew"), &[], &request)
            }
            LeaseOp::Give { used, blobs } => {
                let request = GiveRequest { blobs: texts(&blobs), owner: named(&used.owner) };
                self.ask_with(Method::POST, &path(&used, "/blobs"), &[], &request)
            }
            LeaseOp::Upload { .. } => Err(Failure::usage("an upload is begun with PUT /api/v1/uploads/NAME")),
            LeaseOp::Remove(used) => {
                let owner = encoded(used.owner.as_str());
                self.ask(Method::DELETE, &format!("{}?owner={owner}", path(&used, "")), &[])
            }
        }
    }

    pub(super) fn all_uploads(&self) -> Result<Vec<UploadLine>, Failure> {
        Ok(self.ask::<UploadList>(Method::GET, "/uploads", &[])?.uploads)
    }

    pub(super) fn all_leases(&self) -> Result<Vec<LeaseLine>, Failure> {
        Ok(self.ask::<LeaseList>(Method::GET, "/leases", &[])?.leases)
    }
}

fn texts(blobs: &[BlobId]) -> Vec<String> {
    blobs.iter().map(ToString::to_string).collect()
}
