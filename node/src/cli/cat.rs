//! `keepwell cat`

use clap::Args;
use keepwell_protocol::id::BlobId;
use keepwell_protocol::uri::Target;

use super::context::Context;
use super::output::{Stop, stdout_failed};
use crate::service::bring::with_target;
use crate::service::cat::{ByteRange, open};
use crate::service::read::ReadError;
use crate::service::uses::was_read;

/// Print the bytes of a blob as they are, also with --json
#[derive(Debug, Args)]
pub(super) struct CatArgs {
    /// What to print: `sha1://HASH`, `sha1dir://HASH/path`, `group/key` or `keepwell://group/key/field`
    #[arg(value_name = "URI|REF")]
    target: Target,
    /// Only the bytes from A up to, and without, B, counted from 0; `A-` is from A to the end
    #[arg(long, value_name = "A-B")]
    range: Option<ByteRange>,
}

pub(super) fn run(args: CatArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    let mut fetch = |blobs: &[BlobId], extent| context.out.fetch(&*backend, blobs, extent);
    let work = || open(&*backend, &args.target, args.range);
    let (blob, range) = with_target(&*backend, &args.target, &mut fetch, work)?;
    was_read(&*backend, &args.target);
    match blob.copy_range(range, &mut |piece| context.out.raw(piece)) {
        Ok(()) => Ok(0),
        Err(ReadError::Failed(failure)) => Err(failure.into()),
        Err(ReadError::Sink(error)) => Err(stdout_failed(error)),
    }
}
