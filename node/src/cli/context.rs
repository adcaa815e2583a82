//! What a command runs in: the home that is meant, its settings, and where to print.

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use keepwell_protocol::units::DurationMs;

use super::Global;
use super::output::{Output, Stop};
use crate::api::socket;
use crate::client::Client;
use crate::failure::{Code, Failure};
use crate::home::config::Config;
use crate::home::{self, Location};
use crate::limits::LOCK_POLL_MS;
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

    /// The socket of that home, on which its daemon listens if it runs.
    pub(super) fn socket(&self, location: &Location) -> Option<PathBuf> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        socket::path_of(&location.path, runtime.as_deref())
    }

    /// The daemon of that home; none if none answers.
    pub(super) fn daemon(&self, location: &Location) -> Result<Option<Client>, Failure> {
        self.socket(location).map_or(Ok(None), |socket| Client::connect(&location.path, &socket))
    }

    /// How long a daemon waits for that home: not at all where another daemon has it, since that one stays.
    pub(super) fn lock_wait_of_daemon(&self, location: &Location) -> Result<DurationMs, Failure> {
        if self.daemon(location)?.is_some() { Ok(DurationMs(0)) } else { self.lock_wait(location) }
    }

    /// That home, whoever has it open: its daemon if one answers, else this process.
    ///
    /// While another process has it, both are tried in turn: it may be a daemon that is about to answer.
    pub(super) fn backend(&mut self) -> Result<Box<dyn Backend>, Stop> {
        let location = self.location()?;
        let config = self.config(&location)?;
        let wait = config.lock_wait.value;
        self.tell_home(&location)?;
        let start = Instant::now();
        loop {
            if let Some(client) = self.daemon(&location)? {
                return Ok(Box::new(client));
            }
            let left = wait.0.saturating_sub(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
            match Local::open(&location.path, DurationMs(left.min(LOCK_POLL_MS))) {
                Err(failure) if failure.code == Code::HomeBusy && left > 0 => {}
                opened => return Ok(Box::new(opened?.with(config.of_command()))),
            }
        }
    }

    /// Opens that home for this process alone.
    pub(super) fn embedded(&mut self) -> Result<Local, Stop> {
        let location = self.location()?;
        let wait = self.lock_wait(&location)?;
        self.tell_home(&location)?;
        if self.daemon(&location)?.is_some() {
            // Not for long: it fails at once with who has the home, unless that one has just stopped.
            return Local::open(&location.path, DurationMs(0))
                .map_err(|failure| failure.hint("stop the daemon first: this needs a home that nobody is at work on").into());
        }
        Ok(Local::open(&location.path, wait)?)
    }

    fn tell_home(&mut self, location: &Location) -> Result<(), Stop> {
        if self.global.verbose {
            self.out.note(&format!("home: {} (from {})", location.path.display(), location.origin))?;
        }
        Ok(())
    }
}

/// The clock of this machine, in Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
