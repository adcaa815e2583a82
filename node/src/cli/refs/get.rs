//! `keepwell ref get` and `ref touch`: one ref each.

use clap::Args;
use keepwell_protocol::name::RefName;

use super::super::context::Context;
use super::super::output::Stop;
use super::set_note;
use crate::service::uses;

/// Print the object of a ref
#[derive(Debug, Args)]
pub(in super::super) struct GetArgs {
    /// The ref
    #[arg(value_name = "GROUP/KEY")]
    name: RefName,
    /// Have other nodes prove their copies, and tell how many there are
    #[arg(long)]
    confirm: bool,
}

pub(super) fn run(args: GetArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    let line = if args.confirm { backend.confirm_ref(&args.name, 0)? } else { backend.get_ref(&args.name)? };
    if args.confirm {
        context.out.note(&set_note(&line))?;
    }
    context.out.line(&line, || line.obj.to_compact_sorted())?;
    let others = line.conflicts.as_ref().map_or(0, Vec::len);
    if others > 0 {
        context.out.note(&format!("note: {others} other values were written meanwhile; see them with --json"))?;
    }
    Ok(0)
}

/// Use a ref, which puts off its end if it has --ttl-access; so do `get`, `cat` and `fetch` of it
#[derive(Debug, Args)]
pub(in super::super) struct TouchArgs {
    /// The ref
    #[arg(value_name = "GROUP/KEY")]
    name: RefName,
}

pub(super) fn touch(args: TouchArgs, context: &mut Context) -> Result<u8, Stop> {
    let backend = context.backend()?;
    let line = uses::touch(&*backend, &args.name, &mut |blobs, extent| context.out.fetch(&*backend, blobs, extent))?;
    context.out.line(&line, || set_note(&line))?;
    Ok(0)
}
