//! What every command needs: the global options, a client when it wants one, and the way to print.

use crate::args::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Report};
use raftkv_node::client::{Client, Options};
use std::io::{self, IsTerminal as _, Write as _};

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

    /// Prints a report on stdout.
    pub fn print(&self, report: &impl Report) -> Result<(), Failure> {
        print_line(&self.global.output.render(report))
    }
}

/// Prints one line of data. A reader that has gone away ends the program without a complaint.
pub fn print_line(line: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            Err(Failure::new(Exit::Storage, format!("stdout cannot be written: {error}")))
        }
    }
}
