//! `keepwell stat`

use std::io;

use clap::Args;
use keepwell_protocol::uri::Target;

use super::context::Context;
use super::output::{Stop, Tally};
use crate::failure::Failure;
use crate::service::backend::Backend;
use crate::service::resolve::{Resolved, resolve};
use crate::service::stat::Asked;
use crate::service::types::StatLine;

/// Tell what is known of blobs, from records alone
///
/// unknown: no record anywhere; recorded: the catalog knows it, it is not here; here; verified: here, and read whole in the last
/// 30 days; linked: a file outside the home; trashed: deleted, and not gone yet.
#[derive(Debug, Args)]
pub(super) struct StatArgs {
    /// What to tell of: `sha1://HASH`, `sha1dir://HASH/path` or a ref; `-` reads one a line from standard input
    #[arg(value_name = "URI", required = true)]
    targets: Vec<String>,
}

pub(super) fn run(args: StatArgs, context: &mut Context) -> Result<u8, Stop> {
    let mut words = Vec::new();
    for word in args.targets {
        if word == "-" {
            let lines = io::read_to_string(io::stdin().lock());
            let lines = lines.map_err(|error| Failure::file("cannot read", "standard input".as_ref(), &error))?;
            words.extend(lines.lines().filter(|line| !line.is_empty()).map(str::to_owned));
        } else {
            words.push(word);
        }
    }
    let backend = context.backend()?;
    let (mut tally, mut asked) = (Tally::default(), Vec::new());
    for word in words {
        match blobs_of(&*backend, &word) {
            Ok(blobs) => asked.extend(blobs),
            Err(failure) => {
                tally.failed(&failure);
                context.out.failure(&failure.about("uri", word))?;
            }
        }
    }
    for line in backend.stat(&asked)? {
        tally.done();
        context.out.line(&line, || text(&line))?;
    }
    Ok(tally.exit())
}

fn blobs_of(backend: &dyn Backend, word: &str) -> Result<Vec<Asked>, Failure> {
    match word.parse::<Target>()? {
        Target::Blob(uri) => Ok(vec![(uri.sha1, uri.label)]),
        // The directory itself need not be here to be asked about.
        Target::Dir(uri) if uri.path.is_empty() => Ok(vec![(uri.blob.sha1, uri.blob.label)]),
        target => Ok(match resolve(backend, &target)? {
            Resolved::Blob(uri) => vec![(uri.sha1, uri.label)],
            Resolved::Tree(tree) => tree.files.into_iter().map(|(_, uri)| (uri.sha1, uri.label)).collect(),
        }),
    }
}

fn text(line: &StatLine) -> String {
    let size = line.size_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    let label = line.label.as_deref().unwrap_or("-").escape_debug();
    format!("{} {} {size} {label}", line.sha1, line.state.word())
}
