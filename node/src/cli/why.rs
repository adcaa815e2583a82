//! `keepwell why`

use clap::Args;
use keepwell_protocol::units::TimeMs;
use keepwell_protocol::uri::Target;

use super::context::Context;
use super::output::Stop;
use crate::service::bring::roots;
use crate::service::why::{RootLine, WhyLine};

/// Tell why a blob is kept here, or what stands in the way of its going
///
/// Each ref, lease and grace that reaches it, with the shortest path over the links; who holds it; and what is missing before this
/// machine could delete it.
#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// What to tell of
    #[arg(value_name = "URI|REF")]
    target: Target,
}

pub(super) fn run(args: WhyArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    for root in roots(&*backend, &args.target)? {
        let line = backend.why(&root)?;
        context.out.line(&line, || text(&line))?;
    }
    Ok(0)
}

fn text(line: &WhyLine) -> String {
    let names: Vec<&str> = line.holders.iter().map(|holder| holder.name.as_str()).collect();
    let holders = if names.is_empty() { "-".to_owned() } else { names.join(",") };
    let live = if line.live { "live" } else { "not live" };
    let mut lines = vec![format!("{} {} {live} copies {holders} of {}", line.sha1, line.state.word(), line.copies_wanted)];
    lines.extend(line.roots.iter().map(root_text));
    if line.more {
        lines.push("  and perhaps more".to_owned());
    }
    lines.extend(line.missing.iter().map(|missing| format!("  stays until: {} ({})", missing.need, missing.why)));
    lines.join("\n")
}

fn root_text(root: &RootLine) -> String {
    let until = root.until_ms.and_then(|ms| TimeMs::from_unix_ms(ms).ok());
    let until = until.map(|time| format!(" until {time}")).unwrap_or_default();
    let kind = if root.kind == "ingest" { "grace" } else { &root.kind };
    // The last one is the blob itself, which stands above.
    let links = root.path.len().saturating_sub(1);
    let path: String = root.path.iter().take(links).map(|sha1| format!(" > {sha1}")).collect();
    format!("  {kind} {}{until}{path}", root.name)
}
