//! The daemon: one process that keeps a home open and serves it to everybody on the machine and in the network.

pub mod addresses;
pub mod driver;
pub mod fetch;
pub mod invites;
pub mod join;
pub mod network;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_protocol::ticket::Ticket;
use keepwell_store::locks::BlobLocks;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::engine::{Engine, EngineRng};
use crate::failure::{Code, Failure};
use crate::net::{Net, NetConfig};
use crate::service::Node;
use addresses::Addresses;
use driver::Driver;
use fetch::{Fetch, Outcome};
use invites::Invites;
use network::{Inward, NetStreams, Outward};

/// A node on the network: its engine, its connections, its invitations.
pub struct Daemon {
    driver: Driver,
    net: Net,
    invites: Arc<Mutex<Invites>>,
    addresses: Arc<Mutex<Addresses>>,
    busy: BlobLocks,
    inward: JoinHandle<()>,
}

/// What a daemon is started with.
pub struct DaemonConfig<'a> {
    /// The secret seed of the node's key.
    pub seed: Zeroizing<[u8; 32]>,
    /// The home's folder.
    pub home: &'a Path,
    /// Multiaddresses to listen on.
    pub listen: Vec<String>,
    /// A node that is trusted before the catalog says so: the inviter of a node that is joining.
    pub inviter: Option<NodeId>,
}

impl Daemon {
    /// Starts `engine` and puts it on the network.
    pub async fn start(engine: Engine, rng: EngineRng, config: DaemonConfig<'_>) -> Result<Daemon, Failure> {
        let down = |error: crate::net::NetError| Failure::new(Code::Unreachable, format!("the network does not start: {error}"));
        let invites = Invites::open(config.home).map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        let addresses = Addresses::open(config.home);
        let members = trusted(&engine, &addresses, config.inviter)?;
        let (net, events) = Net::start(NetConfig {
            key: *config.seed,
            network: engine.home().network,
            listen: config.listen,
            mdns: false,
            members: members.clone(),
        })
        .await
        .map_err(down)?;
        let driver = Driver::start(engine, rng, Outward::new(net.clone(), members))?;
        let invites = Arc::new(Mutex::new(invites));
        for (node, known) in addresses.known() {
            // An address that cannot be parsed any more is of no use; others may be.
            net.dial(known, Some(*node)).ok();
        }
        let addresses = Arc::new(Mutex::new(addresses));
        let inward = tokio::spawn(Inward::new(driver.clone(), Arc::clone(&invites), Arc::clone(&addresses)).run(events));
        Ok(Daemon { driver, net, invites, addresses, busy: BlobLocks::default(), inward })
    }

    /// The engine, for whoever asks something of the node.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The network.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Invites a machine, or several.
    pub fn invite(&self, role: Role, uses: u32, lasts_ms: u64) -> Result<Ticket, Failure> {
        network::invite(&self.driver, &self.net, &self.invites, role, uses, lasts_ms)
    }

    /// Asks the inviter of `ticket` to take this node in as `body` says, and connects to it. May be repeated.
    pub async fn join(&self, ticket: &Ticket, body: NodeBody) -> Result<(), Failure> {
        network::ask_to_join(&self.net, ticket, body).await?;
        // Remembered before anything can go wrong: a start before the first exchange must find its way too.
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.learn(ticket.inviter, ticket.addresses.clone());
        let dialled = self.net.dial(&ticket.addresses, Some(ticket.inviter));
        dialled.map_err(|error| Failure::new(Code::Usage, format!("the ticket's addresses are of no use: {error}")))
    }

    /// Fetches what is missing here of the closure of `roots`.
    pub async fn fetch(&self, roots: &[BlobId], progress: impl Fn(u64) + Clone + Send + 'static) -> Result<Outcome, Failure> {
        let streams = NetStreams::new(self.net.clone(), self.driver.clone());
        let node: Arc<dyn Node + Send + Sync> = Arc::new(self.driver.clone());
        Fetch::new(node, &streams, self.busy.clone()).closure(roots, progress).await
    }

    /// Leaves the network and ends the engine, in this order; why the engine had ended before, if it had.
    pub async fn stop(self) -> Result<(), Failure> {
        let Daemon { driver, net, inward, .. } = self;
        net.shutdown().await;
        // The events end with the network.
        inward.await.ok();
        driver.stop()
    }
}

/// Whom to talk to at the start: the members; of a node that does not know yet that it is one, whoever it has dealt with.
fn trusted(engine: &Engine, addresses: &Addresses, inviter: Option<NodeId>) -> Result<BTreeSet<NodeId>, Failure> {
    let mut members = network::members(&engine.store().snapshot()?)?;
    if !members.contains(&engine.home().node) {
        members.extend(addresses.known().map(|(node, _)| *node));
        members.extend(inviter);
    }
    Ok(members)
}

#[cfg(test)]
mod tests;
pub mod up;
