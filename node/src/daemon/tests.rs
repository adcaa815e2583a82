//! Real nodes on the loopback network, in one process.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use keepwell_protocol::catalog::member::NodeBody;
use keepwell_protocol::name::RefName;
use keepwell_protocol::ticket::Ticket;
use keepwell_store::fs::RealFs;
use keepwell_store::home::DiskPlace;
use keepwell_store::ingest::ingest;
use keepwell_store::store::Store;
use rand_chacha::rand_core::SeedableRng;
use tokio::time::timeout;

use super::*;
use crate::engine::{NewHome, PutBlob, RefOp, RefSet, Stored};
use crate::limits::{JOIN_SYNC_TIMEOUT, PULL_TIMEOUT_MS};
use crate::service::{Node, refs};

/// Longer than any of these plays takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Machine {
    number: u8,
    home: tempfile::TempDir,
}

impl Machine {
    fn new(number: u8) -> Machine {
        Machine { number, home: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> Arc<Store> {
        let home = self.home.path();
        Arc::new(Store::open_at(&home.join("index.redb"), Arc::new(RealFs::new(home))).unwrap())
    }

    fn place(&self) -> DiskPlace {
        DiskPlace { device: 1, inode: self.number.into() }
    }

    fn seed(&self) -> [u8; 32] {
        [self.number; 32]
    }

    fn rng(&self) -> EngineRng {
        EngineRng::seed_from_u64(self.number.into())
    }

    async fn up(&self, engine: Engine, inviter: Option<NodeId>) -> Daemon {
        let config = DaemonConfig {
            seed: Zeroizing::new(self.seed()),
            home: self.home.path(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            mdns: false,
            inviter,
        };
        Daemon::start(engine, self.rng(), config).await.unwrap()
    }

    async fn found(&self) -> Daemon {
        let new = NewHome { network: "lab".parse().unwrap(), node: "first".parse().unwrap(), place: self.place() };
        let engine = Engine::init(self.store(), SigningKey::from_bytes(&self.seed()), &new, &mut self.rng()).unwrap();
        self.up(engine, None).await
    }

    async fn restart(&self) -> Daemon {
        let engine = Engine::open(self.store(), SigningKey::from_bytes(&self.seed()), self.place(), &mut self.rng()).unwrap();
        self.up(engine, None).await
    }

    async fn join(&self, ticket: &Ticket) -> Result<Daemon, Failure> {
        let key = SigningKey::from_bytes(&self.seed());
        let engine = Engine::join(self.store(), key, ticket.network, self.place(), &mut self.rng()).unwrap();
        let body = NodeBody { name: format!("n{}", self.number), role: Role::Member, storage: engine.home().storage };
        let daemon = self.up(engine, Some(ticket.inviter)).await;
        if let Err(refused) = daemon.join(ticket, body).await {
            daemon.stop().await?;
            drop(daemon);
            return Err(refused);
        }
        until(&daemon, |snapshot| network::members(snapshot).unwrap().contains(&daemon.driver().home().node)).await;
        Ok(daemon)
    }
}

/// Waits until the catalog of a node is as it should be, looking again after every step.
async fn until(daemon: &Daemon, is_so: impl Fn(&keepwell_store::store::Snapshot) -> bool) {
    let mut steps = daemon.driver().steps();
    let waiting = async {
        while !is_so(&daemon.driver().store().snapshot().unwrap()) {
            steps.changed().await.unwrap();
        }
    };
    timeout(PATIENCE, waiting).await.expect("it did not come to be so");
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn put(daemon: &Daemon, bytes: Vec<u8>) -> BlobId {
    let driver = daemon.driver().clone();
    blocking(move || {
        let blob = ingest(driver.store().fs(), driver.new_ingest(), &mut bytes.as_slice(), &mut |_| {}).unwrap();
        let id = blob.fact().sha1;
        let placed = driver.store().place(vec![blob]).unwrap().placed.pop().unwrap();
        driver.put(vec![PutBlob { blob: Stored::New(placed), children: vec![] }], None).unwrap();
        id
    })
    .await
}

async fn set(daemon: &Daemon, name: &str, links: Vec<BlobId>) {
    let driver = daemon.driver().clone();
    let set = RefSet::new(RefName::parse(name).unwrap(), "{}", links);
    blocking(move || driver.write_refs(vec![RefOp::Set(set)]).unwrap()).await;
}

fn shows(name: &str) -> impl Fn(&keepwell_store::store::Snapshot) -> bool {
    let item = keepwell_protocol::catalog::item::Item::reference(name);
    move |snapshot| !snapshot.item(&item).unwrap().is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_machine_joins_sees_a_ref_and_fetches_what_it_names() {
    let (one, two) = (Machine::new(1), Machine::new(2));
    let first = one.found().await;
    let id = put(&first, vec![7; 3 << 20]).await;
    set(&first, "lab/before", vec![id]).await;
    let second = two.join(&first.invite(Role::Member, 1, 60_000).unwrap()).await.unwrap();
    until(&second, shows("lab/before")).await;
    let outcome = second.fetch(&[id], Extent::Closure, Progress::default()).await.unwrap();
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
    assert_eq!(outcome.arrived[0].received_bytes, 3 << 20);
    // Both ways: what the second names, the first sees, and knows that the second holds a copy too.
    set(&second, "lab/after", vec![id]).await;
    until(&first, shows("lab/after")).await;
    until(&first, |snapshot| snapshot.holders(&id).unwrap().len() == 2).await;
    let line = refs::get(first.driver(), &RefName::parse("lab/after").unwrap()).unwrap();
    assert_eq!(line.set_by, "n2");
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn used_and_forged_tickets_are_refused_and_the_same_machine_may_come_again() {
    let (one, two, three) = (Machine::new(1), Machine::new(2), Machine::new(3));
    let first = one.found().await;
    let ticket = first.invite(Role::Member, 1, 60_000).unwrap();
    let forged = Ticket { secret: [1; 16], ..ticket.clone() };
    let refused = |outcome: Result<Daemon, Failure>| outcome.err().map(|failure| (failure.code, failure.message));
    let denied = |why: &str| Some((Code::Denied, why.to_owned()));
    assert_eq!(refused(two.join(&forged).await), denied("the ticket is not one of this node's"));
    two.join(&ticket).await.unwrap().stop().await.unwrap();
    assert_eq!(refused(three.join(&ticket).await), denied("the ticket has been used"));
    two.join(&ticket).await.unwrap().stop().await.unwrap();
    first.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_restart_find_each_other_and_what_they_wrote_alone() {
    let (one, two) = (Machine::new(1), Machine::new(2));
    let first = one.found().await;
    let second = two.join(&first.invite(Role::Member, 1, 60_000).unwrap()).await.unwrap();
    until(&first, |snapshot| network::members(snapshot).unwrap().len() == 2).await;
    second.stop().await.unwrap();
    // Its index is locked until nobody holds it any more.
    drop(second);
    set(&first, "lab/alone", vec![]).await;
    let second = two.restart().await;
    until(&second, shows("lab/alone")).await;
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

#[test]
fn a_failure_to_fetch_tells_max_reasons_and_who_was_asked_by_name() {
    let (root, asked) = (BlobId([1; 20]), NodeId([2; 32]));
    let names = BTreeMap::from([(asked, "ada".to_owned()), (NodeId([3; 32]), "ben".to_owned())]);
    let reasons = (0..=MAX_REASONS).map(|number| format!("{asked}: reason {number}")).collect();
    let failure = no_provider(&root, &Outcome { failed: BTreeMap::from([(root, reasons)]), ..Outcome::default() }, &names);
    assert_eq!(failure.code, Code::NoProvider);
    let tried = failure.details["tried"].as_array().unwrap();
    assert_eq!((tried.len(), &tried[0]), (MAX_REASONS, &"ada: reason 0".into()));
}

#[tokio::test]
async fn a_daemon_that_is_up_can_be_reached_and_one_that_listens_nowhere_invites_nobody() {
    let one = Machine::new(1);
    let first = one.found().await;
    assert!(!first.invite(Role::Member, 1, 60_000).unwrap().addresses.is_empty());
    first.stop().await.unwrap();
    drop(first);
    let engine = Engine::open(one.store(), SigningKey::from_bytes(&one.seed()), one.place(), &mut one.rng()).unwrap();
    let config =
        DaemonConfig { seed: Zeroizing::new(one.seed()), home: one.home.path(), listen: vec![], mdns: false, inviter: None };
    let deaf = Daemon::start(engine, one.rng(), config).await.unwrap();
    assert_eq!(deaf.invite(Role::Member, 1, 60_000).unwrap_err().code, Code::Usage);
    deaf.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_network_that_never_listens_is_given_up_after_listen_timeout() {
    let (_silent, mut events) = mpsc::channel(1);
    let began = tokio::time::Instant::now();
    assert_eq!(until_listening(&mut events).await.unwrap_err().code, Code::Unreachable);
    assert_eq!(began.elapsed().as_secs(), LISTEN_TIMEOUT.as_secs());
}

#[test]
fn a_new_member_waits_longer_for_the_catalog_than_one_pull_may_take() {
    assert!(JOIN_SYNC_TIMEOUT > Duration::from_millis(PULL_TIMEOUT_MS));
}
