//! `backup delete`: in every store that has the backup.

use super::confirm::Confirmation;
use super::prune::{first_failure, remove};
use super::setup::{ConfigFile, Setup, pick, store_failure};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use crate::say::say;
use clap::Args;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::{BlobErrorKind, StoreIndex};
use raftkv_core::backup::catalog::{Catalog, Entry};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::remove::{Fate, Force};
use raftkv_node::backup::lock::Guard;
use serde::Serialize;

/// Arguments.
#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    config: ConfigFile,
    /// Which: an id, the beginning of one, latest, or the newest of a time
    #[arg(long, value_name = "ID|latest|@TIME")]
    backup: String,
    /// Delete it even if it is pinned, in use or the only complete one, without asking
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

#[derive(Debug, Serialize)]
struct Deleted {
    id: String,
    stores: Vec<DeletedIn>,
}

#[derive(Debug, Serialize)]
struct DeletedIn {
    store: String,
    outcome: String,
}

/// Runs it. The primary store comes first: what is gone there is copied nowhere again.
pub async fn run(context: &Context, delete: Delete) -> Result<(), Failure> {
    let setup = delete.config.open()?;
    let replicas = setup.replicas().await?;
    let catalog = replicas.merged().map_err(|error| store_failure(&error))?;
    let entry = pick(&catalog, &delete.backup, setup.loaded.access(false).plaintext)?;
    let id = entry.id;
    let mut force = Force::Override;
    if !delete.force {
        for entry in setup.all().filter_map(|store| replicas.entry(store, id)) {
            check(entry, &catalog, setup.loaded.access(false).plaintext)?;
        }
        let revision = entry.metadata.as_ref().map_or("unknown".into(), |m| m.revision.to_string());
        let what = format!("{} backup {id}, revision {revision}", entry.standing.word());
        delete.confirmation.ask(&format!("Delete the {what}?"))?;
        force = Force::Respect;
    }
    let is_absent = |asked: &StoreIndex| {
        let mut silent = replicas.silent();
        silent.any(|(store, error)| store == *asked && error.kind == BlobErrorKind::NotFound)
    };
    let mut places = Vec::new();
    for (store, (name, place)) in setup.all().zip(setup.each()?) {
        if !is_absent(&store) {
            places.push(Place { store, name, place });
        }
    }
    let locks = lock_all(&setup, &places).await?;
    let (mut stores, mut first) = (Vec::new(), None);
    for Place { store, name, place } in &mut places {
        let (outcome, failure) = delete_in(place, id, force).await;
        first = first.or(failure.map(|failure| setup.in_store(*store, failure)));
        stores.push(DeletedIn { store: std::mem::take(name), outcome });
        if first.is_some() && *store == StoreIndex::PRIMARY {
            break;
        }
    }
    release(locks).await;
    context.print(&Deleted { id: id.to_string(), stores })?;
    first.map_or(Ok(()), Err)
}

/// A store from which it is deleted.
struct Place {
    store: StoreIndex,
    name: String,
    place: Setup,
}

/// What became of it in one store.
async fn delete_in(place: &mut Setup, id: BackupId, force: Force) -> (String, Option<Failure>) {
    let fates = remove(place, vec![id], force).await;
    let fate = fates.get(&id);
    let failure = match fate {
        Some(fate @ (Fate::Pinned | Fate::Held(_))) => Some(refused(id, &fate.to_string())),
        _ => first_failure(&fates).err(),
    };
    (fate.map(ToString::to_string).unwrap_or_default(), failure)
}

/// Takes the locks of all stores, to be held until the last of them is done with: a copy that is on its way would bring back what was deleted. A store
/// that is too full for a lock takes no copy, either, and room may be what it is about.
async fn lock_all(setup: &Setup, places: &[Place]) -> Result<Vec<Guard>, Failure> {
    let mut locks = Vec::new();
    for Place { store, name, place } in places {
        match place.lock("backup delete").await {
            Ok(lock) => locks.push(lock),
            Err(failure) if failure.exit() == Exit::Storage => {
                say!("store {name} is worked on without its lock: {failure}");
            }
            Err(failure) => {
                release(locks).await;
                return Err(setup.in_store(*store, failure));
            }
        }
    }
    Ok(locks)
}

async fn release(locks: Vec<Guard>) {
    for lock in locks {
        lock.release().await;
    }
}

/// What is better not deleted by accident.
fn check(entry: &Entry, catalog: &Catalog, plaintext: Plaintext) -> Result<(), Failure> {
    if let Some(reason) = &entry.pin {
        return Err(refused(entry.id, &format!("it is pinned: {reason}")));
    }
    if let Some(hold) = entry.holds.first() {
        return Err(refused(entry.id, &format!("it is in use by {}", hold.note)));
    }
    let is_last = |counts: &dyn Fn(&Entry) -> bool| {
        counts(entry) && catalog.entries.iter().filter(|entry| counts(entry)).count() == 1
    };
    if is_last(&Entry::is_complete) {
        return Err(refused(entry.id, "it is the only complete one"));
    }
    if is_last(&|entry| entry.genuine(plaintext).is_some()) {
        let why = "it is the only complete one that this configuration can restore";
        return Err(refused(entry.id, why));
    }
    Ok(())
}

fn refused(id: BackupId, why: &str) -> Failure {
    Failure::new(Exit::Refused, format!("backup {id} was not deleted: {why} (--force overrides)"))
}

impl Report for Deleted {
    fn table(&self) -> String {
        match self.stores.as_slice() {
            [alone] => format!("backup {}: {}", self.id, alone.outcome),
            several => {
                let line =
                    |it: &DeletedIn| format!("backup {} in {}: {}", self.id, it.store, it.outcome);
                several.iter().map(line).collect::<Vec<_>>().join("\n")
            }
        }
    }
}
