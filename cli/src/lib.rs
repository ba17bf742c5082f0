//! The command line of RaftKV for people and operators.
//!
//! Rules: data goes to stdout, everything else to stderr; JSON is a contract (`docs/CLI.md`: fields may be added, never changed);
//! every failure is one line that says what, where, and what to do, and ends in a documented exit code.

// It would panic where nobody hears it: see `say`.
#![warn(clippy::print_stderr)]

#[cfg(planted_bugs)]
compile_error!(
    "bugs are planted for the simulation only: build the command line without --cfg planted_bugs"
);

pub mod args;
pub mod commands;
pub mod context;
pub mod duration;
pub mod failure;
pub mod output;
pub mod publish;
pub mod say;
pub mod stop;

use args::Cli;
use clap::Parser as _;
use context::Context;
use std::process::ExitCode;

/// Parses the arguments of the process, does what they say, and returns the exit code.
pub fn main() -> ExitCode {
    // clap prints usage errors itself and exits with 2.
    let Cli { global, command } = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say::say!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(commands::run(Context::new(global), command));
    // What nobody waits for any more must not keep the process, be it stuck in a file system that does not answer.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}
