//! Where the network meets the engine: what happens on the one becomes inputs of the other, and the other way round.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keepwell_protocol::catalog::item::Kind;
use keepwell_protocol::catalog::member::{NetworkBody, NodeBody, Role};
use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_protocol::ticket::{JoinRefusal, JoinReply, JoinRequest, Ticket};
use keepwell_protocol::wire;
use keepwell_store::error::StoreError;
use keepwell_store::store::{Snapshot, Store};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{mpsc, oneshot};

use super::addresses::Addresses;
use super::driver::{Driver, World};
use super::fetch::{Opening, Stream, Streams};
use super::heard::Heard;
use super::invites::Invites;
use crate::engine::{Event, Input};
use crate::failure::{Code, Failure};
use crate::net::{Net, NetEvent};
use crate::service::Node;
use crate::transfer::serve::serve;

/// How often a joining node asks before it gives up. Asking twice is harmless: a ticket is spent on a node, not on a request; and a
/// stream can be lost without a trace on its way in.
const JOIN_ATTEMPTS: u32 = 3;

/// The driver's way to the network.
pub struct Outward {
    net: Net,
    members: BTreeSet<NodeId>,
    /// Since when somebody who is no member any more is still connected.
    leaving: Option<Instant>,
    brings: UnboundedSender<Vec<BlobId>>,
}

/// How long whoever was removed stays connected, so that it hears of it.
const LEAVING_LASTS: Duration = Duration::from_secs(3);

impl Outward {
    /// Sends over `net`, which was started with `members`. Whoever fetches copies is told of them by `brings`.
    pub fn new(net: Net, members: BTreeSet<NodeId>, brings: UnboundedSender<Vec<BlobId>>) -> Outward {
        Outward { net, members, leaving: None, brings }
    }
}

impl World for Outward {
    fn publish(&mut self, entry: Vec<u8>) {
        self.net.publish(entry);
    }

    fn send(&mut self, to: NodeId, message: Vec<u8>) {
        if let Err(error) = self.net.send(to, message) {
            eprintln!("warning: not sent to {to}: {error}");
        }
    }

    fn refuse(&mut self, peer: NodeId, reason: &str) {
        eprintln!("warning: cut off {peer}: {reason}");
        self.net.disconnect(peer, reason);
    }

    fn tell(&mut self, event: &Event) {
        if let Some(text) = text_of(event) {
            eprintln!("warning: {text}");
        }
    }

    fn bring(&mut self, blobs: Vec<BlobId>) {
        // Whoever fetches ends with the daemon.
        self.brings.send(blobs).ok();
    }

    fn stepped(&mut self, store: &Store) -> Result<(), StoreError> {
        let mut members = members(&*store.snapshot()?)?;
        // A node that has not heard yet that it is a member trusts whom it was told to trust when it started.
        if !members.contains(&self.net.local()) {
            return Ok(());
        }
        if self.members.is_subset(&members) {
            self.leaving = None;
        } else if self.leaving.get_or_insert_with(Instant::now).elapsed() < LEAVING_LASTS {
            members.extend(&self.members);
        }
        if members != self.members {
            self.net.set_members(members.clone());
            self.members = members;
        }
        Ok(())
    }
}

/// What people should worry about; none for what goes as it should.
fn text_of(event: &Event) -> Option<String> {
    match event {
        Event::EntryRefused { chain, reason } => {
            Some(format!("an entry of node {} is refused, and all after it: {reason}", chain.node))
        }
        Event::Forked { chain } => {
            Some(format!("node {} wrote two entries at one position: it was copied, restored, or lies", chain.node))
        }
        Event::Twin => Some(
            "another machine runs a copy of this home right now: stop one of them, and let it join with a home of its own".into(),
        ),
        Event::RolledBack { old } => {
            Some(format!("this home was restored from an old copy: boot {old} is over, a new one has begun"))
        }
        Event::Dropped { .. } => None,
    }
}

/// Everybody whom the catalog calls a member: those with a record, and the network's creator; nobody who was removed.
pub fn members(snapshot: &Snapshot) -> Result<BTreeSet<NodeId>, StoreError> {
    let mut members = BTreeSet::new();
    snapshot.visit_items::<StoreError>(Kind::NODE, "", |key, _| {
        members.extend(key.parse::<NodeId>());
        Ok(true)
    })?;
    snapshot.visit_items::<StoreError>(Kind::NETWORK, "", |_, row| {
        let bodies = row.values().iter().filter_map(|value| wire::decode_own::<NetworkBody>(&value.body).ok());
        members.extend(bodies.map(|body| body.creator));
        Ok(true)
    })?;
    let removed = snapshot.removed()?;
    members.retain(|node| !removed.contains(node));
    Ok(members)
}

/// The streams of a network.
pub struct NetStreams {
    net: Net,
    driver: Driver,
}

impl NetStreams {
    /// Streams over `net` to whoever `driver` is connected with.
    pub fn new(net: Net, driver: Driver) -> NetStreams {
        NetStreams { net, driver }
    }
}

impl Streams for NetStreams {
    fn connected(&self) -> Vec<NodeId> {
        self.driver.peers().connected
    }

    fn open(&self, to: NodeId) -> Opening<'_> {
        Box::pin(async move {
            let stream = self.net.open_bulk(to).await.map_err(io::Error::other)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// What comes from the network, and where it goes.
pub struct Inward {
    driver: Driver,
    invites: Arc<Mutex<Invites>>,
    addresses: Arc<Mutex<Addresses>>,
    heard: Heard,
}

impl Inward {
    /// Leads what happens on the network to `driver`, and notes in `heard` who was heard.
    pub fn new(driver: Driver, invites: Arc<Mutex<Invites>>, addresses: Arc<Mutex<Addresses>>, heard: Heard) -> Inward {
        Inward { driver, invites, addresses, heard }
    }

    /// Handles events until the network is down.
    pub async fn run(self, early: Vec<NetEvent>, mut events: mpsc::Receiver<NetEvent>) {
        early.into_iter().for_each(|event| self.handle(event));
        while let Some(event) = events.recv().await {
            self.handle(event);
        }
    }

    fn handle(&self, event: NetEvent) {
        match event {
            NetEvent::Connected { peer, .. } => {
                self.heard.spoke(peer, self.driver.now_ms());
                self.driver.give(Input::Connected { peer });
            }
            NetEvent::Disconnected { peer, .. } => {
                self.heard.left(peer);
                self.driver.give(Input::Disconnected { peer });
            }
            NetEvent::Message { from, bytes } => {
                self.heard.spoke(from, self.driver.now_ms());
                self.driver.give(Input::Received { from, bytes });
            }
            NetEvent::Gossip { bytes } => self.driver.give(Input::Gossiped { entry: bytes }),
            NetEvent::Bulk { from, stream } => {
                let store = Arc::clone(self.driver.store());
                tokio::spawn(async move {
                    if let Err(error) = serve(store, stream).await {
                        eprintln!("note: a stream from {from} ended: {error}");
                    }
                });
            }
            NetEvent::JoinRequest { from, bytes, answer } => self.join(from, bytes, answer),
            NetEvent::Learned { peer, addresses } => {
                self.addresses.lock().unwrap_or_else(PoisonError::into_inner).learn(peer, addresses);
            }
            NetEvent::Refused { who, reason } => eprintln!("warning: refused {who}: {reason}"),
            NetEvent::Rtt { peer, rtt } => self.heard.answered(peer, rtt),
            NetEvent::Listening { .. } => {}
            NetEvent::Restarted { reason } => eprintln!("warning: the network was started again: {reason}"),
            NetEvent::Failed { reason } => eprintln!("error: the network is down: {reason}"),
        }
    }

    /// Judges a ticket where it may block: a use is on the disk, and the member in the log, before the answer leaves.
    fn join(&self, from: NodeId, bytes: Vec<u8>, answer: oneshot::Sender<Vec<u8>>) {
        let (driver, invites) = (self.driver.clone(), Arc::clone(&self.invites));
        tokio::task::spawn_blocking(move || {
            let reply = match admit(&driver, &invites, from, &bytes) {
                Ok(()) => JoinReply::Welcome,
                Err(refusal) => {
                    eprintln!("warning: {from} may not join: {refusal}");
                    JoinReply::Refused(refusal)
                }
            };
            // Whoever asked may have gone; it can come again with the same ticket.
            drop(answer.send(wire::encode(&reply)));
        });
    }
}

fn admit(driver: &Driver, invites: &Mutex<Invites>, from: NodeId, bytes: &[u8]) -> Result<(), JoinRefusal> {
    let request: JoinRequest = wire::decode(bytes).map_err(|_| JoinRefusal::Unknown)?;
    if request.network != driver.home().network {
        return Err(JoinRefusal::OtherNetwork);
    }
    let redeemed = invites.lock().unwrap_or_else(PoisonError::into_inner).redeem(driver.now_ms(), &request.secret, &from);
    let role = redeemed.map_err(|_| JoinRefusal::NotNow)??;
    let known = driver.store().snapshot().and_then(|snapshot| members(&snapshot)).map_err(|_| JoinRefusal::NotNow)?;
    if known.contains(&from) {
        return Ok(());
    }
    driver.admit(from, NodeBody { role, ..request.body }).map_err(|_| JoinRefusal::NotNow)
}

/// Makes an invitation: the ticket to pass on.
pub fn invite(
    driver: &Driver,
    net: &Net,
    invites: &Mutex<Invites>,
    role: Role,
    uses: u32,
    lasts_ms: u64,
) -> Result<Ticket, Failure> {
    let addresses = net.listen_addresses();
    if addresses.is_empty() {
        return Err(Failure::usage("this daemon listens nowhere, so nobody can come to it")
            .hint("name an address under `listen` in config.toml, or start it with `keepwell up --listen ADDRESS`"));
    }
    let snapshot = driver.store().snapshot()?;
    let own = crate::service::network::role(&snapshot, &driver.home().node)?;
    if own.is_none_or(|own| role > own) {
        return Err(Failure::new(Code::Denied, "this node is not an admin, so it cannot invite one")
            .hint("leave `--role admin` out, or invite from the machine of an admin"));
    }
    let network_name = network_name(&snapshot)?;
    let expires_ms = driver.now_ms().saturating_add(lasts_ms);
    // An ingest's name is as random as a secret must be: drawn from a generator seeded by the operating system.
    let secret = driver.new_ingest().0;
    let added = invites.lock().unwrap_or_else(PoisonError::into_inner).add(driver.now_ms(), &secret, role, uses, expires_ms);
    added?;
    let home = driver.home();
    Ok(Ticket { network: home.network, network_name, inviter: home.node, addresses, secret, expires_ms })
}

fn network_name(snapshot: &Snapshot) -> Result<keepwell_protocol::name::NetworkName, Failure> {
    let mut name = None;
    snapshot.visit_items::<StoreError>(Kind::NETWORK, "", |_, row| {
        name = row.winner().and_then(|value| wire::decode_own::<NetworkBody>(&value.body).ok()).map(|body| body.name);
        Ok(false)
    })?;
    let text = name.ok_or_else(|| Failure::new(Code::Denied, "this node does not know its network yet"))?;
    text.parse().map_err(|error| Failure::new(Code::Internal, format!("the network's record is damaged: {error}")))
}

/// Asks the inviter of `ticket` to take this node in.
pub async fn ask_to_join(net: &Net, ticket: &Ticket, body: NodeBody) -> Result<(), Failure> {
    let request = JoinRequest { network: ticket.network, secret: ticket.secret, body };
    let request = wire::encode(&request);
    let mut attempt = 1;
    let answer = loop {
        match net.join(&ticket.addresses, ticket.inviter, request.clone()).await {
            Ok(answer) => break answer,
            Err(error) if attempt == JOIN_ATTEMPTS => {
                return Err(Failure::new(Code::Unreachable, format!("the inviting node does not answer: {error}"))
                    .hint("see that `keepwell up` runs there and that its port can be reached from here"));
            }
            Err(_) => attempt += 1,
        }
    };
    match wire::decode(&answer) {
        Ok(JoinReply::Welcome) => Ok(()),
        Ok(JoinReply::Refused(refusal)) => {
            Err(Failure::new(Code::Denied, refusal.to_string()).hint("ask for a new ticket: `keepwell invite` on a member"))
        }
        Err(error) => {
            Err(Failure::new(Code::Internal, format!("the inviting node answers what this one does not understand: {error}")))
        }
    }
}
