//! The binary `keepwell`.

use std::process::ExitCode;

fn main() -> ExitCode {
    keepwell_node::cli::main()
}
