//! `up`: a home is opened, served, and closed when the process is asked to stop.

use std::path::Path;
use std::sync::Arc;

use keepwell_protocol::units::{DurationMs, SizeBytes};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::index::IndexChecker;
use super::scrub::{ScrubKeys, Scrubber};
use super::{Daemon, DaemonConfig};
use crate::api::{self, Api, socket};
use crate::engine::{Engine, Settings};
use crate::failure::{Code, Failure};
use crate::home::{self, OpenHome, damage};
use crate::limits::STOP_GRACE;
use crate::local;

/// What `up` says when it can be talked to.
#[derive(Debug, Clone, Serialize)]
pub struct ReadyLine {
    /// Always `ready`.
    pub event: &'static str,
    /// What the node is called.
    pub name: String,
    /// Its id.
    pub node: String,
    /// The network's id.
    pub network: String,
    /// The daemon's process.
    pub pid: u32,
    /// Where other nodes reach it.
    pub listen: Vec<String>,
    /// Where programs on this machine reach it.
    pub api: Vec<String>,
}

/// How a daemon and other nodes find each other.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Multiaddresses to listen on.
    pub listen: Vec<String>,
    /// Whether to look for members in the local network by multicast, and to be found.
    pub mdns: bool,
}

/// What a daemon does by itself.
#[derive(Debug, Clone, Copy)]
pub struct Duties {
    /// What its engine is set to.
    pub engine: Settings,
    /// How it scrubs; none if it does not.
    pub scrub: Option<ScrubKeys>,
}

/// Serves the home at `path` on `socket` until SIGTERM or SIGINT. `ready` is called once, when requests are taken.
pub fn up(
    path: &Path,
    wait: DurationMs,
    max_size: Option<SizeBytes>,
    socket: &Path,
    reach: Reach,
    duties: Duties,
    ready: impl FnOnce(&ReadyLine) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let OpenHome { path, key, store, place, lock } = home::open(path, wait)?;
    let mut rng = local::rng()?;
    let seed = Zeroizing::new(key.to_bytes());
    let settings = Settings { checks_index: true, ..duties.engine };
    let engine = Engine::open(store, key, place, &mut rng)?.with(settings).on_index(damage::read(&path).is_some());
    let runtime = tokio::runtime::Runtime::new().map_err(|error| no_runtime(&error))?;
    let config = DaemonConfig { seed, home: &path, listen: reach.listen, mdns: reach.mdns, inviter: None };
    let daemon = Arc::new(runtime.block_on(Daemon::start(engine, rng, config))?);
    let max_size_bytes = max_size.map(|size| size.0);
    let known = daemon.status(max_size_bytes)?;
    let line = ReadyLine {
        event: "ready",
        name: known.name,
        node: known.node,
        network: known.network,
        pid: std::process::id(),
        listen: daemon.net().listen_addresses(),
        api: vec![format!("unix://{}", socket.display())],
    };
    let checker = IndexChecker::start(daemon.driver().clone(), path.clone())?;
    let api = Api::new(Arc::new(daemon.driver().clone()), path, max_size_bytes, Some(Arc::clone(&daemon)));
    let start = |keys| Scrubber::start(Arc::clone(&daemon), runtime.handle().clone(), keys);
    let scrubber = duties.scrub.map(start).transpose()?;
    let served = runtime.block_on(serve(api, socket, daemon.driver().steps(), || ready(&line)));
    drop((scrubber, checker));
    let stopped = runtime.block_on(daemon.stop());
    // What still runs has had its time; a thread that waits for a client's bytes ends when its task goes.
    runtime.shutdown_timeout(STOP_GRACE);
    drop(lock);
    served.and(stopped)
}

async fn serve(
    api: Arc<Api>,
    socket: &Path,
    mut steps: watch::Receiver<u64>,
    ready: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Before anybody is told to send them.
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| no_runtime(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| no_runtime(&error))?;
    let listener = socket::bind(socket)?;
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, api::router(Arc::clone(&api)).into_make_service_with_connect_info::<socket::User>())
        .with_graceful_shutdown(async {
            // Ends when told, or when there is nobody left to tell.
            drop(stopping.await);
        });
    let mut server = tokio::spawn(server.into_future());
    ready()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // The engine ends by itself only when its disk has failed: then nothing more can be promised. Why is told by `stop`.
        () = async { while steps.changed().await.is_ok() {} } => {}
        ended = &mut server => {
            let why = ended.map_or_else(|error| error.to_string(), |ended| format!("{ended:?}"));
            return Err(Failure::new(Code::Internal, format!("the socket is no longer served: {why}")));
        }
    }
    api.close();
    drop(stop);
    // Requests that go on beyond this are broken off: what they had not been told is not promised.
    drop(tokio::time::timeout(STOP_GRACE, server).await);
    Ok(())
}

fn no_runtime(error: &std::io::Error) -> Failure {
    Failure::new(Code::Internal, format!("cannot start: {error}")).hint("look for what is exhausted: memory, threads, open files")
}
