//! `keepwell fsck`

use clap::Args;

use super::context::Context;
use super::output::Stop;
use crate::failure::Code;
use crate::service::fsck::{FsckOptions, fsck};
use crate::service::types::{FsckLine, ProblemLine};

/// Check this home: records against the disk, the disk against the records, and, while no daemon runs, tables against the log
#[derive(Debug, Args)]
pub(super) struct FsckArgs {
    /// Read every byte of every blob, and of the index
    #[arg(long)]
    verify: bool,
    /// Mend what can be mended; what must go is moved to `quarantine/`, nothing is deleted. The daemon must be stopped for it
    #[arg(long)]
    repair: bool,
}

pub(super) fn run(args: FsckArgs, context: &mut Context) -> Result<u8, Stop> {
    let mut stopped = Ok(());
    // What is mended must not be at work.
    let sum = if args.repair {
        let local = context.embedded()?;
        let options = FsckOptions { verify: args.verify, repair: true };
        fsck(&local, options, &mut |line| tell(context, &line, &mut stopped))?
    } else {
        let backend = context.backend()?;
        backend.fsck(args.verify, &mut |line| tell(context, &line, &mut stopped))?
    };
    stopped?;
    context.out.line(&sum, || sum_text(&sum))?;
    if let Some(note) = sum.unchecked.iter().find_map(|what| unchecked_text(what, args.verify)) {
        context.out.note(note)?;
    }
    if !sum.ok && !args.repair {
        context.out.note("hint: put the originals again, or mend what can be mended with `keepwell fsck --repair`")?;
    }
    Ok(if sum.ok { 0 } else { Code::Integrity.exit() })
}

fn tell(context: &mut Context, line: &ProblemLine, stopped: &mut Result<(), Stop>) {
    if stopped.is_ok() {
        *stopped = context.out.line(line, || problem_text(line));
    }
}

fn problem_text(line: &ProblemLine) -> String {
    let what = line.sha1.as_ref().or(line.path.as_ref()).map_or("home", String::as_str);
    let refs = if line.refs.is_empty() { String::new() } else { format!("; needed by {}", line.refs.join(", ")) };
    let repair = line.repair.as_ref().map(|repair| format!("; {repair}")).unwrap_or_default();
    format!("{what} {}: {}{refs}{repair}", line.problem, line.detail)
}

/// What it means that this was not looked at.
fn unchecked_text(what: &str, verify: bool) -> Option<&'static str> {
    match (what, verify) {
        ("index", true) => {
            Some("note: too much was written while the index was read, or the disk was full: check again for that")
        }
        ("index", false) => {
            Some("note: the index is compared with its checksums by `--verify`, and with the log while the daemon is stopped")
        }
        ("tables", _) => Some("note: the index is compared with the log only while the daemon is stopped"),
        _ => None,
    }
}

fn sum_text(sum: &FsckLine) -> String {
    let verdict = if sum.ok { "ok" } else { "not ok" };
    format!("{verdict}: {} blobs checked, {} problems, {} mended", sum.checked, sum.problems, sum.repaired)
}
