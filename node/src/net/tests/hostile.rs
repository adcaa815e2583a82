//! Peers that break the protocol, speak another one, or none.

use std::collections::BTreeSet;
use std::time::Instant;

use futures::StreamExt as _;
use keepwell_protocol::limits::MAX_MESSAGE_BYTES;
use libp2p::swarm::{Config, dial_opts::DialOpts};
use libp2p::{Swarm, identify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::behaviour::{swarm, topic, transport};
use super::super::bulk::{self, Wire, open_stream};
use super::super::frame::{self, FrameError, Kind};
use super::super::limits::{
    CONNECT_TIMEOUT, GUEST_GRACE, LINK_SETTLED, LINK_TIMEOUT, MAX_BULK_FROM_PEER, STREAM_TIMEOUT, UNSUPPORTED_PATIENCE,
};
use super::super::{NetEvent, identity, join, link};
use super::{NETWORK, Node, PATIENCE, id, ids, pair};

/// A peer that is connected and does what a test wants. Its id is smaller than `victim`'s, so that it opens the channel.
async fn rogue(seed: u8, victim: &Node) -> (libp2p_stream::Control, libp2p::PeerId) {
    let (key, peer) = (identity::keypair([seed; 32]).unwrap(), identity::peer_id(&victim.id).unwrap());
    let mut swarm = swarm(&key, &topic(&NETWORK), BTreeSet::from([peer]), false, mpsc::channel(1).0).unwrap();
    let control = swarm.behaviour().door.inner.stream.new_control();
    let address = victim.net.listen_addresses()[0].parse().unwrap();
    swarm.dial(DialOpts::peer_id(peer).addresses(vec![address]).build()).unwrap();
    let (connected, is_connected) = tokio::sync::oneshot::channel();
    let mut connected = Some(connected);
    tokio::spawn(async move {
        loop {
            let event = swarm.select_next_some().await;
            if matches!(event, libp2p::swarm::SwarmEvent::ConnectionEstablished { .. }) {
                connected.take().map(|connected| connected.send(()));
            }
        }
    });
    timeout(PATIENCE, is_connected).await.unwrap().unwrap();
    (control, peer)
}

/// Two seeds, the first of which has the smaller id.
fn by_id() -> (u8, u8) {
    if id(1) < id(2) { (1, 2) } else { (2, 1) }
}

async fn greeted(control: libp2p_stream::Control, peer: libp2p::PeerId) -> Wire {
    let mut wire = open_stream(control, peer, link::PROTOCOL).await.unwrap();
    frame::write(&mut wire, Kind::Hello, NETWORK.as_bytes()).await.unwrap();
    assert_eq!(frame::read(&mut wire, Kind::Hello).await.unwrap(), NETWORK.as_bytes());
    frame::write(&mut wire, Kind::Ready, &[]).await.unwrap();
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_past_the_limit_ends_the_link_and_both_know_why() {
    let (small, large) = by_id();
    let mut victim = Node::new(large, &[1, 2]).await;
    let (control, peer) = rogue(small, &victim).await;
    let mut wire = greeted(control, peer).await;
    victim.connected(id(small)).await;
    frame::write(&mut wire, Kind::Message, b"fine").await.unwrap();
    assert_eq!(victim.message().await, b"fine");
    wire.write_all(&frame::header(Kind::Message, MAX_MESSAGE_BYTES + 1)).await.unwrap();
    wire.flush().await.unwrap();
    let Err(FrameError::Bye(reason)) = frame::read(&mut wire, Kind::Message).await else { panic!("no reason") };
    assert!(reason.contains("exceeds the limit"), "{reason}");
    assert!(victim.disconnected(id(small)).await.contains("exceeds the limit"));
    assert!(victim.refused(&id(small).to_string()).await.contains("exceeds the limit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_the_channel_ends_the_link() {
    let (small, large) = by_id();
    let mut victim = Node::new(large, &[1, 2]).await;
    let (control, peer) = rogue(small, &victim).await;
    let mut wire = greeted(control, peer).await;
    wire.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    wire.flush().await.unwrap();
    assert!(victim.disconnected(id(small)).await.contains("unknown kind"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_open_a_control_or_bulk_stream_nor_hear_gossip() {
    let (small, large) = by_id();
    let mut victim = Node::new(large, &[large]).await;
    let (control, peer) = rogue(small, &victim).await;
    for protocol in [link::PROTOCOL, bulk::PROTOCOL] {
        assert!(open_stream(control.clone(), peer, protocol).await.is_err());
    }
    let reason = victim.refused(&id(small).to_string()).await;
    assert!(reason.contains("not a member"), "{reason}");
    assert!(GUEST_GRACE < PATIENCE);
    victim.empty().await;
}

/// A stranger's stream for joining.
async fn knocking(seed: u8, victim: &Node) -> Wire {
    let (key, peer) = (identity::keypair([seed; 32]).unwrap(), identity::peer_id(&victim.id).unwrap());
    let behaviour = libp2p_stream::Behaviour::new();
    let mut swarm = Swarm::new(transport(&key).unwrap(), behaviour, key.public().to_peer_id(), Config::with_tokio_executor());
    let control = swarm.behaviour().new_control();
    swarm.dial(victim.net.listen_addresses()[0].parse::<libp2p::Multiaddr>().unwrap()).unwrap();
    swarm.select_next_some().await;
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    let mut wire = open_stream(control, peer, join::PROTOCOL).await.unwrap();
    frame::read(&mut wire, Kind::Ready).await.unwrap();
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_to_join_is_refused() {
    let mut victim = Node::new(1, &[1]).await;
    let mut wire = knocking(2, &victim).await;
    frame::write(&mut wire, Kind::Message, b"let me in").await.unwrap();
    assert!(matches!(frame::read(&mut wire, Kind::Join).await, Err(FrameError::Bye(_))));
    drop(wire);
    assert!(victim.refused(&id(2).to_string()).await.contains("bad request to join"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knocks_and_says_nothing_is_cut_off_after_stream_timeout() {
    let mut victim = Node::new(1, &[1]).await;
    let (begun, mut wire) = (Instant::now(), knocking(2, &victim).await);
    assert!(victim.refused(&id(2).to_string()).await.contains("did not say why"));
    assert!(begun.elapsed() >= STREAM_TIMEOUT);
    assert!(frame::read(&mut wire, Kind::Join).await.is_err());
    victim.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_and_says_nothing_is_cut_off_after_connect_timeout() {
    let victim = Node::new(1, &[1]).await;
    let port = victim.net.listen_addresses()[0].rsplit('/').next().unwrap().parse::<u16>().unwrap();
    let begun = Instant::now();
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // What it is greeted with is of no interest, only that it ends.
    timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("cut off").ok();
    assert!(begun.elapsed() >= CONNECT_TIMEOUT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_opens_no_channel_is_cut_off_after_link_timeout() {
    let (small, large) = by_id();
    let mut victim = Node::new(large, &[1, 2]).await;
    let begun = Instant::now();
    let _silent = rogue(small, &victim).await;
    let reason = victim.refused(&id(small).to_string()).await;
    assert!(reason.contains("opened no control channel") && begun.elapsed() >= LINK_TIMEOUT, "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_connects_anew_gets_a_new_link() {
    let (small, large) = by_id();
    let mut victim = Node::new(large, &[1, 2]).await;
    let (control, peer) = rogue(small, &victim).await;
    let _dead = greeted(control, peer).await;
    victim.connected(id(small)).await;
    let ended = |event| matches!(event, NetEvent::Disconnected { .. }).then_some(());
    assert!(timeout(LINK_SETTLED, victim.until("disconnected", ended)).await.is_err());
    let (control, peer) = rogue(small, &victim).await;
    assert!(victim.disconnected(id(small)).await.contains("connected again"));
    let mut wire = greeted(control, peer).await;
    victim.connected(id(small)).await;
    frame::write(&mut wire, Kind::Message, b"alive").await.unwrap();
    assert_eq!(victim.message().await, b"alive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_opens_too_many_bulk_streams_is_told() {
    let (small, large) = by_id();
    let mut victim = Node::new(large, &[1, 2]).await;
    let (control, peer) = rogue(small, &victim).await;
    let _wire = greeted(control.clone(), peer).await;
    victim.connected(id(small)).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..MAX_BULK_FROM_PEER {
        // Put off until the victim has told its node of the link.
        let wire = loop {
            let mut wire = open_stream(control.clone(), peer, bulk::PROTOCOL).await.unwrap();
            if frame::read(&mut wire, Kind::Ready).await.is_ok() {
                break wire;
            }
        };
        ours.push(wire);
        theirs.push(super::bulk::accepted(&mut victim).await);
    }
    let mut past = open_stream(control, peer, bulk::PROTOCOL).await.unwrap();
    let refused = frame::read(&mut past, Kind::Ready).await;
    assert!(matches!(refused, Err(FrameError::Bye(reason)) if reason.contains("too many")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_version_is_named() {
    let (small, large) = by_id();
    let mut victim = Node::new(small, &[1, 2]).await;
    let key = identity::keypair([large; 32]).unwrap();
    let future = identify::Behaviour::new(identify::Config::new("keepwell/2".to_owned(), key.public()));
    let mut swarm = Swarm::new(transport(&key).unwrap(), future, key.public().to_peer_id(), Config::with_tokio_executor());
    swarm.dial(victim.net.listen_addresses()[0].parse::<libp2p::Multiaddr>().unwrap()).unwrap();
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    let begun = Instant::now();
    let reason = victim.refused(&id(large).to_string()).await;
    assert!(begun.elapsed() >= UNSUPPORTED_PATIENCE / 2);
    assert!(reason.contains("speaks keepwell/2, this node keepwell/1"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_in_the_middle_is_not_told_of() {
    let (mut ada, bob) = pair().await;
    let port = ada.net.listen_addresses()[0].rsplit('/').next().unwrap().parse::<u16>().unwrap();
    for greeting in [&b""[..], b"\x13/multistream/1.0.0\n", b"\x13/multistream/1.0.0\n\x07/noise\n"] {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(greeting).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.ok();
    }
    bob.net.send(ada.id, b"unimpressed".to_vec()).unwrap();
    let told = ada.until("a message", |event| match event {
        NetEvent::Refused { .. } => panic!("{event:?}"),
        NetEvent::Message { bytes, .. } => Some(bytes),
        _ => None,
    });
    assert_eq!(told.await, b"unimpressed");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_changes_nothing_and_is_told_once() {
    let (mut ada, mut bob) = pair().await;
    let port = ada.net.listen_addresses()[0].rsplit('/').next().unwrap().parse::<u16>().unwrap();
    let mut garbage = vec![0; 100_000];
    for n in 0..20_u8 {
        blake3::Hasher::new().update(&[n]).finalize_xof().fill(&mut garbage);
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // The node may close before it has read everything, which is an error here and fine.
        stream.write_all(&garbage).await.ok();
        stream.read_to_end(&mut Vec::new()).await.ok();
    }
    bob.net.send(ada.id, b"unimpressed".to_vec()).unwrap();
    let mut reports = 0;
    let told = ada.until("a message", |event| match event {
        NetEvent::Refused { who, .. } => {
            assert_eq!(who, "127.0.0.1");
            reports += 1;
            None
        }
        NetEvent::Message { bytes, .. } => Some(bytes),
        NetEvent::Disconnected { .. } => panic!("{event:?}"),
        _ => None,
    });
    assert_eq!(told.await, b"unimpressed");
    assert_eq!(reports, 1);
    ada.net.send(bob.id, b"nor I".to_vec()).unwrap();
    assert_eq!(bob.message().await, b"nor I");
    assert_eq!(ada.net.counts().await.unwrap().connections, bob.net.counts().await.unwrap().connections);
    assert!(ids(&[1, 2]).contains(&ada.id));
}
