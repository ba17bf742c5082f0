//! `backup schedule start` without a cluster that does it: this process makes the backups, with its own store, until it is stopped.
//!
//! What was done is read from the store, not remembered: a slot is taken once a complete backup was begun at or after it. So a sidecar that
//! is started again makes up for missed slots with one run, and makes none twice. With an empty store it waits for the next slot.

use super::slots;
use crate::commands::backup::create::back_up;
use crate::commands::backup::setup::{ConfigFile, Setup, now};
use crate::commands::backup::source;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Report;
use raftkv_core::backup::Metadata;
use raftkv_core::backup::metadata::rfc3339;
use raftkv_core::time::Wall;
use serde::Serialize;
use std::time::Duration;
use tokio::time::sleep;

/// The longest sleep: a calendar that is set right meanwhile is noticed.
const NAP_MS: u64 = 30_000;
/// After the first failure; doubled with each further one.
const RETRY_MS: u64 = 60_000;
const RETRY_MS_MAX: u64 = 3_600_000;

/// Nothing has changed since a backup.
#[derive(Debug, Serialize)]
struct Unchanged {
    slot: String,
    unchanged_since: String,
}

/// Runs until it is interrupted.
pub async fn run(context: &Context, config: &ConfigFile) -> Result<(), Failure> {
    let schedule = config.open()?.loaded.config.schedule.clone();
    let cron = slots(&schedule.cron_expression, &schedule.timezone)?;
    let began = now();
    let (mut settled, mut failures) = (None, 0);
    loop {
        let due = cron.last_until(now()).filter(|slot| Some(*slot) != settled);
        let wait_ms = match due {
            None => until(cron.next_after(now())).min(NAP_MS),
            Some(slot) => match take_up(context, config, slot, began).await {
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
            },
        };
        if interrupted_within(wait_ms).await {
            return Ok(());
        }
    }
}

/// Makes the backup of a slot, unless it is there or nothing has changed.
async fn take_up(
    context: &Context,
    config: &ConfigFile,
    slot: Wall,
    began: Wall,
) -> Result<(), Failure> {
    let mut setup = config.open()?;
    let newest = newest(&mut setup).await?;
    if slot <= newest.as_ref().map_or(began, |newest| newest.timestamp) {
        return Ok(());
    }
    let frozen = source::live(&context.client().await?).await?;
    let point = (frozen.source.cluster, frozen.source.epoch, frozen.source.revision);
    match newest.filter(|newest| (newest.cluster, newest.epoch, newest.revision) == point) {
        Some(newest) => {
            let unchanged_since = newest.id.to_string();
            context.print(&Unchanged { slot: rfc3339(slot), unchanged_since })
        }
        None => back_up(context, &mut setup, frozen).await,
    }
}

async fn newest(setup: &mut Setup) -> Result<Option<Metadata>, Failure> {
    let catalog = setup.catalog().await?;
    let complete = catalog.entries.iter().filter(|entry| entry.is_complete());
    Ok(complete.filter_map(|entry| entry.metadata.clone()).max_by_key(|it| it.timestamp))
}

fn until(slot: Option<Wall>) -> u64 {
    let ahead = slot.map_or(i64::MAX, |slot| slot.0 - now().0);
    u64::try_from(ahead).unwrap_or(0)
}

/// Sleeps; true when told to stop.
async fn interrupted_within(ms: u64) -> bool {
    tokio::select! {
        () = sleep(Duration::from_millis(ms)) => false,
        _ = tokio::signal::ctrl_c() => true,
    }
}

impl Report for Unchanged {
    fn table(&self) -> String {
        format!("nothing has changed since backup {} (slot {})", self.unchanged_since, self.slot)
    }
}
