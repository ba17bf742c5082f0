//! Asks before something is deleted.

use crate::failure::{Exit, Failure};
use crate::say;
use clap::Args;
use std::io::{self, IsTerminal as _};

/// How deletions are confirmed.
#[derive(Clone, Copy, Debug, Args)]
pub struct Confirmation {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

impl Confirmation {
    /// Asks the person at the terminal. Refuses where there is none, without `--yes`.
    pub fn ask(self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        let refused = |what: &str| Err(Failure::new(Exit::Refused, what));
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return refused("nothing was deleted: this is not a terminal, so confirm with --yes");
        }
        say::question(format_args!("{question} [y/N]"));
        let mut answer = String::new();
        match io::stdin().read_line(&mut answer) {
            Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
            Ok(_) => refused("nothing was deleted"),
            Err(error) => {
                refused(&format!("nothing was deleted: the answer cannot be read: {error}"))
            }
        }
    }
}
