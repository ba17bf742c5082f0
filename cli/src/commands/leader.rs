//! `leader`: who leads.

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Report;
use clap::Subcommand;
use raftkv_core::api::Request;
use serde::Serialize;

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Leader {
    /// Hand leadership to another voter
    Transfer {
        /// Its number
        id: u32,
    },
}

#[derive(Debug, Serialize)]
struct Transferred {
    leader: u32,
}

/// Runs it.
pub async fn run(context: &Context, leader: Leader) -> Result<(), Failure> {
    let Leader::Transfer { id } = leader;
    let client = context.client().await?;
    client.administer(Request::LeaderTransfer { member: id }).await?;
    context.print(&Transferred { leader: id })
}

impl Report for Transferred {
    fn table(&self) -> String {
        format!("node {} leads", self.leader)
    }
}
