//! The server's binary: reads the configuration, runs the node, and says how it ended.

#![warn(clippy::print_stderr)]

use raftkv_node::{args, exit::Failure, memory, run};
use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

/// A state of millions of small values is made of as many allocations: reading it back took a fifth of its time in the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::take_small_pages();
    let matches = args::command().get_matches();
    let invocation = match args::read(&matches, std::env::vars_os()) {
        Ok(invocation) => invocation,
        Err(error) => return fail(&error.into()),
    };
    if invocation.check_config {
        // A closed pipe is the reader's wish.
        let _ = write!(std::io::stdout(), "{}", invocation.layers);
        return ExitCode::SUCCESS;
    }
    let settings = invocation.settings;
    if let Err(why) = run::log_to_stderr(&settings) {
        say(why);
        return ExitCode::from(2);
    }
    run::forbid_core_dumps();
    for name in invocation.unknown_variables {
        tracing::warn!("{name} in the environment means nothing to a node");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(run::run(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// The last line says why.
fn fail(failure: &Failure) -> ExitCode {
    say(failure);
    ExitCode::from(failure.code())
}

/// A line on stderr. That nobody reads it changes no exit code.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "raftkv-node: {line}");
}
