//! What keepwell decides, and nothing else.
//!
//! Absent from this crate: IO, files, sockets, clocks, threads, randomness from the operating system, and every collection whose
//! order could differ between two runs. Time and randomness are arguments; what the world must do is returned as data. `clippy.toml`
//! beside this crate and the `tidy` test keep it so.

pub mod catalog;
pub mod clock;
pub mod directory;
pub mod gc;
pub mod id;
pub mod json;
pub mod limits;
pub mod log;
pub mod name;
pub mod place;
pub mod ticket;
pub mod transfer;
pub mod units;
pub mod uri;
pub mod wire;
