//! `backup create`: back up the state at one exact point, from the live cluster or from the directory of a stopped node.

use super::progress::Meter;
use super::setup::{ConfigFile, rng};
use super::source::{self, Frozen};
use super::view::{BackupView, OneBackup};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use clap::Args;
use raftkv_core::backup::create::{Create as Machine, Outcome, Step};
use raftkv_core::backup::machine::Progress;
use raftkv_core::time::Wall;
use raftkv_node::blob::drive_create;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    config: ConfigFile,
    /// Read the data directory of a stopped node instead of a live cluster
    #[arg(long, value_name = "DIR")]
    db: Option<PathBuf>,
}

/// Runs it.
pub async fn run(context: &Context, create: Create) -> Result<(), Failure> {
    let mut setup = create.config.open()?;
    let settings = setup
        .loaded
        .settings(env!("CARGO_PKG_VERSION"))
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let Frozen { source, bytes_estimate, stream } = match &create.db {
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
        Some(Outcome::Complete(metadata)) => {
            context.print(&OneBackup(BackupView::of_metadata(metadata)))
        }
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

fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(since.as_millis() as i64)
}
