//! The daemon: one process that keeps a home open and serves it to everybody on the machine and in the network.

pub mod driver;
pub mod up;
