//! The command line: one file a command, whose arguments' doc comments are its help.
//!
//! Absent from here: what commands do. They read arguments, call a service, and print what it answers.

mod cat;
mod config;
mod context;
mod doctor;
mod events;
mod fetch;
mod fsck;
mod gc;
mod get;
mod holders;
mod init;
mod invite;
mod join;
mod lease;
mod node;
mod output;
mod put;
mod refs;
mod stat;
mod status;
mod up;
mod upload;
mod why;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use keepwell_protocol::uri::UriError;

use crate::failure::{Code, Failure, uri_hint};
use context::Context;
use output::{Output, Stop};

/// keepwell keeps blobs, names them, and loses none that somebody needs.
#[derive(Debug, Parser)]
#[command(name = "keepwell", version, propagate_version = true)]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// The home to work on [default: $KEEPWELL_HOME, else $XDG_DATA_HOME/keepwell, else ~/.local/share/keepwell]
    #[arg(long, value_name = "DIR", global = true)]
    home: Option<PathBuf>,
    /// Print one JSON object a line, errors too, all on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Print no notes and no progress
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Print more notes
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Show no progress bar; there is none either where standard error is no terminal
    #[arg(long, global = true)]
    no_progress: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Invite(invite::InviteArgs),
    Join(join::JoinArgs),
    Put(put::PutArgs),
    Get(get::GetArgs),
    Fetch(fetch::FetchArgs),
    Where(holders::WhereArgs),
    Why(why::WhyArgs),
    #[command(subcommand)]
    Node(node::NodeCommand),
    Cat(cat::CatArgs),
    Stat(stat::StatArgs),
    Status(status::StatusArgs),
    Up(up::UpArgs),
    #[command(subcommand)]
    Ref(refs::RefCommand),
    #[command(subcommand)]
    Lease(lease::LeaseCommand),
    #[command(subcommand)]
    Upload(upload::UploadCommand),
    Gc(gc::GcArgs),
    Drop(gc::DropArgs),
    Undrop(gc::UndropArgs),
    Fsck(fsck::FsckArgs),
    Doctor(doctor::DoctorArgs),
    Events(events::EventsArgs),
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let line = match Line::try_parse_from(&words) {
        Ok(line) => line,
        Err(error) => return ExitCode::from(usage(&error, &words)),
    };
    let mut context = Context::new(line.global);
    let ended = catch_unwind(AssertUnwindSafe(|| run(line.command, &mut context)));
    // What there is to say of where and why was printed when it happened.
    let outcome = ended.unwrap_or_else(|_| Err(panicked().into()));
    ExitCode::from(context.out.end(outcome))
}

fn panicked() -> Failure {
    Failure::new(Code::Internal, "the command was broken off by a mistake in the program, or by damage in the index of the home")
        .hint("check the index with `keepwell fsck --verify`; if that finds nothing, tell the developers what was printed")
}

fn run(command: Command, context: &mut Context) -> Result<u8, Stop> {
    match command {
        Command::Init(args) => init::run(args, context),
        Command::Join(args) => join::run(args, context),
        Command::Invite(args) => invite::run(args, context),
        Command::Fetch(args) => fetch::run(args, context),
        Command::Where(args) => holders::run(args, context),
        Command::Why(args) => why::run(args, context),
        Command::Node(command) => node::run(command, context),
        Command::Put(args) => put::run(args, context),
        Command::Get(args) => get::run(args, context),
        Command::Cat(args) => cat::run(args, context),
        Command::Stat(args) => stat::run(args, context),
        Command::Status(args) => status::run(args, context),
        Command::Up(args) => up::run(args, context),
        Command::Ref(command) => refs::run(command, context),
        Command::Lease(command) => lease::run(command, context),
        Command::Upload(command) => upload::run(command, context),
        Command::Gc(args) => gc::run(args, context),
        Command::Drop(args) => gc::drop_copies(args, context),
        Command::Undrop(args) => gc::undrop(args, context),
        Command::Fsck(args) => fsck::run(args, context),
        Command::Doctor(args) => doctor::run(args, context),
        Command::Events(args) => events::run(args, context),
        Command::Config(command) => config::run(command, context),
    }
}

/// Help and version are answers; all else that the parser says is a mistake in the words.
fn usage(error: &clap::Error, words: &[OsString]) -> u8 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that has seen enough of the help may close its end.
        error.print().ok();
        return 0;
    }
    let is_json = words.iter().any(|word| word == "--json");
    let uri = std::error::Error::source(error).and_then(|source| source.downcast_ref::<UriError>());
    if !is_json && uri.is_none() {
        error.print().ok();
        return Code::Usage.exit();
    }
    let text = error.render().to_string();
    let message = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ").replace('\n', " ");
    let hint = uri.map_or("see `keepwell --help`, and `keepwell COMMAND --help`", uri_hint);
    let failure = Failure::usage(message).hint(hint);
    Output::new(is_json, true, false).end(Err(Stop::Failure(failure)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Line::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_has_a_help_text() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} says nothing of itself", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {} says nothing of itself", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Line::command());
    }
}
