//! `keepwell events`

use clap::Args;
use keepwell_protocol::units::{DurationMs, TimeMs};

use super::context::{Context, now_ms};
use super::output::Stop;
use crate::failure::Failure;
use crate::service::events::{EventLine, EventQuery};

/// Tell what has happened here: deletions and what they rested on, rot and repairs, collisions, forks, members declared dead
///
/// The oldest first. Only so many events are remembered.
#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Only what happened since then: a time such as 2026-01-31T12:00:00Z, or for how long, such as 2h
    #[arg(long, value_name = "TIME|DURATION")]
    since: Option<String>,
    /// Go on telling as things happen; needs the daemon
    #[arg(long)]
    follow: bool,
}

pub(super) fn run(args: EventsArgs, context: &mut Context) -> Result<u8, Stop> {
    let since_ms = args.since.as_deref().map(|text| since(text, now_ms())).transpose()?;
    let query = EventQuery { cursor: None, since_ms };
    let backend = context.backend()?;
    let mut stopped = None;
    let told = backend.events(query, args.follow, &mut |line| {
        let printed = context.out.line(&line, || text(&line));
        let printed = if args.follow { printed.and_then(|()| context.out.flush()) } else { printed };
        printed.map_err(|stop| {
            stopped = Some(stop);
            Failure::usage("stopped")
        })
    });
    if let Some(stop) = stopped {
        return Err(stop);
    }
    told?;
    Ok(0)
}

/// A time, or a duration before now. A duration has neither a `-` nor a `:`, a time has both.
fn since(text: &str, now_ms: u64) -> Result<u64, Failure> {
    if text.contains(['-', ':']) {
        return Ok(text.parse::<TimeMs>()?.unix_ms());
    }
    Ok(now_ms.saturating_sub(text.parse::<DurationMs>()?.0))
}

fn text(line: &EventLine) -> String {
    let time = TimeMs::from_unix_ms(line.at_ms).map_or_else(|_| "-".to_owned(), |time| time.to_string());
    format!("{time} {}", line.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        assert_eq!(since("2h", 10_000_000).unwrap(), 2_800_000);
        assert_eq!(since("2h", 1).unwrap(), 0);
        assert_eq!(since("1970-01-01T00:00:01Z", 10_000_000).unwrap(), 1_000);
        assert!(since("lately", 1).is_err());
    }
}
