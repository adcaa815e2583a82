//! A keepwell node: the engine that decides, and the faces it shows.

pub mod api;
pub mod cli;
pub mod client;
pub mod daemon;
pub mod engine;
pub mod failure;
pub mod files;
pub mod home;
pub mod limits;
pub mod local;
pub mod net;
pub mod service;
pub mod sim;
pub mod transfer;
mod uptime;
