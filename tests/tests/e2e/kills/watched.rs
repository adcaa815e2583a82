//! Work that is watched line by line, and the moment at which somebody is killed.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use keepwell_tests::{Outcome, Running, TempHome};

use super::Story;

/// How often a moment is looked for.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// When to kill.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    /// So long after the work began.
    After(Duration),
    /// When `ingest/` holds so many bytes.
    Gathered(u64),
    /// When so many lines have been said: an acknowledgement each.
    Said(usize),
}

impl Moment {
    /// Draws one for work that usually takes `typical`, gathers `bytes` and says `lines`.
    pub(super) fn draw(story: &mut Story, typical: Duration, bytes: u64, lines: usize) -> Moment {
        match story.below(3) {
            0 if bytes > 0 => Moment::Gathered(1 + story.below(bytes)),
            1 if lines > 0 => Moment::Said(1 + usize::try_from(story.below(lines as u64)).unwrap()),
            _ => Moment::After(Duration::from_micros(story.below(u64::try_from(typical.as_micros()).unwrap()))),
        }
    }
}

/// Bytes of the files in the `ingest/` of a home.
pub(super) fn gathered(home: &TempHome) -> u64 {
    let Ok(entries) = std::fs::read_dir(home.path().join("ingest")) else { return 0 };
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}

/// What some work says, as it says it.
pub(super) struct Told {
    lines: Receiver<String>,
    pub(super) said: Vec<String>,
}

impl Told {
    pub(super) fn new(lines: Receiver<String>) -> Told {
        Told { lines, said: Vec::new() }
    }

    /// Waits for a moment of work on `home`; false if the work ended before.
    pub(super) fn until(&mut self, moment: Moment, home: &TempHome) -> bool {
        let began = Instant::now();
        loop {
            let has_come = match moment {
                Moment::After(time) => began.elapsed() >= time,
                Moment::Gathered(bytes) => gathered(home) >= bytes,
                Moment::Said(lines) => self.said.len() >= lines,
            };
            if has_come {
                return true;
            }
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// All that it has said by its end.
    pub(super) fn rest(mut self) -> Vec<String> {
        self.said.extend(self.lines.iter());
        self.said
    }
}

/// A command under way.
pub(super) struct Watched {
    running: Running,
    pub(super) told: Told,
}

impl Watched {
    pub(super) fn start(home: &TempHome, args: &[&str]) -> Watched {
        let mut running = home.start(args);
        let mut stdout = BufReader::new(running.take_stdout());
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // What was cut off by a kill is no acknowledgement: only whole lines are told.
            while stdout.read_line(&mut line).is_ok_and(|count| count > 0) && line.ends_with('\n') {
                if tell.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });
        Watched { running, told: Told::new(lines) }
    }

    /// Kills it; the whole lines that it said.
    pub(super) fn kill(self) -> Vec<String> {
        self.running.kill();
        self.told.rest()
    }

    /// Waits for its end.
    pub(super) fn finish(self) -> (Outcome, Vec<String>) {
        (self.running.finish(), self.told.rest())
    }
}
