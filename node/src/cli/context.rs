//! What a command runs in: the home that is meant, its settings, and where to print.

use std::time::{SystemTime, UNIX_EPOCH};

use keepwell_protocol::units::DurationMs;

use super::Global;
use super::output::{Output, Stop};
use crate::failure::Failure;
use crate::home::config::Config;
use crate::home::{self, Location};
use crate::local::Local;
use crate::service::backend::Backend;

/// The surroundings of one command.
pub(super) struct Context {
    global: Global,
    /// Where to print.
    pub(super) out: Output,
}

impl Context {
    pub(super) fn new(global: Global) -> Self {
        let out = Output::new(global.json, global.quiet, !global.no_progress);
        Context { global, out }
    }

    /// Whether answers are printed as JSON.
    pub(super) fn is_json(&self) -> bool {
        self.global.json
    }

    /// The home that is meant.
    pub(super) fn location(&self) -> Result<Location, Failure> {
        Ok(home::locate(self.global.home.as_deref(), &|name| std::env::var_os(name))?)
    }

    /// The settings of that home; the defaults if it has none.
    pub(super) fn config(&self, location: &Location) -> Result<Config, Failure> {
        let env = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Ok(Config::load(&home::config_file(&location.path), &env).map_err(home::HomeError::from)?)
    }

    /// How long to wait for that home.
    pub(super) fn lock_wait(&self, location: &Location) -> Result<DurationMs, Failure> {
        Ok(self.config(location)?.lock_wait.value)
    }

    /// That home, whoever has it open.
    pub(super) fn backend(&mut self) -> Result<Box<dyn Backend>, Stop> {
        Ok(Box::new(self.embedded()?))
    }

    /// Opens that home.
    pub(super) fn embedded(&mut self) -> Result<Local, Stop> {
        let location = self.location()?;
        let wait = self.lock_wait(&location)?;
        if self.global.verbose {
            self.out.note(&format!("home: {} (from {})", location.path.display(), location.origin))?;
        }
        Ok(Local::open(&location.path, wait)?)
    }
}

/// The clock of this machine, in Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
