//! Every test area of keepwell-tests, in one binary: a new area is a file here and a `mod` line below.

mod e2e;
mod helpers;
mod scenarios;
mod tidy;
