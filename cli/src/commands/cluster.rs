//! `cluster`: what concerns a whole cluster. `cluster restore` is the way back after everything was lost.

use super::backup::restore::members;
use super::backup::restore::prepare::{BACKUPS_AGAIN, Preparation, Prepared, start_command};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Report;
use clap::{Args, Subcommand};
use serde::Serialize;

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Prepare a new cluster from a backup: one node starts from it, the others join and fill from that node
    Restore(Restore),
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    preparation: Preparation,
    /// The members of the new cluster; names, addresses and their number need not be the old ones
    #[arg(long, value_name = "ID=HOST:PORT,...")]
    initial_cluster: String,
    /// Which of them the directory is made for; the one with the lowest id if left out
    #[arg(long, value_name = "N")]
    id: Option<u32>,
}

#[derive(Debug, Serialize)]
struct RestoredCluster {
    #[serde(flatten)]
    first: Prepared,
    start: String,
    join: Vec<Joining>,
}

/// A member that fills from the first one.
#[derive(Debug, Serialize)]
struct Joining {
    id: u32,
    address: String,
    start: String,
}

/// Runs it.
pub async fn run(context: &Context, cluster: Cluster) -> Result<(), Failure> {
    let Cluster::Restore(restore) = cluster;
    let members = members::parse_list(&restore.initial_cluster, restore.id)?;
    // Until the others have joined, the first member is the whole cluster: it needs nobody's consent, so it can serve at once.
    let first = restore.preparation.run(context, &members.alone(), None).await?;
    let join = members.others().map(|other| {
        let (id, address) = (other.node.member(), other.address.clone());
        let start = start_command(id, "DIR", &address, Some(&first.address));
        Joining { id, address, start }
    });
    let join = join.collect();
    context.print(&RestoredCluster { start: first.start_command(), join, first })
}

impl Report for RestoredCluster {
    fn table(&self) -> String {
        let mut text = format!("{}\nstart it: {}", self.first.summary(), self.start);
        if !self.join.is_empty() {
            text.push_str("\nthen, on the other machines, in empty directories:");
        }
        for joining in &self.join {
            text.push_str(&format!("\n  {}", joining.start));
        }
        text.push_str(&format!("\n{BACKUPS_AGAIN}"));
        text.push_str("\nnodes of the old cluster are refused: leave them off, and remove their data when you are sure");
        text
    }
}
