//! `keepwell ref ls`

use clap::Args;
use keepwell_protocol::id::BlobId;
use keepwell_protocol::json::Filter;
use keepwell_protocol::units::{SizeBytes, TimeMs, parse_expires};
use keepwell_protocol::uri::Target;

use super::super::context::{Context, now_ms};
use super::super::output::Stop;
use crate::failure::Failure;
use crate::service::list::{Query, Under};
use crate::service::types::{NextLine, RefLine};

/// List refs by name
#[derive(Debug, Args)]
pub(in super::super) struct LsArgs {
    /// Whose names match: `*` is anything within a part, `**` anything, `?` one character
    #[arg(value_name = "GLOB")]
    glob: Option<String>,
    /// Only refs that name this blob, or something that links to it
    #[arg(long, value_name = "URI")]
    contains: Option<Target>,
    /// Only refs whose meta is so: KEY, KEY=VALUE, or `<`, `<=`, `>`, `>=` in place of `=`; may be given more than once
    ///
    /// KEY is the name of a member, or a JSON pointer such as /subject/age. Numbers compare as numbers, strings by their bytes. In a shell, quote it.
    #[arg(long, value_name = "CONDITION")]
    meta: Vec<Filter>,
    /// Only refs that lapse before this time, or within this duration from now
    #[arg(long, value_name = "TIME")]
    expires_before: Option<String>,
    /// Only refs that this node has written, by its name or id
    #[arg(long, value_name = "NODE")]
    set_by: Option<String>,
    /// Only refs of whose blobs some are not on this machine
    #[arg(long)]
    missing: bool,
    /// Only refs of whose blobs some are on fewer than N machines, as far as is known; without N, on fewer than the ref asks for
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "asked")]
    under_copies: Option<Under>,
    /// Also count all that each ref reaches: its blobs and bytes, how many are here, and on how many machines the rarest is
    #[arg(long)]
    sizes: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on where a list was cut: the `next` that it ended with
    #[arg(long, value_name = "NEXT")]
    cursor: Option<String>,
    /// Also print rev, author, time, expiry and state
    #[arg(long)]
    long: bool,
}

pub(super) fn run(args: LsArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    let long = args.long;
    let expires_before = args.expires_before.as_deref().map(|text| parse_expires(text, now_ms())).transpose()?;
    let query = Query {
        glob: args.glob,
        contains: args.contains.as_ref().map(blob_of).transpose()?,
        meta: args.meta,
        expires_before_ms: expires_before.map(TimeMs::unix_ms),
        set_by: args.set_by,
        missing: args.missing,
        under_copies: args.under_copies,
        reach: args.sizes,
        limit: args.limit,
        cursor: args.cursor,
    };
    let mut stopped = None;
    let listed = backend.list_refs(&query, &mut |line| {
        context.out.line(&line, || if long { long_text(&line) } else { name(&line) }).map_err(|stop| {
            stopped = Some(stop);
            Failure::usage("stopped")
        })
    });
    if let Some(stop) = stopped {
        return Err(stop);
    }
    if let Some(next) = listed? {
        let note = format!("more: --cursor {next}");
        if context.is_json() { context.out.line(&NextLine { next }, String::new)? } else { context.out.note(&note)? }
    }
    Ok(0)
}

fn blob_of(target: &Target) -> Result<BlobId, Failure> {
    match target {
        Target::Blob(uri) => Ok(uri.sha1),
        Target::Dir(uri) => Ok(uri.blob.sha1),
        Target::Ref(_) => Err(Failure::usage(format!("{target} is not the URI of a blob")).hint("write it as `sha1://HASH`")),
    }
}

/// The name, and what it reaches where that was counted.
fn name(line: &RefLine) -> String {
    let name = format!("{}/{}", line.group, line.key);
    let Some(reach) = line.reach else { return name };
    let (size, copies) = (SizeBytes(reach.size_bytes).human(), reach.copies);
    format!("{name}\t{size}\t{} of {} blobs here\t{copies} of {} copies", reach.here, reach.blobs, line.copies)
}

fn long_text(line: &RefLine) -> String {
    let time = |unix_ms| TimeMs::from_unix_ms(unix_ms).map_or_else(|_| "-".to_owned(), |time| time.to_string());
    let expires = line.expires_ms.map_or_else(|| "-".to_owned(), time);
    let set_at = time(line.set_at_ms);
    [name(line).as_str(), &line.rev, &line.set_by, &set_at, &expires, &line.state].join("\t")
}
