//! What can be seen of a home from outside, whoever has it open: its folder, its key, its disk, its settings.

use std::fs;
use std::io;
use std::path::Path;

use keepwell_store::fs::refuse_network_filesystem;

use super::{ok, problem};
use crate::failure::{Code, Failure};
use crate::home::config::Config;
use crate::home::identity::{self, IdentityError};
use crate::home::{HomeError, Location, index_file, key_file};
use crate::service::types::CheckLine;

/// The home first. If that is none, there is nothing else to look at.
pub(super) fn checks(location: &Location, config: Result<Config, Failure>) -> Vec<CheckLine> {
    let path = &location.path;
    match home(path) {
        Ok(()) => {
            let home = ok("home", format!("{} (from {})", path.display(), location.origin));
            vec![home, key(path), filesystem(path), settings(config)]
        }
        Err(failure) => vec![problem("home", &failure)],
    }
}

/// Whether there is a home that this user can read.
fn home(path: &Path) -> Result<(), Failure> {
    let unreadable = |error: io::Error| Failure::file("cannot read", path, &error);
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(absent(path)),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(HomeError::Foreign { path: path.to_owned(), name: "it is not a directory".into() }.into());
        }
        other => other.map_err(unreadable)?,
    };
    match fs::File::open(index_file(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::metadata(key_file(path)).is_ok() => {
            Err(HomeError::NotMade(path.to_owned()).into())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(absent(path)),
        other => other.map(drop).map_err(unreadable),
    }
}

fn absent(path: &Path) -> Failure {
    let failure = Failure::from(HomeError::Absent(path.to_owned()));
    failure.hint("make one with `keepwell init`, or with `keepwell join TICKET` in a network; or name another with --home")
}

/// Without its key a node cannot sign; one that others can read is no secret.
fn key(path: &Path) -> CheckLine {
    match identity::load(&key_file(path)) {
        Ok(Some(_)) => ok("key", "identity.key is there, and its user's alone"),
        Ok(None) => {
            let gone = Failure::new(Code::Integrity, "identity.key is gone: without it this node cannot write");
            problem("key", &gone.hint("put it back from a backup; if there is none, make a new home and join again"))
        }
        Err(error @ (IdentityError::File { .. } | IdentityError::Exposed { .. } | IdentityError::NotAKey { .. })) => {
            problem("key", &HomeError::Identity(error).into())
        }
    }
}

fn filesystem(path: &Path) -> CheckLine {
    match refuse_network_filesystem(path) {
        Ok(()) => ok("filesystem", "the home lies on a disk of this machine"),
        Err(error) => problem("filesystem", &HomeError::from(error).into()),
    }
}

fn settings(config: Result<Config, Failure>) -> CheckLine {
    match config {
        Ok(_) => ok("config", "config.toml and the environment are in order"),
        Err(failure) => problem("config", &failure),
    }
}
