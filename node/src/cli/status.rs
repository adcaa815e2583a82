//! `keepwell status`

use clap::Args;

use super::context::Context;
use super::output::Stop;
use crate::service::index::NEXT_STEP;
use crate::service::types::{PressureLine, StatusLine};
use keepwell_protocol::units::SizeBytes;

/// Tell how this node does
#[derive(Debug, Args)]
pub(super) struct StatusArgs {}

pub(super) fn run(_args: StatusArgs, context: &mut Context) -> Result<u8, Stop> {
    let location = context.location()?;
    let max_size = context.config(&location)?.max_size.value;
    let line = context.backend()?.status(max_size.map(|size| size.0))?;
    context.out.line(&line, || text(&line))?;
    Ok(0)
}

fn pressure(line: &StatusLine) -> String {
    let PressureLine { pressure, to_free_bytes, waiting_for } = &line.pressure;
    if *to_free_bytes == 0 {
        return pressure.clone();
    }
    let why: String = waiting_for.iter().map(|why| format!("; {why}")).collect();
    format!("{pressure}: {} should be freed{why}", SizeBytes(*to_free_bytes).human())
}

fn text(line: &StatusLine) -> String {
    let daemon = if line.daemon { "running" } else { "not running" };
    let limit = line.max_size_bytes.map(|bytes| format!(" of {}", SizeBytes(bytes).human())).unwrap_or_default();
    let size = SizeBytes(line.size_bytes).human();
    let converged = if line.converged { "yes".to_owned() } else { format!("waiting for {}", line.unacknowledged.join(", ")) };
    let clock = line.clock.reason.as_deref().map(|why| format!("\nclock      {why}: no ref expires by it")).unwrap_or_default();
    let connected = line.peers.iter().filter(|peer| peer.connected).count();
    let mut lines = vec![
        format!("node       {} ({})", line.name, line.node),
        format!("network    {}", line.network),
        format!("daemon     {daemon}"),
        format!("peers      {connected} of {} connected", line.peers.len()),
        format!("blobs      {}, {size}{limit}", line.blobs),
        format!("trash      {}", SizeBytes(line.trash_bytes).human()),
        format!("pressure   {}", pressure(line)),
        format!("refs       {}", line.refs),
        format!("converged  {converged}{clock}"),
    ];
    if let Some((what, hint)) = line.standing.advice() {
        lines.insert(0, format!("standing   {what}\n           {hint}"));
    }
    if line.index_damaged {
        lines.insert(0, format!("index      damaged, so nothing is deleted here\n           {NEXT_STEP}"));
    }
    if line.unlinks_failed > 0 {
        lines.push(format!(
            "unlinks    {} files of deleted blobs could not be moved away: see `keepwell doctor`",
            line.unlinks_failed
        ));
    }
    lines.join("\n")
}
