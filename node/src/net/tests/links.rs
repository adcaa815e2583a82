//! Messages between members, and how links begin and end.

use std::time::Instant;

use keepwell_protocol::limits::{MAX_GOSSIP_ENTRY_BYTES, MAX_MESSAGE_BYTES};
use tokio::time::timeout;

use super::super::limits::{MAX_RESTARTS, PING_INTERVAL};
use super::super::{Net, NetError, NetEvent};
use super::{NETWORK, Node, PATIENCE, config, id, pair};
use keepwell_protocol::id::NetworkId;

#[tokio::test(flavor = "multi_thread")]
async fn messages_pass_both_ways_in_order_and_whole() {
    let (mut ada, mut bob) = pair().await;
    ada.net.send(bob.id, b"hello".to_vec()).unwrap();
    assert_eq!(bob.message().await, b"hello");
    for n in 0..10_000_u32 {
        ada.net.send(bob.id, n.to_be_bytes().to_vec()).unwrap();
        bob.net.send(ada.id, n.to_be_bytes().to_vec()).unwrap();
    }
    for n in 0..10_000_u32 {
        assert_eq!((ada.message().await, bob.message().await), (n.to_be_bytes().to_vec(), n.to_be_bytes().to_vec()));
    }
    bob.net.send(ada.id, vec![7; MAX_MESSAGE_BYTES]).unwrap();
    assert_eq!(ada.message().await, vec![7; MAX_MESSAGE_BYTES]);
    bob.net.send(ada.id, Vec::new()).unwrap();
    assert_eq!(ada.message().await, Vec::<u8>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_past_max_message_bytes_is_refused() {
    let (mut ada, bob) = pair().await;
    let refused = bob.net.send(ada.id, vec![7; MAX_MESSAGE_BYTES + 1]);
    assert!(matches!(refused, Err(NetError::TooLarge { len }) if len == MAX_MESSAGE_BYTES + 1));
    bob.net.send(ada.id, b"still here".to_vec()).unwrap();
    assert_eq!(ada.message().await, b"still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_reaches_who_is_not_connected_to_its_author() {
    let (mut ada, mut bob, mut eve) =
        (Node::new(1, &[1, 2, 3]).await, Node::new(2, &[1, 2, 3]).await, Node::new(3, &[1, 2, 3]).await);
    ada.dial(&bob);
    eve.dial(&bob);
    ada.connected(bob.id).await;
    eve.connected(bob.id).await;
    // A hint may be missed while neighbours find each other; the node would pull.
    for n in 0_u8.. {
        ada.net.publish(vec![n; MAX_GOSSIP_ENTRY_BYTES]);
        ada.net.publish(vec![n; MAX_GOSSIP_ENTRY_BYTES + 1]);
        let heard = eve.until("gossip", |event| match event {
            NetEvent::Gossip { bytes } => Some(bytes),
            _ => None,
        });
        if let Ok(bytes) = timeout(PATIENCE / 30, heard).await {
            assert_eq!(bytes.len(), MAX_GOSSIP_ENTRY_BYTES);
            break;
        }
        assert!(n < 30, "no gossip");
    }
    bob.until("gossip", |event| matches!(event, NetEvent::Gossip { .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_dial_each_other_at_once_are_connected_once() {
    let (mut ada, mut bob) = (Node::new(1, &[1, 2]).await, Node::new(2, &[1, 2]).await);
    ada.dial(&bob);
    bob.dial(&ada);
    ada.connected(bob.id).await;
    bob.connected(ada.id).await;
    for n in 0..100_u8 {
        ada.net.send(bob.id, vec![n]).unwrap();
        bob.net.send(ada.id, vec![n]).unwrap();
    }
    for node in [&mut ada, &mut bob] {
        let mut next = 0;
        let all_came = |event| match event {
            NetEvent::Message { bytes, .. } => {
                assert_eq!(bytes, [next]);
                next += 1;
                (next == 100).then_some(())
            }
            NetEvent::Connected { .. } | NetEvent::Disconnected { .. } => panic!("{event:?}"),
            _ => None,
        };
        node.until("100 messages", all_came).await;
    }
}

#[test]
fn a_node_that_dies_is_missed() {
    let (living, dying) = (tokio::runtime::Runtime::new().unwrap(), tokio::runtime::Runtime::new().unwrap());
    let bob = dying.block_on(Node::new(2, &[1, 2]));
    living.block_on(async {
        let mut ada = Node::new(1, &[1, 2]).await;
        ada.dial(&bob);
        ada.connected(bob.id).await;
        dying.shutdown_background();
        ada.disconnected(bob.id).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_again_on_its_port_is_found_again() {
    let (mut ada, bob) = (Node::new(1, &[1, 2]).await, Node::new(2, &[1, 2]).await);
    bob.dial(&ada);
    // In either order; a link may be up before the other side has said where it is.
    let (mut is_connected, mut is_learned) = (false, false);
    let both = |event| {
        match event {
            NetEvent::Connected { .. } => is_connected = true,
            NetEvent::Learned { .. } => is_learned = true,
            _ => {}
        }
        (is_connected && is_learned).then_some(())
    };
    ada.until("connected and learned", both).await;
    let addresses = bob.net.listen_addresses();
    bob.net.shutdown().await;
    let reason = ada.disconnected(id(2)).await;
    assert!(reason.contains("shutting down"), "{reason}");
    // Bob dialled Ada; what Bob said of himself is enough for Ada to find him.
    let mut bob = Node::start(super::NetConfig { listen: addresses.clone(), ..config(2, &[1, 2]) }).await;
    assert_eq!(bob.net.listen_addresses(), addresses);
    ada.connected(bob.id).await;
    bob.connected(ada.id).await;
    bob.net.send(ada.id, b"again".to_vec()).unwrap();
    assert_eq!(ada.message().await, b"again");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_hears_why() {
    let (mut ada, mut bob) = pair().await;
    ada.net.disconnect(bob.id, "you sent nonsense");
    assert!(bob.disconnected(ada.id).await.contains("you sent nonsense"));
    assert_eq!(ada.disconnected(bob.id).await, "you sent nonsense");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_keep_up_is_given_up_and_found_again() {
    let (mut ada, mut bob) = pair().await;
    // Ada's events are not looked at: first her queue fills, then the way to her, then Bob's queue.
    let message = vec![1; MAX_MESSAGE_BYTES];
    let sent = async {
        loop {
            bob.net.send(id(1), message.clone()).unwrap();
            if let Ok(NetEvent::Disconnected { reason, .. }) = bob.events.try_recv() {
                return reason;
            }
            if bob.net.counts().await.unwrap().links == 0 {
                return bob.disconnected(id(1)).await;
            }
        }
    };
    let reason = timeout(PATIENCE, sent).await.expect("the queue has an end");
    assert!(reason.contains("does not keep up"), "{reason}");
    ada.disconnected(bob.id).await;
    ada.connected(bob.id).await;
    bob.connected(ada.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_network_is_refused_with_the_reason() {
    let mut ada = Node::new(1, &[1, 2]).await;
    let mut bob = Node::start(super::NetConfig { network: NetworkId([8; 32]), ..config(2, &[1, 2]) }).await;
    assert_ne!(NETWORK, NetworkId([8; 32]));
    bob.dial(&ada);
    let (by_ada, by_bob) = (ada.refused(&bob.id.to_string()).await, bob.refused(&ada.id.to_string()).await);
    assert!(by_ada.contains("another network") && by_bob.contains("another network"), "{by_ada}; {by_bob}");
}

#[tokio::test(flavor = "multi_thread")]
async fn coming_and_going_leaves_nothing_behind() {
    let mut ada = Node::new(1, &[1, 2]).await;
    let addresses = ada.net.listen_addresses();
    for _ in 0..50 {
        let mut bob = Node::new(2, &[1, 2]).await;
        bob.net.dial(&addresses, Some(ada.id)).unwrap();
        bob.connected(ada.id).await;
        ada.connected(bob.id).await;
        bob.net.shutdown().await;
        ada.disconnected(id(2)).await;
    }
    // Bob is no member any more, so that he is not dialled again.
    ada.net.set_members(super::ids(&[1]));
    ada.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_restarts_the_network_up_to_max_restarts_times() {
    let (mut ada, mut bob) = pair().await;
    let addresses = ada.net.listen_addresses();
    ada.net.panic();
    ada.disconnected(bob.id).await;
    ada.until("restarted", |event| matches!(event, NetEvent::Restarted { .. }).then_some(())).await;
    ada.connected(bob.id).await;
    bob.connected(ada.id).await;
    assert_eq!(ada.net.listen_addresses(), addresses);
    for _ in 0..MAX_RESTARTS {
        ada.net.panic();
    }
    let reason = ada.until("failed", |event| match event {
        NetEvent::Failed { reason } => Some(reason),
        _ => None,
    });
    assert!(reason.await.contains("panicked"));
    assert!(matches!(ada.net.counts().await, Err(NetError::Down)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_and_a_bad_address_are_told_at_once() {
    let ada = Node::new(1, &[1]).await;
    let started = Net::start(super::NetConfig { listen: ada.net.listen_addresses(), ..config(2, &[]) }).await;
    assert!(matches!(started, Err(NetError::Listen { .. })));
    let started = Net::start(super::NetConfig { listen: vec!["localhost:4077".to_owned()], ..config(2, &[]) }).await;
    assert!(matches!(started, Err(NetError::BadAddress { .. })));
    assert!(matches!(ada.net.dial(&["nowhere".to_owned()], None), Err(NetError::BadAddress { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_address_is_dialled_until_a_member_answers_and_is_learned() {
    let (mut ada, bob) = (Node::new(1, &[1, 2]).await, Node::new(2, &[1, 2]).await);
    ada.net.dial(&bob.net.listen_addresses(), None).unwrap();
    let learned = ada.until("learned", |event| match event {
        NetEvent::Learned { peer, addresses } if peer == id(2) => Some(addresses),
        _ => None,
    });
    assert_eq!(learned.await, bob.net.listen_addresses());
    ada.connected(bob.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_peer_is_pinged() {
    let (mut ada, bob) = (Node::new(1, &[1, 2]).await, Node::new(2, &[1, 2]).await);
    bob.dial(&ada);
    let rtt = ada.until("a round trip", |event| match event {
        NetEvent::Rtt { peer, rtt } if peer == bob.id => Some(rtt),
        _ => None,
    });
    let began = Instant::now();
    assert!(!rtt.await.is_zero());
    assert!(began.elapsed() < PING_INTERVAL, "the first answer is told as soon as the link works");
}
