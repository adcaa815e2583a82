//! `keepwell node`

use clap::Subcommand;
use keepwell_protocol::units::TimeMs;

use super::context::Context;
use super::output::Stop;
use crate::service::types::NodeLine;

/// Look at the members of the network
#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// List all members
    Ls,
}

pub(super) fn run(command: NodeCommand, context: &mut Context) -> Result<u8, Stop> {
    let NodeCommand::Ls = command;
    for line in context.backend()?.nodes()? {
        context.out.line(&line, || text(&line))?;
    }
    Ok(0)
}

fn text(line: &NodeLine) -> String {
    let addresses = if line.addresses.is_empty() { "-".to_owned() } else { line.addresses.join(",") };
    let time = line.last_seen_ms.and_then(|ms| TimeMs::from_unix_ms(ms).ok());
    let sign = match (line.rtt_ms, time) {
        (Some(ms), _) => format!(" {ms}ms"),
        (None, Some(time)) if line.state == "absent" => format!(" last seen {time}"),
        _ => String::new(),
    };
    format!("{} {} {} {addresses}{sign}", line.name, line.state, line.node)
}
