//! `[gc]` in `config.toml`: when garbage is collected without being asked, and how long it is left alone.

use std::str::FromStr;

use keepwell_protocol::gc::schedule::Keys;
use keepwell_protocol::limits::MAX_PAUSE_PPM;
use keepwell_protocol::units::DurationMs;
use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, Env, Origin, Setting, line_at};
use crate::engine::Settings;
use crate::limits::PUT_GRACE_MS;

/// Millionths in a whole.
const PPM: f64 = 1_000_000.0;

/// The settings of garbage collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcConfig {
    /// Whether a daemon collects by itself (`auto`).
    pub auto: Setting<bool>,
    /// How long a blob stays after it was put or fetched although nothing needs it (`grace`).
    pub grace: Setting<DurationMs>,
    /// The part of all time that collections may take, in millionths (`pause_threshold`, there a number from 0 to 0.5).
    pub pause_ppm: Setting<u32>,
    /// See [`Keys::deletion_threshold`].
    pub deletion_threshold: Setting<u64>,
    /// See [`Keys::mutation_threshold`].
    pub mutation_threshold: Setting<u64>,
    /// See [`Keys::schedule_delay_ms`].
    pub schedule_delay: Setting<DurationMs>,
    /// See [`Keys::startup_delay_ms`].
    pub startup_delay: Setting<DurationMs>,
    /// How many members may lie about their copies: so many more must prove theirs before one goes (`liars`).
    pub liars: Setting<u32>,
}

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    auto: Option<Spanned<bool>>,
    grace: Option<Spanned<String>>,
    pause_threshold: Option<Spanned<f64>>,
    deletion_threshold: Option<Spanned<u64>>,
    mutation_threshold: Option<Spanned<u64>>,
    schedule_delay: Option<Spanned<String>>,
    startup_delay: Option<Spanned<String>>,
    liars: Option<Spanned<u64>>,
}

/// Where settings are read from: the text of the file, and the environment.
pub(super) struct Sources<'a> {
    pub(super) text: &'a str,
    pub(super) env: Env<'a>,
}

impl GcConfig {
    pub(super) fn parse(written: Written, from: &Sources<'_>) -> Result<GcConfig, ConfigError> {
        let Keys { pause_ppm, deletion_threshold, mutation_threshold, schedule_delay_ms, startup_delay_ms } = Keys::DEFAULT;
        Ok(GcConfig {
            auto: from.setting(written.auto, "KEEPWELL_GC_AUTO", true, "`true` or `false`", switch)?,
            grace: from.duration(written.grace, "KEEPWELL_GC_GRACE", PUT_GRACE_MS)?,
            pause_ppm: from.setting(
                written.pause_threshold,
                "KEEPWELL_GC_PAUSE_THRESHOLD",
                pause_ppm,
                "a number from 0 to 0.5",
                part,
            )?,
            deletion_threshold: from.count(written.deletion_threshold, "KEEPWELL_GC_DELETION_THRESHOLD", deletion_threshold)?,
            mutation_threshold: from.count(written.mutation_threshold, "KEEPWELL_GC_MUTATION_THRESHOLD", mutation_threshold)?,
            schedule_delay: from.duration(written.schedule_delay, "KEEPWELL_GC_SCHEDULE_DELAY", schedule_delay_ms)?,
            startup_delay: from.duration(written.startup_delay, "KEEPWELL_GC_STARTUP_DELAY", startup_delay_ms)?,
            liars: from.count(written.liars, "KEEPWELL_GC_LIARS", 0)?,
        })
    }

    /// Every setting as (key, value as it is written, origin).
    pub(super) fn rows(&self) -> Vec<(&'static str, String, Origin)> {
        let part = f64::from(self.pause_ppm.value) / PPM;
        vec![
            ("gc.auto", self.auto.value.to_string(), self.auto.origin),
            ("gc.grace", self.grace.value.to_string(), self.grace.origin),
            ("gc.pause_threshold", part.to_string(), self.pause_ppm.origin),
            ("gc.deletion_threshold", self.deletion_threshold.value.to_string(), self.deletion_threshold.origin),
            ("gc.mutation_threshold", self.mutation_threshold.value.to_string(), self.mutation_threshold.origin),
            ("gc.schedule_delay", self.schedule_delay.value.to_string(), self.schedule_delay.origin),
            ("gc.startup_delay", self.startup_delay.value.to_string(), self.startup_delay.origin),
            ("gc.liars", self.liars.value.to_string(), self.liars.origin),
        ]
    }

    /// What the engine of a daemon is set to of it.
    pub(super) fn of_daemon(&self) -> Settings {
        let keys = Keys {
            pause_ppm: self.pause_ppm.value,
            deletion_threshold: self.deletion_threshold.value,
            mutation_threshold: self.mutation_threshold.value,
            schedule_delay_ms: self.schedule_delay.value.0,
            startup_delay_ms: self.startup_delay.value.0,
        };
        Settings {
            grace_ms: self.grace.value.0,
            schedule: self.auto.value.then_some(keys),
            liars: self.liars.value,
            ..Settings::default()
        }
    }
}

impl Sources<'_> {
    /// What the environment says, else the file, else the default.
    pub(super) fn setting<T, W: ToString>(
        &self,
        written: Option<Spanned<W>>,
        variable: &'static str,
        default: T,
        expected: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Setting<T>, ConfigError> {
        let (value, origin) = match ((self.env)(variable), written) {
            (Some(value), _) => (value, Origin::Env(variable)),
            (None, Some(written)) => {
                let line = line_at(self.text, written.span().start);
                (written.into_inner().to_string(), Origin::File(line))
            }
            (None, None) => return Ok(Setting { value: default, origin: Origin::Default }),
        };
        match read(&value) {
            Some(value) => Ok(Setting { value, origin }),
            None => Err(ConfigError::Unexpected { origin: origin.to_string(), expected, value }),
        }
    }

    fn count<T: FromStr>(
        &self,
        written: Option<Spanned<u64>>,
        variable: &'static str,
        default: T,
    ) -> Result<Setting<T>, ConfigError> {
        self.setting(written, variable, default, "a whole number", |text| text.parse().ok())
    }

    pub(super) fn duration(
        &self,
        written: Option<Spanned<String>>,
        variable: &'static str,
        default_ms: u64,
    ) -> Result<Setting<DurationMs>, ConfigError> {
        self.setting(written, variable, DurationMs(default_ms), "a duration such as `100ms` or `24h`", |text| text.parse().ok())
    }
}

pub(super) fn switch(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A part of a whole, in millionths; none if it is more than collections may be given.
fn part(text: &str) -> Option<u32> {
    let part = f64::from_str(text).ok().filter(|part| (0.0..=f64::from(MAX_PAUSE_PPM) / PPM).contains(part))?;
    // Within the range there is nothing to lose but digits that do not matter.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some((part * PPM).round() as u32)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn parse(text: &str, env: Env<'_>) -> Result<GcConfig, String> {
        Config::parse(text, Path::new("config.toml"), env).map(|config| config.gc).map_err(|error| error.to_string())
    }

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn unset_it_is_what_containerd_does_and_a_day_of_grace() {
        let gc = parse("", &none).unwrap();
        assert_eq!(gc.of_daemon(), Settings { schedule: Some(Keys::DEFAULT), ..Settings::default() });
        assert_eq!(gc.of_daemon().grace_ms, PUT_GRACE_MS);
        let config = Config::parse("", Path::new("config.toml"), &none).unwrap();
        assert_eq!(config.of_command(), Settings::default());
    }

    #[test]
    fn every_key_is_read_and_the_environment_wins() {
        let text = "[gc]\nauto = true\ngrace = \"1h\"\npause_threshold = 0.1\ndeletion_threshold = 5\nmutation_threshold = 6\n\
                    schedule_delay = \"7ms\"\nstartup_delay = \"0s\"\nliars = 2\n";
        let keys =
            Keys { pause_ppm: 100_000, deletion_threshold: 5, mutation_threshold: 6, schedule_delay_ms: 7, startup_delay_ms: 0 };
        let gc = parse(text, &none).unwrap();
        assert_eq!(gc.of_daemon(), Settings { grace_ms: 3_600_000, schedule: Some(keys), liars: 2, ..Settings::default() });
        assert_eq!(gc.startup_delay.origin, Origin::File(8));
        let env = |name: &str| (name == "KEEPWELL_GC_AUTO").then(|| "0".to_owned());
        let gc = parse(text, &env).unwrap();
        assert_eq!((gc.of_daemon().schedule, gc.auto.origin), (None, Origin::Env("KEEPWELL_GC_AUTO")));
        let rows: Vec<String> = gc.rows().into_iter().map(|(key, value, _)| format!("{key}={value}")).collect();
        assert_eq!(rows[..3], ["gc.auto=false", "gc.grace=1h", "gc.pause_threshold=0.1"]);
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_what_is_expected() {
        let error = |text: &str| parse(text, &none).unwrap_err();
        assert_eq!(
            error("[gc]\n\ngrace = \"long\"\n"),
            "config.toml:3: expected a duration such as `100ms` or `24h`, found `long`"
        );
        assert_eq!(error("[gc]\npause_threshold = 0.6\n"), "config.toml:2: expected a number from 0 to 0.5, found `0.6`");
        assert_eq!(error("gc.pause_threshold = -0.1\n"), "config.toml:1: expected a number from 0 to 0.5, found `-0.1`");
        assert!(error("[gc]\nautomatic = true\n").starts_with("config.toml, line 2: unknown field `automatic`"));
        assert_eq!(error("[gc]\nliars = 4294967296\n"), "config.toml:2: expected a whole number, found `4294967296`");
        assert!(error("[gc]\ndeletion_threshold = -1\n").starts_with("config.toml, line 2:"));
    }

    #[test]
    fn the_pause_threshold_goes_from_nothing_to_max_pause_ppm() {
        let ppm = |value: &str| parse(&format!("gc.pause_threshold = {value}\n"), &none).map(|gc| gc.pause_ppm.value);
        assert_eq!((ppm("0"), ppm("0.02"), ppm("0.5")), (Ok(0), Ok(20_000), Ok(MAX_PAUSE_PPM)));
        assert!(ppm("0.500001").is_err() && ppm("nan").is_err() && ppm("inf").is_err());
    }
}
