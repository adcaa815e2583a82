//! `keepwell ref`

mod get;
mod ls;
mod rm;
mod set;

use clap::Subcommand;

use super::context::Context;
use super::output::Stop;
use crate::service::types::RefLine;

/// Name data: set, read, list and remove refs
#[derive(Debug, Subcommand)]
pub(super) enum RefCommand {
    Set(set::SetArgs),
    Get(get::GetArgs),
    Ls(ls::LsArgs),
    Touch(get::TouchArgs),
    Rm(rm::RmArgs),
}

pub(super) fn run(command: RefCommand, context: &mut Context) -> Result<u8, Stop> {
    match command {
        RefCommand::Set(args) => set::run(args, context),
        RefCommand::Get(args) => get::run(args, context),
        RefCommand::Ls(args) => ls::run(args, context),
        RefCommand::Touch(args) => get::touch(args, context),
        RefCommand::Rm(args) => rm::run(args, context),
    }
}

/// The line that says how well a ref is kept.
pub(super) fn set_note(line: &RefLine) -> String {
    let unproven = line.unproven.as_deref().unwrap_or_default().join(", ");
    let unproven = if unproven.is_empty() { unproven } else { format!("; not proven by {unproven}") };
    format!("{}/{} {} durable {} of {}{unproven}", line.group, line.key, line.rev, line.durable, line.copies)
}
