//! The simulator: real engines and stores over simulated disks, one clock, one seed.
//!
//! Absent from here: real time, real files, threads, randomness from the operating system. The same seed gives the same run, to the
//! byte; a failing check prints it.

pub mod one_node;
pub mod world;
