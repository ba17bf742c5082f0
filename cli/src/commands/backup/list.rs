//! `backup list` and `backup show`: what is in the stores.

use super::setup::{ConfigFile, Setup, pick, store_failure};
use super::view::{BackupView, CatalogView, OneBackup};
use crate::context::Context;
use crate::failure::Failure;
use clap::Args;
use raftkv_core::backup::catalog::Entry;
use raftkv_core::backup::replicas::Replicas;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigFile,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    config: ConfigFile,
    /// Which: an id, the beginning of one, latest, or the newest of a time
    #[arg(value_name = "ID|latest|@TIME")]
    backup: String,
}

/// Runs `list`. Oldest first; what is incomplete or damaged is listed as that.
pub async fn run(context: &Context, list: List) -> Result<(), Failure> {
    let setup = list.config.open()?;
    let replicas = setup.replicas().await?;
    let catalog = replicas.merged().map_err(|error| store_failure(&error))?;
    context.print(&CatalogView::new(&catalog, |entry| stores(&setup, &replicas, entry)))
}

/// Runs `show`.
pub async fn show(context: &Context, show: Show) -> Result<(), Failure> {
    let setup = show.config.open()?;
    let replicas = setup.replicas().await?;
    let catalog = replicas.merged().map_err(|error| store_failure(&error))?;
    let entry = pick(&catalog, &show.backup, setup.loaded.access(false).plaintext)?;
    let stores = stores(&setup, &replicas, entry);
    context.print(&OneBackup(BackupView::of_entry(entry).in_stores(stores)))
}

/// In which stores a backup is complete, if there are several.
fn stores(setup: &Setup, replicas: &Replicas, entry: &Entry) -> Option<Vec<String>> {
    let places = || replicas.places(entry.id).into_iter().filter(|_| entry.is_complete());
    setup.has_several().then(|| places().map(|store| setup.name(store).to_owned()).collect())
}
