//! Values lapse in the order of time, each once, and are forgotten when they are gone.

use super::*;
use crate::testing::TestHome;

fn value(boot: u8, seq: u64) -> ValueId {
    ValueId { boot: BootId([boot; 16]), seq: Seq(seq), index: 7 }
}

fn expiry(expires_ms: u64, name: &str, value: ValueId) -> Expiry {
    Expiry { expires_ms, name: name.into(), value }
}

/// A home where three values lapse, two of them at once.
fn home() -> TestHome {
    let home = TestHome::new();
    home.write(|txn| {
        txn.put_expiry("lab/b", &value(1, 2), 2_000)?;
        txn.put_expiry("lab/a", &value(0xff, u64::MAX), 2_000)?;
        txn.put_expiry("lab/z", &value(1, 1), 1_000)
    });
    home
}

#[test]
fn values_are_told_from_the_moment_on_that_they_lapse_the_earliest_first() {
    let home = home();
    let expired = |now_ms, limit| home.snapshot().expired_values(now_ms, limit).unwrap();
    let all =
        [expiry(1_000, "lab/z", value(1, 1)), expiry(2_000, "lab/a", value(0xff, u64::MAX)), expiry(2_000, "lab/b", value(1, 2))];
    assert_eq!(expired(999, 9), []);
    assert_eq!(expired(1_000, 9), all[..1]);
    assert_eq!(expired(1_999, 9), all[..1]);
    assert_eq!(expired(2_000, 9), all);
    assert_eq!(expired(u64::MAX, 2), all[..2]);
    assert_eq!(expired(u64::MAX, 0), []);
}

#[test]
fn a_value_that_is_gone_no_longer_lapses() {
    let home = home();
    assert_eq!(home.snapshot().next_expiry_ms().unwrap(), Some(1_000));
    home.write(|txn| {
        txn.remove_expiry("lab/z", &value(1, 1), 1_000)?;
        txn.remove_expiry("lab/a", &value(0xff, u64::MAX), 2_000)
    });
    assert_eq!(home.snapshot().next_expiry_ms().unwrap(), Some(2_000));
    assert_eq!(home.snapshot().expired_values(9_000, 9).unwrap(), [expiry(2_000, "lab/b", value(1, 2))]);
    home.write(|txn| txn.remove_expiry("lab/b", &value(1, 2), 2_000));
    assert_eq!(home.snapshot().next_expiry_ms().unwrap(), None);
}
