//! `keepwell where`

use clap::Args;
use keepwell_protocol::uri::Target;

use super::context::Context;
use super::output::Stop;
use crate::service::bring::roots;
use crate::service::types::WhereLine;

/// Tell which nodes hold a blob, or what a ref names
///
/// As the nodes have said; it is not asked of them now.
#[derive(Debug, Args)]
pub(super) struct WhereArgs {
    /// What to tell of
    #[arg(value_name = "URI|REF")]
    target: Target,
}

pub(super) fn run(args: WhereArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    for root in roots(&*backend, &args.target)? {
        let line = backend.holders(&root)?;
        context.out.line(&line, || text(&line))?;
    }
    Ok(0)
}

fn text(line: &WhereLine) -> String {
    let size = line.size_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    let names: Vec<&str> = line.holders.iter().map(|holder| holder.name.as_str()).collect();
    format!("{} {size} {}", line.sha1, if names.is_empty() { "-".to_owned() } else { names.join(",") })
}
