//! `keepwell init`

use clap::Args;
use keepwell_protocol::name::{NetworkName, NodeName};
use keepwell_protocol::units::SizeBytes;

use super::context::Context;
use super::output::Stop;
use crate::failure::Failure;
use crate::home::HomeError;
use crate::local::Local;
use crate::service::types::InitLine;

/// Make a home: an identity, and a private network of one
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// What to call this node [default: the name of this machine]
    #[arg(long)]
    name: Option<NodeName>,
    /// What to call the network
    #[arg(long, value_name = "NAME", default_value = "home")]
    network: NetworkName,
    /// How much this home may hold, such as 500GB or 2TiB
    #[arg(long, value_name = "SIZE")]
    max_size: Option<SizeBytes>,
}

pub(super) fn run(args: InitArgs, context: &mut Context) -> Result<u8, Stop> {
    let location = context.location()?;
    if context.daemon(&location)?.is_some() {
        return Err(Failure::from(HomeError::Exists(location.path))
            .hint("its daemon runs; look at it with `keepwell status`")
            .into());
    }
    let wait = context.lock_wait(&location)?;
    let name = args.name.map_or_else(machine_name, Ok)?;
    let local = Local::init(&location.path, wait, args.max_size, args.network.clone(), name.clone())?;
    let home = local.engine().home().clone();
    let line = InitLine {
        home: location.path.display().to_string(),
        name: name.to_string(),
        node: home.node.to_string(),
        network: home.network.to_string(),
        network_name: args.network.to_string(),
    };
    context.out.line(&line, || line.home.clone())?;
    context.out.note(&format!("node {name} of network {}; store something with `keepwell put FILE`", args.network))?;
    Ok(0)
}

/// The first part of the machine's name.
pub(super) fn machine_name() -> Result<NodeName, Failure> {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let short = host.split('.').next().unwrap_or_default();
    NodeName::parse(short).map_err(|error| Failure::from(error).hint("this machine's name will not do: pass --name NAME"))
}
