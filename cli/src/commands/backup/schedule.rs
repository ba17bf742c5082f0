//! `backup schedule`: backups that are made by themselves, by the cluster or by this command as a sidecar.

pub mod run;
mod sidecar;
mod view;

use super::setup::ConfigFile;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use clap::{Args, Subcommand};
use raftkv_core::api::{BackupStatus, Request, Schedule as Spec};
use raftkv_core::backup::config;
use raftkv_core::backup::cron::Cron;
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
    #[arg(long)]
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
        eprintln!("raftkv-cli: no node that answers can make backups: set `backup_config` on it");
    }
    let view = ScheduleView::new(&status, nodes);
    context.print(&view)?;
    max_lag.map_or(Ok(()), |max_lag| check_lag(&view, max_lag))
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

/// Fails when the newest state in the store is older than it may be, or there is none.
fn check_lag(view: &ScheduleView, max_lag: Duration) -> Result<(), Failure> {
    let limit = max_lag.as_secs();
    let what = match view.lag_seconds() {
        Some(lag) if u64::try_from(lag).unwrap_or(0) <= limit => return Ok(()),
        Some(lag) => {
            format!("the newest backed up state is {lag} s old, and {limit} s are allowed")
        }
        None => "the cluster has made no backup".into(),
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
