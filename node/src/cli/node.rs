//! `keepwell node`

use clap::Subcommand;
use keepwell_protocol::units::TimeMs;

use super::context::Context;
use super::output::Stop;
use crate::service::types::NodeLine;

/// Look at the members of the network, say which ones are gone for good, and remove some
#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// List all members
    Ls,
    /// Declare a member dead: nobody waits for it any more, and its copies do not count
    ///
    /// For an admin, about a machine that will not come back. What it names stays named. If it does come back, `node revive` takes this back.
    Dead {
        /// Which: its name or id
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Take back that a member is dead
    Revive {
        /// Which: its name or id
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Remove a member: it is none any more, and only what this machine has heard of it so far counts
    ///
    /// For an admin, about a machine that is lost to somebody else, or that does harm. Whatever it writes from now on, and whatever it wrote that
    /// has not arrived here, is void on all machines; what it deleted in that comes back. Its copies count no more, so others are made. It
    /// comes back with a new home and a new invitation.
    Remove {
        /// Which: its name or id
        #[arg(value_name = "NODE")]
        node: String,
    },
}

pub(super) fn run(command: NodeCommand, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    let lines = match command {
        NodeCommand::Ls => backend.nodes()?,
        NodeCommand::Dead { node } => vec![backend.declare(&node, true)?],
        NodeCommand::Revive { node } => vec![backend.declare(&node, false)?],
        NodeCommand::Remove { node } => vec![backend.remove_member(&node)?],
    };
    for line in lines {
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
