//! `cert`: certificates for nodes and clients.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use clap::Subcommand;
use raftkv_node::certs::{self, Validity};
use serde::Serialize;
use std::path::PathBuf;

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Cert {
    /// Make an authority, and certificates for nodes and clients
    Init {
        /// Where to write them; made if it is missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Names and addresses under which nodes are reached, beside loopback
        #[arg(long, value_name = "HOST,...", value_delimiter = ',')]
        hosts: Vec<String>,
        /// How many days they are valid
        #[arg(long, value_name = "N", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..))]
        days: u32,
    },
}

#[derive(Debug, Serialize)]
struct Written {
    files: Vec<PathBuf>,
}

/// Runs it.
pub fn run(context: &Context, cert: Cert) -> Result<(), Failure> {
    let Cert::Init { out, hosts, days } = cert;
    let files = certs::init(&out, &hosts, Validity::days(days))
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    context.print(&Written { files })
}

impl Report for Written {
    fn table(&self) -> String {
        let files: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
        files.join("\n")
    }
}
