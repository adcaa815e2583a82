//! The line about a machine's clock.

use keepwell_protocol::clock::Doubt;
use serde::{Deserialize, Serialize};

/// Whether what has a deadline ends by the clock of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockLine {
    /// Whether nothing ends by it now.
    pub suspended: bool,
    /// Why.
    pub reason: Option<String>,
}

impl From<Option<Doubt>> for ClockLine {
    fn from(doubt: Option<Doubt>) -> Self {
        ClockLine { suspended: doubt.is_some(), reason: doubt.map(|doubt| doubt.to_string()) }
    }
}
