//! Scenarios: short plays on simulated homes, with checkers that see everything.

mod crash;
mod unlink;
