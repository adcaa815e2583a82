//! The gate, asked through a socket.

use super::testing::Served;
use super::*;
use crate::service::backend::Backend;

#[test]
fn more_than_max_requests_at_once_are_told_to_come_again() {
    let served = Served::start();
    let take = |count: usize| Arc::clone(&served.api.gate).try_acquire_many_owned(u32::try_from(count).unwrap()).unwrap();
    let all_but_one = take(MAX_REQUESTS - 1);
    assert!(served.client.status(None).unwrap().daemon);
    let last = take(1);
    assert_eq!(served.client.status(None).unwrap_err().code, Code::Rate);
    drop((all_but_one, last));
    assert!(served.client.status(None).is_ok());
}

#[test]
fn a_request_counts_until_it_is_answered_and_no_longer() {
    let served = Served::start();
    for _ in 0..MAX_REQUESTS + 1 {
        served.client.status(None).unwrap();
    }
}
