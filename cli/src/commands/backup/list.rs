//! `backup list` and `backup show`: what is in the store.

use super::setup::ConfigFile;
use super::view::{BackupView, CatalogView, OneBackup};
use crate::context::Context;
use crate::failure::Failure;
use clap::Args;

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
    let catalog = list.config.open()?.catalog().await?;
    context.print(&CatalogView::new(&catalog))
}

/// Runs `show`.
pub async fn show(context: &Context, show: Show) -> Result<(), Failure> {
    let entry = show.config.open()?.select(&show.backup).await?;
    context.print(&OneBackup(BackupView::of_entry(&entry)))
}
