//! What the tests share: a home in a temporary folder, the real `keepwell` binary, and what a run of it said.
//!
//! ```no_run
//! use keepwell_tests::TempHome;
//!
//! let home = TempHome::initialised("ada");
//! home.file("note.txt", b"example text");
//! let put = home.run(["put", "note.txt", "--json"]).ok().json();
//! assert_eq!(put["existed"], false);
//! home.run(["cat", "sha1://0000000000000000000000000000000000000000", "--json"]).exits(8);
//! ```
//!
//! A process that outlives one call is a [`Running`]: it is killed by its own handle when dropped, never by name. Nothing here
//! sleeps: whoever waits, waits for a line or for an end.

mod binary;
mod home;
mod http;
mod outcome;
mod running;
mod small_disk;

pub use binary::{keepwell_binary, repository};
pub use home::TempHome;
pub use http::HttpAnswer;
pub use outcome::Outcome;
pub use running::Running;
pub use small_disk::on_a_small_disk;
