//! What the users of a home may set of its engine.

use keepwell_protocol::gc::schedule::Keys;

use super::Engine;
use crate::limits::PUT_GRACE_MS;

/// Settings of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a blob stays after it was put or fetched although nothing needs it, in milliseconds.
    pub grace_ms: u64,
    /// When it collects garbage by itself; none is never.
    pub schedule: Option<Keys>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { grace_ms: PUT_GRACE_MS, schedule: None }
    }
}

impl Engine {
    /// The same engine with these settings.
    pub fn with(self, settings: Settings) -> Engine {
        Engine { settings, ..self }
    }

    /// What it is set to.
    pub fn settings(&self) -> Settings {
        self.settings
    }
}
