//! `compact`: forget history before a revision.

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Report;
use clap::Args;
use raftkv_core::api::WriteOp;
use serde::Serialize;

/// Arguments.
#[derive(Debug, Args)]
pub struct Compact {
    /// The oldest revision that stays readable
    revision: u64,
}

#[derive(Debug, Serialize)]
struct Compacted {
    compacted: u64,
}

/// Runs it.
pub async fn run(context: &Context, compact: Compact) -> Result<(), Failure> {
    let client = context.client().await?;
    let result = client.write(WriteOp::Compact { revision: compact.revision }).await?;
    context.print(&Compacted { compacted: result.revision() })
}

impl Report for Compacted {
    fn table(&self) -> String {
        format!("history before revision {} is forgotten", self.compacted)
    }
}
