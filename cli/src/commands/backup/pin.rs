//! `backup pin` and `backup unpin`: in every store that has the backup.

use super::setup::{ConfigFile, Setup, now, rng};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use clap::Args;
use raftkv_core::backup::blob::{ObjectName, StoreIndex};
use raftkv_core::backup::mark::{Mark, MarkError};
use raftkv_core::backup::marker::{Marker, Owner};
use raftkv_node::blob::drive;
use serde::Serialize;

/// Arguments of `pin`.
#[derive(Debug, Args)]
pub struct Pin {
    #[command(flatten)]
    config: ConfigFile,
    /// Which: an id, the beginning of one, latest, or the newest of a time
    #[arg(value_name = "ID|latest|@TIME")]
    backup: String,
    /// Why, for whoever wonders later
    #[arg(long, default_value = "")]
    reason: String,
}

/// Arguments of `unpin`.
#[derive(Debug, Args)]
pub struct Unpin {
    #[command(flatten)]
    config: ConfigFile,
    /// Which: an id, the beginning of one, latest, or the newest of a time
    #[arg(value_name = "ID|latest|@TIME")]
    backup: String,
}

#[derive(Debug, Serialize)]
struct Pinned {
    id: String,
    pinned: bool,
    reason: String,
}

/// Runs `pin`.
pub async fn pin(context: &Context, pin: Pin) -> Result<(), Failure> {
    let mut setup = pin.config.open()?;
    let id = setup.select(&pin.backup).await?.id;
    let owner = Owner::draw(&mut rng("pin")?);
    let marker = Marker::new(ObjectName::pin(id), owner, &pin.reason, now());
    let mut first = None;
    for (store, (_, mut place)) in setup.all().zip(setup.each()?) {
        let pinned = pin_in(&mut place, store != StoreIndex::PRIMARY, &marker).await;
        first = first.or(pinned.err().map(|failure| setup.in_store(store, failure)));
        if first.is_some() && store == StoreIndex::PRIMARY {
            break;
        }
    }
    if let Some(failure) = first {
        return Err(failure);
    }
    context.print(&Pinned { id: id.to_string(), pinned: true, reason: marker.note })
}

/// Pins it in one store. There may be no copy of it there yet, unless that is the primary one: what is copied from now on brings its pin
/// along; a copy that was begun before does not, so the last look is taken when there is none on its way.
async fn pin_in(place: &mut Setup, is_copy: bool, marker: &Marker) -> Result<(), Failure> {
    match try_mark(place, Mark::put(marker)).await {
        Ok(()) => return Ok(()),
        Err(MarkError::Gone { .. }) if is_copy => {}
        Err(MarkError::Leaving { .. }) => return pin_leaving(place, marker).await,
        Err(error) => return Err(mark_failure(error)),
    }
    let is_absent = |failure: &Failure| failure.exit() == Exit::NotFound;
    let lock = match place.catalog().await {
        Ok(catalog) if catalog.is_locked() => Some(place.lock("backup pin").await?),
        Ok(_) => None,
        Err(failure) if is_absent(&failure) => return Ok(()),
        Err(failure) => return Err(failure),
    };
    let marked = mark(place, Mark::put(marker)).await;
    if let Some(lock) = lock {
        lock.release().await;
    }
    match marked {
        Err(failure) if is_absent(&failure) => Ok(()),
        marked => marked,
    }
}

/// Pins what is said to be on its way out. Whoever has the store's lock knows that nobody removes it now: what says so was left by somebody who
/// broke off.
async fn pin_leaving(place: &mut Setup, marker: &Marker) -> Result<(), Failure> {
    let lock = place.lock("backup pin").await?;
    let marked = match mark(place, Mark::put(marker)).await {
        Err(failure) if failure.exit() == Exit::Refused => {
            let note = ObjectName::removal(marker.place.backup);
            match mark(place, Mark::remove(note)).await {
                Ok(()) => mark(place, Mark::put(marker)).await,
                Err(failure) => Err(failure),
            }
        }
        marked => marked,
    };
    lock.release().await;
    marked
}

/// Runs `unpin`.
pub async fn unpin(context: &Context, unpin: Unpin) -> Result<(), Failure> {
    let mut setup = unpin.config.open()?;
    let id = setup.select(&unpin.backup).await?.id;
    for (_, mut place) in setup.each()? {
        mark(&mut place, Mark::remove(ObjectName::pin(id))).await?;
    }
    context.print(&Pinned { id: id.to_string(), pinned: false, reason: String::new() })
}

/// Writes or removes a marker.
pub async fn mark(setup: &mut Setup, machine: Mark) -> Result<(), Failure> {
    try_mark(setup, machine).await.map_err(mark_failure)
}

async fn try_mark(setup: &mut Setup, mut machine: Mark) -> Result<(), MarkError> {
    drive(&mut machine, &mut setup.stores, |_| {}).await;
    machine.outcome().expect("a driven machine has an outcome").clone()
}

fn mark_failure(error: MarkError) -> Failure {
    let exit = match error {
        MarkError::Gone { .. } => Exit::NotFound,
        MarkError::Leaving { .. } => Exit::Refused,
        MarkError::Store { .. } => Exit::Storage,
    };
    Failure::new(exit, error)
}

impl Report for Pinned {
    fn table(&self) -> String {
        match self.pinned {
            true => format!("backup {} is pinned", self.id),
            false => format!("backup {} is not pinned any more", self.id),
        }
    }
}
