//! `keepwell up`

use clap::Args;

use super::context::Context;
use super::output::Stop;
use crate::daemon::up::{Duties, Reach, ReadyLine, up};
use crate::failure::Failure;

/// Run the daemon of this home in the foreground; SIGTERM or Ctrl-C stops it
///
/// It is ready when it says so: `ready NAME LISTEN API` on standard error, or a JSON event as the first line of standard output.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// Where to listen for other nodes, such as /ip4/0.0.0.0/tcp/4077; port 0 is any [default: what the settings say]
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<String>,
    /// Look for other members in the local network, by multicast DNS, and let them find this one [default: what the settings say]
    ///
    /// Everybody in that network can then see that a node with this id is here. Only members are talked to, found or not.
    #[arg(long)]
    mdns: bool,
    /// Where to listen for programs besides the socket of the home; not built yet
    #[arg(long, value_name = "HOST:PORT")]
    api: Option<String>,
}

pub(super) fn run(args: UpArgs, context: &mut Context) -> Result<u8, Stop> {
    if args.api.is_some() {
        return Err(not_built("--api").into());
    }
    let location = context.location()?;
    let config = context.config(&location)?;
    let max_size = config.max_size.value;
    let duties = Duties { engine: config.of_daemon(), scrub: config.scrub.keys() };
    let listen = if args.listen.is_empty() { config.listen.value } else { args.listen };
    let socket = context.socket(&location).ok_or_else(|| {
        Failure::usage(format!("the path of the home is too long for a socket: {}", location.path.display()))
            .hint("set XDG_RUNTIME_DIR to a short path, or move the home")
    })?;
    let wait = context.lock_wait_of_daemon(&location)?;
    let mut said = Ok(());
    let reach = Reach { listen, mdns: args.mdns || config.mdns.value };
    up(&location.path, wait, max_size, &socket, reach, duties, |line| {
        said = tell(line, context);
        Ok(())
    })?;
    said?;
    Ok(0)
}

fn tell(line: &ReadyLine, context: &mut Context) -> Result<(), Stop> {
    if context.is_json() {
        context.out.line(line, String::new)?;
        return context.out.flush();
    }
    let listen = if line.listen.is_empty() { "-".to_owned() } else { line.listen.join(",") };
    context.out.note(&format!("ready {} {listen} {}", line.name, line.api.join(",")))
}

fn not_built(flag: &str) -> Failure {
    Failure::usage(format!("{flag} is not built yet")).hint("leave it out: the daemon listens on the socket of its home")
}
