//! What follows when connections come, go or fail, and from what the peers' protocols say of themselves.

use std::collections::BTreeSet;
use std::time::Instant;

use keepwell_protocol::id::NodeId;
use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::{self, MessageAcceptance};
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::{ConnectionId, DialError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, mdns, ping};

use super::super::behaviour::{BehaviourEvent, InnerEvent};
use super::super::book::Target;
use super::super::door::{Class, Shut};
use super::super::event::NetEvent;
use super::super::limits::{LINK_SETTLED, MAX_FAILED_PINGS};
use super::super::link::Stop;
use super::super::{identity, lock, supervise};
use super::{Connection, Driver};
use keepwell_protocol::limits::MAX_GOSSIP_ENTRY_BYTES;

impl Driver<'_> {
    pub(super) fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Door(Either::Left(event))) => self.on_protocol(event),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Discovered(found))) => {
                self.on_found(found);
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                let cause = cause.map_or_else(|| "the connection was closed".to_owned(), |cause| supervise::deepest(&cause));
                self.on_closed(peer_id, connection_id, &cause);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, peer_id, .. } => {
                self.on_incoming_error(&send_back_addr, peer_id, &error);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => self.on_dial_error(connection_id, &error),
            SwarmEvent::NewListenAddr { address, .. } => {
                supervise::with_port(&mut self.kept.listen, &address);
                lock(&self.kept.shared.listening).insert(address.to_string());
                self.tell(NetEvent::Listening { address: address.to_string() });
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                lock(&self.kept.shared.listening).remove(&address.to_string());
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                lock(&self.kept.shared.listening).retain(|known| !addresses.iter().any(|closed| closed.to_string() == *known));
                let reason = reason.err().map_or_else(|| "closed".to_owned(), |error| error.to_string());
                self.refuse("this node", &format!("stopped listening: {reason}"));
            }
            SwarmEvent::ListenerError { error, .. } => self.refuse("this node", &format!("cannot accept: {error}")),
            _ => {}
        }
    }

    /// Anybody in the local network may say where a node is. So only members are heard of, none that is here already, and whoever
    /// answers at an address must prove to be the one that it is said to be.
    fn on_found(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        for (node, address) in members_found(found, &self.kept.members) {
            if !self.links.contains_key(&node) {
                self.learn(node, [address]);
            }
        }
        self.dial_due();
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let target = self.dials.remove(&id);
        if let Some(target) = &target {
            self.kept.book.reached(target);
        }
        let (class, node) = (self.swarm.behaviour().door.class(id), identity::node_id(&peer));
        // A peer without an ed25519 key is nobody's member and cannot join.
        let (Some(class), Some(node)) = (class, node) else {
            self.swarm.close_connection(id);
            return;
        };
        let address = without_peer(endpoint.get_remote_address().clone());
        let is_dialled = endpoint.is_dialer();
        let connection = Connection {
            peer,
            node,
            class,
            address: address.clone(),
            is_dialled,
            opened: Instant::now(),
            failed_pings: 0,
            rtt: None,
            has_asked: false,
        };
        self.connections.insert(id, connection);
        self.guests += usize::from(class == Class::Guest);
        if self.joins.contains_key(&id) {
            return self.ask(id, class);
        }
        if class == Class::Member {
            self.on_member(node, peer, &address, is_dialled, target);
        }
    }

    fn on_member(&mut self, node: NodeId, peer: PeerId, address: &Multiaddr, is_dialled: bool, target: Option<Target>) {
        if let Some(target @ Target::Address(_)) = target {
            self.kept.book.addresses(&target).into_iter().for_each(|address| self.learn(node, [address]));
            self.kept.book.forget(&target);
        }
        let is_settled = |seat: &super::LinkSeat| seat.up_since.is_some_and(|since| since.elapsed() >= LINK_SETTLED);
        match self.links.get(&node) {
            None => self.start_link(node, peer, address),
            // A peer whose link lives does not dial.
            Some(seat) if !is_dialled && is_settled(seat) => self.stop_link(&node, Stop::Again),
            Some(_) => {}
        }
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId, cause: &str) {
        if let Some(call) = self.joins.remove(&id) {
            match call {
                Some(call) => self.join_failed(call, cause.to_owned()),
                None => self.swarm.behaviour_mut().door.forget_host(&peer),
            }
        }
        let Some(closed) = self.connections.remove(&id) else { return };
        if closed.class != Class::Member {
            return;
        }
        let mut others = self.connections.values().filter(|other| other.node == closed.node && other.class == Class::Member);
        if others.clone().next().is_none() {
            return self.stop_link(&closed.node, Stop::Gone(cause.to_owned()));
        }
        // A greeting that began before all that is left was there waits on the connection that is gone.
        let is_stuck = |seat: &super::LinkSeat| seat.up_since.is_none() && others.all(|other| other.opened > seat.started);
        if self.links.get(&closed.node).is_some_and(is_stuck) {
            self.stop_link(&closed.node, Stop::Again);
        }
    }

    fn on_incoming_error(&mut self, from: &Multiaddr, peer: Option<PeerId>, error: &ListenError) {
        let node = peer.and_then(|peer| identity::node_id(&peer));
        let reason = match error {
            ListenError::Denied { cause } => match cause.downcast_ref::<Shut>() {
                // Who is refused for this is of no interest, and there may be many.
                Some(shut @ Shut::TooManyGuests) => return self.refuse("strangers", &shut.to_string()),
                _ => supervise::deepest(error),
            },
            // Whoever dials several of our addresses lets go of all but one: nobody was refused.
            ListenError::Transport(error) if supervise::broke_off(error) => return,
            ListenError::Transport(_) => "it does not speak keepwell's transport".to_owned(),
            // Its peer id is this node's own: two nodes with one key, or a node that dialled itself.
            ListenError::LocalPeerId { .. } => "it has this node's own key".to_owned(),
            other => other.to_string(),
        };
        let who = node.map_or_else(|| identity::host(from), |node| node.to_string());
        self.refuse(&who, &reason);
    }

    fn on_dial_error(&mut self, id: ConnectionId, error: &DialError) {
        let reason = match error {
            DialError::Transport(tried) => {
                let tried = tried.iter().map(|(address, error)| format!("{address}: {}", supervise::deepest(error)));
                tried.collect::<Vec<_>>().join("; ")
            }
            DialError::Denied { cause } => supervise::deepest(cause),
            other => other.to_string(),
        };
        if let Some(Some(call)) = self.joins.remove(&id) {
            return self.join_failed(call, reason);
        }
        let Some(target) = self.dials.remove(&id) else { return };
        match (error, &target) {
            (DialError::WrongPeerId { obtained, address }, _) => {
                let who = identity::node_id(obtained).map_or_else(|| obtained.to_string(), |node| node.to_string());
                self.refuse(&who, &format!("it answers at {address}, where another node was expected"));
            }
            (DialError::LocalPeerId { .. }, Target::Address(_)) => return self.kept.book.forget(&target),
            (DialError::Denied { .. }, Target::Address(address)) => self.refuse(&address.to_string(), &reason),
            _ => {}
        }
        self.dial_failed(&target);
    }

    fn on_protocol(&mut self, event: InnerEvent) {
        match event {
            InnerEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                let author = message.source.and_then(|source| identity::node_id(&source));
                let is_fine = author
                    .is_some_and(|author| self.kept.members.contains(&author) || author == self.kept.shared.local)
                    && message.data.len() <= MAX_GOSSIP_ENTRY_BYTES;
                let verdict = if is_fine { MessageAcceptance::Accept } else { MessageAcceptance::Ignore };
                let gossip = &mut self.swarm.behaviour_mut().door.inner.gossip;
                gossip.report_message_validation_result(&message_id, &propagation_source, verdict);
                if is_fine {
                    self.tell(NetEvent::Gossip { bytes: message.data });
                }
            }
            InnerEvent::Identify(identify::Event::Received { connection_id, peer_id, info }) => {
                self.on_identified(connection_id, peer_id, info);
            }
            InnerEvent::Ping(ping::Event { connection, result, .. }) => self.on_ping(connection, result),
            _ => {}
        }
    }

    fn on_identified(&mut self, id: ConnectionId, peer: PeerId, info: identify::Info) {
        let (Some(node), Some(connection)) = (identity::node_id(&peer), self.connections.get(&id)) else { return };
        let is_here = identity::is_loopback(&connection.address);
        if let Some(seat) = self.links.get_mut(&node) {
            seat.version = Some(info.protocol_version);
        }
        let is_useful = |address: &Multiaddr| identity::is_dialable(address) && (is_here || !identity::is_loopback(address));
        let addresses = info.listen_addrs.into_iter().map(without_peer).filter(is_useful);
        self.learn(node, addresses.take(super::super::limits::MAX_ADDRESSES_PER_NODE).collect::<Vec<_>>());
    }

    fn on_ping(&mut self, id: ConnectionId, result: Result<std::time::Duration, ping::Failure>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let node = connection.node;
        match result {
            Ok(rtt) => {
                connection.failed_pings = 0;
                connection.rtt = Some(rtt);
                if self.links.get(&node).is_some_and(|seat| seat.up_since.is_some()) {
                    self.tell(NetEvent::Rtt { peer: node, rtt });
                }
            }
            Err(ping::Failure::Unsupported) => {}
            Err(_) => {
                connection.failed_pings += 1;
                if connection.failed_pings > MAX_FAILED_PINGS {
                    self.swarm.close_connection(id);
                }
            }
        }
    }

    /// Remembers where a member can be reached, and reports what is new.
    pub(super) fn learn(&mut self, node: NodeId, addresses: impl IntoIterator<Item = Multiaddr>) {
        let target = Target::Node(node);
        let is_known = self.kept.members.contains(&node) && node != self.kept.shared.local;
        if is_known && self.kept.book.learn(target.clone(), addresses, Instant::now()) {
            let addresses = self.kept.book.addresses(&target).iter().map(Multiaddr::to_string).collect();
            self.tell(NetEvent::Learned { peer: node, addresses });
        }
    }

    /// Closes the connections with a node that a condition picks.
    pub(super) fn close_connections(&mut self, node: &NodeId, picked: impl Fn(&Connection) -> bool) {
        let of_node = self.connections.iter().filter(|(_, connection)| connection.node == *node && picked(connection));
        for id in of_node.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.swarm.close_connection(id);
        }
    }
}

/// An address without the node at its end.
fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(libp2p::multiaddr::Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// Those of the addresses that are a member's, and that this node could dial.
fn members_found(found: Vec<(PeerId, Multiaddr)>, members: &BTreeSet<NodeId>) -> Vec<(NodeId, Multiaddr)> {
    let found = found.into_iter().filter_map(|(peer, address)| Some((identity::node_id(&peer)?, without_peer(address))));
    found.filter(|(node, address)| members.contains(node) && identity::is_dialable(address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_whom_the_local_network_tells_only_members_at_an_address_are_dialled() {
        let node = |seed: u8| {
            let peer = identity::keypair([seed; 32]).unwrap().public().to_peer_id();
            (peer, identity::node_id(&peer).unwrap())
        };
        let at = |text: &str| text.parse::<Multiaddr>().unwrap();
        let ((ada, ada_node), (eve, _)) = (node(1), node(2));
        let good = at("/ip4/10.0.0.1/tcp/4077");
        let named = good.clone().with_p2p(ada).unwrap();
        let found = vec![
            (ada, named),
            (ada, at("/ip4/10.0.0.1/udp/4077/quic-v1")),
            (eve, good.clone()),
            (PeerId::random(), good.clone()),
        ];
        assert_eq!(members_found(found, &BTreeSet::from([ada_node])), [(ada_node, good)]);
    }
}
