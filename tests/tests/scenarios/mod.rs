//! Plays on simulated nodes.

mod world;
