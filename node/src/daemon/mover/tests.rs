//! A file system that does not answer holds up the file that it is asked for, and nothing else.

use std::io;

use ed25519_dalek::SigningKey;
use keepwell_protocol::gc::pressure::Room;
use keepwell_store::fs::sim::{SimDisk, SimFs};
use keepwell_store::fs::{BlobFile, BlobFs, DurableFolders, Entry, HomePath, Metadata};
use keepwell_store::home::DiskPlace;
use keepwell_store::ingest::ingest;
use keepwell_store::layout;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::daemon::driver::{Alone, Driver};
use crate::engine::{Collect, Engine, EngineRng, NewHome, PutBlob, RefOp, RefSet, Stored};
use crate::limits::MOVES_WAIT_MS;
use crate::service::Node;
use crate::service::gc::{self, Wish};

/// Enough to live in a file (bytes).
const LARGE: usize = 40_000;

/// The files whose moves hang, and a way to let them go.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<BTreeSet<HomePath>>, Condvar)>);

impl Gate {
    fn shut_for(&self, blob: &BlobId) {
        self.0.0.lock().unwrap().insert(layout::blob_file(blob));
    }

    fn open(&self) {
        self.0.0.lock().unwrap().clear();
        self.0.1.notify_all();
    }

    fn pass(&self, path: &HomePath) {
        let shut = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(shut, |shut| shut.contains(path)).unwrap());
    }
}

/// A file system on which some moves hang.
struct Hanging(SimFs, Gate);

impl BlobFs for Hanging {
    fn rename(&self, from: &HomePath, to: &HomePath) -> io::Result<()> {
        self.1.pass(from);
        self.0.rename(from, to)
    }
    fn create_new(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>> {
        self.0.create_new(path)
    }
    fn open(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>> {
        self.0.open(path)
    }
    fn open_to_write(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>> {
        self.0.open_to_write(path)
    }
    fn unlink(&self, path: &HomePath) -> io::Result<()> {
        self.0.unlink(path)
    }
    fn sync_folder(&self, path: &HomePath) -> io::Result<()> {
        self.0.sync_folder(path)
    }
    fn create_folder(&self, path: &HomePath) -> io::Result<()> {
        self.0.create_folder(path)
    }
    fn metadata(&self, path: &HomePath) -> io::Result<Metadata> {
        self.0.metadata(path)
    }
    fn list(&self, path: &HomePath) -> io::Result<Vec<Entry>> {
        self.0.list(path)
    }
    fn room(&self) -> io::Result<Room> {
        self.0.room()
    }
    fn durable_folders(&self) -> &DurableFolders {
        self.0.durable_folders()
    }
}

fn driver(gate: &Gate) -> Driver {
    let disk = SimDisk::new(1);
    let store = Arc::new(Store::open(disk.backend("index.redb"), Arc::new(Hanging(disk.fs(), gate.clone()))).unwrap());
    let mut rng = EngineRng::seed_from_u64(1);
    let place = DiskPlace { device: 1, inode: 1 };
    let new = NewHome { network: "lab".parse().unwrap(), node: "ada".parse().unwrap(), place };
    let engine = Engine::init(store, SigningKey::from_bytes(&[1; 32]), &new, &mut rng).unwrap();
    Driver::start(engine, rng, Alone).unwrap()
}

fn put(driver: &Driver, tag: u8) -> BlobId {
    let store = driver.store();
    let ingested = ingest(store.fs(), driver.new_ingest(), &mut &vec![tag; LARGE][..], &mut |_| {}).unwrap();
    let placed = store.place(vec![ingested]).unwrap().placed.pop().unwrap();
    let id = placed.fact().sha1;
    driver.put(vec![PutBlob { blob: Stored::New(placed), children: vec![] }], None).unwrap();
    id
}

fn purge(driver: &Driver) {
    driver.collect(Collect { grace_ms: Some(0), limit: 1_000 }).unwrap();
}

fn queued(driver: &Driver) -> Vec<BlobId> {
    driver.store().snapshot().unwrap().queued_unlinks().unwrap().into_iter().map(|(id, _)| id).collect()
}

fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

#[test]
fn files_that_hang_hold_up_no_step_and_no_other_file_also_when_all_movers_but_one_hang() {
    let gate = Gate::default();
    let driver = driver(&gate);
    let mut hanging: Vec<BlobId> = (1..u8::try_from(MOVERS).unwrap()).map(|tag| put(&driver, tag)).collect();
    hanging.iter().for_each(|id| gate.shut_for(id));
    let others: Vec<BlobId> = (100..110).map(|tag| put(&driver, tag)).collect();
    purge(&driver);
    hanging.sort_unstable();
    until(|| queued(&driver) == hanging);
    // The others went meanwhile; each can be put again at once.
    assert_eq!(put(&driver, 100), others[0]);
    purge(&driver);
    until(|| queued(&driver) == hanging);
    gate.open();
    until(|| queued(&driver).is_empty());
    driver.stop().unwrap();
}

#[test]
fn when_as_many_hang_as_there_are_movers_the_engine_goes_on() {
    let gate = Gate::default();
    let driver = driver(&gate);
    for tag in 0..=u8::try_from(MOVERS).unwrap() {
        gate.shut_for(&put(&driver, tag));
    }
    let began = Instant::now();
    let report = gc::collect(&driver, Wish { run: true, grace_ms: Some(0), to_free_bytes: None }).unwrap();
    assert!(began.elapsed().as_millis() >= u128::from(MOVES_WAIT_MS), "it waits for a while for what may be moved yet");
    assert_eq!((report.blobs.len(), report.summary.unlinks_failed), (MOVERS + 1, 0));
    let set = RefSet::new("lab/x".parse().unwrap(), "{}", vec![]);
    driver.write_refs(vec![RefOp::Set(set)]).unwrap();
    assert_eq!(driver.hung(), Vec::<String>::new(), "not for so long yet that people must know");
    gate.open();
    until(|| queued(&driver).is_empty());
    driver.stop().unwrap();
}

#[test]
fn a_call_hangs_from_hung_after_on() {
    assert!(is_hung(HUNG_AFTER) && !is_hung(HUNG_AFTER - Duration::from_millis(1)));
}

#[test]
fn what_has_failed_is_tried_after_unlink_retry_ms_and_twice_as_long_each_time_up_to_unlink_retry_max_ms() {
    assert!(is_due(0, None, 0) && is_due(9, None, 0), "what was not tried since the start is due");
    for (attempts, wait_ms) in [(1, UNLINK_RETRY_MS), (2, 2 * UNLINK_RETRY_MS), (3, 4 * UNLINK_RETRY_MS)] {
        assert!(is_due(attempts, Some(5), 5 + wait_ms) && !is_due(attempts, Some(5), 4 + wait_ms), "{attempts}");
    }
    for attempts in [40, 65, u32::MAX] {
        assert!(is_due(attempts, Some(5), 5 + UNLINK_RETRY_MAX_MS), "{attempts}");
        assert!(!is_due(attempts, Some(5), 4 + UNLINK_RETRY_MAX_MS), "{attempts}");
    }
}

#[test]
fn a_tick_looks_at_unlink_looks_per_tick_of_what_is_queued_and_goes_on_with_the_next() {
    let gate = Gate::default();
    let driver = driver(&gate);
    let blobs: Vec<BlobId> = (0..=u8::try_from(UNLINK_LOOKS_PER_TICK).unwrap()).map(|tag| put(&driver, tag)).collect();
    blobs.iter().for_each(|id| gate.shut_for(id));
    purge(&driver);
    // Another mover of the same disk, whose threads never came.
    let shared = Shared {
        store: Arc::clone(driver.store()),
        work: Mutex::default(),
        due: Condvar::new(),
        done: Condvar::new(),
        report: Box::new(|_| ()),
    };
    let idle = Mover { shared: Arc::new(shared), movers: Vec::new(), noter: None };
    let due = || idle.shared.work().due.len();
    idle.tick(0).unwrap();
    assert_eq!(due(), UNLINK_LOOKS_PER_TICK);
    idle.tick(0).unwrap();
    assert_eq!(due(), UNLINK_LOOKS_PER_TICK + 1);
    idle.tick(0).unwrap();
    assert_eq!(due(), UNLINK_LOOKS_PER_TICK + 1, "what is due already is not due twice");
    drop(idle);
    gate.open();
    until(|| queued(&driver).is_empty());
    driver.stop().unwrap();
}
