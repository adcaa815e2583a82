//! What a command prints: data on standard output, all else on standard error, and how it ends.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use indicatif::{ProgressBar, ProgressStyle};
use keepwell_protocol::id::BlobId;
use serde::Serialize;

use crate::failure::{Code, Failure};
use crate::service::backend::{Backend, Extent, Fetched};

/// Why a command stops before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// It failed.
    Failure(Failure),
    /// Nobody reads what it prints any more.
    BrokenPipe,
}

impl<F: Into<Failure>> From<F> for Stop {
    fn from(failure: F) -> Self {
        Stop::Failure(failure.into())
    }
}

/// Where a command prints.
pub(super) struct Output {
    json: bool,
    notes: bool,
    bars: bool,
    stdout: BufWriter<Stdout>,
}

impl Output {
    /// `json`: objects instead of text; `quiet`: no notes; `bars`: progress where there is a terminal.
    pub(super) fn new(json: bool, quiet: bool, bars: bool) -> Self {
        let bars = bars && !json && !quiet && io::stderr().is_terminal();
        Output { json, notes: !quiet, bars, stdout: BufWriter::new(io::stdout()) }
    }

    /// Prints an answer: its JSON, or this text.
    pub(super) fn line(&mut self, line: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Stop> {
        let text = if self.json { serde_json::to_string(line).map_err(|error| internal(&error))? } else { text() };
        writeln!(self.stdout, "{text}").map_err(stdout_failed)
    }

    /// Prints bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)
    }

    /// Prints what went wrong with one item.
    pub(super) fn failure(&mut self, failure: &Failure) -> Result<(), Stop> {
        if self.json {
            return writeln!(self.stdout, "{}", failure.to_json()).map_err(stdout_failed);
        }
        self.flush()?;
        tell(&failure.to_text());
        Ok(())
    }

    /// Tells a person something that is no data.
    pub(super) fn note(&mut self, note: &str) -> Result<(), Stop> {
        if self.notes {
            self.flush()?;
            tell(note);
        }
        Ok(())
    }

    /// A bar of bytes, without an end if that is not known (0); hidden where it would disturb.
    pub(super) fn bar(&self, total_bytes: u64) -> ProgressBar {
        if !self.bars {
            return ProgressBar::hidden();
        }
        let (bar, template) = match total_bytes {
            0 => (ProgressBar::no_length(), "{spinner} {bytes} {bytes_per_sec}"),
            _ => (ProgressBar::new(total_bytes), "{bytes}/{total_bytes} {bytes_per_sec} {wide_bar}"),
        };
        bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    /// Brings blobs here, and shows how far it is.
    pub(super) fn fetch(&self, backend: &dyn Backend, blobs: &[BlobId], extent: Extent) -> Result<Option<Vec<Fetched>>, Failure> {
        // There is always some length: it grows as more is known to be missing.
        let bar = self.bar(1);
        let outcomes = backend.fetch(blobs, extent, &mut |done_bytes, wanted_bytes| {
            bar.set_length(wanted_bytes);
            bar.set_position(done_bytes);
        });
        bar.finish_and_clear();
        outcomes
    }

    /// Shows all that was printed so far.
    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        self.stdout.flush().map_err(stdout_failed)
    }

    /// Prints why the command stopped, if it did; its exit code.
    pub(super) fn end(&mut self, outcome: Result<u8, Stop>) -> u8 {
        let outcome = outcome.and_then(|exit| self.flush().map(|()| exit));
        match outcome {
            Ok(exit) => exit,
            Err(Stop::BrokenPipe) => 0,
            Err(Stop::Failure(failure)) => {
                // If standard output is what failed, the exit code still tells.
                drop(self.failure(&failure));
                drop(self.flush());
                failure.code.exit()
            }
        }
    }
}

/// A failed write to standard output.
pub(super) fn stdout_failed(error: io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Stop::BrokenPipe,
        _ => Stop::Failure(Failure::file("cannot write to", "standard output".as_ref(), &error)),
    }
}

fn internal(error: &dyn std::error::Error) -> Failure {
    Failure::new(Code::Internal, error.to_string())
}

/// Nobody is left to be told that standard error is closed.
fn tell(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}

/// How the items of one command fared.
#[derive(Debug, Default)]
pub(super) struct Tally {
    done: usize,
    failed: Vec<Code>,
}

impl Tally {
    /// One more was done.
    pub(super) fn done(&mut self) {
        self.done += 1;
    }

    /// One more failed.
    pub(super) fn failed(&mut self, failure: &Failure) {
        self.failed.push(failure.code);
    }

    /// Whether none failed.
    pub(super) fn all_done(&self) -> bool {
        self.failed.is_empty()
    }

    /// A single item fails as itself; of several, some failed or all were refused.
    pub(super) fn exit(&self) -> u8 {
        match (self.done, self.failed.as_slice()) {
            (_, []) => 0,
            (0, [only]) => only.exit(),
            (0, _) => Code::Unsafe.exit(),
            _ => Code::Partial.exit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(done: usize, failed: &[Code]) -> u8 {
        Tally { done, failed: failed.to_vec() }.exit()
    }

    #[test]
    fn one_fails_as_itself_some_are_partial_and_all_are_refused() {
        assert_eq!(exit(3, &[]), 0);
        assert_eq!(exit(0, &[]), 0);
        assert_eq!(exit(0, &[Code::NotFound]), 3);
        assert_eq!(exit(1, &[Code::NotFound]), 4);
        assert_eq!(exit(0, &[Code::NotFound, Code::Usage]), 10);
    }
}
