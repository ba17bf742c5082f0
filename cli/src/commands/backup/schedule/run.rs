//! A backup that the cluster makes because it was asked to: begun, followed, and reported.

use super::view::EndedView;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use raftkv_core::api::{BackupStatus, Backups, Ended, Request, Run, RunOutcome};
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
        match end_of(begun, backups) {
            Some(ended) => return ended,
            None => sleep(LOOK_EVERY).await,
        }
    }
}

/// How a run ended, if it has. Of those before the last one, only the newest that made a backup is remembered.
fn end_of(begun: &Run, backups: Backups) -> Option<Result<Ended, Failure>> {
    let newest = backups.last.as_ref()?.number;
    let mut known = [backups.last, backups.complete].into_iter().flatten();
    if let Some(ended) = known.find(|ended| ended.number == begun.number) {
        return Some(Ok(ended));
    }
    let is_over = newest > begun.number;
    is_over.then(|| {
        let what = format!(
            "backup {} ended and was followed by another: raftkv-cli backup show {0}",
            begun.id
        );
        Err(Failure::new(Exit::Failed, what))
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::backup::BackupId;
    use raftkv_core::ids::NodeId;
    use raftkv_core::rng::Seed;
    use raftkv_core::time::Wall;

    fn ended(number: u64, outcome: RunOutcome) -> Ended {
        Ended {
            number,
            id: BackupId::draw(&mut Seed::from_number(number).fork("id")),
            slot: None,
            node: NodeId::new(1, 0),
            revision: 3,
            started: Wall(0),
            ended: Wall(1),
            committing: true,
            outcome,
        }
    }

    #[test]
    fn a_backup_that_was_followed_by_another_run_is_no_failure() {
        let complete = ended(7, RunOutcome::Complete { data_bytes: 1 });
        let last = ended(9, RunOutcome::Failed { why: "no".into() });
        let begun = |number| Run {
            number,
            id: complete.id,
            slot: None,
            node: complete.node,
            life: 1,
            revision: 3,
            same_as: None,
            started: Wall(0),
            deadline_ms: 0,
            committing: false,
        };
        let backups = Backups {
            last: Some(last.clone()),
            complete: Some(complete.clone()),
            ..Backups::default()
        };
        assert!(end_of(&begun(7), Backups::default()).is_none());
        assert_eq!(end_of(&begun(7), backups.clone()).unwrap().unwrap(), complete);
        assert_eq!(end_of(&begun(9), backups.clone()).unwrap().unwrap(), last);
        let unknown = end_of(&begun(8), backups.clone()).unwrap().unwrap_err();
        assert!(unknown.to_string().contains("followed by another"), "{unknown}");
        assert!(end_of(&begun(10), backups).is_none());
    }
}
