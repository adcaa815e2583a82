//! The settings of a home, and where each of them came from: flag, environment, `config.toml`, or default.

mod disk;
mod gc;
mod scrub;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use keepwell_protocol::units::{DurationMs, SizeBytes, UnitError};
use serde::Deserialize;
use toml::Spanned;

use crate::engine::Settings;
use crate::limits::{LOCK_WAIT_MS, MAX_CONFIG_BYTES};
pub use disk::DiskConfig;
pub use gc::GcConfig;
pub use scrub::ScrubConfig;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Past [`MAX_CONFIG_BYTES`].
    #[error("{} has more than {MAX_CONFIG_BYTES} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Not the format, or a key that nobody reads.
    #[error("{}, line {line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A value that its key cannot have.
    #[error("{origin}: {source}")]
    Value {
        /// Where it stands.
        origin: String,
        /// What is wrong with it.
        source: UnitError,
    },
    /// A value that its key cannot have, of a key that has no unit of its own.
    #[error("{origin}: expected {expected}, found `{value}`")]
    Unexpected {
        /// Where it stands.
        origin: String,
        /// What could stand there.
        expected: &'static str,
        /// What stands there.
        value: String,
    },
    /// Neither yes nor no.
    #[error("{origin}: expected `true` or `false`, found `{value}`")]
    Switch {
        /// Where it stands.
        origin: String,
        /// What stands there.
        value: String,
    },
}

/// Where a setting came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Env(&'static str),
    /// This line of `config.toml`.
    File(usize),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) | Origin::Env(name) => f.write_str(name),
            Origin::File(line) => write!(f, "config.toml:{line}"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// Where a daemon listens unless told otherwise.
const DEFAULT_LISTEN: &str = "/ip4/0.0.0.0/tcp/4077";

/// A setting and its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<T> {
    /// What it is set to.
    pub value: T,
    /// By whom.
    pub origin: Origin,
}

/// All settings of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long to wait for the lock of the home (`lock_wait`, `KEEPWELL_LOCK_WAIT`).
    pub lock_wait: Setting<DurationMs>,
    /// How much the home may hold (`max_size`, `KEEPWELL_MAX_SIZE`); none is what the disk has.
    pub max_size: Setting<Option<SizeBytes>>,
    /// The multiaddresses to listen on for other nodes (`listen`, `KEEPWELL_LISTEN`, there parted by commas).
    pub listen: Setting<Vec<String>>,
    /// Whether to look for members in the local network by multicast, and to be found (`mdns`, `KEEPWELL_MDNS`).
    pub mdns: Setting<bool>,
    /// When garbage is collected without being asked (`[gc]`, `KEEPWELL_GC_…`).
    pub gc: GcConfig,
    /// From when on space is freed (`[disk]`, `KEEPWELL_DISK_…`).
    pub disk: DiskConfig,
    /// How what is held is read again to find rot (`[scrub]`, `KEEPWELL_SCRUB_…`).
    pub scrub: ScrubConfig,
}

/// `config.toml` as it is written. A key that is not here is an error: it is mistyped, or meant for another version.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    lock_wait: Option<Spanned<String>>,
    max_size: Option<Spanned<String>>,
    listen: Option<Spanned<Vec<String>>>,
    mdns: Option<Spanned<bool>>,
    #[serde(default)]
    gc: gc::Written,
    #[serde(default)]
    disk: disk::Written,
    #[serde(default)]
    scrub: scrub::Written,
}

/// How a variable of the environment is looked up.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// The settings under `path`, a `config.toml` that need not exist, and the environment.
    pub fn load(path: &Path, env: Env<'_>) -> Result<Config, ConfigError> {
        Self::parse(&read(path)?, path, env)
    }

    fn parse(text: &str, path: &Path, env: Env<'_>) -> Result<Config, ConfigError> {
        let written: Written = toml::from_str(text).map_err(|error| ConfigError::Line {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| line_at(text, span.start)),
            message: error.message().to_owned(),
        })?;
        let lock_wait = pick(text, written.lock_wait, "KEEPWELL_LOCK_WAIT", env)?;
        let max_size = pick(text, written.max_size, "KEEPWELL_MAX_SIZE", env)?;
        let max_size = max_size.map(|Setting { value, origin }| Setting { value: Some(value), origin });
        Ok(Config {
            lock_wait: lock_wait.unwrap_or(Setting { value: DurationMs(LOCK_WAIT_MS), origin: Origin::Default }),
            max_size: max_size.unwrap_or(Setting { value: None, origin: Origin::Default }),
            listen: listen(text, written.listen, env),
            mdns: mdns(text, written.mdns, env)?,
            gc: GcConfig::parse(written.gc, &gc::Sources { text, env })?,
            disk: DiskConfig::parse(written.disk, &gc::Sources { text, env })?,
            scrub: ScrubConfig::parse(written.scrub, &gc::Sources { text, env })?,
        })
    }

    /// What the engine of a daemon is set to.
    pub fn of_daemon(&self) -> Settings {
        let max_size_bytes = self.max_size.value.map(|size| size.0);
        Settings { marks: self.disk.marks(), max_size_bytes, ..self.gc.of_daemon() }
    }

    /// What the engine of a command is set to: it deletes what it is asked to, and no more.
    pub fn of_command(&self) -> Settings {
        Settings { schedule: None, ..self.of_daemon() }
    }

    /// Every setting as (key, value as it is written, origin).
    pub fn rows(&self) -> Vec<(&'static str, String, Origin)> {
        let max_size = self.max_size.value.map_or_else(|| "none".to_owned(), |size| size.to_string());
        let mut rows = vec![
            ("lock_wait", self.lock_wait.value.to_string(), self.lock_wait.origin),
            ("max_size", max_size, self.max_size.origin),
            ("listen", self.listen.value.join(","), self.listen.origin),
            ("mdns", self.mdns.value.to_string(), self.mdns.origin),
        ];
        rows.extend(self.gc.rows());
        rows.extend(self.disk.rows());
        rows.extend(self.scrub.rows());
        rows
    }
}

/// The `config.toml` of a new home.
pub fn first_text(max_size: Option<SizeBytes>) -> String {
    let mut text = String::from("# Settings of this keepwell home. `keepwell config show --origin` tells what holds and why.\n");
    text.push_str("# lock_wait = \"30s\"\n");
    match max_size {
        Some(size) => text.push_str(&format!("max_size = \"{size}\"\n")),
        None => text.push_str("# max_size = \"2TiB\"\n"),
    }
    text.push_str(&format!("# listen = [\"{DEFAULT_LISTEN}\"]\n"));
    text.push_str("# mdns = false\n");
    text.push_str("\n# [gc]\n# auto = true\n# grace = \"24h\"\n# liars = 0\n");
    text.push_str("\n# [disk]\n# high = \"90%\"\n# low = \"85%\"\n");
    text.push_str("\n# [scrub]\n# auto = true\n# period = \"30d\"\n");
    text
}

/// The addresses that the environment names, else the file, else every interface at the usual port.
fn listen(text: &str, written: Option<Spanned<Vec<String>>>, env: Env<'_>) -> Setting<Vec<String>> {
    const VARIABLE: &str = "KEEPWELL_LISTEN";
    match (env(VARIABLE), written) {
        (Some(value), _) => {
            let addresses = value.split(',').map(str::trim).filter(|address| !address.is_empty());
            Setting { value: addresses.map(str::to_owned).collect(), origin: Origin::Env(VARIABLE) }
        }
        (None, Some(written)) => {
            let origin = Origin::File(line_at(text, written.span().start));
            Setting { value: written.into_inner(), origin }
        }
        (None, None) => Setting { value: vec![DEFAULT_LISTEN.to_owned()], origin: Origin::Default },
    }
}

/// What the environment says, else the file, else no.
fn mdns(text: &str, written: Option<Spanned<bool>>, env: Env<'_>) -> Result<Setting<bool>, ConfigError> {
    const VARIABLE: &str = "KEEPWELL_MDNS";
    match (env(VARIABLE), written) {
        (Some(value), _) => match value.as_str() {
            "true" | "1" => Ok(Setting { value: true, origin: Origin::Env(VARIABLE) }),
            "false" | "0" => Ok(Setting { value: false, origin: Origin::Env(VARIABLE) }),
            _ => Err(ConfigError::Switch { origin: VARIABLE.to_owned(), value }),
        },
        (None, Some(written)) => {
            let origin = Origin::File(line_at(text, written.span().start));
            Ok(Setting { value: written.into_inner(), origin })
        }
        (None, None) => Ok(Setting { value: false, origin: Origin::Default }),
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        other => other.map_err(unreadable)?,
    };
    let mut text = String::new();
    file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_CONFIG_BYTES { Err(ConfigError::TooLong { path: path.to_owned() }) } else { Ok(text) }
}

/// The value that the environment has, else the file; none when neither says anything.
fn pick<T: FromStr<Err = UnitError>>(
    text: &str,
    written: Option<Spanned<String>>,
    variable: &'static str,
    env: Env<'_>,
) -> Result<Option<Setting<T>>, ConfigError> {
    let (value, origin) = match (env(variable), written) {
        (Some(value), _) => (value, Origin::Env(variable)),
        (None, Some(written)) => {
            let line = line_at(text, written.span().start);
            (written.into_inner(), Origin::File(line))
        }
        (None, None) => return Ok(None),
    };
    let value = value.parse().map_err(|source| ConfigError::Value { origin: origin.to_string(), source })?;
    Ok(Some(Setting { value, origin }))
}

fn line_at(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, lock_wait: Option<&str>) -> Result<Config, String> {
        let env = |name: &str| lock_wait.filter(|_| name == "KEEPWELL_LOCK_WAIT").map(str::to_owned);
        Config::parse(text, Path::new("config.toml"), &env).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
        let text = "# note\nlock_wait = \"5s\"\n";
        let lock_wait = |text: &str, env| parse(text, env).unwrap().lock_wait;
        assert_eq!(lock_wait("", None), Setting { value: DurationMs(LOCK_WAIT_MS), origin: Origin::Default });
        assert_eq!(lock_wait(text, None), Setting { value: DurationMs(5_000), origin: Origin::File(2) });
        assert_eq!(lock_wait(text, Some("1m")), Setting { value: DurationMs(60_000), origin: Origin::Env("KEEPWELL_LOCK_WAIT") });
    }

    #[test]
    fn mdns_is_off_unless_somebody_wants_it() {
        let mdns = |text: &str, value: Option<&str>| {
            let env = |name: &str| value.filter(|_| name == "KEEPWELL_MDNS").map(str::to_owned);
            Config::parse(text, Path::new("config.toml"), &env).map(|config| config.mdns).map_err(|error| error.to_string())
        };
        assert_eq!(mdns("", None).unwrap(), Setting { value: false, origin: Origin::Default });
        assert_eq!(mdns("mdns = true\n", None).unwrap(), Setting { value: true, origin: Origin::File(1) });
        assert_eq!(mdns("mdns = true\n", Some("0")).unwrap(), Setting { value: false, origin: Origin::Env("KEEPWELL_MDNS") });
        assert!(mdns("", Some("maybe")).unwrap_err().starts_with("KEEPWELL_MDNS: expected"));
        assert!(mdns("mdns = \"yes\"\n", None).unwrap_err().contains("line 1"));
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let error = parse("max_size = \"1GiB\"\n\nmax_sise = \"2GiB\"\n", None).unwrap_err();
        assert!(error.starts_with("config.toml, line 3: unknown field `max_sise`"), "{error}");
        let error = parse("\nlock_wait = \"soon\"\n", None).unwrap_err();
        assert!(error.starts_with("config.toml:2: `soon` is not a duration"), "{error}");
        let error = parse("\n\nlock_wait = \n", None).unwrap_err();
        assert!(error.starts_with("config.toml, line 3:"), "{error}");
        let error = parse("", Some("never")).unwrap_err();
        assert!(error.starts_with("KEEPWELL_LOCK_WAIT: `never`"), "{error}");
    }

    #[test]
    fn the_first_text_is_read_back() {
        assert_eq!(parse(&first_text(None), None), parse("", None));
        let config = parse(&first_text(Some(SizeBytes(2 << 40))), None).unwrap();
        assert_eq!(config.max_size.value, Some(SizeBytes(2 << 40)));
    }

    #[test]
    fn a_file_ends_at_max_config_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let load = |bytes: u64| {
            std::fs::write(&path, "#".repeat(usize::try_from(bytes).unwrap())).unwrap();
            Config::load(&path, &|_| None)
        };
        assert!(load(MAX_CONFIG_BYTES).is_ok());
        assert!(matches!(load(MAX_CONFIG_BYTES + 1), Err(ConfigError::TooLong { .. })));
    }
}
