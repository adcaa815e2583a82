//! Plays on simulated nodes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails as the test does")]

mod absence;
mod copies;
mod crash;
mod distrust;
mod drops;
mod elsewhere;
mod epochs;
mod expiry;
mod forger;
mod forks;
mod hostile;
mod lab;
mod last_copy;
mod linked;
mod links;
mod pressure;
mod removal;
mod removal_forged;
mod removal_orders;
mod world;
