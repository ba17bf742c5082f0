//! What every command needs: the global options, a client when it wants one, and the way to print.

use crate::args::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Report};
use raftkv_node::client::{Client, Options};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

/// The surroundings of one command.
#[derive(Debug)]
pub struct Context {
    global: Global,
}

impl Context {
    /// From the global options.
    pub fn new(global: Global) -> Self {
        Context { global }
    }

    /// Connects to the cluster.
    pub async fn client(&self) -> Result<Client, Failure> {
        Ok(Client::connect(self.client_options()).await?)
    }

    /// What a client needs to connect.
    pub fn client_options(&self) -> Options {
        Options {
            endpoints: self.global.endpoints.clone(),
            certs: self.global.cert_dir.clone(),
            timeout: self.global.timeout,
            ..Options::default()
        }
    }

    /// How data is printed.
    pub fn format(&self) -> Format {
        self.global.output
    }

    /// Whether a person looks at stderr: only then progress is drawn.
    pub fn shows_progress(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// Prints a report on stdout. When its reader has gone away, what was done stays done, and how it ended is told by the exit code as ever.
    pub fn print(&self, report: &impl Report) -> Result<(), Failure> {
        match self.print_next(report) {
            Err(failure) if failure.exit() == Exit::Unread => Ok(()),
            printed => printed,
        }
    }

    /// Prints one of many reports on stdout. There is no use in the next one when their reader has gone away.
    pub fn print_next(&self, report: &impl Report) -> Result<(), Failure> {
        print_line(&self.global.output.render(report))
    }
}

/// Prints one line of data on stdout.
pub fn print_line(line: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let printed = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    printed.map_err(|error| Failure::output(Path::new("stdout"), error))
}
