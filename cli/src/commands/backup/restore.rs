//! `backup restore`: from a backup to a data directory of a new cluster.
//!
//! Invariants: nothing is visible at the target before every byte of the backup was verified and the new directory is whole and on
//! stable storage; what was at the target before is moved aside, never deleted.

mod members;
mod stage;

use super::setup::{ConfigFile, progress_bar, read_failure, rng, show};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use clap::Args;
use raftkv_core::backup::read::ReadBounds;
use raftkv_core::backup::restore::{Rebased, Restore as Machine, Restored, rebase};
use raftkv_core::ids::{ClusterId, Identity};
use raftkv_node::blob::drive;
use serde::Serialize;
use stage::Target;
use std::path::PathBuf;

/// Arguments.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    config: ConfigFile,
    /// Which: an id, the beginning of one, or latest
    #[arg(long, value_name = "ID|latest")]
    backup: String,
    /// The data directory to make
    #[arg(long, value_name = "DIR")]
    db: PathBuf,
    /// Move what is at DIR aside
    #[arg(long)]
    force: bool,
    /// The members of the new cluster; this node alone if none are named
    #[arg(long, value_name = "ID=HOST:PORT,...")]
    initial_cluster: Option<String>,
    /// Which member the directory is for
    #[arg(long, value_name = "N", default_value_t = 1)]
    id: u32,
    /// Where the node will listen, if no --initial-cluster says so
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7400")]
    listen: String,
    /// The new cluster's id, as an earlier restore of another member printed it; drawn if left out
    #[arg(long, value_name = "HEX")]
    cluster_id: Option<ClusterId>,
    /// Accept an unencrypted backup although encryption is configured
    #[arg(long)]
    allow_plaintext: bool,
}

#[derive(Debug, Serialize)]
struct RestoredView {
    backup: String,
    db: PathBuf,
    moved_aside: Option<PathBuf>,
    cluster_id: String,
    epoch: u64,
    id: u32,
    address: String,
    keys: u64,
    /// What clients of the old cluster may have seen at most, as far as the backup knows.
    backup_revision: u64,
    /// Where the new cluster's revisions begin.
    revision: u64,
    state_hash: String,
    backup_state_hash: String,
}

/// Runs it.
pub async fn run(context: &Context, restore: Restore) -> Result<(), Failure> {
    let members = members::parse(restore.initial_cluster.as_deref(), restore.id, &restore.listen)?;
    let target = Target::check(&restore.db, restore.force)?;
    let cluster = match restore.cluster_id {
        Some(cluster) => cluster,
        None => ClusterId(rng("cluster id")?.bytes()),
    };
    let restored = read(context, &restore).await?;
    let Rebased { cluster, epoch, base } = rebase(&restored, cluster);
    let identity = Identity { cluster, epoch, node: members.this().node };
    let (keys, revision) = (base.state.keys(), base.state.revision());
    let address = members.this().address.clone();
    let staged = target.stage(identity, members.all(), base)?;
    let state_hash = staged.state_hash().to_string();
    let moved_aside = staged.publish()?;
    context.print(&RestoredView {
        backup: restored.metadata.id.to_string(),
        db: restore.db,
        moved_aside,
        cluster_id: cluster.to_string(),
        epoch: epoch.0,
        id: restore.id,
        address,
        keys,
        backup_revision: restored.metadata.revision,
        revision,
        state_hash,
        backup_state_hash: restored.metadata.state_hash.to_string(),
    })
}

async fn read(context: &Context, restore: &Restore) -> Result<Restored, Failure> {
    let mut setup = restore.config.open()?;
    let entry = setup.select(&restore.backup).await?;
    let access = setup.access(restore.allow_plaintext);
    let mut machine = Machine::new(entry.id, access, ReadBounds::default());
    let bar = progress_bar(context);
    drive(&mut machine, setup.store.as_mut(), |progress| show(&bar, progress)).await;
    bar.finish_and_clear();
    match machine.take() {
        Some(Ok(restored)) => Ok(restored),
        Some(Err(error)) => {
            let failure = read_failure(&error);
            Err(match failure.exit() {
                Exit::Verification => Failure::new(
                    Exit::Verification,
                    format!("{failure}; nothing was restored. Others: backup list, backup verify"),
                ),
                _ => failure,
            })
        }
        None => unreachable!("a driven machine has an outcome"),
    }
}

impl Report for RestoredView {
    fn table(&self) -> String {
        let aside = self.moved_aside.as_ref();
        let aside = aside.map_or(String::new(), |path| {
            format!("\nwhat was there before is at {}", path.display())
        });
        format!(
            "{} keys of backup {} are in {}, for node {} of the new cluster {} (epoch {}){aside}\n\
             start it:            raftkv-node --data-dir {} --id {} --listen {}\n\
             prepare another one: repeat the command there with --id, and --cluster-id {}",
            self.keys,
            self.backup,
            self.db.display(),
            self.id,
            self.cluster_id,
            self.epoch,
            self.db.display(),
            self.id,
            self.address,
            self.cluster_id,
        )
    }
}
