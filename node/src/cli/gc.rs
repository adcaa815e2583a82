//! `keepwell gc`, `keepwell drop` and `keepwell undrop`

use clap::Args;
use keepwell_protocol::id::BlobId;
use keepwell_protocol::units::{DurationMs, SizeBytes};
use keepwell_protocol::uri::BlobUri;

use super::context::Context;
use super::output::{Stop, Tally};
use crate::failure::{Code, Failure};
use crate::service::gc::Wish;
use crate::service::types::{GcItemLine, GcReport};

/// Show what would be deleted because no ref needs it, or delete it
///
/// A blob goes when no ref reaches it, its grace after the put is over, and every other node knows so. It can be brought back for a
/// day with `keepwell undrop`. A daemon does so by itself, unless `auto` under `[gc]` in config.toml is false.
#[derive(Debug, Args)]
pub(super) struct GcArgs {
    /// Delete it; without this nothing changes
    #[arg(long)]
    run: bool,
    /// Delete only until so much is freed, such as 2GiB, and free its space at once: it cannot be brought back
    #[arg(long, value_name = "SIZE", requires = "run")]
    to_free: Option<SizeBytes>,
    /// How long a blob stays after it was put although no ref needs it [default: what the settings say, else 24h]
    #[arg(long, value_name = "DURATION")]
    grace: Option<DurationMs>,
}

/// Give up copies on this machine, or on another, that other machines prove they keep
///
/// Nothing goes unless, right now, as many other machines prove that they hold it as the refs ask for that need it. What is given up
/// can be brought back for a day with `keepwell undrop`, and fetched again at any time.
#[derive(Debug, Args)]
pub(super) struct DropArgs {
    /// What to give up: `sha1://HASH`
    #[arg(value_name = "URI", required = true)]
    blobs: Vec<BlobUri>,
    /// Ask another machine to give up its own copies, by its name or id: it asks the others itself, and says what it came to
    #[arg(long, value_name = "NODE")]
    from: Option<String>,
    /// Give up this machine's own copies even where no other machine proves one, so that nobody may have the data any more
    ///
    /// Leases and the grace of a put still keep them. It is written to the audit log with who asked for it.
    #[arg(long, conflicts_with = "from")]
    allow_last_copy: bool,
}

/// Bring deleted blobs back, while they are still in the trash
#[derive(Debug, Args)]
pub(super) struct UndropArgs {
    /// What to bring back: `sha1://HASH`
    #[arg(value_name = "URI", required = true)]
    blobs: Vec<BlobUri>,
}

pub(super) fn run(args: GcArgs, context: &mut Context) -> Result<u8, Stop> {
    let to_free_bytes = args.to_free.map(|size| size.0);
    let wish = Wish { run: args.run, grace_ms: args.grace.map(|grace| grace.0), to_free_bytes };
    let GcReport { blobs: items, summary, .. } = context.backend()?.collect(wish)?;
    let blocked = items.iter().filter(|item| item.blocked_by.is_some()).count();
    for item in &items {
        context.out.line(item, || text(item))?;
    }
    context.out.line(&summary, || {
        let size = SizeBytes(items.iter().map(|item| item.size_bytes).sum()).human();
        let kept: Vec<String> = summary.kept.iter().map(|(why, count)| format!("{count} by {why}")).collect();
        let kept = if kept.is_empty() { "nothing".to_owned() } else { kept.join(", ") };
        let trash = SizeBytes(summary.trash_bytes).human();
        match summary.run {
            true => {
                let failed = match summary.unlinks_failed {
                    0 => String::new(),
                    failed => format!("; {failed} files could not be moved away: see `keepwell doctor`"),
                };
                format!("freed {}; kept {kept}; {trash} in the trash{failed}", SizeBytes(summary.freed_bytes).human())
            }
            false => format!("{} blobs, {size}, could go; kept {kept}; {trash} in the trash", summary.candidates),
        }
    })?;
    if let Some(size) = args.to_free {
        return if summary.freed_bytes >= size.0 { Ok(0) } else { Err(too_little(size, &items, summary.freed_bytes).into()) };
    }
    if !args.run || blocked == 0 {
        return Ok(0);
    }
    Ok(if blocked == items.len() { Code::Unsafe.exit() } else { Code::Partial.exit() })
}

pub(super) fn drop_copies(args: DropArgs, context: &mut Context) -> Result<u8, Stop> {
    let blobs: Vec<BlobId> = args.blobs.iter().map(|uri| uri.sha1).collect();
    let backend = context.backend()?;
    let lines = match args.allow_last_copy {
        true => backend.give_up(&blobs)?,
        false => backend.drop_copies(&blobs, args.from.as_deref())?,
    };
    for line in &lines {
        if !line.refs.is_empty() {
            context.out.note(&missed(&line.sha1, &line.refs))?;
        }
        context.out.line(line, || match line.dropped {
            true => format!("{} is given up", line.sha1),
            false => format!("{} stays: {}", line.sha1, line.why()),
        })?;
    }
    let kept = lines.iter().filter(|line| !line.dropped).count();
    Ok(match kept {
        0 => 0,
        _ if kept == lines.len() => Code::Unsafe.exit(),
        _ => Code::Partial.exit(),
    })
}

/// What the refs have lost that reach a blob whose copy here went without proof of others.
fn missed(sha1: &str, refs: &[String]) -> String {
    let named = refs.iter().take(NAMED_REFS).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = refs.len().saturating_sub(NAMED_REFS);
    let more = if more > 0 { format!(" and {more} more refs") } else { String::new() };
    format!(
        "{named}{more} now miss {sha1} on this machine; `keepwell where` tells who else holds it, `keepwell undrop` takes it back"
    )
}

/// Refs that are named one by one.
const NAMED_REFS: usize = 10;

pub(super) fn undrop(args: UndropArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    let mut tally = Tally::default();
    for uri in args.blobs {
        match backend.undrop(&uri.sha1) {
            Ok(line) => {
                tally.done();
                context.out.line(&line, || format!("{} is here", line.sha1))?;
            }
            Err(failure) => {
                tally.failed(&failure);
                context.out.failure(&failure.about("uri", uri.to_string()))?;
            }
        }
    }
    Ok(tally.exit())
}

fn too_little(wanted: SizeBytes, items: &[GcItemLine], freed_bytes: u64) -> Failure {
    let mut missing: Vec<&str> = items.iter().filter_map(|item| item.blocked_by.as_deref()).collect();
    missing.dedup();
    let why = if missing.is_empty() { "nothing else is without need".to_owned() } else { missing.join("; ") };
    let freed = SizeBytes(freed_bytes);
    Failure::new(Code::Unsafe, format!("only {} of {} could be freed: {why}", freed.human(), wanted.human()))
        .hint("`keepwell gc` shows what is kept and why; `--grace 0s` takes what was put lately too")
        .about("missing", missing)
}

fn text(item: &GcItemLine) -> String {
    let blocked = item.blocked_by.as_ref().map(|why| format!(" (not now: {why})")).unwrap_or_default();
    format!("{} {} {} {}{blocked}", item.action, item.sha1, item.size_bytes, item.reason)
}
