//! What a home is survives its machine.

use super::*;
use crate::testing::{TestHome, golden};

fn some_home() -> Home {
    let place = DiskPlace { device: 7, inode: 300 };
    let boot = HomeBoot { id: BootId([4; 16]), nonce: [5; 16], place };
    Home { network: NetworkId([1; 32]), node: NodeId([2; 32]), storage: StorageId([3; 16]), boot: Some(boot) }
}

#[test]
fn a_home_is_none_until_it_is_made_and_the_same_after_a_restart() {
    let home = TestHome::new();
    assert_eq!(home.snapshot().home().unwrap(), None);
    let unbooted = Home { boot: None, ..some_home() };
    for made in [unbooted, some_home()] {
        home.write(|txn| txn.put_home(&made));
        assert_eq!(home.snapshot().home().unwrap(), Some(made));
    }
    assert_eq!(home.reopened().snapshot().home().unwrap(), Some(some_home()));
}

#[test]
fn an_unreadable_home_is_an_error_that_names_its_table() {
    let home = TestHome::new();
    home.write(|txn| txn.meta.insert(HOME, &b"\x09"[..]).map(drop).map_err(StoreError::from));
    assert!(matches!(home.snapshot().home(), Err(StoreError::Unreadable { table: "meta", .. })));
}

#[test]
fn the_bytes_of_a_home_never_change() {
    // Golden bytes: a change of them breaks homes in the field.
    assert_eq!(
        golden(&some_home()),
        "01010101010101010101010101010101010101010101010101010101010101010102020202020202020202020202020202020202020202020202020202020202020303030303030303030303030303030301040404040404040404040404040404040505050505050505050505050505050507fb2c01"
    );
}
