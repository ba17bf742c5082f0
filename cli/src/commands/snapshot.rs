//! `snapshot`: snapshots on the nodes' disks.

pub mod inspect;
pub mod portable;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::node::{SnapshotView, SnapshotsView};
use clap::Subcommand;
use raftkv_node::client::Client;
use std::path::PathBuf;

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Make a node write a snapshot now
    Save {
        /// Which node; the leader if none is named
        #[arg(long, value_name = "ID")]
        node: Option<u32>,
    },
    /// List the snapshots on a node's disk
    List {
        /// Which node; the leader if none is named
        #[arg(long, value_name = "ID")]
        node: Option<u32>,
    },
    /// Say what is in a snapshot file, damaged or not; needs no cluster
    Inspect {
        /// The file
        file: PathBuf,
    },
    /// Turn a snapshot file into its portable form, JSON lines; needs no cluster
    Export {
        /// The snapshot
        file: PathBuf,
        /// Where to; - is stdout
        json: PathBuf,
    },
    /// Turn the portable form back into a snapshot file; needs no cluster
    Import {
        /// The portable form; - is stdin
        json: PathBuf,
        /// Where to
        file: PathBuf,
    },
}

/// Runs it.
pub async fn run(context: &Context, snapshot: Snapshot) -> Result<(), Failure> {
    match snapshot {
        Snapshot::Save { node } => {
            let client = context.client().await?;
            let address = address(&client, node).await?;
            context.print(&SnapshotView::new(&client.snapshot_save(&address).await?))
        }
        Snapshot::List { node } => {
            let client = context.client().await?;
            let address = address(&client, node).await?;
            let snapshots = client.snapshots(&address).await?;
            context.print(&SnapshotsView::new(address, &snapshots))
        }
        Snapshot::Inspect { file } => inspect::run(context, &file),
        Snapshot::Export { file, json } => portable::export(context, &file, &json),
        Snapshot::Import { json, file } => portable::import(context, &json, &file),
    }
}

/// Where the node listens.
async fn address(client: &Client, node: Option<u32>) -> Result<String, Failure> {
    let members = client.members().await?;
    let Some(number) = node else {
        // Asking for the members has found the leader.
        return client
            .leader_address()
            .ok_or_else(|| Failure::new(Exit::Unreachable, "no leader is known; name a --node"));
    };
    let member = members.iter().find(|member| member.node.member() == number);
    member
        .map(|member| member.address.clone())
        .ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no member {number}")))
}
