//! Many askers, one engine.

use keepwell_protocol::name::RefName;
use keepwell_store::fs::sim::SimDisk;
use keepwell_store::home::DiskPlace;

use super::*;
use crate::engine::{NewHome, RefSet};
use crate::service::refs;

fn engine(disk: &SimDisk) -> (Engine, EngineRng) {
    let store = Arc::new(Store::open(disk.backend("index.redb"), Arc::new(disk.fs())).unwrap());
    let mut rng = EngineRng::seed_from_u64(1);
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let new = NewHome { network: "lab".parse().unwrap(), node: "ada".parse().unwrap(), place: DiskPlace { device: 1, inode: 1 } };
    (Engine::init(store, key, &new, &mut rng).unwrap(), rng)
}

fn a_set(name: &str) -> RefOp {
    RefOp::Set(RefSet {
        name: RefName::parse(name).unwrap(),
        obj: "{}".into(),
        meta: "{}".into(),
        links: vec![],
        expires_ms: None,
        ttl_access_ms: None,
        copies: 1,
        lot: None,
        if_rev: None,
        allow_missing: false,
    })
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
    disk.set_capacity(Some(0));
    let write = |number: u32| driver.write_refs(vec![a_set(&format!("lab/{number}"))]);
    let refused = (0..10_000).find(|number| write(*number).is_err()).unwrap();
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
