//! Nodes whose engines hear each other at once and whose streams are pipes in memory.

use std::sync::Mutex;

use ed25519_dalek::SigningKey;
use keepwell_protocol::catalog::member::{NodeBody, Role};
use keepwell_protocol::id::LeaseId;
use keepwell_protocol::name::RefName;
use keepwell_store::audit::Note;
use keepwell_store::blobs::BlobRecord;
use keepwell_store::fs::RealFs;
use keepwell_store::fs::sim::SimDisk;
use keepwell_store::home::DiskPlace;
use keepwell_store::ingest::{IngestId, ingest};
use keepwell_store::leases::Lease;
use keepwell_store::store::Store;
use keepwell_store::trash::Retrieved;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::engine::{
    Collect, Collected, Confirmed, Dropped, Effect, Engine, EngineRng, Input, LeaseOp, LeaseUse, NewHome, RefOp, RefOutcome,
    RefSet, Reply, RequestId, Settings,
};
use crate::transfer::serve::serve;

/// A node without a driver: its engine behind a lock.
struct TestNode {
    engine: Mutex<(Engine, EngineRng)>,
    store: Arc<Store>,
    next_ingest: Mutex<u128>,
    _home: tempfile::TempDir,
}

impl TestNode {
    fn new(number: u8, network: Option<keepwell_protocol::id::NetworkId>) -> TestNode {
        let home = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(SimDisk::new(1).backend("index.redb"), Arc::new(RealFs::new(home.path()))).unwrap());
        let key = SigningKey::from_bytes(&[number; 32]);
        let mut rng = EngineRng::seed_from_u64(number.into());
        let place = DiskPlace { device: 1, inode: number.into() };
        let engine = match network {
            None => {
                let new = NewHome { network: "lab".parse().unwrap(), node: "first".parse().unwrap(), place };
                Engine::init(Arc::clone(&store), key, &new, &mut rng).unwrap()
            }
            Some(network) => Engine::join(Arc::clone(&store), key, network, place, &mut rng).unwrap(),
        };
        TestNode { engine: Mutex::new((engine, rng)), store, next_ingest: Mutex::new(number.into()), _home: home }
    }

    fn id(&self) -> NodeId {
        self.engine.lock().unwrap().0.home().node
    }

    fn step(&self, input: Input) -> Vec<Effect> {
        let (engine, rng) = &mut *self.engine.lock().unwrap();
        engine.step(1_800_000_000_000, rng, vec![input]).unwrap()
    }

    fn ask(&self, input: Input) -> Reply {
        let reply = self.step(input).into_iter().find_map(|effect| match effect {
            Effect::Reply(_, reply) => Some(reply),
            _ => None,
        });
        reply.unwrap()
    }

    fn store_bytes(&self, bytes: &[u8]) -> BlobFact {
        let blob = ingest(self.store.fs(), self.new_ingest(), &mut &*bytes, &mut |_| {}).unwrap();
        let fact = blob.fact();
        assert!(record(self, vec![blob]).unwrap().is_empty());
        fact
    }

    fn set(&self, name: &str, links: &[BlobId]) {
        let set = RefSet::new(RefName::parse(name).unwrap(), "{}", links.to_vec());
        self.write_refs(vec![RefOp::Set(set)]).unwrap();
    }
}

impl Node for TestNode {
    fn store(&self) -> &Arc<Store> {
        &self.store
    }
    fn now_ms(&self) -> u64 {
        1
    }
    fn settings(&self) -> Settings {
        Settings::default()
    }
    fn new_ingest(&self) -> IngestId {
        let mut next = self.next_ingest.lock().unwrap();
        *next += 256;
        IngestId(next.to_be_bytes())
    }
    fn put(&self, blobs: Vec<PutBlob>, lease: Option<LeaseUse>) -> Result<Vec<PutOutcome>, Failure> {
        match self.ask(Input::Put { request: RequestId(1), blobs, lease }) {
            Reply::Put(outcomes) => Ok(outcomes),
            other => Err(other.into()),
        }
    }
    fn lease(&self, op: LeaseOp) -> Result<(LeaseId, Lease), Failure> {
        match self.ask(Input::Lease { request: RequestId(1), op }) {
            Reply::Leased(id, lease) => Ok((id, lease)),
            other => Err(other.into()),
        }
    }
    fn write_refs(&self, ops: Vec<RefOp>) -> Result<Vec<RefOutcome>, Failure> {
        match self.ask(Input::WriteRefs { request: RequestId(1), ops }) {
            Reply::Refs(outcomes) => Ok(outcomes?),
            other => Err(other.into()),
        }
    }
    fn confirm(&self, blobs: Vec<BlobId>) -> Result<Confirmed, Failure> {
        match self.ask(Input::Confirm { request: RequestId(1), blobs }) {
            Reply::Confirmed(confirmed) => Ok(confirmed),
            other => Err(other.into()),
        }
    }
    fn drop_copies(&self, blobs: Vec<BlobId>, from: Option<NodeId>) -> Result<Dropped, Failure> {
        match self.ask(Input::dropping(RequestId(1), blobs, from)) {
            Reply::Dropped(dropped) => Ok(dropped),
            other => Err(other.into()),
        }
    }
    fn give_up(&self, blobs: Vec<BlobId>, by: String) -> Result<Dropped, Failure> {
        match self.ask(Input::GiveUp { request: RequestId(1), blobs, by }) {
            Reply::Dropped(dropped) => Ok(dropped),
            other => Err(other.into()),
        }
    }
    fn declare(&self, node: NodeId, is_dead: bool) -> Result<(), Failure> {
        match self.ask(Input::Declare { request: RequestId(1), node, is_dead }) {
            Reply::Declared => Ok(()),
            other => Err(other.into()),
        }
    }
    fn remove(&self, node: NodeId) -> Result<(), Failure> {
        match self.ask(Input::Remove { request: RequestId(1), node }) {
            Reply::Declared => Ok(()),
            other => Err(other.into()),
        }
    }
    fn collect(&self, how: Collect) -> Result<Collected, Failure> {
        match self.ask(Input::Collect { request: RequestId(1), how }) {
            Reply::Collected(collected) => Ok(collected),
            other => Err(other.into()),
        }
    }
    fn restore(&self, retrieved: Retrieved) -> Result<Option<BlobFact>, Failure> {
        match self.ask(Input::Restore { request: RequestId(1), retrieved }) {
            Reply::Restored(restored) => Ok(restored),
            other => Err(other.into()),
        }
    }
    fn forget(&self, blob: BlobId, record: &BlobRecord, why: &str) -> Result<Option<BlobFact>, Failure> {
        match self.ask(Input::Forget { request: RequestId(1), blob, record: *record, why: why.to_owned() }) {
            Reply::Gone(gone) => Ok(gone),
            other => Err(other.into()),
        }
    }
    fn distrust_index(&self, why: &str) -> Result<(), Failure> {
        drop(self.ask(Input::IndexDamaged { request: RequestId(1), why: why.to_owned() }));
        Ok(())
    }
    fn is_index_damaged(&self) -> bool {
        self.engine.lock().unwrap().0.is_index_damaged()
    }
    fn note(&self, note: Note) -> Result<(), Failure> {
        match self.ask(Input::Note { request: RequestId(1), note }) {
            Reply::Noted => Ok(()),
            other => Err(other.into()),
        }
    }
}

/// Nodes of one network, each with everything that the others know.
struct Lab(Vec<Arc<TestNode>>);

impl Lab {
    fn new(count: u8) -> Lab {
        let first = TestNode::new(1, None);
        let network = first.engine.lock().unwrap().0.home().network;
        let mut nodes = vec![Arc::new(first)];
        for number in 2..=count {
            let node = TestNode::new(number, Some(network));
            let body = NodeBody {
                name: format!("n{number}"),
                role: Role::Member,
                storage: node.engine.lock().unwrap().0.home().storage,
            };
            nodes[0].ask(Input::Admit { request: RequestId(1), node: node.id(), body });
            nodes.push(Arc::new(node));
        }
        Lab(nodes)
    }

    /// Everybody tells everybody everything, until nothing is new.
    fn sync(&self) {
        for (a, one) in self.0.iter().enumerate() {
            for other in self.0.iter().skip(a + 1) {
                let mut due: Vec<(usize, Input)> =
                    vec![(0, Input::Connected { peer: other.id() }), (1, Input::Connected { peer: one.id() })];
                due.push((0, Input::Connected { peer: other.id() }));
                while let Some((at, input)) = due.pop() {
                    let (here, there) = if at == 0 { (one, other) } else { (other, one) };
                    for effect in here.step(input) {
                        if let Effect::Send { to, bytes } = effect
                            && to == there.id()
                        {
                            due.insert(0, (1 - at, Input::Received { from: here.id(), bytes }));
                        }
                    }
                }
            }
        }
    }

    fn streams(&self, asking: usize) -> Pipes {
        let others = self.0.iter().enumerate().filter(|(at, _)| *at != asking);
        Pipes { nodes: others.map(|(_, node)| Arc::clone(node)).collect(), down: Vec::new() }
    }
}

/// Streams to the nodes of a lab; some of them do not answer.
struct Pipes {
    nodes: Vec<Arc<TestNode>>,
    down: Vec<NodeId>,
}

impl Streams for Pipes {
    fn connected(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|node| node.id()).collect()
    }

    fn open(&self, to: NodeId) -> Opening<'_> {
        Box::pin(async move {
            let node = self.nodes.iter().find(|node| node.id() == to && !self.down.contains(&to));
            let node = node.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            let (ours, theirs) = tokio::io::duplex(256 << 10);
            tokio::spawn(serve(Arc::clone(&node.store), theirs));
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

async fn fetch(lab: &Lab, into: usize, streams: &Pipes, roots: &[BlobId]) -> Outcome {
    fetch_as(lab, into, streams, roots, Extent::Closure).await
}

async fn fetch_as(lab: &Lab, into: usize, streams: &Pipes, roots: &[BlobId], extent: Extent) -> Outcome {
    let node: Arc<dyn Node + Send + Sync> = Arc::clone(&lab.0[into]) as _;
    let progress = Progress::default();
    let outcome = Fetch::new(node, streams, BlobLocks::default(), progress.clone()).run(roots, extent).await.unwrap();
    let arrived: u64 = outcome.arrived.iter().map(|arrived| arrived.fact.size_bytes).sum();
    assert_eq!(progress.done_bytes(), arrived, "what has come is counted once, and nothing else");
    assert!(arrived <= progress.wanted_bytes());
    outcome
}

#[tokio::test]
async fn a_ref_brings_its_whole_closure() {
    let lab = Lab::new(2);
    let mut children: Vec<BlobId> = (0..FETCH_BATCH_BLOBS + 5).map(|n| lab.0[0].store_bytes(&n.to_le_bytes()).sha1).collect();
    children.push(lab.0[0].store_bytes(&vec![7; 3 << 20]).sha1);
    let parent = lab.0[0].store_bytes(b"the parent");
    lab.0[0].put(vec![PutBlob { blob: Stored::Known(parent), children: children.clone() }], None).unwrap();
    lab.0[0].set("lab/set", &[parent.sha1]);
    lab.sync();
    let outcome = fetch(&lab, 1, &lab.streams(1), &[parent.sha1]).await;
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
    assert_eq!(outcome.arrived.len(), children.len() + 1);
    let snapshot = lab.0[1].store.snapshot().unwrap();
    assert!(crate::engine::closure::missing(&snapshot, &[parent.sha1], 10).unwrap().is_empty());
    let again = fetch(&lab, 1, &lab.streams(1), &[parent.sha1]).await;
    assert!(again.arrived.is_empty() && again.failed.is_empty());
}

#[tokio::test]
async fn a_flat_fetch_brings_what_is_named_and_nothing_that_it_refers_to() {
    let lab = Lab::new(2);
    let child = lab.0[0].store_bytes(b"the child").sha1;
    let parent = lab.0[0].store_bytes(b"the parent");
    lab.0[0].put(vec![PutBlob { blob: Stored::Known(parent), children: vec![child] }], None).unwrap();
    lab.sync();
    let outcome = fetch_as(&lab, 1, &lab.streams(1), &[parent.sha1], Extent::Flat).await;
    assert_eq!(outcome.arrived.iter().map(|arrived| arrived.fact).collect::<Vec<_>>(), [parent]);
    // What it refers to comes when the whole of it is wanted.
    let rest = fetch(&lab, 1, &lab.streams(1), &[parent.sha1]).await;
    assert_eq!(rest.arrived.iter().map(|arrived| arrived.fact.sha1).collect::<Vec<_>>(), [child]);
}

#[tokio::test]
async fn a_holder_that_is_down_or_has_lost_the_blob_is_passed_over() {
    let lab = Lab::new(4);
    lab.sync();
    let fact = lab.0[0].store_bytes(b"held by three");
    lab.0[1].store_bytes(b"held by three");
    lab.0[2].store_bytes(b"held by three");
    lab.0[0].set("lab/a", &[fact.sha1]);
    lab.sync();
    lab.sync();
    // The first has lost it, unknown to the others; the second does not answer.
    lab.0[0].store.write(|txn| txn.remove_record(&fact.sha1)).unwrap();
    let streams = Pipes { down: vec![lab.0[1].id()], ..lab.streams(3) };
    let outcome = fetch(&lab, 3, &streams, &[fact.sha1]).await;
    assert_eq!(outcome.arrived.iter().map(|arrived| arrived.from).collect::<Vec<_>>(), [lab.0[2].id()]);
}

#[tokio::test]
async fn what_nobody_gives_is_told_with_everybody_who_was_asked() {
    let lab = Lab::new(2);
    let fact = lab.0[0].store_bytes(b"soon gone");
    lab.0[0].set("lab/a", &[fact.sha1]);
    lab.sync();
    lab.0[0].store.write(|txn| txn.remove_record(&fact.sha1)).unwrap();
    let unheard = BlobId([9; 20]);
    let outcome = fetch(&lab, 1, &lab.streams(1), &[fact.sha1, unheard]).await;
    assert!(outcome.failed[&fact.sha1][0].contains("does not hold it"), "{:?}", outcome.failed);
    assert!(outcome.failed[&unheard][0].contains("no member says"));
}

#[tokio::test]
async fn the_second_of_two_colliding_blobs_is_refused_when_a_peer_sends_it() {
    let lab = Lab::new(2);
    let fact = lab.0[0].store_bytes(b"the bytes that were named first");
    lab.0[0].set("lab/a", &[fact.sha1]);
    lab.sync();
    // The peer's bytes are changed under the name: what comes no longer verifies, and nothing of it is kept.
    let other = lab.0[0].store_bytes(b"other bytes, of the same length");
    lab.0[0]
        .store
        .write(|txn| {
            let record = txn.blob(&other.sha1)?.unwrap();
            txn.put_record(&fact.sha1, &record)
        })
        .unwrap();
    let outcome = fetch(&lab, 1, &lab.streams(1), &[fact.sha1]).await;
    assert!(outcome.arrived.is_empty());
    assert!(outcome.failed[&fact.sha1][0].contains("do not verify"), "{:?}", outcome.failed);
    assert!(lab.0[1].store.snapshot().unwrap().blob(&fact.sha1).unwrap().is_none());
}

#[test]
fn batches_end_at_fetch_batch_blobs_and_fetch_batch_bytes() {
    let fact = |size_bytes| BlobFact { sha1: BlobId([1; 20]), b3: keepwell_protocol::id::B3([1; 32]), size_bytes };
    let sizes = |facts: Vec<BlobFact>| batches(facts).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(vec![fact(1); FETCH_BATCH_BLOBS + 1]), [FETCH_BATCH_BLOBS, 1]);
    let fitting = usize::try_from(FETCH_BATCH_BYTES / MAX_SMALL_BYTES).unwrap();
    assert_eq!(sizes(vec![fact(MAX_SMALL_BYTES); fitting + 1]), [fitting, 1]);
}
