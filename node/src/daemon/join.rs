//! Joining a network: a new home, the handshake with the inviter, and the catalog, before the command ends.
//!
//! It may be broken off anywhere and run again with the same ticket: the home keeps its key, the inviter knows it, and what is missing
//! is done then.

use std::path::Path;
use std::sync::Arc;

use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::id::NodeId;
use keepwell_protocol::name::NodeName;
use keepwell_protocol::ticket::Ticket;
use keepwell_protocol::units::{DurationMs, SizeBytes};
use rand_chacha::rand_core::Rng;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Daemon, DaemonConfig, network};
use crate::engine::{Engine, EngineRng};
use crate::failure::{Code, Failure};
use crate::home::{self, HomeError, OpenHome};
use crate::limits::JOIN_SYNC_TIMEOUT;
use crate::local::rng;

/// A home that has joined.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The node.
    pub node: NodeId,
    /// What its inviter is called.
    pub via: String,
}

/// Makes a home at `path`, or takes up one that began to join, and makes it a member by `ticket`.
pub fn join(
    path: &Path,
    wait: DurationMs,
    max_size: Option<SizeBytes>,
    name: &NodeName,
    ticket: &Ticket,
) -> Result<Joined, Failure> {
    let mut rng = rng()?;
    let OpenHome { path, key, store, place, lock } = prepare(path, wait, max_size, &mut rng)?;
    let seed = Zeroizing::new(key.to_bytes());
    let known = store.snapshot()?.home()?;
    let engine = match known {
        None => Engine::join(Arc::clone(&store), key, ticket.network, place, &mut rng)?,
        Some(home) if home.network == ticket.network => Engine::open(Arc::clone(&store), key, place, &mut rng)?,
        Some(_) => return Err(HomeError::Exists(path).into()),
    };
    let body = NodeBody { name: name.to_string(), role: Role::Member, storage: engine.home().storage };
    let started = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = started.map_err(|error| Failure::new(Code::Internal, format!("cannot start threads: {error}")))?;
    let config = DaemonConfig { seed, home: &path, listen: Vec::new(), mdns: false, inviter: Some(ticket.inviter) };
    let joined = runtime.block_on(async {
        let daemon = Daemon::start(engine, rng, config).await?;
        let outcome = take_part(&daemon, ticket, body).await;
        daemon.stop().await?;
        outcome
    });
    drop(lock);
    joined
}

fn prepare(path: &Path, wait: DurationMs, max_size: Option<SizeBytes>, rng: &mut EngineRng) -> Result<OpenHome, Failure> {
    let seed = || {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        seed
    };
    match home::prepare(path, wait, max_size, seed) {
        Err(HomeError::Exists(_)) => Ok(home::open(path, wait)?),
        prepared => Ok(prepared?),
    }
}

/// Shows the ticket, and waits until this node knows what its inviter knew of members.
async fn take_part(daemon: &Daemon, ticket: &Ticket, body: NodeBody) -> Result<Joined, Failure> {
    daemon.join(ticket, body).await?;
    let node = daemon.driver().home().node;
    let mut steps = daemon.driver().steps();
    let stopped = || Failure::new(Code::Internal, "the engine stopped while joining").hint("run the command again");
    let synced = async {
        loop {
            let snapshot = crate::service::Node::store(daemon.driver()).snapshot()?;
            if network::members(&snapshot)?.contains(&node) {
                let names = crate::service::network::names(&snapshot)?;
                return Ok(Joined { node, via: crate::service::network::name_of(&names, &ticket.inviter) });
            }
            steps.changed().await.map_err(|_| stopped())?;
        }
    };
    timeout(JOIN_SYNC_TIMEOUT, synced).await.unwrap_or_else(|_| {
        Err(Failure::new(Code::Timeout, "this node was taken in, and has not heard of it")
            .hint("run `keepwell up`: it goes on from here"))
    })
}
