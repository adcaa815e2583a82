//! The task that drives libp2p: hears its events, does what the handle asks, and never waits.
//!
//! Here are the loop, the handle's commands and what is due by the clock. `connections` does what follows from connections,
//! `streams` what follows from links and streams.

mod connections;
mod streams;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use keepwell_protocol::id::NodeId;
use libp2p::gossipsub::PublishError;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, Swarm};
use libp2p_stream::Control;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::behaviour::Behaviour;
use super::book::Target;
use super::bulk::Wire;
use super::door::Class;
use super::event::{NetError, NetEvent};
use super::limits::{GUEST_GRACE, GUEST_TIMEOUT, SHUTDOWN_TIMEOUT, TICK};
use super::link::{Ending, Stop};
use super::supervise::Kept;
use super::{Command, Counts, JoinCall, identity};

/// Why the driver ended.
pub(super) enum Exit {
    /// It was asked to, perhaps by somebody who waits for it.
    Down(Option<oneshot::Sender<()>>),
    /// A connection's task panicked; libp2p would keep its corpse for ever.
    ConnectionPanicked,
}

/// What tasks tell the driver.
enum Inside {
    /// A peer opened a stream.
    Stream { protocol: Protocol, peer: PeerId, wire: Wire },
    /// A link works.
    LinkUp { node: NodeId },
    /// A link has ended, and the node knows.
    LinkEnded { node: NodeId, ending: Ending },
    /// Somebody's request to join has been answered, or not; what it did wrong, if it did.
    Heard { node: NodeId, fault: Option<String> },
    /// This node's own request has been answered, or not.
    Asked { connection: ConnectionId, peer: PeerId },
    /// The addresses of a target that is to be dialled.
    Resolved { target: Target, addresses: Vec<Multiaddr> },
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Control,
    Bulk,
    Join,
}

/// A connection.
struct Connection {
    peer: PeerId,
    node: NodeId,
    class: Class,
    address: Multiaddr,
    is_dialled: bool,
    opened: Instant,
    failed_pings: u32,
    /// How long the last answer to a ping took.
    rtt: Option<Duration>,
    /// Whether a stranger has asked to join on it.
    has_asked: bool,
}

/// A link, as its driver sees it.
struct LinkSeat {
    /// Since when it is tried.
    started: Instant,
    incoming: mpsc::Sender<Wire>,
    /// None once it was told to stop.
    stop: Option<oneshot::Sender<Stop>>,
    stopped: Option<Instant>,
    up_since: Option<Instant>,
    /// What the peer says it speaks.
    version: Option<String>,
}

pub(super) struct Driver<'a> {
    kept: &'a mut Kept,
    swarm: Swarm<Behaviour>,
    panicked: mpsc::Receiver<()>,
    /// Opens streams to members.
    member_control: Control,
    /// Opens streams on connections with strangers.
    guest_control: Control,
    inside: mpsc::UnboundedSender<Inside>,
    told: mpsc::UnboundedReceiver<Inside>,
    connections: BTreeMap<ConnectionId, Connection>,
    links: BTreeMap<NodeId, LinkSeat>,
    dials: BTreeMap<ConnectionId, Target>,
    /// Nodes whom this one asks, from the dial to the answer; no call once the connection is made.
    joins: BTreeMap<ConnectionId, Option<JoinCall>>,
    /// Strangers since the outer protocol was made.
    guests: usize,
    tick: Interval,
}

impl<'a> Driver<'a> {
    pub(super) fn new(kept: &'a mut Kept, swarm: Swarm<Behaviour>, panicked: mpsc::Receiver<()>) -> Self {
        let door = &swarm.behaviour().door;
        let (member_control, guest_control) = (door.inner.stream.new_control(), door.outer.new_control());
        let (inside, told) = mpsc::unbounded_channel();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            kept,
            swarm,
            panicked,
            member_control,
            guest_control,
            inside,
            told,
            connections: BTreeMap::new(),
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            joins: BTreeMap::new(),
            guests: 0,
            tick,
        }
    }

    /// Drives until told to end.
    pub(super) async fn run(mut self) -> Exit {
        self.accept_members();
        self.accept_guests();
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm(event),
                Some(inside) = self.told.recv() => self.on_inside(inside),
                command = self.kept.commands.recv() => match command {
                    None => return self.go_down(None).await,
                    Some(Command::Shutdown(done)) => return self.go_down(Some(done)).await,
                    Some(command) => self.on_command(command),
                },
                Some(entry) = self.kept.gossip.recv() => self.publish(entry),
                Some(()) = self.panicked.recv() => return Exit::ConnectionPanicked,
                _ = self.tick.tick() => self.on_tick(),
            }
        }
    }

    /// Says good-bye to all peers.
    async fn go_down(mut self, done: Option<oneshot::Sender<()>>) -> Exit {
        for node in self.links.keys().copied().collect::<Vec<_>>() {
            self.stop_link(&node, Stop::Tell("the node is shutting down".to_owned()));
        }
        let goodbye = async {
            while !self.kept.links.is_empty() {
                tokio::select! {
                    // Bytes flow in the connections' tasks, which the swarm must hear.
                    _ = self.swarm.select_next_some() => {}
                    _ = self.kept.links.join_next() => {}
                }
            }
            // Closing is what carries the last words out.
            for peer in self.swarm.connected_peers().copied().collect::<Vec<_>>() {
                self.swarm.disconnect_peer_id(peer).ok();
            }
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        // Whoever does not hear it sees the connection break.
        timeout(SHUTDOWN_TIMEOUT, goodbye).await.ok();
        self.kept.links.abort_all();
        Exit::Down(done)
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::SetMembers(members) => self.set_members(members),
            Command::Dial(addresses) => {
                for (address, node) in addresses {
                    let target = node.map_or_else(|| Target::Address(address.clone()), Target::Node);
                    self.kept.book.learn(target.clone(), [address], Instant::now());
                    self.kept.book.retry_now(&target, Instant::now());
                }
                self.dial_due();
            }
            Command::Disconnect(node, reason) => self.disconnect(node, reason),
            Command::Join(call) => self.join(call),
            Command::Count(answer) => {
                // Whoever asked may have gone.
                answer.send(self.counts()).ok();
            }
            Command::Shutdown(_) => {}
            #[cfg(test)]
            Command::Panic => panic!("a test wants to see this"),
        }
    }

    fn set_members(&mut self, members: std::collections::BTreeSet<NodeId>) {
        let before = std::mem::replace(&mut self.kept.members, members);
        let peers = self.kept.member_peers();
        self.swarm.behaviour_mut().door.set_members(peers);
        for node in before.difference(&self.kept.members.clone()) {
            self.stop_link(node, Stop::Now("it is not a member any more".to_owned()));
            self.close_connections(node, |_| true);
            self.kept.book.forget(&Target::Node(*node));
        }
        for node in self.kept.members.clone().difference(&before) {
            if !self.kept.desk.is_serving(node) {
                self.close_connections(node, |connection| connection.class == Class::Guest && !connection.is_dialled);
            }
            self.kept.book.retry_now(&Target::Node(*node), Instant::now());
        }
        self.dial_due();
    }

    fn disconnect(&mut self, node: NodeId, reason: String) {
        self.kept.book.penalised(&Target::Node(node), Instant::now());
        if self.links.contains_key(&node) {
            self.stop_link(&node, Stop::Tell(reason));
        } else {
            self.close_connections(&node, |_| true);
        }
    }

    fn publish(&mut self, entry: Vec<u8>) {
        let topic = self.kept.topic.clone();
        match self.swarm.behaviour_mut().door.inner.gossip.publish(topic, entry) {
            // Nobody to tell, told already, or too busy: whoever misses it pulls it.
            Ok(_) | Err(PublishError::NoPeersSubscribedToTopic | PublishError::Duplicate | PublishError::AllQueuesFull(_)) => {}
            Err(error) => self.refuse(&self.kept.shared.local.to_string(), &format!("an entry was not gossiped: {error}")),
        }
    }

    /// Dials whoever is due.
    fn dial_due(&mut self) {
        let (members, connections, local) = (&self.kept.members, &self.connections, self.kept.shared.local);
        let is_connected = |node: &NodeId| connections.values().any(|of| of.class == Class::Member && of.node == *node);
        let wanted = |target: &Target| match target {
            Target::Node(node) => *node != local && members.contains(node) && !is_connected(node),
            Target::Address(_) => true,
        };
        for (target, addresses) in self.kept.book.due(Instant::now(), wanted) {
            let inside = self.inside.clone();
            self.kept.tasks.spawn(async move {
                let resolved = futures::future::join_all(addresses.into_iter().map(identity::resolve)).await;
                inside.send(Inside::Resolved { target, addresses: resolved.concat() }).ok();
            });
        }
    }

    fn dial(&mut self, target: Target, addresses: Vec<Multiaddr>) {
        // A port of its own: from the listening port, two nodes that dial each other at once would both be dialler.
        let options = match &target {
            Target::Node(node) => identity::peer_id(node).map(|peer| {
                DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::Always).allocate_new_port().build()
            }),
            Target::Address(_) => {
                let address = addresses.into_iter().next();
                address.map(|address| DialOpts::unknown_peer_id().address(address).allocate_new_port().build())
            }
        };
        let Some(options) = options else { return self.dial_failed(&target) };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dials.insert(connection, target)),
            Err(_) => self.dial_failed(&target),
        }
    }

    fn dial_failed(&mut self, target: &Target) {
        self.kept.book.failed(target, Instant::now(), super::jitter());
    }

    fn join(&mut self, call: JoinCall) {
        self.swarm.behaviour_mut().door.expect_host(call.peer);
        let options = DialOpts::peer_id(call.peer)
            .addresses(call.addresses.clone())
            .condition(PeerCondition::Always)
            .allocate_new_port()
            .build();
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.joins.insert(connection, Some(call))),
            Err(error) => self.join_failed(call, super::supervise::deepest(&error)),
        }
    }

    fn join_failed(&mut self, call: JoinCall, reason: String) {
        self.swarm.behaviour_mut().door.forget_host(&call.peer);
        // Whoever asked may have gone.
        call.answer.send(Err(NetError::Unreachable { node: call.host, reason })).ok();
    }

    /// Tells the node. What is no hint waits for room.
    fn tell(&mut self, event: NetEvent) {
        let is_hint = matches!(event, NetEvent::Gossip { .. } | NetEvent::Rtt { .. });
        if let Err(TrySendError::Full(event)) = self.kept.events.try_send(event)
            && !is_hint
        {
            let events = self.kept.events.clone();
            self.kept.tasks.spawn(async move { drop(events.send(event).await) });
        }
    }

    fn refuse(&mut self, who: &str, reason: &str) {
        if self.kept.refusals.is_news(who, reason, Instant::now()) {
            self.tell(NetEvent::Refused { who: who.to_owned(), reason: reason.to_owned() });
        }
    }

    fn on_tick(&mut self) {
        while self.kept.tasks.try_join_next().is_some() {}
        while self.kept.links.try_join_next().is_some() {}
        self.dial_due();
        self.close_guests();
        self.renew_guests();
    }

    /// Cuts off strangers who do not join, or take too long.
    fn close_guests(&mut self) {
        let now = Instant::now();
        let is_over = |connection: &&Connection, limit: Duration| now.saturating_duration_since(connection.opened) >= limit;
        let guests = self.connections.iter().filter(|(_, connection)| connection.class == Class::Guest);
        let over = guests.filter_map(|(id, guest)| {
            let is_idle = !guest.is_dialled && !guest.has_asked && is_over(&guest, GUEST_GRACE);
            (is_idle || is_over(&guest, GUEST_TIMEOUT)).then(|| (*id, is_idle, guest.node, identity::host(&guest.address)))
        });
        for (id, is_idle, node, host) in over.collect::<Vec<_>>() {
            if is_idle {
                self.refuse(&node.to_string(), &format!("it is not a member and did not ask to join (from {host})"));
            }
            self.swarm.close_connection(id);
        }
    }

    fn counts(&self) -> Counts {
        let links = self.links.len() + super::lock(&self.kept.shared.links).len() + self.kept.links.len();
        let connections = self.connections.len() + self.swarm.behaviour().door.kept();
        Counts { connections, links, dials: self.dials.len(), joins: self.joins.len() + self.kept.desk.serving() }
    }
}
