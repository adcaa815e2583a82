//! Scenarios: short plays on simulated homes, with checkers that see everything.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails as the test does")]

mod crash;
mod unlink;
