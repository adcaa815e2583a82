//! Who may do what on a connection, decided once, when its handshake has proven who the other side is.
//!
//! libp2p's own allow list cuts strangers off at the handshake, which would leave no way to join. Here a member's connection
//! carries the inner protocols, a stranger's carries the outer one (joining) and nothing else: no gossip, no identify, no
//! ping, and a request for any other protocol fails in negotiation. What a connection is never changes: whoever becomes a
//! member, or ceases to be one, connects again.
//!
//! Order of the guards: who it is, then the number of connections, then the protocols, so that nothing is kept for a
//! connection that a later guard denies. What libp2p keeps for each connection or peer it ever saw, it keeps for members
//! only: the connection limits hear of no guest (who are few by our own count), and the outer protocol is made anew from time to time.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure, ListenFailure};
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId, connection_limits};

use super::limits::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_PEER, MAX_GUESTS, MAX_PENDING_CONNECTIONS};

/// What a connection may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Everything.
    Member,
    /// Joining.
    Guest,
}

/// Why the door stays shut.
#[derive(Debug, thiserror::Error)]
pub(super) enum Shut {
    /// This node dials members only, and whom it joins.
    #[error("it is not a member")]
    NotAMember,
    /// As many strangers as allowed are connected.
    #[error("{MAX_GUESTS} strangers are connected already")]
    TooManyGuests,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    peer: PeerId,
    class: Class,
    is_established: bool,
}

/// Lets members in to `A` and everybody else to `B`.
pub(super) struct Door<A, B> {
    /// What members get.
    pub(super) inner: A,
    /// What strangers get.
    pub(super) outer: B,
    limits: connection_limits::Behaviour,
    members: BTreeSet<PeerId>,
    /// Nodes that this node asks to let it join, and how often at once.
    hosts: BTreeMap<PeerId, usize>,
    connections: BTreeMap<ConnectionId, Known>,
}

impl<A, B> Door<A, B> {
    pub(super) fn new(inner: A, outer: B, members: BTreeSet<PeerId>) -> Self {
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(MAX_PENDING_CONNECTIONS))
            .with_max_pending_outgoing(Some(MAX_PENDING_CONNECTIONS))
            .with_max_established(Some(MAX_CONNECTIONS))
            .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER));
        let limits = connection_limits::Behaviour::new(limits);
        Self { inner, outer, limits, members, hosts: BTreeMap::new(), connections: BTreeMap::new() }
    }

    /// Replaces the members. Connections stay what they are: closing those of former members is the caller's.
    pub(super) fn set_members(&mut self, members: BTreeSet<PeerId>) {
        self.members = members;
    }

    /// Allows this node to dial somebody in order to join.
    pub(super) fn expect_host(&mut self, peer: PeerId) {
        *self.hosts.entry(peer).or_default() += 1;
    }

    /// Takes [`Door::expect_host`] back.
    pub(super) fn forget_host(&mut self, peer: &PeerId) {
        if let Some(count) = self.hosts.get_mut(peer) {
            *count -= 1;
        }
        self.hosts.retain(|_, count| *count > 0);
    }

    /// What a connection is, if it is one.
    pub(super) fn class(&self, connection: ConnectionId) -> Option<Class> {
        self.connections.get(&connection).map(|known| known.class)
    }

    /// Replaces the outer protocol if no stranger is connected, and says whether it did.
    pub(super) fn renew_outer(&mut self, outer: B) -> bool {
        let is_idle = self.guests() == 0;
        if is_idle {
            self.outer = outer;
        }
        is_idle
    }

    /// What is kept, to be counted.
    pub(super) fn kept(&self) -> usize {
        self.connections.len() + self.hosts.len()
    }

    fn guests(&self) -> usize {
        self.connections.values().filter(|known| known.class == Class::Guest).count()
    }

    fn judge(&self, peer: &PeerId, is_dialled: bool) -> Result<Class, Shut> {
        if self.members.contains(peer) {
            Ok(Class::Member)
        } else if is_dialled {
            if self.hosts.contains_key(peer) { Ok(Class::Guest) } else { Err(Shut::NotAMember) }
        } else if self.guests() < MAX_GUESTS {
            Ok(Class::Guest)
        } else {
            Err(Shut::TooManyGuests)
        }
    }

    /// Other established connections of the same peer that are of the same class.
    fn siblings(&self, connection: ConnectionId, class: Class, peer: &PeerId) -> usize {
        let is_sibling = |(id, known): &(&ConnectionId, &Known)| {
            **id != connection && known.is_established && known.class == class && known.peer == *peer
        };
        self.connections.iter().filter(is_sibling).count()
    }

    /// The connection that an event of a class is for: one of that class, if there is any.
    fn handler_for(&self, handler: NotifyHandler, peer: &PeerId, class: Class) -> Option<ConnectionId> {
        match handler {
            NotifyHandler::One(id) => (self.class(id) == Some(class)).then_some(id),
            NotifyHandler::Any => {
                let mut of_peer = self.connections.iter().filter(|(_, known)| known.peer == *peer && known.is_established);
                of_peer.find(|(_, known)| known.class == class).map(|(id, _)| *id)
            }
        }
    }
}

impl<A: NetworkBehaviour, B: NetworkBehaviour> Door<A, B> {
    fn established(&mut self, event: ConnectionEstablished<'_>) {
        let Some(known) = self.connections.get_mut(&event.connection_id) else { return };
        known.is_established = true;
        let class = known.class;
        let other_established = self.siblings(event.connection_id, class, &event.peer_id);
        let event = FromSwarm::ConnectionEstablished(ConnectionEstablished { other_established, ..event });
        match class {
            Class::Member => {
                self.limits.on_swarm_event(event);
                self.inner.on_swarm_event(event);
            }
            Class::Guest => self.outer.on_swarm_event(event),
        }
    }

    fn closed(&mut self, event: ConnectionClosed<'_>) {
        let Some(known) = self.connections.remove(&event.connection_id) else { return };
        let remaining_established = self.siblings(event.connection_id, known.class, &event.peer_id);
        let event = FromSwarm::ConnectionClosed(ConnectionClosed { remaining_established, ..event });
        match known.class {
            Class::Member => {
                self.limits.on_swarm_event(event);
                self.inner.on_swarm_event(event);
            }
            Class::Guest => self.outer.on_swarm_event(event),
        }
    }

    fn everybody_hears(&mut self, event: FromSwarm<'_>) {
        self.limits.on_swarm_event(event);
        self.inner.on_swarm_event(event);
        self.outer.on_swarm_event(event);
    }

    /// An event for a connection, handed to one that carries the protocol; none if there is no such connection any more.
    fn routed(
        &self,
        event: ToSwarm<<Self as NetworkBehaviour>::ToSwarm, THandlerInEvent<Self>>,
        class: Class,
    ) -> Option<ToSwarm<<Self as NetworkBehaviour>::ToSwarm, THandlerInEvent<Self>>> {
        let ToSwarm::NotifyHandler { peer_id, handler, event } = event else { return Some(event) };
        let connection = self.handler_for(handler, &peer_id, class)?;
        Some(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event })
    }
}

impl<A: NetworkBehaviour, B: NetworkBehaviour> NetworkBehaviour for Door<A, B> {
    type ConnectionHandler = Either<THandler<A>, THandler<B>>;
    type ToSwarm = Either<A::ToSwarm, B::ToSwarm>;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.limits.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let class = self.judge(&peer, false).map_err(ConnectionDenied::new)?;
        self.limits.handle_established_inbound_connection(id, peer, local, remote)?;
        self.connections.insert(id, Known { peer, class, is_established: false });
        match class {
            Class::Member => self.inner.handle_established_inbound_connection(id, peer, local, remote).map(Either::Left),
            Class::Guest => self.outer.handle_established_inbound_connection(id, peer, local, remote).map(Either::Right),
        }
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if let Some(peer) = &peer {
            self.judge(peer, true).map_err(ConnectionDenied::new)?;
        }
        self.limits.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        at: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let class = self.judge(&peer, true).map_err(ConnectionDenied::new)?;
        self.limits.handle_established_outbound_connection(id, peer, at, role, port)?;
        self.connections.insert(id, Known { peer, class, is_established: false });
        match class {
            Class::Member => self.inner.handle_established_outbound_connection(id, peer, at, role, port).map(Either::Left),
            Class::Guest => self.outer.handle_established_outbound_connection(id, peer, at, role, port).map(Either::Right),
        }
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => self.established(event),
            FromSwarm::ConnectionClosed(event) => self.closed(event),
            FromSwarm::AddressChange(change) => match self.class(change.connection_id) {
                Some(Class::Member) => self.inner.on_swarm_event(event),
                Some(Class::Guest) => self.outer.on_swarm_event(event),
                None => {}
            },
            FromSwarm::DialFailure(DialFailure { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.connections.remove(&connection_id);
                self.everybody_hears(event);
            }
            _ => self.everybody_hears(event),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(event) => self.inner.on_connection_handler_event(peer, id, event),
            Either::Right(event) => self.outer.on_connection_handler_event(peer, id, event),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        while let Poll::Ready(event) = self.inner.poll(cx) {
            let event = event.map_out(Either::Left).map_in(Either::Left);
            if let Some(event) = self.routed(event, Class::Member) {
                return Poll::Ready(event);
            }
        }
        while let Poll::Ready(event) = self.outer.poll(cx) {
            let event = event.map_out(Either::Right).map_in(Either::Right);
            if let Some(event) = self.routed(event, Class::Guest) {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::swarm::dummy;

    fn door(members: &[PeerId]) -> Door<dummy::Behaviour, dummy::Behaviour> {
        Door::new(dummy::Behaviour, dummy::Behaviour, members.iter().copied().collect())
    }

    fn at() -> Multiaddr {
        "/ip4/10.0.0.1/tcp/1".parse().unwrap()
    }

    fn enter(door: &mut Door<dummy::Behaviour, dummy::Behaviour>, id: usize, peer: PeerId) -> bool {
        door.handle_established_inbound_connection(ConnectionId::new_unchecked(id), peer, &at(), &at()).is_ok()
    }

    #[test]
    fn members_and_strangers_get_different_protocols() {
        let (ada, eve) = (PeerId::random(), PeerId::random());
        let mut door = door(&[ada]);
        assert!(enter(&mut door, 1, ada) && enter(&mut door, 2, eve));
        let class = |id| door.class(ConnectionId::new_unchecked(id));
        assert_eq!((class(1), class(2), class(3)), (Some(Class::Member), Some(Class::Guest), None));
    }

    #[test]
    fn no_more_than_max_guests_are_let_in_and_members_still_are() {
        let ada = PeerId::random();
        let mut door = door(&[ada]);
        let let_in = (0..MAX_GUESTS + 5).filter(|id| enter(&mut door, *id, PeerId::random())).count();
        assert_eq!(let_in, MAX_GUESTS);
        assert!(enter(&mut door, 1_000, ada));
    }

    #[test]
    fn the_outer_protocol_is_made_anew_only_while_no_stranger_is_here() {
        let mut door = door(&[]);
        assert!(door.renew_outer(dummy::Behaviour));
        assert!(enter(&mut door, 1, PeerId::random()));
        assert!(!door.renew_outer(dummy::Behaviour));
    }

    #[test]
    fn only_members_and_hosts_are_dialled() {
        let (ada, eve) = (PeerId::random(), PeerId::random());
        let mut door = door(&[ada]);
        assert!(door.judge(&ada, true).is_ok() && door.judge(&eve, true).is_err());
        door.expect_host(eve);
        assert_eq!(door.judge(&eve, true).unwrap(), Class::Guest);
        door.forget_host(&eve);
        assert!(door.judge(&eve, true).is_err());
        assert_eq!(door.kept(), 0);
    }

    #[test]
    fn pending_connections_and_those_of_one_member_are_limited() {
        let ada = PeerId::random();
        let mut door = door(&[ada]);
        let knock = |door: &mut Door<_, _>, id: u32| {
            door.handle_pending_inbound_connection(ConnectionId::new_unchecked(id as usize), &at(), &at()).is_ok()
        };
        let let_in = (0..MAX_PENDING_CONNECTIONS + 5).filter(|id| knock(&mut door, *id)).count();
        assert_eq!(let_in, MAX_PENDING_CONNECTIONS as usize);
        let endpoint = libp2p::core::ConnectedPoint::Listener { local_addr: at(), send_back_addr: at() };
        let connect = |door: &mut Door<_, _>, id: usize, peer: PeerId| {
            let is_let_in = enter(door, id, peer);
            if is_let_in {
                door.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                    peer_id: peer,
                    connection_id: ConnectionId::new_unchecked(id),
                    endpoint: &endpoint,
                    failed_addresses: &[],
                    other_established: 0,
                }));
            }
            is_let_in
        };
        let let_in = (1_000..1_010).filter(|id| connect(&mut door, *id, ada)).count();
        assert_eq!(let_in, MAX_CONNECTIONS_PER_PEER as usize);
        let others: Vec<PeerId> = (0..MAX_CONNECTIONS).map(|_| PeerId::random()).collect();
        door.set_members(others.iter().copied().collect());
        let let_in = others.iter().enumerate().filter(|(id, peer)| connect(&mut door, 2_000 + id, **peer)).count();
        assert_eq!(let_in, (MAX_CONNECTIONS - MAX_CONNECTIONS_PER_PEER) as usize);
    }
}
