//! Plays on simulated nodes.

mod epochs;
mod forks;
mod hostile;
mod lab;
mod world;
