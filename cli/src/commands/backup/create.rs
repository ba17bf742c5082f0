//! `backup create`: back up the state at one exact point, from the live cluster or from the directory of a stopped node.

use super::progress::Meter;
use super::prune::after_backup;
use super::setup::{ConfigFile, Setup, now, rng};
use super::source::{self, Frozen};
use super::view::{BackupView, OneBackup};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use clap::Args;
use raftkv_core::backup::Metadata;
use raftkv_core::backup::create::{Create as Machine, Outcome, Settings, Step};
use raftkv_core::backup::machine::Progress;
use raftkv_node::blob::drive_create;
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    config: ConfigFile,
    /// Read the data directory of a stopped node instead of a live cluster
    #[arg(long, value_name = "DIR")]
    db: Option<PathBuf>,
}

/// Runs it. One backup at a time is made in a store; older ones go afterwards, if the configuration says so.
pub async fn run(context: &Context, create: Create) -> Result<(), Failure> {
    let mut setup = create.config.open()?;
    let settings = setup
        .loaded
        .settings(env!("CARGO_PKG_VERSION"))
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let lock = setup.lock("backup create").await?;
    let made = make(context, &mut setup, settings, create.db.as_deref()).await;
    lock.release().await;
    context.print(&OneBackup(BackupView::of_metadata(&made?)))?;
    if setup.loaded.config.retention.prune_on_backup {
        after_backup(&mut setup).await;
    }
    Ok(())
}

async fn make(
    context: &Context,
    setup: &mut Setup,
    settings: Settings,
    db: Option<&Path>,
) -> Result<Metadata, Failure> {
    let Frozen { source, bytes_estimate, stream } = match db {
        Some(path) => source::stopped(path)?,
        None => source::live(&context.client().await?).await?,
    };
    let mut machine = Machine::new(source, settings, now(), &mut rng("backup")?)
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let meter = Meter::new(context);
    drive_create(&mut machine, setup.store.as_mut(), stream, |progress| {
        let total_bytes = progress.total_bytes.or(Some(bytes_estimate.max(progress.done_bytes)));
        meter.show(Progress { total_bytes, ..progress });
    })
    .await;
    meter.finish_and_clear();
    match machine.outcome() {
        Some(Outcome::Complete(metadata)) => Ok((**metadata).clone()),
        Some(Outcome::Failed(failure)) => {
            let exit = match failure.step {
                Step::Streaming => Exit::Failed,
                Step::Opening | Step::Finishing | Step::Committing => Exit::Storage,
            };
            Err(Failure::new(exit, failure))
        }
        None => unreachable!("a driven machine has an outcome"),
    }
}
