//! Counts follow what is counted and never fall below nothing.

use super::*;
use crate::testing::TestHome;

const ALL: [Count; 6] =
    [Count::Blobs, Count::BlobBytes, Count::Refs, Count::UnknownProtecting, Count::Replicated, Count::TrashBytes];

#[test]
fn each_count_is_its_own() {
    let home = TestHome::new();
    for (count, n) in ALL.into_iter().zip(1..) {
        assert_eq!(home.snapshot().count(count).unwrap(), 0);
        home.write(|txn| txn.add_to_count(count, 10 * n));
        home.write(|txn| txn.add_to_count(count, -n));
    }
    assert_eq!(ALL.map(|count| home.snapshot().count(count).unwrap()), [9, 18, 27, 36, 45, 54]);
}

#[test]
fn a_count_that_would_fall_below_zero_is_an_error_and_changes_nothing() {
    let home = TestHome::new();
    home.write(|txn| txn.add_to_count(Count::Refs, 2));
    let error = home.store.write(|txn| txn.add_to_count(Count::Refs, -3)).unwrap_err();
    assert!(matches!(&error, StoreError::Inconsistent(why) if why.contains("refs")), "{error}");
    assert_eq!(home.snapshot().count(Count::Refs).unwrap(), 2);
    home.write(|txn| txn.add_to_count(Count::Refs, -2));
    assert_eq!(home.snapshot().count(Count::Refs).unwrap(), 0);
}
