//! What follows from links and from the streams that peers open.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures::{FutureExt as _, StreamExt as _};
use keepwell_protocol::id::NodeId;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use libp2p_stream::Control;
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use super::super::behaviour::VERSION;
use super::super::book::Target;
use super::super::bulk::{self, Wire};
use super::super::door::Class;
use super::super::event::NetEvent;
use super::super::join::Busy;
use super::super::limits::{GUESTS_PER_RENEWAL, LINK_STABLE};
use super::super::link::{self, Ending, EndingKind, Seat, Stop};
use super::super::{Way, identity, join};
use super::{Connection, Driver, Inside, LinkSeat, Protocol};

impl Driver<'_> {
    pub(super) fn on_inside(&mut self, inside: Inside) {
        match inside {
            Inside::Stream { protocol, peer, wire } => self.on_stream(protocol, peer, wire),
            Inside::LinkUp { node } => self.on_link_up(node),
            Inside::LinkEnded { node, ending } => self.on_link_ended(node, ending),
            Inside::Heard { node, fault } => self.on_heard(node, fault),
            Inside::Asked { connection, peer } => {
                if self.joins.remove(&connection).is_some() {
                    self.swarm.behaviour_mut().door.forget_host(&peer);
                }
                if self.connections.get(&connection).is_some_and(|of| of.class == Class::Guest) {
                    self.swarm.close_connection(connection);
                }
            }
            Inside::Resolved { target, addresses } => self.dial(target, addresses),
        }
    }

    fn on_link_up(&mut self, node: NodeId) {
        let Some(seat) = self.links.get_mut(&node) else { return };
        seat.up_since = Some(Instant::now());
        // The first ping is answered before the greetings are over, and the next one is a while away.
        let of_node = self.connections.values().filter(|connection| connection.node == node);
        if let Some(rtt) = of_node.filter_map(|connection| connection.rtt).next_back() {
            self.tell(NetEvent::Rtt { peer: node, rtt });
        }
    }

    /// Accepts what members may open.
    pub(super) fn accept_members(&mut self) {
        let control = self.member_control.clone();
        self.accept(control.clone(), link::PROTOCOL, Protocol::Control);
        self.accept(control.clone(), bulk::PROTOCOL, Protocol::Bulk);
        // Whoever did not hear that it is a member now asks again.
        self.accept(control, join::PROTOCOL, Protocol::Join);
    }

    /// Accepts what strangers may open.
    pub(super) fn accept_guests(&mut self) {
        self.accept(self.guest_control.clone(), join::PROTOCOL, Protocol::Join);
    }

    /// Takes streams off libp2p's hands as fast as it can: it has room for one, and drops the others.
    fn accept(&mut self, mut control: Control, name: StreamProtocol, protocol: Protocol) {
        let Ok(mut incoming) = control.accept(name) else { return };
        let inside = self.inside.clone();
        self.kept.tasks.spawn(async move {
            while let Some((peer, stream)) = incoming.next().await {
                if inside.send(Inside::Stream { protocol, peer, wire: stream.compat() }).is_err() {
                    return;
                }
            }
        });
    }

    /// What libp2p keeps of every stranger it ever saw is dropped by making their protocol anew while none is connected.
    pub(super) fn renew_guests(&mut self) {
        let fresh = libp2p_stream::Behaviour::new();
        let control = fresh.new_control();
        if self.guests >= GUESTS_PER_RENEWAL && self.swarm.behaviour_mut().door.renew_outer(fresh) {
            self.guests = 0;
            self.guest_control = control;
            self.accept_guests();
        }
    }

    fn on_stream(&mut self, protocol: Protocol, peer: PeerId, wire: Wire) {
        let Some(node) = identity::node_id(&peer) else { return };
        let is_member = self.kept.members.contains(&node);
        match protocol {
            Protocol::Join => self.hear(node, wire),
            // A member no more, whose connection is closing.
            _ if !is_member => {}
            Protocol::Control => {
                if let Some(seat) = self.links.get(&node) {
                    // Dropped if one is waiting already: the peer opens another.
                    seat.incoming.try_send(wire).ok();
                }
            }
            Protocol::Bulk => {
                let slots = self.kept.shared.way(&node).filter(|way| way.link.is_announced()).map(|way| way.link.bulk_in.clone());
                let events = self.kept.events.clone();
                self.kept.tasks.spawn(async move {
                    if let Some(stream) = bulk::accept(wire, slots).await {
                        events.send(NetEvent::Bulk { from: node, stream }).await.ok();
                    }
                });
            }
        }
    }

    pub(super) fn start_link(&mut self, node: NodeId, peer: PeerId, address: &Multiaddr) {
        let (incoming, streams) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel();
        let shared = self.kept.shared.clone();
        let (events, control, inside) = (self.kept.events.clone(), self.member_control.clone(), self.inside.clone());
        let seat = Seat {
            local: shared.local,
            network: shared.network,
            node,
            peer,
            address: address.to_string(),
            control: control.clone(),
            incoming: streams,
            stop: stopped,
            events: events.clone(),
        };
        self.kept.links.spawn(async move {
            let publish = |link| {
                shared.publish(node, Way { peer, link, control });
                inside.send(Inside::LinkUp { node }).ok();
            };
            let ending = AssertUnwindSafe(link::run(seat, publish)).catch_unwind().await;
            let ending = ending.unwrap_or_else(|_| Ending::panicked());
            if shared.withdraw(&node) {
                events.send(NetEvent::Disconnected { peer: node, reason: ending.reason.clone() }).await.ok();
            }
            inside.send(Inside::LinkEnded { node, ending }).ok();
        });
        self.links.insert(
            node,
            LinkSeat { started: Instant::now(), incoming, stop: Some(stop), stopped: None, up_since: None, version: None },
        );
    }

    pub(super) fn stop_link(&mut self, node: &NodeId, stop: Stop) {
        let Some(seat) = self.links.get_mut(node) else { return };
        if let Some(sender) = seat.stop.take() {
            seat.stopped = Some(Instant::now());
            // A link that does not hear it has ended.
            sender.send(stop).ok();
        }
    }

    fn on_link_ended(&mut self, node: NodeId, ending: Ending) {
        let Some(seat) = self.links.remove(&node) else { return };
        let (target, now) = (Target::Node(node), Instant::now());
        if seat.up_since.is_some_and(|since| since.elapsed() >= LINK_STABLE) {
            self.kept.book.proved(&target);
        }
        let is_newer = |connection: &Connection| {
            let is_of_node = connection.node == node && connection.class == Class::Member;
            is_of_node && seat.stopped.is_some_and(|stopped| connection.opened > stopped)
        };
        match ending.kind {
            EndingKind::Again => return self.link_again(node),
            EndingKind::Broken if self.connections.values().any(is_newer) => return self.link_again(node),
            EndingKind::Wanted => self.kept.book.penalised(&target, now),
            EndingKind::Broken | EndingKind::Fault => self.dial_failed(&target),
        }
        if ending.kind == EndingKind::Fault && self.kept.members.contains(&node) && !self.kept.desk.is_serving(&node) {
            let version = seat.version.filter(|version| version != VERSION);
            let version = version.map(|theirs| format!("; it speaks {}, this node {VERSION}", theirs.escape_debug()));
            self.refuse(&node.to_string(), &format!("{}{}", ending.reason, version.unwrap_or_default()));
        }
        if !self.kept.desk.is_serving(&node) {
            self.close_connections(&node, |connection| connection.class == Class::Member);
        }
    }

    /// Makes a link on the newest connection and closes the others.
    fn link_again(&mut self, node: NodeId) {
        let of_node =
            self.connections.iter().filter(|(_, connection)| connection.node == node && connection.class == Class::Member);
        let newest = of_node.max_by_key(|(_, connection)| connection.opened);
        let Some((peer, opened, address)) = newest.map(|(_, newest)| (newest.peer, newest.opened, newest.address.clone())) else {
            return;
        };
        self.close_connections(&node, |connection| connection.class == Class::Member && connection.opened < opened);
        self.start_link(node, peer, &address);
    }

    /// Hears somebody who asks to join.
    fn hear(&mut self, node: NodeId, wire: Wire) {
        let of_node = self.connections.values_mut().filter(|connection| connection.node == node);
        of_node.for_each(|connection| connection.has_asked = true);
        match self.kept.desk.admit(node, Instant::now()) {
            Ok(()) => {}
            Err(Busy::WithItself) => return drop(self.kept.tasks.spawn(join::put_off(wire))),
            Err(Busy::WithTooMany) => {
                let reason = "too many requests to join within a minute";
                self.refuse(&node.to_string(), reason);
                return drop(self.kept.tasks.spawn(join::turn_away(wire, reason)));
            }
        }
        let (events, inside) = (self.kept.events.clone(), self.inside.clone());
        self.kept.tasks.spawn(async move {
            let fault = join::serve(wire, node, events).await.err();
            inside.send(Inside::Heard { node, fault }).ok();
        });
    }

    fn on_heard(&mut self, node: NodeId, fault: Option<String>) {
        let since = self.kept.desk.done(&node);
        if let Some(fault) = fault {
            self.refuse(&node.to_string(), &fault);
        }
        // A member's connection without a link was kept for this alone.
        let is_linked = self.links.contains_key(&node);
        let is_old = |connection: &Connection| since.is_none_or(|since| connection.opened <= since);
        self.close_connections(&node, |connection| is_old(connection) && (connection.class == Class::Guest || !is_linked));
    }

    /// Asks the host of a connection that was made for it.
    pub(super) fn ask(&mut self, connection: ConnectionId, class: Class) {
        let Some(Some(call)) = self.joins.get_mut(&connection).map(Option::take) else { return };
        let control = if class == Class::Member { &self.member_control } else { &self.guest_control };
        let (control, inside) = (control.clone(), self.inside.clone());
        self.kept.tasks.spawn(async move {
            let answer = join::ask(control, call.host, call.peer, &call.request).await;
            // Whoever asked may have gone.
            call.answer.send(answer).ok();
            inside.send(Inside::Asked { connection, peer: call.peer }).ok();
        });
    }
}
