//! Many askers, one engine.

use keepwell_protocol::name::RefName;
use keepwell_store::fs::sim::SimDisk;
use keepwell_store::home::DiskPlace;
use keepwell_store::ingest::ingest;

use super::*;
use crate::engine::{Collect, NewHome, PutBlob, RefOp, RefOutcome, RefSet, Stored};
use crate::service::Node;
use crate::service::refs;

fn engine(disk: &SimDisk) -> (Engine, EngineRng) {
    let store = Arc::new(Store::open(disk.backend("index.redb"), Arc::new(disk.fs())).unwrap());
    let mut rng = EngineRng::seed_from_u64(1);
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let new = NewHome { network: "lab".parse().unwrap(), node: "ada".parse().unwrap(), place: DiskPlace { device: 1, inode: 1 } };
    (Engine::init(store, key, &new, &mut rng).unwrap(), rng)
}

fn a_set(name: &str) -> RefOp {
    RefOp::Set(RefSet::new(RefName::parse(name).unwrap(), "{}", vec![]))
}

#[test]
fn everybody_gets_their_own_answer() {
    let (engine, rng) = engine(&SimDisk::new(1));
    let driver = Driver::start(engine, rng, Alone).unwrap();
    std::thread::scope(|scope| {
        for asker in 0..8 {
            let driver = driver.clone();
            scope.spawn(move || {
                for number in 0..20 {
                    let name = format!("lab/{asker}-{number}");
                    let outcomes = driver.write_refs(vec![a_set(&name)]).unwrap();
                    assert_eq!(outcomes[0].name.as_str(), name);
                }
            });
        }
    });
    assert!(refs::get(&driver, &RefName::parse("lab/7-19").unwrap()).is_ok());
    driver.stop().unwrap();
}

#[test]
fn more_askers_than_max_step_inputs_are_all_answered() {
    let (engine, rng) = engine(&SimDisk::new(1));
    let driver = Driver::start(engine, rng, Alone).unwrap();
    for _ in 0..=MAX_STEP_INPUTS {
        driver.give(Input::Tick);
    }
    assert_eq!(driver.write_refs(vec![a_set("lab/after")]).unwrap().len(), 1);
    driver.stop().unwrap();
}

#[test]
fn a_full_disk_refuses_what_is_asked_and_the_driver_goes_on_when_there_is_room() {
    let disk = SimDisk::new(1);
    let (engine, rng) = engine(&disk);
    let driver = Driver::start(engine, rng, Alone).unwrap();
    let peer = NodeId([7; 32]);
    driver.give(Input::Connected { peer });
    let write = |number: u32| driver.write_refs(vec![a_set(&format!("lab/{number}"))]);
    write(0).unwrap();
    disk.set_capacity(Some(0));
    let refused = (1..10_000).find(|number| write(*number).is_err()).unwrap();
    for _ in 0..3 {
        assert_eq!(write(refused).unwrap_err().code, Code::NoSpace);
        assert!(refs::get(&driver, &RefName::parse("lab/0").unwrap()).is_ok(), "it can be read");
    }
    disk.set_capacity(None);
    write(refused).unwrap();
    assert_eq!(driver.peers().connected, [peer], "who was connected still is");
    for number in 0..=refused {
        assert!(refs::get(&driver, &RefName::parse(&format!("lab/{number}")).unwrap()).is_ok());
    }
    driver.stop().unwrap();
}

#[test]
fn a_disk_that_fails_ends_the_driver_and_everybody_is_told() {
    let disk = SimDisk::new(1);
    let (engine, rng) = engine(&disk);
    let driver = Driver::start(engine, rng, Alone).unwrap();
    disk.crash();
    let told = driver.write_refs(vec![a_set("lab/lost")]).unwrap_err();
    assert_eq!(told.code, Code::Unreachable);
    // Whoever watches the steps sees that there will be no more: so `up` ends.
    while driver.steps().has_changed().is_ok() {
        std::thread::yield_now();
    }
    assert!(driver.stop().is_err());
    assert_eq!(driver.write_refs(vec![a_set("lab/late")]).unwrap_err().code, Code::Unreachable);
}

/// A driver that has purged a blob which lived in a file; its name.
fn purged(disk: &SimDisk, in_hand: bool) -> (Driver, BlobId) {
    let (engine, rng) = engine(disk);
    let driver = Driver::start(engine, rng, Alone).unwrap();
    let store = Arc::clone(driver.store());
    let ingested = ingest(store.fs(), driver.new_ingest(), &mut &[7; 100_000][..], &mut |_| {}).unwrap();
    let placed = store.place(vec![ingested]).unwrap().placed.pop().unwrap();
    let id = placed.fact().sha1;
    driver.put(vec![PutBlob { blob: Stored::New(placed), children: vec![] }], None).unwrap();
    // As of somebody who puts it once more, and waits for the engine.
    let guard = in_hand.then(|| store.locks().lock(id));
    let collected = driver.collect(Collect { grace_ms: Some(0), limit: 9 }).unwrap();
    assert_eq!(collected.purged.len(), 1);
    drop(guard);
    (driver, id)
}

fn name_again(driver: &Driver, id: BlobId) -> Result<Vec<RefOutcome>, Failure> {
    let RefOp::Set(set) = a_set("lab/again") else { panic!("it is a set") };
    driver.write_refs(vec![RefOp::Set(RefSet { links: vec![id], allow_missing: true, ..set })])
}

/// Waits for something that a later step brings about.
fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

#[test]
fn the_engine_does_not_wait_for_whoever_waits_for_it_and_bytes_that_were_in_hand_are_moved_later() {
    let (driver, _) = purged(&SimDisk::new(1), true);
    until(|| driver.store().snapshot().unwrap().queued_unlinks().unwrap().is_empty());
    driver.stop().unwrap();
}

#[test]
fn what_is_named_again_is_brought_back_without_being_asked_for() {
    let (driver, id) = purged(&SimDisk::new(1), false);
    name_again(&driver, id).unwrap();
    until(|| driver.store().snapshot().unwrap().blob(&id).unwrap().is_some());
    driver.stop().unwrap();
}

#[test]
fn what_cannot_be_brought_back_stays_in_the_trash_and_does_not_end_the_driver() {
    for call in 1.. {
        let disk = SimDisk::new(1);
        let (driver, id) = purged(&disk, false);
        until(|| driver.store().snapshot().unwrap().queued_unlinks().unwrap().is_empty());
        disk.fail_at(disk.calls() + call);
        if name_again(&driver, id).is_err() {
            // That call was one of the commit: the driver has ended, as it must.
            continue;
        }
        // The first call after the commit is of the way back.
        until(|| disk.faults() > 0);
        driver.write_refs(vec![a_set("lab/more")]).unwrap();
        let snapshot = driver.store().snapshot().unwrap();
        assert!(snapshot.was_purged(&id).unwrap() && snapshot.blob(&id).unwrap().is_none());
        return driver.stop().unwrap();
    }
}

#[test]
fn a_collection_whose_asker_was_told_that_the_disk_is_full_is_not_made() {
    let collect = |request| Input::Collect { request: RequestId(request), how: Collect { grace_ms: None, limit: 1 } };
    let left = still_asked(vec![collect(1), Input::Tick, collect(2)], |request| *request == RequestId(2));
    assert!(matches!(left[..], [Input::Tick, Input::Collect { request: RequestId(2), .. }]), "{left:?}");
}

/// A world in which the engine's thread panics at its second step, as the database does over some pages that are not what was written.
struct Panics(bool);

impl World for Panics {
    fn publish(&mut self, _entry: Vec<u8>) {}
    fn send(&mut self, _to: NodeId, _message: Vec<u8>) {}
    fn refuse(&mut self, _peer: NodeId, _reason: &str) {}
    fn tell(&mut self, _event: &Event) {}
    fn bring(&mut self, _blobs: Vec<BlobId>) {}
    fn stepped(&mut self, _store: &Store) -> Result<(), StoreError> {
        assert!(!std::mem::replace(&mut self.0, true), "a page that cannot be read");
        Ok(())
    }
}

#[test]
fn an_engine_that_panics_ends_the_driver_and_nobody_waits_for_ever() {
    let (engine, rng) = engine(&SimDisk::new(1));
    let driver = Driver::start(engine, rng, Panics(false)).unwrap();
    driver.write_refs(vec![a_set("lab/first")]).unwrap();
    assert_eq!(driver.write_refs(vec![a_set("lab/second")]).unwrap_err().code, Code::Unreachable);
    // Whoever watches the steps sees that there will be no more: so `up` ends.
    while driver.steps().has_changed().is_ok() {
        std::thread::yield_now();
    }
    let ended = driver.stop().unwrap_err();
    assert!(ended.message.contains("panicked") && ended.hint.contains("fsck --verify"), "{ended:?}");
    assert_eq!(driver.write_refs(vec![a_set("lab/late")]).unwrap_err().code, Code::Unreachable);
}
