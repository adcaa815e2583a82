//! What to look at when something does not work: a line for each check, with what to do about what it found.
//!
//! Nothing is mended here, and no check stops the others. A home that no daemon has open is opened, which waits for nobody and, like
//! every command, clears away what broken-off puts have left.

mod node;
mod place;

use std::path::Path;

use keepwell_protocol::log::entry::node_id;
use keepwell_protocol::units::DurationMs;
use keepwell_store::error::StoreError;

pub use node::{Inside, Outside, checks};

use super::network::names;
use super::pressure;
use super::types::{CheckLine, CheckState};
use crate::engine::{OpenError, Settings};
use crate::failure::{Code, Failure};
use crate::home::config::Config;
use crate::home::lock::holder_of;
use crate::home::{self, Location, OpenHome};

/// Checks the home at `location`, with whatever its settings are.
///
/// `ask` gives what the home's daemon found in itself; none if nobody answers. `now_ms` is this machine's clock.
pub fn examine(
    location: &Location,
    config: Result<Config, Failure>,
    now_ms: u64,
    ask: impl FnOnce() -> Result<Option<Vec<CheckLine>>, Failure>,
) -> Vec<CheckLine> {
    let settings = config.as_ref().map_or_else(|_| Settings::default(), Config::of_command);
    let mut lines = place::checks(location, config);
    if lines.first().is_some_and(|home| home.state == CheckState::Problem) {
        return lines;
    }
    let path = &location.path;
    let holder = match holder_of(path).map_err(home::HomeError::from) {
        Ok(holder) => holder,
        Err(error) => {
            lines.push(problem("daemon", &error.into()));
            return lines;
        }
    };
    match (ask(), holder) {
        (Ok(Some(of_daemon)), holder) => {
            lines.push(running(holder));
            lines.push(ok("socket", "it answers on the socket of the home"));
            lines.extend(of_daemon);
        }
        (Err(failure), _) => lines.push(problem("socket", &failure)),
        (Ok(None), Some(holder)) => lines.push(problem("socket", &silent(&holder))),
        (Ok(None), None) => lines.extend(without_daemon(path, &settings, now_ms)),
    }
    lines
}

fn running(holder: Option<String>) -> CheckLine {
    match holder {
        Some(holder) => ok("daemon", format!("running: {holder}")),
        None => warn("daemon", "one answers, but its lock is free: the file `lock` in the home was replaced or removed")
            .hint("stop the daemon and start it again before another process takes the home"),
    }
}

fn silent(holder: &str) -> Failure {
    Failure::new(Code::HomeBusy, format!("the home is in use by {holder}, and no daemon answers"))
        .hint("wait for that process; if it is a daemon that has not just started, look at what it printed last, and stop it")
}

/// What can be seen of a home that nobody has open.
fn without_daemon(path: &Path, settings: &Settings, now_ms: u64) -> Vec<CheckLine> {
    let looked = open(path).and_then(|home| {
        let others = names(&*home.store.snapshot()?)?.keys().filter(|node| **node != node_id(&home.key)).count();
        let inside = Inside { store: &home.store, home: path, max_size_bytes: settings.max_size_bytes, now_ms };
        let mut lines = checks(&inside, None);
        lines.push(pressure::check(&pressure::measured(&home.store, settings)?));
        Ok((others, lines))
    });
    match looked {
        Ok((others, lines)) => std::iter::once(not_running(others)).chain(lines).collect(),
        Err(failure) => vec![problem("index", &failure)],
    }
}

fn open(path: &Path) -> Result<OpenHome, Failure> {
    let home = home::open(path, DurationMs(0))?;
    let expected =
        home.store.snapshot()?.home()?.ok_or_else(|| StoreError::Inconsistent("the home does not say what it is".into()))?;
    match node_id(&home.key) {
        found if found != expected.node => Err(OpenError::WrongKey { found, expected: expected.node }.into()),
        _ => Ok(home),
    }
}

fn not_running(others: usize) -> CheckLine {
    match others {
        0 => ok("daemon", "not running; there is no other node in the network yet"),
        _ => warn("daemon", "not running: other nodes do not reach this one, and it hears nothing from them")
            .hint("start it with `keepwell up`"),
    }
}

pub(super) fn ok(check: &str, message: impl Into<String>) -> CheckLine {
    CheckLine { check: check.to_owned(), state: CheckState::Ok, message: message.into(), hint: String::new(), code: None }
}

pub(super) fn warn(check: &str, message: impl Into<String>) -> CheckLine {
    CheckLine { state: CheckState::Warn, ..ok(check, message) }
}

fn problem(check: &str, failure: &Failure) -> CheckLine {
    let Failure { code, message, hint, .. } = failure;
    CheckLine { state: CheckState::Problem, hint: hint.clone(), code: Some(code.word().to_owned()), ..ok(check, message) }
}

#[cfg(test)]
mod tests;
