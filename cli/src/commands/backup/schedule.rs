//! `backup schedule`: backups that are made by themselves, by the cluster or by this command as a sidecar.

pub mod run;
mod sidecar;
mod view;

use super::setup::ConfigFile;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::say::say;
use clap::{Args, Subcommand};
use raftkv_core::api::{BackupStatus, Request, Schedule as Spec};
use raftkv_core::backup::config;
use raftkv_core::backup::cron::Cron;
use raftkv_core::backup::metadata::rfc3339;
use raftkv_node::client::Client;
use std::time::Duration;
use view::ScheduleView;

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Schedule {
    /// Make backups on schedule: with --daemon in the cluster, without in this process until it is stopped
    Start(Start),
    /// End the cluster's schedule; a backup that is being made goes on
    Stop,
    /// Show the schedule, the last run and its outcome, the next runs, and which nodes can make backups
    Status(Status),
    /// Begin nothing on schedule until resumed
    Pause,
    /// Go on with the schedule; what was missed is not made up for
    Resume,
    /// Make a backup in the cluster now, and wait for its end
    RunNow(RunNow),
}

/// Arguments of `start`.
#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    config: ConfigFile,
    /// Hand the file's `schedule` to the cluster, whose nodes make the backups with stores and keys of their own (`backup_config`)
    #[arg(long, conflicts_with = "store")]
    daemon: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// End with exit code 5 when the newest backed up state is older than this (5m, 24h, 7d), or there is none
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    max_lag: Option<Duration>,
}

/// Arguments of `run-now`.
#[derive(Debug, Args)]
pub struct RunNow {
    /// Return as soon as it has begun
    #[arg(long)]
    no_wait: bool,
}

/// Runs it.
pub async fn run(context: &Context, schedule: Schedule) -> Result<(), Failure> {
    let max_lag = match &schedule {
        Schedule::Status(Status { max_lag }) => *max_lag,
        _ => None,
    };
    let request = match schedule {
        Schedule::Start(Start { config, daemon: false }) => {
            return sidecar::run(context, &config).await;
        }
        Schedule::Start(Start { config, daemon: true }) => start_request(&config)?,
        Schedule::RunNow(RunNow { no_wait }) => return run::run_now(context, !no_wait).await,
        Schedule::Stop => Request::BackupSchedule { schedule: None },
        Schedule::Status(_) => Request::BackupStatus,
        Schedule::Pause => Request::BackupPause { paused: true },
        Schedule::Resume => Request::BackupPause { paused: false },
    };
    let client = context.client().await?;
    let status = client.backups(request).await?;
    let nodes = nodes(&client).await;
    let can = |(_, node): &(String, Result<BackupStatus, String>)| {
        node.as_ref().is_ok_and(|status| status.able)
    };
    if status.backups.schedule.is_some() && !nodes.iter().any(can) {
        say!("no node that answers can make backups: set `backup_config` on it");
    }
    context.print(&ScheduleView::new(&status, nodes))?;
    max_lag.map_or(Ok(()), |max_lag| check_lag(&status, max_lag))
}

/// The file's schedule, as the cluster takes it. Stores and keys stay here.
fn start_request(config: &ConfigFile) -> Result<Request, Failure> {
    let loaded = config.open()?.loaded.config;
    cron_of(&loaded.schedule)?;
    let schedule = Spec {
        cron: loaded.schedule.cron_expression.clone(),
        timezone: loaded.schedule.timezone.clone(),
        prune: loaded.schedule.enable_pruning || loaded.prunes_on_backup(),
    };
    Ok(Request::BackupSchedule { schedule: Some(schedule) })
}

/// When a file's schedule is due. Nothing else than starting it minds whether it makes sense: least of all a restore.
fn cron_of(schedule: &config::Schedule) -> Result<Cron, Failure> {
    if !schedule.enabled {
        let what = "schedule.enabled is false in this file: set it to true, or take it out";
        return Err(Failure::new(Exit::Refused, what));
    }
    Cron::parse(&schedule.cron_expression, &schedule.timezone)
        .map_err(|error| Failure::new(Exit::Usage, format!("schedule: {error}")))
}

/// Fails when the newest state in the store is older than it may be, or that is not known.
fn check_lag(status: &BackupStatus, max_lag: Duration) -> Result<(), Failure> {
    let limit = max_lag.as_secs();
    let what = match (status.lag_ms(), status.newest_state()) {
        (Some(lag_ms), _) if lag_ms.unsigned_abs() / 1000 <= limit => return Ok(()),
        (Some(lag_ms), _) => {
            let lag = lag_ms / 1000;
            format!("the newest backed up state is {lag} s old, and {limit} s are allowed")
        }
        (None, Some(taken)) => format!(
            "how old the newest backed up state is cannot be told: it was taken at {}, and it is {} by the calendar of node {}",
            rfc3339(taken),
            rfc3339(status.wall),
            status.node
        ),
        (None, None) => "the cluster has made no backup".into(),
    };
    let advice = "see the last run above; `backup schedule run-now` makes a backup now";
    Err(Failure::new(Exit::Verification, format!("{what}: {advice}")))
}

/// What each node says of itself, by address.
async fn nodes(client: &Client) -> Vec<(String, Result<BackupStatus, String>)> {
    let mut nodes = Vec::new();
    for (address, status) in client.statuses().await {
        let status = match status {
            Ok(_) => client.backups_at(&address).await,
            Err(error) => Err(error),
        };
        nodes.push((address, status.map_err(|error| error.to_string())));
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::api::{Backups, Ended, RunOutcome};
    use raftkv_core::backup::BackupId;
    use raftkv_core::ids::NodeId;
    use raftkv_core::rng::Seed;
    use raftkv_core::time::Wall;

    const DAY_MS: i64 = 24 * 3_600_000;

    /// What a node says on the first day of its calendar of a state that was taken then.
    fn status(taken: Option<i64>) -> BackupStatus {
        let node = NodeId::new(1, 0);
        let ended = |taken_ms| Ended {
            number: 7,
            id: BackupId::draw(&mut Seed::from_number(1).fork("id")),
            slot: None,
            node,
            revision: 3,
            started: Wall(taken_ms),
            ended: Wall(taken_ms),
            committing: true,
            outcome: RunOutcome::Complete { data_bytes: 1 },
        };
        BackupStatus {
            backups: Backups { complete: taken.map(ended), ..Backups::default() },
            node,
            able: true,
            wall: Wall(20_000 * DAY_MS),
            next: Vec::new(),
            overdue: None,
            done_bytes: None,
            pruned: None,
            copies: Vec::new(),
            totals: Default::default(),
        }
    }

    #[test]
    fn a_state_from_the_future_is_of_no_known_age() {
        let day = Duration::from_secs(86_400);
        let said = |taken| check_lag(&status(taken), day).err().map(|error| error.to_string());
        let now = 20_000 * DAY_MS;
        assert_eq!(said(Some(now - DAY_MS)), None);
        assert_eq!(said(Some(now + DAY_MS / 24)), None, "as far as clocks may differ");
        assert!(said(Some(now - 2 * DAY_MS)).unwrap().contains("is 172800 s old"));
        let ahead = said(Some(now + 3_650 * DAY_MS)).unwrap();
        assert!(ahead.contains("cannot be told: it was taken at 2034-"), "{ahead}");
        assert!(said(None).unwrap().contains("has made no backup: see"));
    }
}
