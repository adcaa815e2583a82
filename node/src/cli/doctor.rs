//! `keepwell doctor`

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use clap::Args;

use super::context::{Context, now_ms};
use super::output::Stop;
use crate::client::Client;
use crate::failure::{Code, Failure};
use crate::limits::DOCTOR_TIMEOUT;
use crate::service::doctor::examine;
use crate::service::types::{CheckLine, CheckState};

/// Look for what may be wrong: the home, its disk, its settings, its daemon, the other nodes
///
/// A line a check: `ok`, `warn` or `problem`, what was found, and what to do. The exit code is 0 if there is no problem, warnings or
/// not; else that of the first problem, as a command would fail for it: 2 no home, or wrong settings; 5 no answer; 6 not permitted;
/// 7 no space; 9 something is damaged; 10 others can read the key. Nothing is mended; `keepwell fsck` checks the blobs themselves.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {}

pub(super) fn run(_args: DoctorArgs, context: &mut Context) -> Result<u8, Stop> {
    let location = context.location()?;
    let config = context.config(&location);
    let socket = context.socket(&location);
    let lines = examine(&location, config, now_ms(), || ask(location.path.clone(), socket, DOCTOR_TIMEOUT));
    for line in &lines {
        context.out.line(line, || text(line))?;
    }
    let count = |state| lines.iter().filter(|line| line.state == state).count();
    let (warnings, problems) = (count(CheckState::Warn), count(CheckState::Problem));
    context.out.note(&format!("checks: {}, warnings: {warnings}, problems: {problems}", lines.len()))?;
    Ok(exit(&lines))
}

/// What the daemon of the home found in itself; none if nobody listens. One that does not answer must not make us wait for ever.
fn ask(home: PathBuf, socket: Option<PathBuf>, patience: Duration) -> Result<Option<Vec<CheckLine>>, Failure> {
    let Some(socket) = socket else { return Ok(None) };
    let (tell, told) = channel();
    let shown = socket.display().to_string();
    std::thread::spawn(move || {
        let answer = Client::connect(&home, &socket).and_then(|client| client.map(|client| client.doctor()).transpose());
        // Whoever asked may wait no more.
        tell.send(answer).ok();
    });
    match told.recv_timeout(patience) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Disconnected) => Err(Failure::new(Code::Internal, "asking the daemon failed")),
        Err(RecvTimeoutError::Timeout) => {
            let message = format!("a daemon listens on {shown} and does not answer within {} s", patience.as_secs());
            Err(Failure::new(Code::Unreachable, message).hint("look at what it printed last, stop it, and start it again"))
        }
    }
}

fn exit(lines: &[CheckLine]) -> u8 {
    let first = lines.iter().find(|line| line.state == CheckState::Problem);
    let code = |line: &CheckLine| line.code.as_deref().and_then(Code::named).unwrap_or(Code::Internal);
    first.map_or(0, |line| code(line).exit())
}

fn text(line: &CheckLine) -> String {
    let found = format!("{:<8} {:<11} {}", line.state.word(), line.check, line.message);
    if line.hint.is_empty() { found } else { format!("{found}\n{:21}hint: {}", "", line.hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_never_answers_is_not_waited_for_beyond_doctor_timeout() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("api.sock");
        assert_eq!(ask(home.path().into(), Some(socket.clone()), DOCTOR_TIMEOUT), Ok(None));
        let _mute = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let failure = ask(home.path().into(), Some(socket), Duration::from_millis(1)).unwrap_err();
        assert_eq!(failure.code, Code::Unreachable);
    }

    #[test]
    fn the_exit_code_is_that_of_the_first_problem() {
        let line = |state, code: Option<&str>| CheckLine {
            check: "a".into(),
            state,
            message: "b".into(),
            hint: "c".into(),
            code: code.map(str::to_owned),
        };
        let (warn, full) = (line(CheckState::Warn, None), line(CheckState::Problem, Some("NO_SPACE")));
        assert_eq!(exit(std::slice::from_ref(&warn)), 0);
        assert_eq!(exit(&[warn.clone(), full, line(CheckState::Problem, Some("USAGE"))]), 7);
        assert_eq!(text(&warn), format!("warn     a           b\n{:21}hint: c", ""));
    }
}
