//! `keepwell get`

use std::path::PathBuf;

use clap::Args;
use keepwell_protocol::id::BlobId;
use keepwell_protocol::uri::Target;

use super::context::Context;
use super::output::Stop;
use crate::files::Overwrite;
use crate::service::bring::with_target;
use crate::service::get::get;
use crate::service::uses::was_read;

/// Write a blob to a file, or a directory or the fields of a ref to a tree of files
///
/// Without --to it is called by its label, or its hash, in the present folder. The path is printed.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// What to get: `sha1://HASH`, `sha1dir://HASH/path`, `group/key` or `keepwell://group/key/field`
    #[arg(value_name = "URI|REF")]
    target: Target,
    /// Where to write it; a file goes into a directory that is there
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: GetArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    let overwrite = if args.force { Overwrite::Yes } else { Overwrite::No };
    let bar = context.out.bar(0);
    let mut fetch = |blobs: &[BlobId], extent| context.out.fetch(&*backend, blobs, extent);
    let mut work = || get(&*backend, &args.target, args.to.as_deref(), overwrite, &mut |bytes| bar.inc(bytes));
    let line = with_target(&*backend, &args.target, &mut fetch, &mut work);
    bar.finish_and_clear();
    let line = line?;
    was_read(&*backend, &args.target);
    context.out.line(&line, || line.path.clone())?;
    Ok(0)
}
