//! `keepwell join`

use clap::Args;
use keepwell_protocol::name::NodeName;
use keepwell_protocol::ticket::Ticket;
use keepwell_protocol::units::SizeBytes;

use super::context::Context;
use super::init::machine_name;
use super::output::Stop;
use crate::daemon::join::join;
use crate::service::types::JoinLine;

/// Make a home in a network that has invited this machine
///
/// The inviting node must be up. The command may be repeated with the same ticket if it is broken off.
#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    /// The ticket that `keepwell invite` printed there
    #[arg(value_name = "TICKET")]
    ticket: Ticket,
    /// What to call this node [default: the name of this machine]
    #[arg(long)]
    name: Option<NodeName>,
    /// How much this home may hold, such as 500GB or 2TiB
    #[arg(long, value_name = "SIZE")]
    max_size: Option<SizeBytes>,
}

pub(super) fn run(args: JoinArgs, context: &mut Context) -> Result<u8, Stop> {
    let location = context.location()?;
    let wait = context.lock_wait(&location)?;
    let name = args.name.map_or_else(machine_name, Ok)?;
    let joined = join(&location.path, wait, args.max_size, &name, &args.ticket)?;
    let network_name = args.ticket.network_name.to_string();
    let line = JoinLine {
        home: location.path.display().to_string(),
        name: name.to_string(),
        node: joined.node.to_string(),
        network: args.ticket.network.to_string(),
        network_name: network_name.clone(),
        via: joined.via.clone(),
    };
    context.out.line(&line, || line.home.clone())?;
    context.out.note(&format!("node {name} joined network {network_name} via {}; run `keepwell up` to take part", joined.via))?;
    Ok(0)
}
