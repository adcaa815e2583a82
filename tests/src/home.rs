//! A home in a temporary folder, with room beside it for the files that a test puts and gets.

use std::ffi::OsStr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{HttpAnswer, Outcome, Running, keepwell_binary};

/// One keepwell home and a scratch folder beside it, both removed at the end of the test.
///
/// Commands run in the scratch folder and see no configuration but this home's, so a test may name its files by their bare names.
#[derive(Debug)]
pub struct TempHome {
    root: tempfile::TempDir,
}

impl TempHome {
    /// A place for a home, not initialised.
    ///
    /// # Panics
    /// When the machine has no room for temporary files; so do the methods below.
    #[expect(clippy::new_without_default, reason = "a default that touches the disk would surprise")]
    pub fn new() -> Self {
        TempHome::within(&std::env::temp_dir())
    }

    /// The same below a folder, for example on a disk of its own.
    pub fn within(folder: &Path) -> Self {
        let root = tempfile::Builder::new().prefix("keepwell-").tempdir_in(folder).expect("a temporary folder");
        let home = TempHome { root };
        std::fs::create_dir(home.scratch()).expect("a folder in our own temporary folder");
        home
    }

    /// A home after `keepwell init --name NAME`.
    pub fn initialised(name: &str) -> Self {
        let home = TempHome::new();
        home.run(["init", "--name", name]).ok();
        home
    }

    /// The home itself; it does not exist before `init` or `join`.
    pub fn path(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// The folder in which commands run.
    pub fn scratch(&self) -> PathBuf {
        self.root.path().join("scratch")
    }

    /// Writes a file (and its folders) into the scratch folder and returns its path.
    pub fn file(&self, name: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.scratch().join(name);
        let folder = path.parent().expect("a file in the scratch folder has a folder");
        std::fs::create_dir_all(folder).expect("folders in our own temporary folder");
        std::fs::write(&path, bytes).expect("a file in our own temporary folder");
        path
    }

    /// Adds these lines to the end of its settings.
    pub fn set(&self, lines: &str) {
        let path = self.path().join("config.toml");
        let text = std::fs::read_to_string(&path).expect("settings of our own home");
        std::fs::write(path, text + lines).expect("a file in our own temporary folder");
    }

    /// `keepwell`, to be given arguments, on this home and on nothing of the user's.
    pub fn command(&self) -> Command {
        let mut command = Command::new(keepwell_binary());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"KEEPWELL_")) {
            command.env_remove(name);
        }
        // How full the disk of the machine is shall not matter, but in plays that say from when on it does.
        let config = std::fs::read_to_string(self.path().join("config.toml")).unwrap_or_default();
        if !config.contains("\n[disk]\n") {
            command.env("KEEPWELL_DISK_HIGH", "100%").env("KEEPWELL_DISK_RESERVE", "0");
        }
        command
            .current_dir(self.scratch())
            .env("KEEPWELL_HOME", self.path())
            // Plays run at once on one machine: nobody may insist on a port, or be reached from outside.
            .env("KEEPWELL_LISTEN", "/ip4/127.0.0.1/tcp/0")
            .env("HOME", self.root.path())
            .env_remove("XDG_DATA_HOME")
            .env("XDG_RUNTIME_DIR", self.root.path());
        command
    }

    /// Runs `keepwell ARGS…` to its end with nothing on its standard input.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Outcome {
        Outcome::of(self.command().args(args), b"")
    }

    /// Runs `keepwell ARGS…` to its end with these bytes on its standard input.
    pub fn run_with_input<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>, input: &[u8]) -> Outcome {
        Outcome::of(self.command().args(args), input)
    }

    /// Starts the daemon of this home and waits until it can be talked to.
    #[track_caller]
    pub fn up(&self) -> Running {
        let mut daemon = self.start(["up", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
        assert_eq!(daemon.next_json()["event"], "ready");
        daemon
    }

    /// A connection to the daemon of this home.
    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path().join("api.sock")).expect("a daemon answers")
    }

    /// Asks the daemon of this home by hand: `METHOD /path`, headers, body.
    pub fn http(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> HttpAnswer {
        HttpAnswer::to(&mut self.connect(), line, headers, body)
    }

    /// Starts `keepwell ARGS…` and leaves it running.
    pub fn start<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Running {
        Running::start(self.command().args(args))
    }
}
