//! `keepwell invite`

use clap::{Args, ValueEnum};
use keepwell_protocol::units::{DurationMs, TimeMs};

use super::context::Context;
use super::output::Stop;
use crate::limits::INVITE_LASTS_MS;

/// Print a ticket with which another machine can join this network
///
/// Whoever has the ticket can join: pass it on as you would a password. The daemon must stay up until it has been used.
#[derive(Debug, Args)]
pub(super) struct InviteArgs {
    /// How many machines may join by it
    #[arg(long, default_value_t = 1)]
    uses: u32,
    /// How long it is good for
    #[arg(long, value_name = "DURATION", default_value_t = DurationMs(INVITE_LASTS_MS))]
    expires: DurationMs,
    /// What the new node may do
    #[arg(long, value_enum, default_value_t = Role::Member)]
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Store, name and fetch data, invite members
    Member,
    /// Also make admins and change members' records
    Admin,
}

pub(super) fn run(args: InviteArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    let line = backend.invite(args.role == Role::Admin, args.uses, args.expires.0)?;
    context.out.line(&line, || line.ticket.clone())?;
    let until = TimeMs::from_unix_ms(line.expires_ms).map(|time| time.to_string()).unwrap_or_default();
    context.out.note(&format!("for {} machine(s), until {until}: run `keepwell join TICKET` there", line.uses))?;
    Ok(0)
}
