//! `keepwell lease`

use clap::{Args, Subcommand};
use keepwell_protocol::id::{BlobId, LeaseId};
use keepwell_protocol::name::OwnerName;
use keepwell_protocol::units::{DurationMs, TimeMs};
use keepwell_protocol::uri::Target;

use super::context::Context;
use super::output::{Stop, Tally};
use super::put::linked;
use crate::engine::{LeaseOp, LeaseUse};
use crate::failure::Failure;
use crate::home::owner;
use crate::limits::LEASE_TTL_MS;
use crate::service::leases::LeaseLine;

/// Keep blobs on this node for a while without naming them
///
/// What a lease covers is not deleted here until the lease ends. Other nodes know nothing of it.
#[derive(Debug, Subcommand)]
pub(super) enum LeaseCommand {
    Add(AddArgs),
    Renew(RenewArgs),
    Rm(RmArgs),
    Ls(LsArgs),
}

/// Take a lease, or give one that lasts more blobs, and print its id
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// What it protects, with all that it links to; more comes under it with `keepwell put --lease ID`
    #[arg(value_name = "URI")]
    blobs: Vec<Target>,
    /// The lease to put them under, instead of a new one
    #[arg(long, value_name = "ID", requires = "blobs", conflicts_with_all = ["ttl", "flat"])]
    lease: Option<LeaseId>,
    /// How long it lasts [default: 24h]
    #[arg(long, value_name = "DURATION")]
    ttl: Option<DurationMs>,
    /// Protect the blobs alone, without what they link to
    #[arg(long)]
    flat: bool,
    #[command(flatten)]
    owner: OwnerArg,
}

/// Let a lease last so long from now on; it never ends sooner for that
#[derive(Debug, Args)]
pub(super) struct RenewArgs {
    /// Which
    #[arg(value_name = "ID")]
    lease: LeaseId,
    /// How long [default: 24h]
    #[arg(long, value_name = "DURATION")]
    ttl: Option<DurationMs>,
    #[command(flatten)]
    owner: OwnerArg,
}

/// End leases: what they alone protected may be deleted from now on
#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Which
    #[arg(value_name = "ID", required = true)]
    leases: Vec<LeaseId>,
    #[command(flatten)]
    owner: OwnerArg,
}

/// List the leases that have not ended
#[derive(Debug, Args)]
pub(super) struct LsArgs {}

/// Whose a lease is.
#[derive(Debug, Args)]
pub(super) struct OwnerArg {
    /// Whose it is: nobody else changes it while it lasts [default: USER@HOST]
    #[arg(long, value_name = "NAME")]
    owner: Option<OwnerName>,
}

impl OwnerArg {
    fn name(self) -> OwnerName {
        self.owner.unwrap_or_else(owner::of_this_process)
    }
}

pub(super) fn run(command: LeaseCommand, context: &mut Context) -> Result<u8, Stop> {
    match command {
        LeaseCommand::Add(args) => add(args, context),
        LeaseCommand::Renew(args) => renew(args, context),
        LeaseCommand::Rm(args) => remove(args, context),
        LeaseCommand::Ls(_) => list(context),
    }
}

fn add(args: AddArgs, context: &mut Context) -> Result<u8, Stop> {
    let blobs = args.blobs.iter().map(linked).collect::<Result<Vec<BlobId>, Failure>>()?;
    let owner = args.owner.name();
    let op = match args.lease {
        Some(lease) => LeaseOp::Give { used: LeaseUse { lease, owner }, blobs },
        None => LeaseOp::Add { owner, ttl_ms: ttl_ms(args.ttl), is_flat: args.flat, blobs },
    };
    let line = context.backend()?.lease(op)?;
    context.out.line(&line, || line.id.clone())?;
    context.out.note(&text(&line))?;
    Ok(0)
}

fn renew(args: RenewArgs, context: &mut Context) -> Result<u8, Stop> {
    let used = LeaseUse { lease: args.lease, owner: args.owner.name() };
    let line = context.backend()?.lease(LeaseOp::Renew { used, ttl_ms: ttl_ms(args.ttl) })?;
    context.out.line(&line, || text(&line))?;
    Ok(0)
}

fn remove(args: RmArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    let owner = args.owner.name();
    let mut tally = Tally::default();
    for lease in args.leases {
        match backend.lease(LeaseOp::Remove(LeaseUse { lease, owner: owner.clone() })) {
            Ok(line) => {
                tally.done();
                context.out.line(&line, || format!("{} has ended", line.id))?;
            }
            Err(failure) => {
                tally.failed(&failure);
                context.out.failure(&failure.about("lease", lease.to_string()))?;
            }
        }
    }
    Ok(tally.exit())
}

fn list(context: &mut Context) -> Result<u8, Stop> {
    for line in context.backend()?.leases()? {
        context.out.line(&line, || text(&line))?;
    }
    Ok(0)
}

fn ttl_ms(ttl: Option<DurationMs>) -> u64 {
    ttl.map_or(LEASE_TTL_MS, |ttl| ttl.0)
}

fn text(line: &LeaseLine) -> String {
    let until = TimeMs::from_unix_ms(line.expires_ms).map_or_else(|_| line.expires_ms.to_string(), |time| time.to_string());
    let flat = if line.flat { " flat" } else { "" };
    format!("{} {} until {until} {} blobs{flat}", line.id, line.owner, line.blobs)
}
