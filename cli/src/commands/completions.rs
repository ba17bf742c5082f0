//! `completions`: a script for a shell.

use crate::args::Cli;
use crate::context::print_line;
use crate::failure::Failure;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Arguments.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    shell: Shell,
}

/// Runs it.
pub fn run(completions: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Cli::command(), "raftkv-cli", &mut script);
    print_line(String::from_utf8_lossy(&script).trim_end())
}
