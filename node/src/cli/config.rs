//! `keepwell config`

use clap::{Args, Subcommand};

use super::context::Context;
use super::output::Stop;
use crate::home::{Location, config_file};
use crate::service::types::ConfigLine;

/// Show and check the settings of a home
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    Show(ShowArgs),
    Check(CheckArgs),
}

/// Print every setting
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Tell where each value came from: a flag, the environment, a line of config.toml, or the default
    #[arg(long)]
    origin: bool,
}

/// Check config.toml and the environment
#[derive(Debug, Args)]
pub(super) struct CheckArgs {}

pub(super) fn run(command: ConfigCommand, context: &mut Context) -> Result<u8, Stop> {
    let location = context.location()?;
    let lines = lines(context, &location)?;
    match command {
        ConfigCommand::Show(ShowArgs { origin }) => {
            for line in lines {
                let tail = if origin { format!("  # {}", line.origin) } else { String::new() };
                context.out.line(&line, || format!("{} = {:?}{tail}", line.key, line.value))?;
            }
        }
        ConfigCommand::Check(CheckArgs {}) => {
            let path = config_file(&location.path).display().to_string();
            let checked = serde_json::json!({ "path": path, "ok": true });
            context.out.line(&checked, || format!("{path}: ok"))?;
        }
    }
    Ok(0)
}

fn lines(context: &Context, location: &Location) -> Result<Vec<ConfigLine>, Stop> {
    let home = ("home", location.path.display().to_string(), location.origin);
    let rows = std::iter::once(home).chain(context.config(location)?.rows());
    Ok(rows.map(|(key, value, origin)| ConfigLine { key: key.into(), value, origin: origin.to_string() }).collect())
}
