//! HTTP under `/api/v1`: services, asked over a socket.
//!
//! Absent from here: what services do, and how the engine is driven. A handler reads a request, calls a service on a thread that may
//! wait, and writes what it answers. No answer leaves before what it says is durable.

mod answer;
mod blobs;
mod content;
pub(crate) mod events;
pub(crate) mod fetch;
mod fsck;
mod gate;
pub(crate) mod gc;
mod ingests;
pub(crate) mod leases;
mod network;
mod open_ingests;
mod query;
mod range;
mod refs;
pub mod socket;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod upload;
mod uploads;
mod why;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Router, middleware};
use tokio::sync::{Semaphore, watch};

use crate::daemon::Daemon;
use crate::failure::{Code, Failure};
use crate::limits::MAX_REQUESTS;
use crate::service::Node;
use crate::service::status::status;
use crate::service::uploads::BusyUploads;
use answer::{Answer, ApiError, blocking, json};
use gate::Slot;
use open_ingests::OpenIngests;

/// What requests are about.
pub struct Api {
    node: Arc<dyn Node>,
    home: PathBuf,
    max_size_bytes: Option<u64>,
    /// The way to other nodes; none where there is no network.
    daemon: Option<Arc<Daemon>>,
    open_ingests: Mutex<OpenIngests>,
    busy_uploads: BusyUploads,
    gate: Arc<Semaphore>,
    /// Whether those who listen for more are to be sent away.
    closing: watch::Sender<bool>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Api({})", self.home.display())
    }
}

impl Api {
    /// The interface of `node`, whose home is this folder and may hold so much.
    pub fn new(node: Arc<dyn Node>, home: PathBuf, max_size_bytes: Option<u64>, daemon: Option<Arc<Daemon>>) -> Arc<Api> {
        let gate = Arc::new(Semaphore::new(MAX_REQUESTS));
        Arc::new(Api {
            node,
            home,
            max_size_bytes,
            daemon,
            open_ingests: Mutex::default(),
            busy_uploads: BusyUploads::default(),
            closing: watch::channel(false).0,
            gate,
        })
    }

    /// Ends what would go on for as long as its client listens.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    fn open_ingests(&self) -> MutexGuard<'_, OpenIngests> {
        self.open_ingests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every route.
pub fn router(api: Arc<Api>) -> Router {
    let one_ref = get(refs::read).put(refs::set).patch(refs::set_fields).delete(refs::remove).post(refs::touch);
    let v1 = Router::new()
        .route("/blobs", post(blobs::add))
        .route("/blobs/stat", post(blobs::stat))
        .route("/blobs/drop", post(gc::drop_copies))
        .route("/blobs/give-up", post(gc::give_up))
        .route("/blobs/{sha1}", get(content::read).put(blobs::add_named).delete(gc::drop_copy))
        .route("/ingests", post(ingests::issue))
        .route("/ingests/commit", post(ingests::commit))
        .route("/ingests/{id}/commit", post(ingests::commit_one))
        .route("/refs", get(refs::list))
        .route("/refs/batch", post(refs::batch))
        .route("/refs/{*name}", one_ref)
        .route("/status", get(read_status))
        .route("/doctor", get(network::doctor))
        .route("/blobs/{sha1}/where", get(network::holders))
        .route("/blobs/{sha1}/why", get(why::why))
        .route("/blobs/{sha1}/undrop", post(gc::undrop))
        .route("/events", get(events::events))
        .route("/leases", get(leases::all).post(leases::add))
        .route("/leases/{id}", delete(leases::remove))
        .route("/leases/{id}/renew", post(leases::renew))
        .route("/leases/{id}/blobs", post(leases::give))
        .route("/uploads", get(uploads::all))
        .route("/uploads/{name}", get(uploads::get).put(uploads::begin).post(uploads::extend).delete(uploads::remove))
        .route("/uploads/{name}/commit", post(uploads::commit))
        .route("/gc", get(gc::state).post(gc::collect))
        .route("/fetch", post(fetch::fetch))
        .route("/fsck", post(fsck::fsck))
        .route("/invites", post(network::invite))
        .route("/nodes", get(network::nodes))
        .route("/nodes/{name}/dead", post(network::declare_dead))
        .route("/nodes/{name}/revive", post(network::revive))
        .route("/nodes/{name}/remove", post(network::remove))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), gate::enter));
    Router::new()
        .nest("/api/v1", v1)
        .route("/health", get(health))
        .route("/api/v1/health", get(health))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(api)
}

async fn read_status(State(api): State<Arc<Api>>, slot: Slot) -> Answer {
    let line = blocking(slot, move || match &api.daemon {
        Some(daemon) => daemon.status(api.max_size_bytes),
        None => status(&*api.node, api.max_size_bytes, true),
    })
    .await?;
    json(StatusCode::OK, &line)
}

async fn health() -> Answer {
    json(StatusCode::OK, &serde_json::json!({ "ok": true }))
}

async fn no_route() -> Response {
    ApiError::from(Failure::new(Code::NotFound, "nothing is served at this path").hint("see the paths below /api/v1")).into()
}

async fn no_method() -> Response {
    let failure = Failure::usage("this path does not take that method");
    ApiError::with_status(StatusCode::METHOD_NOT_ALLOWED, failure).into()
}
