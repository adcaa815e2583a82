//! What is about other nodes: who they are, who holds what, inviting.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use keepwell_protocol::catalog::member::Role;
use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_store::error::StoreError;
use serde::Deserialize;

use super::Api;
use super::answer::{Answer, blocking, json, json_list, read_json};
use super::gate::Slot;
use crate::daemon::Daemon;
use crate::failure::{Code, Failure};
use crate::limits::{INVITE_LASTS_MS, MAX_INVITE_USES};
use crate::service::doctor::{Inside, Outside, checks};
use crate::service::types::InviteLine;
use crate::service::{network, pressure};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InviteRequest {
    #[serde(default)]
    admin: bool,
    uses: Option<u32>,
    lasts_ms: Option<u64>,
}

pub(super) async fn holders(State(api): State<Arc<Api>>, slot: Slot, Path(sha1): Path<String>) -> Answer {
    let id: BlobId = sha1.parse().map_err(|error: keepwell_protocol::id::ParseIdError| Failure::usage(error.to_string()))?;
    let line = blocking(slot, move || network::holders(&*api.node, &itself(&api)?, &id)).await?;
    json(StatusCode::OK, &line)
}

pub(super) async fn nodes(State(api): State<Arc<Api>>, slot: Slot) -> Answer {
    let lines = blocking(slot, move || {
        let seen = api.daemon.as_ref().map_or_else(BTreeMap::new, |daemon| daemon.seen());
        network::nodes(&*api.node, &itself(&api)?, &seen)
    })
    .await?;
    json_list("nodes", &lines, None)
}

/// `POST /nodes/{name}/dead`
pub(super) async fn declare_dead(State(api): State<Arc<Api>>, slot: Slot, Path(name): Path<String>) -> Answer {
    declare(api, slot, name, true).await
}

/// `POST /nodes/{name}/revive`
pub(super) async fn revive(State(api): State<Arc<Api>>, slot: Slot, Path(name): Path<String>) -> Answer {
    declare(api, slot, name, false).await
}

/// `POST /nodes/{name}/remove`
pub(super) async fn remove(State(api): State<Arc<Api>>, slot: Slot, Path(name): Path<String>) -> Answer {
    let line = blocking(slot, move || network::remove(&*api.node, &itself(&api)?, &name));
    json(StatusCode::OK, &line.await?)
}

async fn declare(api: Arc<Api>, slot: Slot, name: String, is_dead: bool) -> Answer {
    let line = blocking(slot, move || network::declare(&*api.node, &itself(&api)?, &name, is_dead));
    json(StatusCode::OK, &line.await?)
}

/// `GET /doctor`
pub(super) async fn doctor(State(api): State<Arc<Api>>, slot: Slot) -> Answer {
    let lines = blocking(slot, move || {
        let outside = match &api.daemon {
            Some(daemon) => {
                let (peers, driver) = (daemon.status(api.max_size_bytes)?.peers, daemon.driver());
                let (doubt, hung) = (driver.peers().doubt, driver.hung());
                Some(Outside { listen: daemon.net().listen_addresses(), peers, doubt, hung })
            }
            None => None,
        };
        let (max_size_bytes, now_ms) = (api.max_size_bytes, api.node.now_ms());
        let mut lines = checks(&Inside { store: api.node.store(), home: &api.home, max_size_bytes, now_ms }, outside.as_ref());
        lines.push(pressure::check(&api.node.pressure()?));
        Ok(lines)
    })
    .await?;
    json_list("checks", &lines, None)
}

pub(super) async fn invite(State(api): State<Arc<Api>>, slot: Slot, body: Body) -> Answer {
    let request: InviteRequest = read_json(body).await?;
    let uses = request.uses.unwrap_or(1);
    if uses == 0 || uses > MAX_INVITE_USES {
        return Err(Failure::usage(format!("an invitation is for 1 to {MAX_INVITE_USES} machines, not {uses}")).into());
    }
    let line = blocking(slot, move || {
        let role = if request.admin { Role::Admin } else { Role::Member };
        let ticket = daemon(&api)?.invite(role, uses, request.lasts_ms.unwrap_or(INVITE_LASTS_MS))?;
        Ok(InviteLine { expires_ms: ticket.expires_ms, ticket: ticket.to_string(), uses })
    })
    .await?;
    json(StatusCode::CREATED, &line)
}

/// This node.
pub(super) fn itself(api: &Api) -> Result<NodeId, Failure> {
    let home = api.node.store().snapshot()?.home()?.ok_or_else(|| StoreError::Inconsistent("no home".into()))?;
    Ok(home.node)
}

/// The way to other nodes.
pub(super) fn daemon(api: &Api) -> Result<&Arc<Daemon>, Failure> {
    let missing = || Failure::new(Code::Unreachable, "this daemon is not on the network");
    api.daemon.as_ref().ok_or_else(missing)
}
