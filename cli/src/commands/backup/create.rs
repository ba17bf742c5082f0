//! `backup create`: back up the state at one exact point, from the live cluster or from the directory of a stopped node.

use super::copy;
use super::pin::mark;
use super::progress::Meter;
use super::prune::tidy;
use super::schedule::run::run_now;
use super::setup::{CONFIG, ConfigFile, Setup, now, rng, who};
use super::source::{self, Frozen};
use super::stores::confirm;
use super::view::{BackupView, OneBackup};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::say::say;
use crate::stop::Stop;
use clap::Args;
use raftkv_core::backup::admission;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::create::{Create as Machine, Outcome, Settings, SettingsError, Source};
use raftkv_core::backup::machine::Progress;
use raftkv_core::backup::making::status;
use raftkv_core::backup::mark::Mark;
use raftkv_core::backup::{BackupId, Metadata};
use raftkv_node::backup::lock::Guard;
use raftkv_node::blob::drive_fenced;
use std::env;
use std::future::ready;
use std::path::PathBuf;

/// What is said when a backup could not be taken back in time.
const BROKEN_OFF: &str = "stopped at work on a backup: `backup list` shows whether it is complete";

/// Arguments.
#[derive(Debug, Args)]
pub struct Create {
    /// The backup configuration (YAML): the store, and how backups are made [env: RAFTKV_BACKUP_CONFIG]
    // clap would take the variable, which is there for all commands, for a flag that --in-cluster does not go with.
    #[arg(long, value_name = "FILE", conflicts_with = "in_cluster")]
    config: Option<PathBuf>,
    /// Read the data directory of a stopped node instead of a live cluster
    #[arg(long, value_name = "DIR")]
    db: Option<PathBuf>,
    /// Let a node of the cluster make it, with its own store and keys
    #[arg(long, conflicts_with = "db")]
    in_cluster: bool,
}

/// Runs it.
pub async fn run(context: &Context, create: Create) -> Result<(), Failure> {
    if create.in_cluster {
        return run_now(context, true).await;
    }
    let named = create.config.or_else(|| env::var_os(CONFIG).map(PathBuf::from));
    let config = named.ok_or_else(|| {
        let what =
            format!("name the backup configuration: --config FILE or {CONFIG}, or --in-cluster");
        Failure::new(Exit::Usage, what)
    })?;
    let mut setup = ConfigFile { config, store: None }.open()?;
    match &create.db {
        Some(path) => {
            let frozen = source::stopped(path)?;
            back_up(context, &mut setup, ready(Ok(frozen)), &Stop::listen()?).await.map(drop)
        }
        None => {
            let client = context.client().await?;
            back_up(context, &mut setup, source::live(&client), &Stop::listen()?).await.map(drop)
        }
    }
}

/// Backs up the state that `freeze` freezes, and prints what was made. One backup at a time is made in a store, and the state is frozen when
/// its turn has come: it may wait for long. Afterwards older backups go, if the configuration says so, and the stores that have copies are
/// brought up to date. When the process is told to stop, a backup that is not complete is taken back, and what would follow one that is
/// complete is left undone: the backup counts, and the command succeeds. Comes back with whether every store has everything.
pub async fn back_up(
    context: &Context,
    setup: &mut Setup,
    freeze: impl Future<Output = Result<Frozen, Failure>>,
    stop: &Stop,
) -> Result<bool, Failure> {
    let made = stop.in_time(make_alone(context, setup, freeze, stop), BROKEN_OFF);
    let (id, printed) = made.await?;
    let is_whole = !setup.has_several() || copy::after_backup(context, setup, id, stop).await;
    printed.map(|()| is_whole)
}

/// Makes the backup, under the locks of the stores that must have it. Comes back with whether it could be printed, too: it counts nevertheless.
async fn make_alone(
    context: &Context,
    setup: &mut Setup,
    freeze: impl Future<Output = Result<Frozen, Failure>>,
    stop: &Stop,
) -> Result<(BackupId, Result<(), Failure>), Failure> {
    let settings = setup
        .loaded
        .settings(env!("CARGO_PKG_VERSION"))
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let locks = setup.lock_first(settings.stores, "backup create", stop).await?;
    let not_begun = || Failure::new(Exit::Failed, "stopped before a backup was begun");
    let locks = locks.ok_or_else(not_begun)?;
    let frozen = tokio::select! {
        frozen = freeze => frozen,
        () = stop.told() => Err(not_begun()),
    };
    let made = match frozen {
        Ok(frozen) => match admit(setup, &settings, &frozen.source).await {
            Ok(()) => make(context, setup, settings, frozen, &locks, stop).await,
            Err(refused) => Err(refused),
        },
        Err(failure) => Err(failure),
    };
    let made =
        made.map(|made| (made.id, context.print(&OneBackup(BackupView::of_metadata(&made)))));
    if made.is_ok() {
        let older = setup.older();
        tokio::select! {
            () = tidy(setup, StoreIndex::PRIMARY, &locks[0], &older) => {}
            () = stop.told() => {}
        }
    }
    for lock in locks {
        lock.release().await;
    }
    made
}

/// Nothing is made where that would do harm to what is there. Of a store that cannot be listed nothing is known: if it is down, the backup
/// itself will fail.
async fn admit(setup: &mut Setup, settings: &Settings, source: &Source) -> Result<(), Failure> {
    let Ok(catalog) = setup.catalog().await else { return Ok(()) };
    let plaintext = setup.loaded.access(false).plaintext;
    admission::check(&catalog, plaintext, source, settings)
        .map_err(|refusal| Failure::new(Exit::Refused, refusal))
}

async fn make(
    context: &Context,
    setup: &mut Setup,
    settings: Settings,
    frozen: Frozen,
    locks: &[Guard],
    stop: &Stop,
) -> Result<Metadata, Failure> {
    let Frozen { source, stream } = frozen;
    let stream_bytes = source.stream_bytes;
    let mut rng = rng("backup")?;
    let (id, since) = (BackupId::draw(&mut rng), now());
    let machine = Machine::fenced(id, 1, source, settings, since, &mut rng);
    let mut machine = machine.map_err(|error| {
        let exit = match error {
            SettingsError::TooLong { .. } => Exit::Failed,
            _ => Exit::Usage,
        };
        Failure::new(exit, error)
    })?;
    let in_progress = status(id, &who("backup create"), since, false);
    mark(setup, Mark::write(&in_progress)).await?;
    let meter = Meter::new(context);
    let mut unlocked = None;
    let permit = async {
        let locked = still_locked(locks).await;
        locked.map_err(|failure| unlocked.insert(failure).to_string())
    };
    drive_fenced(&mut machine, &mut setup.stores, stream, stop.told(), permit, |progress| {
        let total_bytes = progress.total_bytes.or(Some(stream_bytes.max(progress.done_bytes)));
        meter.show(Progress { total_bytes, ..progress });
    })
    .await;
    meter.finish_and_clear();
    let end = match machine.outcome() {
        Some(Outcome::Failed(failure)) => {
            Mark::write(&status(id, &failure.to_string(), since, true))
        }
        _ => Mark::remove(in_progress.place),
    };
    if let Err(failure) = mark(setup, end).await {
        say!("how the backup ended is not in the store: {failure}");
    }
    match machine.outcome() {
        Some(Outcome::Complete(metadata)) => Ok((**metadata).clone()),
        Some(Outcome::Failed(failure)) => {
            let exit = unlocked.map_or(failure.obstacle().into(), |unlocked| unlocked.exit());
            Err(Failure::new(exit, failure))
        }
        None => unreachable!("a driven machine has an outcome"),
    }
}

/// Whoever took a lock over may have removed what was uploaded: nothing must say that it is complete.
async fn still_locked(locks: &[Guard]) -> Result<(), Failure> {
    for lock in locks {
        confirm(lock).await?;
    }
    Ok(())
}
