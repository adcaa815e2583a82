//! Two stores and a stream between them, whole, broken, and lied over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use keepwell_protocol::id::{B3, BlobFact, BlobId};
use keepwell_protocol::limits::{MAX_BULK_FRAME_BYTES, MAX_SMALL_BYTES};
use keepwell_protocol::transfer::BulkRequest;
use keepwell_store::fs::RealFs;
use keepwell_store::fs::sim::SimDisk;
use keepwell_store::hash::hash_bytes;
use keepwell_store::ingest::{IngestId, ingest};
use keepwell_store::store::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::fetch::{FetchError, Fetched, Fetcher};
use super::serve::serve;
use super::write_frame;
use crate::limits::{ANSWERS_AHEAD, BULK_ANSWER_TIMEOUT, BULK_IDLE, QUESTIONS_AHEAD, SERVE_BATCH_BYTES};

const MIB: usize = 1 << 20;

struct Node {
    store: Arc<Store>,
    _home: tempfile::TempDir,
}

fn node() -> Node {
    let home = tempfile::tempdir().unwrap();
    let backend = SimDisk::new(1).backend("index.redb");
    Node { store: Arc::new(Store::open(backend, Arc::new(RealFs::new(home.path()))).unwrap()), _home: home }
}

fn fresh() -> IngestId {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    IngestId([NEXT.fetch_add(1, Ordering::Relaxed); 16])
}

/// Bytes that differ everywhere, so that no group can stand for another.
fn bytes(size: usize) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&size.to_le_bytes()).finalize_xof();
    let mut bytes = vec![0; size];
    reader.fill(&mut bytes);
    bytes
}

fn put(node: &Node, bytes: &[u8]) -> BlobFact {
    let blob = ingest(node.store.fs(), fresh(), &mut &*bytes, &mut |_| {}).unwrap();
    record(node, blob)
}

fn record(node: &Node, blob: keepwell_store::ingest::Ingested) -> BlobFact {
    let fact = blob.fact();
    let placed = node.store.place(vec![blob]).unwrap().placed.pop().unwrap();
    node.store.write(|txn| txn.record(placed, 1, 1)).unwrap();
    fact
}

fn read_back(node: &Node, id: &BlobId) -> Vec<u8> {
    let snapshot = node.store.snapshot().unwrap();
    let record = snapshot.blob(id).unwrap().unwrap();
    let opened = node.store.open_blob(&snapshot, id, &record).unwrap();
    let mut bytes = vec![0; usize::try_from(record.size_bytes).unwrap()];
    assert_eq!(opened.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn connect(from: &Node, to: &Node) -> Fetcher<DuplexStream> {
    let (ours, theirs) = duplex(256 << 10);
    tokio::spawn(serve(Arc::clone(&from.store), theirs));
    Fetcher::new(Arc::clone(&to.store), ours)
}

/// A stream to a node that serves, which breaks after so many bytes.
fn connect_for(from: &Node, to: &Node, bytes: u64) -> Fetcher<DuplexStream> {
    let (ours, middle) = duplex(64 << 10);
    let (other, theirs) = duplex(64 << 10);
    tokio::spawn(serve(Arc::clone(&from.store), theirs));
    tokio::spawn(async move {
        let (mut up, mut down) = tokio::io::split(middle);
        let (other_down, mut other_up) = tokio::io::split(other);
        let asking = tokio::spawn(async move { tokio::io::copy(&mut up, &mut other_up).await.ok() });
        tokio::io::copy(&mut other_down.take(bytes), &mut down).await.ok();
        asking.abort();
    });
    Fetcher::new(Arc::clone(&to.store), ours)
}

/// A stream on which whatever comes from the serving node has one byte changed.
fn connect_to_liar(from: &Node, to: &Node, at: u64) -> Fetcher<DuplexStream> {
    let (ours, middle) = duplex(64 << 10);
    let (other, theirs) = duplex(64 << 10);
    tokio::spawn(serve(Arc::clone(&from.store), theirs));
    tokio::spawn(async move {
        let (mut up, mut down) = tokio::io::split(middle);
        let (mut other_down, mut other_up) = tokio::io::split(other);
        tokio::spawn(async move { tokio::io::copy(&mut up, &mut other_up).await.ok() });
        tokio::io::copy(&mut (&mut other_down).take(at), &mut down).await.ok();
        if let Ok(byte) = other_down.read_u8().await {
            down.write_u8(byte ^ 1).await.ok();
        }
        tokio::io::copy(&mut other_down, &mut down).await.ok();
    });
    Fetcher::new(Arc::clone(&to.store), ours)
}

async fn large(fetcher: &mut Fetcher<DuplexStream>, fact: BlobFact) -> Result<Fetched, FetchError> {
    fetcher.large(fact, fresh(), |_| {}).await
}

#[tokio::test]
async fn blobs_of_every_shape_arrive_bit_for_bit() {
    let (from, to) = (node(), node());
    let mut fetcher = connect(&from, &to);
    for size in [0, 1, 65_535, 65_536, 65_537, MIB, 5 * MIB + 7, 64 * MIB, 64 * MIB + 1, 130 * MIB + 3] {
        let bytes = bytes(size);
        let fact = put(&from, &bytes);
        let fetched = large(&mut fetcher, fact).await.unwrap();
        assert_eq!(fetched.received_bytes, size as u64);
        assert_eq!(record(&to, fetched.blob), fact);
        assert!(read_back(&to, &fact.sha1) == bytes, "{size} bytes differ");
    }
}

#[tokio::test]
async fn many_small_blobs_come_in_one_go_and_missing_ones_are_told() {
    let (from, to) = (node(), node());
    let mut facts: Vec<BlobFact> = (0..1_500).map(|n: usize| put(&from, &n.to_le_bytes())).collect();
    let largest = put(&from, &bytes(usize::try_from(MAX_SMALL_BYTES).unwrap()));
    facts.push(largest);
    let absent = BlobFact { sha1: BlobId([9; 20]), b3: B3([9; 32]), size_bytes: 4 };
    facts.insert(700, absent);
    let too_large = put(&from, &bytes(usize::try_from(MAX_SMALL_BYTES).unwrap() + 1));
    facts.push(too_large);
    let outcomes = connect(&from, &to).small(&facts, fresh).await.unwrap();
    for (fact, outcome) in facts.iter().zip(outcomes) {
        match outcome {
            Ok(fetched) => assert_eq!(fetched.blob.fact(), *fact),
            Err(FetchError::Absent) => assert!(*fact == absent || *fact == too_large),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn an_answer_of_many_blobs_is_read_in_batches_of_serve_batch_bytes() {
    let (from, to) = (node(), node());
    let count = SERVE_BATCH_BYTES / 60_000 * 3;
    let facts: Vec<BlobFact> = (0..count).map(|n| put(&from, &bytes(60_000 + n))).collect();
    let outcomes = connect(&from, &to).small(&facts, fresh).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_broken_stream_loses_nothing_that_was_verified() {
    let (from, to) = (node(), node());
    let bytes = bytes(70 * MIB);
    let fact = put(&from, &bytes);
    let broken = large(&mut connect_for(&from, &to, 40 * MIB as u64), fact).await;
    assert!(matches!(broken, Err(FetchError::Stream(_))), "{broken:?}");
    assert!(to.store.snapshot().unwrap().blob(&fact.sha1).unwrap().is_none(), "no partial blob is visible");
    let fetched = large(&mut connect(&from, &to), fact).await.unwrap();
    // What was on the way when the stream broke comes again: at most the questions that were open.
    let most = (30 + QUESTIONS_AHEAD + 2) * MIB;
    assert!(fetched.received_bytes <= most as u64, "{} bytes came again", fetched.received_bytes - 30 * MIB as u64);
    record(&to, fetched.blob);
    assert!(read_back(&to, &fact.sha1) == bytes);
}

#[tokio::test]
async fn a_byte_changed_anywhere_is_found_and_what_came_before_it_is_kept() {
    let (from, to) = (node(), node());
    let bytes = bytes(3 * MIB);
    let fact = put(&from, &bytes);
    // In the group values, in the first range, in the last.
    for at in [100, 40_000, 2 * MIB as u64 + 9] {
        let lied = large(&mut connect_to_liar(&from, &to, at), fact).await;
        assert!(matches!(lied, Err(FetchError::Lied(_))), "at {at}: {lied:?}");
    }
    let fetched = large(&mut connect(&from, &to), fact).await.unwrap();
    assert!(fetched.received_bytes <= 2 * MIB as u64, "{}", fetched.received_bytes);
    assert_eq!(fetched.blob.fact(), fact);
}

#[tokio::test]
async fn bytes_that_verify_and_have_another_sha1_are_never_seen() {
    let (from, to) = (node(), node());
    let fact = put(&from, &bytes(9_000));
    // The catalog ties the bytes to a name that is not theirs; the other node answers under that name.
    let false_name = BlobFact { sha1: BlobId([7; 20]), ..fact };
    from.store
        .write(|txn| {
            let record = txn.blob(&fact.sha1)?.unwrap();
            txn.put_record(&false_name.sha1, &record)?;
            Ok::<_, keepwell_store::error::StoreError>(())
        })
        .unwrap();
    let refused = large(&mut connect(&from, &to), false_name).await;
    assert!(matches!(refused, Err(FetchError::Collision { found, .. }) if found == fact.sha1), "{refused:?}");
    assert!(to.store.snapshot().unwrap().blob(&false_name.sha1).unwrap().is_none());
    let small = put(&from, b"small");
    let claimed = BlobFact { b3: hash_bytes(b"other").fact.b3, ..small };
    let outcome = connect(&from, &to).small(&[claimed], fresh).await.unwrap().pop().unwrap();
    assert!(matches!(outcome, Err(FetchError::Lied(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_blob_that_the_other_node_does_not_hold_is_absent() {
    let (from, to) = (node(), node());
    let fact = hash_bytes(&bytes(2 * MIB)).fact;
    assert!(matches!(large(&mut connect(&from, &to), fact).await, Err(FetchError::Absent)));
}

#[tokio::test]
async fn a_frame_past_max_bulk_frame_bytes_ends_the_stream() {
    let from = node();
    let (mut ours, theirs) = duplex(1024);
    let serving = tokio::spawn(serve(Arc::clone(&from.store), theirs));
    ours.write_u32(u32::try_from(MAX_BULK_FRAME_BYTES + 1).unwrap()).await.unwrap();
    assert!(serving.await.unwrap().is_err());
    assert!(super::framed_length(&vec![0; MAX_BULK_FRAME_BYTES]).is_ok());
    assert!(super::framed_length(&vec![0; MAX_BULK_FRAME_BYTES + 1]).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_given_up_after_bulk_answer_timeout_and_a_silent_asker_after_bulk_idle() {
    let (from, to) = (node(), node());
    let (ours, _silent) = duplex(1 << 20);
    let before = tokio::time::Instant::now();
    let outcome = Fetcher::new(Arc::clone(&to.store), ours).small(&[hash_bytes(b"x").fact], fresh).await;
    assert!(matches!(outcome, Err(FetchError::Stream(_))));
    assert_eq!(before.elapsed().as_secs(), BULK_ANSWER_TIMEOUT.as_secs());
    let (_silent, theirs) = duplex(1024);
    let before = tokio::time::Instant::now();
    serve(from.store, theirs).await.unwrap();
    assert_eq!(before.elapsed().as_secs(), BULK_IDLE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_server_reads_answers_ahead_of_the_one_that_is_taken_and_no_more() {
    let from = node();
    let blob = put(&from, &bytes(MIB)).sha1;
    let (mut ours, theirs) = duplex(16);
    tokio::spawn(serve(Arc::clone(&from.store), theirs));
    let question = BulkRequest::Range { blob, offset_bytes: 0, length_bytes: u32::try_from(MIB).unwrap() }.encode();
    assert!(question.len() > 16, "a question that has left here has been read there");
    let mut heard = 0;
    while timeout(Duration::from_secs(1), write_frame(&mut ours, &question)).await.is_ok() {
        heard += 1;
    }
    // One is being sent, and one waits for its turn behind those that are ready.
    assert_eq!(heard, ANSWERS_AHEAD + 2);
}
