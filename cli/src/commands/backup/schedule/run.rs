//! A backup that the cluster makes because it was asked to: begun, followed, and reported.

use super::view::EndedView;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use raftkv_core::api::{BackupStatus, Ended, Request, Run, RunOutcome};
use raftkv_core::backup::metadata::rfc3339;
use raftkv_node::client::Client;
use serde::Serialize;
use std::time::Duration;
use tokio::time::sleep;

/// How often the cluster is asked how it goes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A run that has begun.
#[derive(Debug, Serialize)]
struct Begun {
    id: String,
    index: u64,
    node: u32,
    started: String,
}

/// Makes the cluster begin a backup; with `wait`, ends when it has ended.
pub async fn run_now(context: &Context, wait: bool) -> Result<(), Failure> {
    let client = context.client().await?;
    let status = client.backups(Request::BackupRun).await?;
    let begun = status.backups.run.ok_or_else(|| {
        Failure::new(Exit::Failed, "the cluster says that a backup has begun, and names none")
    })?;
    if !wait {
        return context.print(&Begun::new(&begun));
    }
    let ended = follow(&client, &begun).await?;
    context.print(&EndedView::new(&ended))?;
    let outcome = &ended.outcome;
    match outcome {
        RunOutcome::Complete { .. } | RunOutcome::Unchanged { .. } => Ok(()),
        RunOutcome::Failed { why } => {
            let exit = outcome.obstacle().map_or(Exit::Failed, Exit::from);
            Err(Failure::new(exit, why))
        }
        RunOutcome::Abandoned => {
            let what = format!("node {} was not heard of in time", ended.node);
            Err(Failure::new(Exit::Failed, what))
        }
    }
}

/// A leader may change meanwhile; the run does not.
async fn follow(client: &Client, begun: &Run) -> Result<Ended, Failure> {
    loop {
        let BackupStatus { backups, .. } = client.backups(Request::BackupStatus).await?;
        match (&backups.run, backups.last) {
            (_, Some(last)) if last.number == begun.number => return Ok(last),
            (_, Some(last)) if last.number > begun.number => {
                let what = format!(
                    "backup {} ended and was followed by another: raftkv-cli backup show {0}",
                    begun.id
                );
                return Err(Failure::new(Exit::Failed, what));
            }
            _ => sleep(LOOK_EVERY).await,
        }
    }
}

impl Begun {
    fn new(run: &Run) -> Self {
        Begun {
            id: run.id.to_string(),
            index: run.number,
            node: run.node.member(),
            started: rfc3339(run.started),
        }
    }
}

impl Report for Begun {
    fn table(&self) -> String {
        format!("backup {} of index {} is being made by node {}", self.id, self.index, self.node)
    }
}
