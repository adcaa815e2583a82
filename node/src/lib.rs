//! A keepwell node: the engine that decides, and the faces it shows.

pub mod engine;
pub mod sim;
