//! `backup schedule start` without a cluster that does it: this process makes the backups, with its own store, until it is stopped.
//!
//! What was done is read from the store, not remembered: a slot is taken once a complete backup was begun at or after it. So a sidecar that
//! is started again makes up for missed slots with one run, and makes none twice. With an empty store it waits for the next slot. Backups of
//! other clusters take no slot, and neither do those that come from further in the future than clocks may differ.

use super::cron_of;
use crate::commands::backup::create::back_up;
use crate::commands::backup::setup::{ConfigFile, Setup, now};
use crate::commands::backup::source;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use crate::stop::Stop;
use raftkv_core::backup::Metadata;
use raftkv_core::backup::metadata::rfc3339;
use raftkv_core::ids::{ClusterId, Identity};
use raftkv_core::time::Wall;
use raftkv_node::client::Client;
use serde::Serialize;
use std::time::Duration;
use tokio::time::sleep;

/// The longest sleep: a calendar that is set right meanwhile is noticed.
const NAP_MS: u64 = 30_000;
/// After the first failure; doubled with each further one.
const RETRY_MS: u64 = 60_000;
const RETRY_MS_MAX: u64 = 3_600_000;

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
    let cron = cron_of(&config.open()?.loaded.config.schedule)?;
    let stop = Stop::listen()?;
    let began = now();
    let (mut settled, mut failures) = (None, 0);
    loop {
        let due = cron.last_until(now()).filter(|slot| Some(*slot) != settled);
        let wait_ms = match due {
            None => until(cron.next_after(now())).min(NAP_MS),
            Some(slot) => {
                let looked = look(context, config, slot, began);
                let taken = match stop.in_time(looked, NOT_MADE).await {
                    Ok(Some(_)) if stop.was_told() => Err(Failure::new(Exit::Failed, NOT_MADE)),
                    Ok(Some((mut setup, client))) => {
                        back_up(context, &mut setup, source::live(&client), &stop).await
                    }
                    Ok(None) => Ok(()),
                    Err(failure) => Err(failure),
                };
                if stop.was_told() {
                    return taken;
                }
                match taken {
                    Ok(()) => {
                        (settled, failures) = (Some(slot), 0);
                        0
                    }
                    Err(failure) => {
                        failure.report();
                        let rest_ms = (RETRY_MS << failures).min(RETRY_MS_MAX);
                        failures = (failures + 1).min(10);
                        rest_ms
                    }
                }
            }
        };
        tokio::select! {
            () = sleep(Duration::from_millis(wait_ms)) => {}
            () = stop.told() => return match failures {
                0 => Ok(()),
                _ => Err(Failure::new(Exit::Failed, NOT_MADE)),
            },
        }
    }
}

/// What a slot's backup is made of and with; nothing if it is there, or nothing has changed.
async fn look(
    context: &Context,
    config: &ConfigFile,
    slot: Wall,
    began: Wall,
) -> Result<Option<(Setup, Client)>, Failure> {
    let mut setup = config.open()?;
    setup.prunes |= setup.loaded.config.schedule.enable_pruning;
    let client = context.client().await?;
    let Identity { cluster, epoch, .. } = identity(&client).await?;
    let newest = newest(&mut setup, cluster).await?;
    if slot <= newest.as_ref().map_or(began, |newest| newest.timestamp) {
        return Ok(None);
    }
    let point = (cluster, epoch, source::acknowledged(&client).await?);
    match newest.filter(|newest| (newest.cluster, newest.epoch, newest.revision) == point) {
        Some(newest) => {
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

/// The newest backup that this cluster made.
async fn newest(setup: &mut Setup, cluster: ClusterId) -> Result<Option<Metadata>, Failure> {
    let plaintext = setup.loaded.access(false).plaintext;
    let catalog = setup.catalog().await?;
    let (newest, ahead) = catalog.newest_by(cluster, plaintext, now());
    if let Some(ahead) = ahead {
        eprintln!(
            "raftkv-cli: backup {} was made at {}, long after now by this machine's calendar: set right whichever clock is wrong; it takes no slot",
            ahead.id,
            rfc3339(ahead.timestamp)
        );
    }
    Ok(newest.cloned())
}

fn until(slot: Option<Wall>) -> u64 {
    let ahead = slot.map_or(i64::MAX, |slot| slot.0 - now().0);
    u64::try_from(ahead).unwrap_or(0)
}

impl Report for Unchanged {
    fn table(&self) -> String {
        format!("nothing has changed since backup {} (slot {})", self.unchanged_since, self.slot)
    }
}
