//! `keepwell fetch`

use clap::Args;
use keepwell_protocol::uri::Target;

use super::context::Context;
use super::output::{Stop, Tally};
use crate::failure::Failure;
use crate::service::bring::bring;
use crate::service::embedded::needs_daemon;
use crate::service::types::FetchLine;
use crate::service::uses::was_read;

/// Bring blobs here from other nodes, with all that they refer to
///
/// What is here already is not fetched again; a fetch that was broken off goes on where it was.
#[derive(Debug, Args)]
pub(super) struct FetchArgs {
    /// What to fetch: `sha1://HASH`, `sha1dir://HASH`, or a ref, for everything that it names; of `sha1dir://HASH/path`, that path alone
    #[arg(value_name = "URI|REF", required = true)]
    targets: Vec<Target>,
}

pub(super) fn run(args: FetchArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    let mut tally = Tally::default();
    for target in &args.targets {
        let about = |failure: Failure| failure.about("uri", target.to_string());
        let fetched = bring(&*backend, target, &mut |blobs, extent| context.out.fetch(&*backend, blobs, extent));
        let outcomes = match fetched {
            Ok(Some(outcomes)) => outcomes,
            Ok(None) => return Err(needs_daemon("fetching", "it has the connections to other nodes").into()),
            Err(failure) => vec![Err(failure)],
        };
        for outcome in outcomes {
            match outcome {
                Ok(line) => {
                    tally.done();
                    context.out.line(&line, || text(&line))?;
                }
                Err(failure) => {
                    tally.failed(&failure);
                    context.out.failure(&about(failure))?;
                }
            }
        }
        was_read(&*backend, target);
    }
    Ok(tally.exit())
}

fn text(line: &FetchLine) -> String {
    match line.existed {
        true => format!("{} {} bytes, all here", line.sha1, line.size_bytes),
        false => {
            format!("{} {} bytes, {} received from {}", line.sha1, line.size_bytes, line.received_bytes, line.from.join(", "))
        }
    }
}
