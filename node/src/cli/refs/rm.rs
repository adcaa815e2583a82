//! `keepwell ref rm`: one ref, or all that a pattern matches.

use clap::Args;
use keepwell_protocol::name::RefName;

use super::super::context::Context;
use super::super::output::{Stop, Tally};
use crate::failure::{Code, Failure};
use crate::limits::REMOVE_BATCH_REFS;
use crate::service::backend::Backend;
use crate::service::list::Query;
use crate::service::refs::rev_of;
use crate::service::types::RefLine;

/// Remove a ref and print the object that it had
#[derive(Debug, Args)]
pub(in super::super) struct RmArgs {
    /// The ref
    #[arg(value_name = "GROUP/KEY", required_unless_present = "glob")]
    name: Option<RefName>,
    /// Only if this is its rev
    #[arg(long, value_name = "REV", conflicts_with = "glob")]
    if_rev: Option<String>,
    /// Show the refs whose names match, which --run removes: `*` is anything within a part, `**` anything, `?` one character
    #[arg(long, value_name = "GLOB", conflicts_with = "name")]
    glob: Option<String>,
    /// Remove them; without this nothing changes
    #[arg(long, conflicts_with = "name")]
    run: bool,
}

pub(super) fn run(args: RmArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    let Some(name) = args.name else { return matching(args.glob, args.run, &*backend, context) };
    let line = backend.remove_ref(&name, args.if_rev.map(rev_of))?;
    context.out.line(&line, || line.obj.to_compact_sorted())?;
    Ok(0)
}

/// Shows what matches, and removes it if asked to: each ref only if it still has the value that was shown.
fn matching(glob: Option<String>, runs: bool, backend: &dyn Backend, context: &mut Context) -> Result<u8, Stop> {
    let mut lines = Vec::new();
    backend.list_refs(&Query { glob, ..Query::default() }, &mut |line| {
        lines.push(line);
        Ok(())
    })?;
    if !runs {
        lines.iter().try_for_each(|line| context.out.line(line, || name_of(line)))?;
        context.out.note(&format!("{} refs would be removed; --run removes them", lines.len()))?;
        return Ok(0);
    }
    let mut tally = Tally::default();
    for portion in lines.chunks(REMOVE_BATCH_REFS) {
        for (line, removed) in portion.iter().zip(remove(backend, portion)?) {
            match removed {
                Ok(()) => {
                    tally.done();
                    context.out.line(line, || name_of(line))?;
                }
                Err(failure) => {
                    tally.failed(&failure);
                    context.out.failure(&failure.about("ref", name_of(line)))?;
                }
            }
        }
    }
    Ok(tally.exit())
}

/// Removes them together; where one has changed meanwhile, one by one, so that it alone stays.
fn remove(backend: &dyn Backend, lines: &[RefLine]) -> Result<Vec<Result<(), Failure>>, Failure> {
    let named = lines.iter().map(|line| Ok((name_of(line).parse()?, line.rev.clone())));
    let named = named.collect::<Result<Vec<(RefName, String)>, Failure>>()?;
    match backend.remove_refs(&named) {
        Ok(()) => Ok(lines.iter().map(|_| Ok(())).collect()),
        Err(failure) if matches!(failure.code, Code::RevMismatch | Code::NotFound) => {
            Ok(named.into_iter().map(|(name, rev)| backend.remove_ref(&name, Some(rev)).map(drop)).collect())
        }
        Err(failure) => Err(failure),
    }
}

fn name_of(line: &RefLine) -> String {
    format!("{}/{}", line.group, line.key)
}
