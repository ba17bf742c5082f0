//! `backup schedule start` without a cluster that does it: this process makes the backups, with its own store, until it is stopped.
//!
//! What is due and when is decided by [`raftkv_core::backup::sidecar`]; here it is only done. Backups of other clusters take no slot, and
//! neither do those that come from further in the future than clocks may differ.

use super::cron_of;
use crate::commands::backup::copy;
use crate::commands::backup::create::back_up;
use crate::commands::backup::setup::{ConfigFile, Setup, now};
use crate::commands::backup::source;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use crate::say::say;
use crate::stop::Stop;
use raftkv_core::backup::Metadata;
use raftkv_core::backup::catalog::Catalog;
use raftkv_core::backup::metadata::rfc3339;
use raftkv_core::backup::sidecar::{Sidecar, Step, is_taken};
use raftkv_core::ids::{ClusterId, Identity};
use raftkv_core::time::Wall;
use raftkv_node::client::Client;
use raftkv_node::clock::SystemClock;
use raftkv_node::leaf::Clock as _;
use serde::Serialize;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// What is said when it is told to stop after a failure.
const NOT_MADE: &str = "stopped before the backup that is due was made";

/// Nothing has changed since a backup.
#[derive(Debug, Serialize)]
struct Unchanged {
    slot: String,
    unchanged_since: String,
}

/// Runs until it is interrupted.
pub async fn run(context: &Context, config: &ConfigFile) -> Result<(), Failure> {
    let mut sidecar = Sidecar::new(cron_of(&config.open()?.loaded.config.schedule)?);
    let (stop, clock) = (Stop::listen()?, SystemClock::new());
    let not_made = || Failure::new(Exit::Failed, NOT_MADE);
    loop {
        match sidecar.step(clock.now()) {
            Step::BackUp(slot) => {
                let taken = take_up(context, config, slot, &stop).await;
                if stop.was_told() {
                    return taken.map(drop);
                }
                match taken {
                    Ok(copied) => {
                        sidecar.settled(slot);
                        copied.iter().for_each(|whole| sidecar.copied(*whole, clock.now()));
                    }
                    Err(failure) => {
                        failure.report();
                        sidecar.failed(slot, clock.now());
                    }
                }
            }
            Step::Copy => {
                let is_whole = copy_again(context, config, &stop).await;
                sidecar.copied(is_whole, clock.now());
            }
            Step::Wait(span) => tokio::select! {
                () = sleep(Duration::from_nanos(span.0)) => {}
                () = stop.told() => return match sidecar.is_failing() {
                    true => Err(not_made()),
                    false => Ok(()),
                },
            },
        }
    }
}

/// Makes a slot's backup, if it is not there and anything has changed; comes back with whether every store has a copy of everything then.
async fn take_up(
    context: &Context,
    config: &ConfigFile,
    slot: Wall,
    stop: &Stop,
) -> Result<Option<bool>, Failure> {
    match stop.in_time(look(context, config, slot, stop), NOT_MADE).await? {
        Some(_) if stop.was_told() => Err(Failure::new(Exit::Failed, NOT_MADE)),
        Some((mut setup, client)) => {
            back_up(context, &mut setup, source::live(&client), stop).await.map(Some)
        }
        None => Ok(None),
    }
}

/// Brings the stores that have copies up to date, while no backup is due.
async fn copy_again(context: &Context, config: &ConfigFile, stop: &Stop) -> bool {
    match open(config, stop).await {
        Ok(Some(mut setup)) => copy::once_more(context, &mut setup, stop).await,
        Ok(None) => false,
        Err(failure) => {
            failure.report();
            false
        }
    }
}

/// What the file says now; nothing when the process is told to stop meanwhile, since a program that gives a key may take its time. The schedule may
/// have older backups go where the rules alone do not.
async fn open(config: &ConfigFile, stop: &Stop) -> Result<Option<Setup>, Failure> {
    let config = config.clone();
    let mut setup = tokio::select! {
        opened = spawn_blocking(move || config.open()) => {
            opened.expect("reading a file does not panic")?
        }
        () = stop.told() => return Ok(None),
    };
    setup.prunes |= setup.loaded.config.schedule.enable_pruning;
    Ok(Some(setup))
}

/// What a slot's backup is made of and with; nothing if it is there, or nothing has changed.
async fn look(
    context: &Context,
    config: &ConfigFile,
    slot: Wall,
    stop: &Stop,
) -> Result<Option<(Setup, Client)>, Failure> {
    let stopped = || Failure::new(Exit::Failed, NOT_MADE);
    let mut setup = open(config, stop).await?.ok_or_else(stopped)?;
    let client = context.client().await?;
    let Identity { cluster, epoch, .. } = identity(&client).await?;
    let newest = newest(&mut setup, cluster).await?;
    if is_taken(slot, newest.as_ref().map(|(newest, _)| newest.timestamp)) {
        return Ok(None);
    }
    let point = (cluster, epoch, source::acknowledged(&client).await?);
    let is_same = |newest: &Metadata| (newest.cluster, newest.epoch, newest.revision) == point;
    match newest.filter(|(newest, is_for_all)| *is_for_all && is_same(newest)) {
        Some((newest, _)) => {
            let unchanged_since = newest.id.to_string();
            context.print(&Unchanged { slot: rfc3339(slot), unchanged_since })?;
            Ok(None)
        }
        None => Ok(Some((setup, client))),
    }
}

async fn identity(client: &Client) -> Result<Identity, Failure> {
    let status = client.statuses().await.into_iter().find_map(|(_, status)| status.ok());
    let none = || Failure::new(Exit::Unreachable, "no node of the cluster answers");
    Ok(status.ok_or_else(none)?.identity)
}

/// The newest backup that this cluster made, and whether it is sealed for every key of new ones.
async fn newest(
    setup: &mut Setup,
    cluster: ClusterId,
) -> Result<Option<(Metadata, bool)>, Failure> {
    let plaintext = setup.loaded.access(false).plaintext;
    let catalog = match setup.catalog().await {
        // A store in which nothing was written yet.
        Err(failure) if failure.exit() == Exit::NotFound => Catalog::default(),
        catalog => catalog?,
    };
    let (newest, ahead) = catalog.newest_by(cluster, plaintext, now());
    if let Some(ahead) = ahead {
        say!(
            "backup {} was made at {}, long after now by this machine's calendar: set right whichever clock is wrong; it takes no slot",
            ahead.id,
            rfc3339(ahead.timestamp)
        );
    }
    let recipients = &setup.loaded.keys.recipients;
    Ok(newest.map(|(entry, metadata)| (metadata.clone(), entry.is_sealed_for(recipients))))
}

impl Report for Unchanged {
    fn table(&self) -> String {
        format!("nothing has changed since backup {} (slot {})", self.unchanged_since, self.slot)
    }
}
