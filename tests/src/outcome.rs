//! What one run of a command left behind: its exit code, its data and its notes.

use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;

/// A finished run. Every expectation that fails prints the whole of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command as it was run.
    pub command: String,
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output: data only, as the contract says.
    pub stdout: Vec<u8>,
    /// Standard error: notes, progress, warnings.
    pub stderr: String,
}

impl Outcome {
    /// Runs a command to its end with this input.
    ///
    /// # Panics
    /// When the command cannot be started at all.
    pub fn of(command: &mut Command, input: &[u8]) -> Self {
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command can be started");
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        let output = std::thread::scope(|scope| {
            // Beside the reader, or a command that answers while it reads would wait for us as we wait for it. A command that does
            // not want its input closes the pipe; that is its right.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().expect("the child is ours to wait for")
        });
        Outcome::new(shown, output.status, output.stdout, output.stderr)
    }

    pub(crate) fn new(command: String, status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        Outcome { command, code: status.code(), stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
    }

    /// Expects success.
    ///
    /// # Panics
    /// On any other exit; likewise the expectations below.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Expects this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code of {self}");
        self
    }

    /// Standard output as text, without the line end.
    #[track_caller]
    pub fn text(&self) -> &str {
        let text = std::str::from_utf8(&self.stdout);
        assert!(text.is_ok(), "expected text from {self}");
        text.unwrap_or_default().trim_end_matches('\n')
    }

    /// The one JSON line that was printed.
    #[track_caller]
    pub fn json(&self) -> Value {
        let mut lines = self.json_lines();
        assert_eq!(lines.len(), 1, "expected one JSON line from {self}");
        lines.remove(0)
    }

    /// Every line, each one JSON value.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let lines: Result<Vec<Value>, _> = self.text().lines().map(serde_json::from_str).collect();
        assert!(lines.is_ok(), "expected JSON lines from {self}");
        lines.unwrap_or_default()
    }

    /// The code word of the error that `--json` printed, for example `NOT_FOUND`.
    #[track_caller]
    pub fn error_code(&self) -> String {
        let lines = self.json_lines();
        let code = lines.last().and_then(|line| line["error"]["code"].as_str());
        assert!(code.is_some(), "expected an error object from {self}");
        code.unwrap_or_default().to_owned()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout);
        write!(f, "{}\nexit: {:?}\nstdout:\n{stdout}\nstderr:\n{}", self.command, self.code, self.stderr)
    }
}
