//! Many bytes.

use std::time::Instant;

use futures::FutureExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::limits::{BULK_OPEN_TIMEOUT, MAX_BULK_PER_PEER};
use super::super::{BulkStream, NetError, NetEvent};
use super::{Node, pair};

const MIB: usize = 1 << 20;

pub(super) async fn accepted(node: &mut Node) -> BulkStream {
    let wanted = |event| match event {
        NetEvent::Bulk { stream, .. } => Some(stream),
        _ => None,
    };
    node.until("a bulk stream", wanted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_mebibytes_arrive_whole() {
    let (ada, mut bob) = pair().await;
    let mut sender = ada.net.open_bulk(bob.id).await.unwrap();
    let mut receiver = accepted(&mut bob).await;
    let sending = tokio::spawn(async move {
        let mut hasher = blake3::Hasher::new();
        for n in 0..64_u64 {
            let mut block = vec![0; MIB];
            blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut block);
            hasher.update(&block);
            sender.write_all(&block).await.unwrap();
        }
        sender.shutdown().await.unwrap();
        let mut echoed = [0; 32];
        sender.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, *hasher.finalize().as_bytes());
    });
    let (mut hasher, mut block, mut total) = (blake3::Hasher::new(), vec![0; MIB], 0);
    loop {
        let read = receiver.read(&mut block).await.unwrap();
        if read == 0 {
            break;
        }
        total += read;
        hasher.update(&block[..read]);
    }
    assert_eq!(total, 64 * MIB);
    receiver.write_all(hasher.finalize().as_bytes()).await.unwrap();
    receiver.flush().await.unwrap();
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_streams_one_after_the_other_none_is_lost() {
    let (ada, mut bob) = pair().await;
    let (net, to) = (ada.net.clone(), bob.id);
    let opening = tokio::spawn(async move {
        for n in 0..200_u8 {
            let mut stream = net.open_bulk(to).await.unwrap();
            stream.write_all(&[n]).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), n);
        }
    });
    for n in 0..200_u8 {
        let mut stream = accepted(&mut bob).await;
        assert_eq!(stream.read_u8().await.unwrap(), n);
        stream.write_all(&[n]).await.unwrap();
        stream.shutdown().await.unwrap();
    }
    opening.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_max_bulk_per_peer_are_open_at_once() {
    let (ada, mut bob) = pair().await;
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..MAX_BULK_PER_PEER {
        mine.push(ada.net.open_bulk(bob.id).await.unwrap());
        theirs.push(accepted(&mut bob).await);
    }
    let (begun, past) = (Instant::now(), ada.net.open_bulk(bob.id).await);
    assert!(matches!(past, Err(NetError::Busy(_))) && begun.elapsed() >= BULK_OPEN_TIMEOUT);
    let mut one_more = Box::pin(ada.net.open_bulk(bob.id));
    assert!((&mut one_more).now_or_never().is_none());
    mine.pop();
    assert!(one_more.await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_pass_while_bulk_flows() {
    let (mut ada, mut bob) = pair().await;
    let mut sender = ada.net.open_bulk(bob.id).await.unwrap();
    let mut receiver = accepted(&mut bob).await;
    let flowing = tokio::spawn(async move { while sender.write_all(&[7; 65_536]).await.is_ok() {} });
    let draining = tokio::spawn(async move { tokio::io::copy(&mut receiver, &mut tokio::io::sink()).await });
    for n in 0..100_u8 {
        bob.net.send(ada.id, vec![n]).unwrap();
        assert_eq!(ada.message().await, [n]);
    }
    flowing.abort();
    draining.abort();
}
