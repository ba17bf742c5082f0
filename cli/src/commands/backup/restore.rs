//! `backup restore`: from a backup to a data directory of a new cluster.
//!
//! Invariants: nothing is visible at the target before every byte of the backup was verified and the new directory is whole and on
//! stable storage; what was at the target before is moved aside, never deleted; a restore that was killed anywhere ends when it is run again.

pub mod members;
mod place;
pub mod prepare;
mod repeat;
mod stage;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Report;
use clap::Args;
use prepare::{BACKUPS_AGAIN, Preparation, Prepared};
use raftkv_core::ids::ClusterId;
use serde::Serialize;

/// Arguments.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    preparation: Preparation,
    /// The members of the new cluster; this node alone if none are named
    #[arg(long, value_name = "ID=HOST:PORT,...")]
    initial_cluster: Option<String>,
    /// Which member the directory is for
    #[arg(long, value_name = "N", default_value_t = 1)]
    id: u32,
    /// Where the node will listen, if no --initial-cluster says so
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7400")]
    listen: String,
    /// The new cluster's id, as an earlier restore of another member printed it; drawn if left out
    #[arg(long, value_name = "HEX")]
    cluster_id: Option<ClusterId>,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Restored(Prepared);

/// Runs it.
pub async fn run(context: &Context, restore: Restore) -> Result<(), Failure> {
    let members = members::parse(restore.initial_cluster.as_deref(), restore.id, &restore.listen)?;
    let prepared = restore.preparation.run(context, &members, restore.cluster_id).await?;
    context.print(&Restored(prepared))
}

impl Report for Restored {
    fn table(&self) -> String {
        format!(
            "{}\nstart it:            {}\n{BACKUPS_AGAIN}\nprepare another one: repeat the command there with --id, --backup {}, --cluster-id {} and --lost-epoch {}",
            self.0.summary(),
            self.0.start_command(),
            self.0.backup,
            self.0.cluster_id,
            self.0.epoch - 1,
        )
    }
}
