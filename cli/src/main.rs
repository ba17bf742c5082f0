//! The binary `raftkv-cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    raftkv_cli::main()
}
