//! `keepwell upload`

use clap::{Args, Subcommand};
use keepwell_protocol::name::OwnerName;
use keepwell_protocol::units::{SizeBytes, TimeMs};

use super::context::Context;
use super::output::{Stop, Tally};
use crate::service::uploads::UploadLine;

/// See what clients are uploading in pieces over HTTP, and give it up
#[derive(Debug, Subcommand)]
pub(super) enum UploadCommand {
    Ls(LsArgs),
    Rm(RmArgs),
}

/// List the uploads that have not been committed
#[derive(Debug, Args)]
pub(super) struct LsArgs {}

/// Give uploads up: what has come of them is removed
#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Which
    #[arg(value_name = "NAME", required = true)]
    names: Vec<OwnerName>,
}

pub(super) fn run(command: UploadCommand, context: &mut Context) -> Result<u8, Stop> {
    match command {
        UploadCommand::Ls(_) => list(context),
        UploadCommand::Rm(args) => remove(args, context),
    }
}

fn list(context: &mut Context) -> Result<u8, Stop> {
    for line in context.backend()?.uploads()? {
        context.out.line(&line, || text(&line))?;
    }
    Ok(0)
}

fn remove(args: RmArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    let mut tally = Tally::default();
    for name in args.names {
        match backend.remove_upload(&name) {
            Ok(line) => {
                tally.done();
                context.out.line(&line, || format!("{} is given up", line.name))?;
            }
            Err(failure) => {
                tally.failed(&failure);
                context.out.failure(&failure)?;
            }
        }
    }
    Ok(tally.exit())
}

fn text(line: &UploadLine) -> String {
    let UploadLine { name, offset_bytes, size_bytes, expires_ms, .. } = line;
    let of = size_bytes.map_or_else(String::new, |size_bytes| format!(" of {}", SizeBytes(size_bytes)));
    let until = TimeMs::from_unix_ms(*expires_ms).map_or_else(|_| expires_ms.to_string(), |time| time.to_string());
    format!("{name} {}{of} until {until}", SizeBytes(*offset_bytes))
}
