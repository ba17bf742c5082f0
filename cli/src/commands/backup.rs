//! `backup`: make backups, look at them, check them, restore them. Keys and store credentials stay with whoever runs the command.

mod browse;
mod catalog;
mod confirm;
mod copy;
mod create;
mod delete;
mod diff;
mod key;
mod list;
mod load;
mod pin;
mod progress;
mod prune;
pub mod restore;
mod restore_keys;
mod schedule;
mod setup;
mod source;
mod stores;
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
    /// Read keys straight from a backup
    Browse(browse::Browse),
    /// Read one key straight from a backup
    Get(browse::Get),
    /// Show what has changed since a backup, in the cluster or up to another backup
    Diff(diff::Diff),
    /// Put keys of a backup back into the live cluster
    RestoreKeys(restore_keys::RestoreKeys),
    /// Let old backups go by the retention rules, in every store
    Prune(prune::Prune),
    /// Bring the stores that have copies up to date
    Copy(copy::Copy),
    /// Delete one backup
    Delete(delete::Delete),
    /// Keep a backup from retention and deletion
    Pin(pin::Pin),
    /// Let retention have a backup again
    Unpin(pin::Unpin),
    /// Find what is wrong in the stores, and put it right
    #[command(subcommand)]
    Catalog(catalog::Catalog),
    /// Backups that are made by themselves
    #[command(subcommand)]
    Schedule(schedule::Schedule),
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
        Backup::Browse(browse) => browse::browse(context, browse).await,
        Backup::Get(get) => browse::get(context, get).await,
        Backup::Diff(diff) => diff::run(context, diff).await,
        Backup::RestoreKeys(asked) => restore_keys::run(context, asked).await,
        Backup::Prune(prune) => prune::run(context, prune).await,
        Backup::Copy(copy) => copy::run(context, copy).await,
        Backup::Delete(delete) => delete::run(context, delete).await,
        Backup::Pin(pin) => pin::pin(context, pin).await,
        Backup::Unpin(unpin) => pin::unpin(context, unpin).await,
        Backup::Catalog(catalog) => catalog::run(context, catalog).await,
        Backup::Schedule(schedule) => schedule::run(context, schedule).await,
        Backup::Key(key) => key::run(context, key).await,
    }
}
