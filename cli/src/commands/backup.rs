//! `backup`: make backups, look at them, check them, restore them. Keys and store credentials stay with whoever runs the command.

mod create;
mod key;
mod list;
mod restore;
mod setup;
mod source;
mod verify;
mod view;

use crate::context::Context;
use crate::failure::Failure;
use clap::Subcommand;

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Back up the cluster's state at one exact point
    Create(create::Create),
    /// List the backups in the store
    List(list::List),
    /// Show everything that is known of one backup
    Show(list::Show),
    /// Check backups, without restoring them
    Verify(verify::Verify),
    /// Make a data directory from a backup, for a node of a new cluster
    Restore(restore::Restore),
    /// Keys for encryption
    #[command(subcommand)]
    Key(key::Key),
}

/// Runs it.
pub async fn run(context: &Context, backup: Backup) -> Result<(), Failure> {
    match backup {
        Backup::Create(create) => create::run(context, create).await,
        Backup::List(list) => list::run(context, list).await,
        Backup::Show(show) => list::show(context, show).await,
        Backup::Verify(verify) => verify::run(context, verify).await,
        Backup::Restore(restore) => restore::run(context, restore).await,
        Backup::Key(key) => key::run(context, key),
    }
}
