//! What the users of a home may set of its engine.

use keepwell_protocol::gc::pressure::Marks;
use keepwell_protocol::gc::schedule::Keys;

use super::Engine;
use crate::limits::{FACTS_AFTER_MS, PUT_GRACE_MS};

/// Settings of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a blob stays after it was put or fetched although nothing needs it, in milliseconds.
    pub grace_ms: u64,
    /// When it collects garbage by itself; none is never.
    pub schedule: Option<Keys>,
    /// From when on a full disk makes it free space, if it does anything by itself, and until when.
    pub marks: Marks,
    /// How much the home may hold, in bytes; none is what the disk has.
    pub max_size_bytes: Option<u64>,
    /// How long after the last copy of a blob that nothing needs its links are forgotten, in milliseconds.
    pub facts_after_ms: u64,
    /// How many members may lie about their copies without a drop resting on their word alone (f of R5).
    pub liars: u32,
    /// Whether somebody reads the index whole from time to time: then the trash is emptied only when that has found nothing.
    pub checks_index: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            grace_ms: PUT_GRACE_MS,
            schedule: None,
            marks: Marks::DEFAULT,
            max_size_bytes: None,
            facts_after_ms: FACTS_AFTER_MS,
            liars: 0,
            checks_index: false,
        }
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
