//! Strangers, joining, and members that are removed.

use super::super::limits::{MAX_JOIN_BYTES, MAX_JOINS_PER_NODE_PER_MINUTE};
use super::super::{NetError, NetEvent};
use super::{Node, id, ids, pair};
use tokio::sync::oneshot;

async fn join_request(host: &mut Node) -> (Vec<u8>, oneshot::Sender<Vec<u8>>) {
    let wanted = |event| match event {
        NetEvent::JoinRequest { bytes, answer, .. } => Some((bytes, answer)),
        _ => None,
    };
    host.until("a request to join", wanted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_and_may_only_join() {
    let (mut ada, mut eve) = (Node::new(1, &[1]).await, Node::new(3, &[1, 3]).await);
    eve.dial(&ada);
    let (by_ada, by_eve) = (ada.refused(&eve.id.to_string()).await, eve.refused(&ada.id.to_string()).await);
    assert!(by_ada.contains("not a member"), "{by_ada}");
    assert!(by_eve.contains("know this node as a member"), "{by_eve}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_joins_becomes_a_member() {
    let (mut ada, mut eve) = (Node::new(1, &[1]).await, Node::new(3, &[3]).await);
    let (host, addresses, eve_net) = (ada.id, ada.net.listen_addresses(), eve.net.clone());
    let joining = tokio::spawn(async move { eve_net.join(&addresses, host, vec![1; MAX_JOIN_BYTES]).await });
    let (request, answer) = join_request(&mut ada).await;
    assert_eq!(request, vec![1; MAX_JOIN_BYTES]);
    ada.net.set_members(ids(&[1, 3]));
    answer.send(b"welcome".to_vec()).unwrap();
    assert_eq!(joining.await.unwrap().unwrap(), b"welcome");
    eve.net.set_members(ids(&[1, 3]));
    eve.dial(&ada);
    eve.connected(ada.id).await;
    ada.connected(eve.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_become_a_member_without_hearing_it_asks_again() {
    let (mut ada, mut eve) = (Node::new(1, &[1, 3]).await, Node::new(3, &[3]).await);
    let (host, addresses, eve_net) = (ada.id, ada.net.listen_addresses(), eve.net.clone());
    let joining = tokio::spawn(async move { eve_net.join(&addresses, host, b"ticket".to_vec()).await });
    join_request(&mut ada).await.1.send(b"welcome, still".to_vec()).unwrap();
    assert_eq!(joining.await.unwrap().unwrap(), b"welcome, still");
    eve.net.set_members(ids(&[1, 3]));
    eve.dial(&ada);
    eve.connected(ada.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_answered_is_refused_and_nothing_stays() {
    let (mut ada, mut eve) = (Node::new(1, &[1]).await, Node::new(3, &[3]).await);
    for n in 0..=MAX_JOINS_PER_NODE_PER_MINUTE {
        let (host, addresses, eve_net) = (ada.id, ada.net.listen_addresses(), eve.net.clone());
        let joining = tokio::spawn(async move { eve_net.join(&addresses, host, b"forged".to_vec()).await });
        if n < MAX_JOINS_PER_NODE_PER_MINUTE {
            drop(join_request(&mut ada).await);
        }
        let Err(NetError::Refused { reason, .. }) = joining.await.unwrap() else { panic!("accepted") };
        let expected = if n < MAX_JOINS_PER_NODE_PER_MINUTE { "not accepted" } else { "too many" };
        assert!(reason.contains(expected), "{reason}");
    }
    eve.empty().await;
    ada.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_where_nobody_is_or_somebody_else_fails_with_the_reason() {
    let (ada, eve) = (Node::new(1, &[1]).await, Node::new(3, &[3]).await);
    let past = eve.net.join(&[], ada.id, vec![1; MAX_JOIN_BYTES + 1]).await;
    assert!(matches!(past, Err(NetError::JoinTooLarge { .. })));
    let wrong = eve.net.join(&ada.net.listen_addresses(), id(2), Vec::new()).await;
    assert!(matches!(wrong, Err(NetError::Unreachable { node, .. }) if node == id(2)), "{wrong:?}");
    let addresses = ada.net.listen_addresses();
    ada.net.shutdown().await;
    let nobody = eve.net.join(&addresses, id(1), Vec::new()).await;
    assert!(matches!(nobody, Err(NetError::Unreachable { .. })), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_removed_is_cut_off() {
    let (mut ada, mut bob) = pair().await;
    ada.net.set_members(ids(&[1]));
    assert!(ada.disconnected(bob.id).await.contains("not a member any more"));
    bob.disconnected(ada.id).await;
    assert!(matches!(ada.net.open_bulk(bob.id).await, Err(NetError::NotConnected(_))));
    ada.net.set_members(ids(&[1, 2]));
    ada.dial(&bob);
    ada.connected(bob.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_looks_around_in_its_local_network_works_like_any_other() {
    let around = |seed| super::NetConfig { mdns: true, ..super::config(seed, &[1, 2]) };
    let (mut ada, mut bob) = (Node::start(around(1)).await, Node::start(around(2)).await);
    ada.dial(&bob);
    ada.connected(bob.id).await;
    bob.connected(ada.id).await;
}
