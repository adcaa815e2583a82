//! A process that a test keeps running: read line by line, killed by its own handle.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::Outcome;

/// A started process. Its life ends in one of four ways: it [finishes](Running::finish), is [asked to stop](Running::terminate),
/// is [killed](Running::kill), or is dropped, which kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// A file, not a pipe: nobody reads while the test does other things, and a full pipe would stop the process.
    stderr: File,
    command: String,
}

impl Running {
    /// Starts a command.
    ///
    /// # Panics
    /// When it cannot be started; the methods below when the process breaks off what they wait for.
    pub fn start(command: &mut Command) -> Self {
        let stderr = tempfile::tempfile().expect("a temporary file");
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr.try_clone().expect("a second handle of our own file"))
            .spawn()
            .expect("the command can be started");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        Running { child, stdin, stdout, stderr, command: shown }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line of standard output; none when the output has ended.
    pub fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read_bytes = self.stdout.read_line(&mut line).expect("output is text in lines");
        (read_bytes > 0).then(|| line.trim_end_matches('\n').to_owned())
    }

    /// Waits for the next line and reads it as JSON, for example the `ready` event of `up --json`.
    #[track_caller]
    pub fn next_json(&mut self) -> Value {
        let line = self.next_line();
        let json = line.as_deref().and_then(|line| serde_json::from_str(line).ok());
        assert!(json.is_some(), "expected a JSON line from {}, got {line:?}\nstderr:\n{}", self.command, self.notes());
        json.unwrap_or_default()
    }

    /// Its standard output, for a test that stops listening by dropping it. What comes later is read from nowhere.
    pub fn take_stdout(&mut self) -> ChildStdout {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let nothing = ChildStdout::from(std::os::fd::OwnedFd::from(reader));
        std::mem::replace(&mut self.stdout, BufReader::new(nothing)).into_inner()
    }

    /// Writes to its standard input.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is open until the process is finished");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("the process reads its input");
    }

    /// `kill -9`: no chance to tidy up. The outcome carries what was printed and not yet read.
    pub fn kill(mut self) -> Outcome {
        self.child.kill().expect("the child is ours to kill");
        self.end()
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    pub fn terminate(mut self) -> Outcome {
        // By way of a shell: the standard library sends only SIGKILL, and `kill` as a program is not on every machine.
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.id().to_string()]).status();
        assert!(asked.is_ok_and(|status| status.success()), "{} had ended before it was asked to stop", self.command);
        self.end()
    }

    /// Closes its standard input and waits for its end.
    pub fn finish(mut self) -> Outcome {
        drop(self.stdin.take());
        self.end()
    }

    fn end(&mut self) -> Outcome {
        let mut unread = Vec::new();
        self.stdout.read_to_end(&mut unread).expect("output can be read to its end");
        let status = self.child.wait().expect("the child is ours to wait for");
        Outcome::new(self.command.clone(), status, unread, self.notes().into_bytes())
    }

    /// What it has written to standard error so far.
    fn notes(&self) -> String {
        let mut bytes = Vec::new();
        let mut file = &self.stderr;
        let copied = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
        copied.expect("our own file can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended, and waited for: then there is nothing left to kill, and that is well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
