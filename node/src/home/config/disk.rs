//! `[disk]` in `config.toml`: from when on a full disk, or a full home, makes the daemon free space, and until when.

use std::str::FromStr;

use keepwell_protocol::gc::pressure::{Mark, Marks};
use serde::Deserialize;
use toml::Spanned;

use super::gc::Sources;
use super::{ConfigError, Origin, Setting};

/// What can stand there.
const EXPECTED: &str = "a percentage such as `90%`, or a size such as `800GiB`";

/// The marks of a disk, each a part of it or a size, of what is used; but of the reserve, of what is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// From here on space is freed (`high`).
    pub high: Setting<Mark>,
    /// Until no more than this is used (`low`).
    pub low: Setting<Mark>,
    /// When less is free, what was deleted lately goes for good too (`reserve`).
    pub reserve: Setting<Mark>,
}

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    high: Option<Spanned<String>>,
    low: Option<Spanned<String>>,
    reserve: Option<Spanned<String>>,
}

impl DiskConfig {
    pub(super) fn parse(written: Written, from: &Sources<'_>) -> Result<DiskConfig, ConfigError> {
        let Marks { high, low, reserve } = Marks::DEFAULT;
        let read = |text: &str| Mark::from_str(text).ok();
        let high = from.setting(written.high, "KEEPWELL_DISK_HIGH", high, EXPECTED, read)?;
        let low = from.setting(written.low, "KEEPWELL_DISK_LOW", low, EXPECTED, read)?;
        let reserve = from.setting(written.reserve, "KEEPWELL_DISK_RESERVE", reserve, EXPECTED, read)?;
        // The default is no mistake of the user's: it is as low as what was set, where that is lower.
        let is_above = match (low.value, high.value) {
            (Mark::Part(low), Mark::Part(high)) => low > high,
            (Mark::Bytes(low), Mark::Bytes(high)) => low > high,
            _ => false,
        };
        if is_above && low.origin != Origin::Default {
            let (origin, value) = (low.origin.to_string(), low.value.to_string());
            return Err(ConfigError::Unexpected { origin, expected: "no more than `high`", value });
        }
        let low = if is_above { Setting { value: high.value, ..low } } else { low };
        Ok(DiskConfig { high, low, reserve })
    }

    /// Every setting as (key, value as it is written, origin).
    pub(super) fn rows(&self) -> Vec<(&'static str, String, Origin)> {
        let row = |key, setting: &Setting<Mark>| (key, setting.value.to_string(), setting.origin);
        vec![row("disk.high", &self.high), row("disk.low", &self.low), row("disk.reserve", &self.reserve)]
    }

    /// What the engine goes by.
    pub fn marks(&self) -> Marks {
        Marks { high: self.high.value, low: self.low.value, reserve: self.reserve.value }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, Env};
    use super::*;

    fn parse(text: &str, env: Env<'_>) -> Result<DiskConfig, String> {
        Config::parse(text, Path::new("config.toml"), env).map(|config| config.disk).map_err(|error| error.to_string())
    }

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn marks_are_read_from_the_file_and_the_environment() {
        assert_eq!(parse("", &none).unwrap().marks(), Marks::DEFAULT);
        let disk = parse("[disk]\nhigh = \"2GiB\"\nlow = \"1GiB\"\n", &none).unwrap();
        assert_eq!((disk.marks().high, disk.marks().low), (Mark::Bytes(2 << 30), Mark::Bytes(1 << 30)));
        let env = |name: &str| (name == "KEEPWELL_DISK_RESERVE").then(|| "5%".to_owned());
        let disk = parse("disk.reserve = \"1%\"\n", &env).unwrap();
        assert_eq!((disk.reserve.value, disk.reserve.origin), (Mark::Part(50_000), Origin::Env("KEEPWELL_DISK_RESERVE")));
        let rows: Vec<String> = disk.rows().into_iter().map(|(key, value, _)| format!("{key}={value}")).collect();
        assert_eq!(rows, ["disk.high=90%", "disk.low=85%", "disk.reserve=5%"]);
    }

    #[test]
    fn the_low_mark_is_no_higher_than_the_high_one() {
        let error = parse("[disk]\nhigh = \"50%\"\nlow = \"50.1%\"\n", &none).unwrap_err();
        assert_eq!(error, "config.toml:3: expected no more than `high`, found `50.1%`");
        assert!(parse("[disk]\nhigh = \"50%\"\nlow = \"50%\"\n", &none).is_ok());
        assert_eq!(parse("[disk]\nhigh = \"50%\"\n", &none).unwrap().low.value, Mark::Part(500_000));
        assert!(parse("[disk]\nhigh = \"many\"\n", &none).unwrap_err().contains("expected a percentage"));
    }
}
