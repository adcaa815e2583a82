//! Fetching the copies that this node is to have: each batch by itself, beside whatever users fetch.

use std::sync::Arc;

use keepwell_protocol::id::BlobId;
use keepwell_store::locks::BlobLocks;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::driver::Driver;
use super::fetch::{Fetch, Progress};
use super::network::NetStreams;
use crate::engine::Input;
use crate::net::Net;
use crate::service::Node;
use crate::service::backend::Extent;

/// Fetches whatever comes by `due`, until nothing more can come. The engine bounds how much is under way.
pub(super) async fn run(driver: Driver, net: Net, busy: BlobLocks, mut due: UnboundedReceiver<Vec<BlobId>>) {
    let mut batches = JoinSet::new();
    while let Some(blobs) = due.recv().await {
        while batches.try_join_next().is_some() {}
        batches.spawn(bring(driver.clone(), net.clone(), busy.clone(), blobs));
    }
    batches.shutdown().await;
}

async fn bring(driver: Driver, net: Net, busy: BlobLocks, blobs: Vec<BlobId>) {
    let streams = NetStreams::new(net, driver.clone());
    let node: Arc<dyn Node + Send + Sync> = Arc::new(driver.clone());
    // Who did not give what is not news here: the engine sees what has come, and tries the rest again.
    if let Err(failure) = Fetch::new(node, &streams, busy, Progress::default()).run(&blobs, Extent::Flat).await {
        eprintln!("warning: copies that refs ask for cannot be stored: {}", failure.message);
    }
    driver.give(Input::Brought { blobs });
}
