//! `[scrub]` in `config.toml`: how what is held is read again to find rot.

use keepwell_protocol::units::{DurationMs, SizeBytes};
use serde::Deserialize;
use toml::Spanned;

use super::gc::{Sources, switch};
use super::{ConfigError, Origin, Setting};
use crate::daemon::scrub::ScrubKeys;
use crate::limits::{SCRUB_PERIOD_MS, SCRUB_RATE_BYTES};

/// The settings of scrubbing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubConfig {
    /// Whether a daemon scrubs (`auto`).
    pub auto: Setting<bool>,
    /// Within how long everything is read (`period`).
    pub period: Setting<DurationMs>,
    /// How much is read in a second at most (`rate`).
    pub rate: Setting<SizeBytes>,
}

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    auto: Option<Spanned<bool>>,
    period: Option<Spanned<String>>,
    rate: Option<Spanned<String>>,
}

impl ScrubConfig {
    pub(super) fn parse(written: Written, from: &Sources<'_>) -> Result<ScrubConfig, ConfigError> {
        let rate = |text: &str| text.parse().ok().filter(|rate: &SizeBytes| rate.0 > 0);
        Ok(ScrubConfig {
            auto: from.setting(written.auto, "KEEPWELL_SCRUB_AUTO", true, "`true` or `false`", switch)?,
            period: from.duration(written.period, "KEEPWELL_SCRUB_PERIOD", SCRUB_PERIOD_MS)?,
            rate: from.setting(
                written.rate,
                "KEEPWELL_SCRUB_RATE",
                SizeBytes(SCRUB_RATE_BYTES),
                "a size such as `64MiB`, read in each second",
                rate,
            )?,
        })
    }

    /// Every setting as (key, value as it is written, origin).
    pub(super) fn rows(&self) -> Vec<(&'static str, String, Origin)> {
        vec![
            ("scrub.auto", self.auto.value.to_string(), self.auto.origin),
            ("scrub.period", self.period.value.to_string(), self.period.origin),
            ("scrub.rate", self.rate.value.to_string(), self.rate.origin),
        ]
    }

    /// How a daemon scrubs; none if it does not.
    pub fn keys(&self) -> Option<ScrubKeys> {
        let keys = ScrubKeys { period_ms: self.period.value.0, rate_bytes: self.rate.value.0 };
        self.auto.value.then_some(keys)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<ScrubConfig, String> {
        Config::parse(text, Path::new("config.toml"), &|_| None).map(|config| config.scrub).map_err(|error| error.to_string())
    }

    #[test]
    fn unset_everything_is_read_within_scrub_period_ms_at_scrub_rate_bytes() {
        let keys = ScrubKeys { period_ms: SCRUB_PERIOD_MS, rate_bytes: SCRUB_RATE_BYTES };
        assert_eq!(parse("").unwrap().keys(), Some(keys));
    }

    #[test]
    fn every_key_is_read_and_a_mistake_is_told() {
        let scrub = parse("[scrub]\nauto = true\nperiod = \"7d\"\nrate = \"1MiB\"\n").unwrap();
        assert_eq!(scrub.keys(), Some(ScrubKeys { period_ms: 7 * 86_400_000, rate_bytes: 1 << 20 }));
        assert_eq!(parse("[scrub]\nauto = false\n").unwrap().keys(), None);
        let rows: Vec<String> = scrub.rows().into_iter().map(|(key, value, _)| format!("{key}={value}")).collect();
        assert_eq!(rows[..2], ["scrub.auto=true", "scrub.period=7d"]);
        assert!(parse("[scrub]\nrate = \"0\"\n").unwrap_err().starts_with("config.toml:2: expected a size"));
        assert!(parse("[scrub]\nevery = \"1d\"\n").unwrap_err().contains("unknown field"));
    }
}
