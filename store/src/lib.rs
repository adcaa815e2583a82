//! DISK: the blobs, records, log and views of one home, as a synchronous library.
//!
//! Absent from this crate: decisions (what to keep, fetch or delete is said by the engine), background threads (a call may use
//! a second thread to hash, and joins it before it returns), the network, the clock and randomness: ids and times are arguments.
//! The simulated disk in `fs::sim` has a seed of its own, given by the test.

pub mod audit;
pub mod blobs;
pub mod catalog;
pub mod collected;
pub mod counts;
pub mod cycles;
pub mod error;
pub mod expiry;
pub mod facts_due;
pub mod fs;
pub mod fsck;
pub mod hash;
pub mod holdings;
pub mod home;
pub mod index;
pub mod ingest;
mod latest;
pub mod layout;
pub mod leases;
pub mod limits;
pub mod locks;
pub mod log;
pub mod mark;
pub mod naming;
pub mod partial;
pub mod place;
pub mod reach;
pub mod removals;
pub mod roots;
mod row;
pub mod scrub;
pub mod silence;
pub mod store;
pub mod tables;
#[cfg(test)]
mod testing;
pub mod trash;
pub mod unlink;
pub mod unneeded;
pub mod uploads;
pub mod verify;
