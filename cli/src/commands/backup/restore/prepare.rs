//! What every restore does: read and verify the backup, make a data directory of the new cluster, move it to its place.

use super::members::Members;
use super::stage::Target;
use crate::commands::backup::load::Loading;
use crate::commands::backup::setup::rng;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use clap::{Args, value_parser};
use raftkv_core::backup::restore::{EPOCH_MAX, Rebased, rebase};
use raftkv_core::ids::{ClusterId, Epoch, Identity};
use serde::Serialize;
use std::mem::ManuallyDrop;
use std::path::PathBuf;

/// What is restored, and where to.
#[derive(Debug, Args)]
pub struct Preparation {
    #[command(flatten)]
    loading: Loading,
    /// Which: an id, the beginning of one, latest, or the newest of a time
    #[arg(long, value_name = "ID|latest|@TIME")]
    backup: String,
    /// The data directory to make
    #[arg(long, value_name = "DIR")]
    db: PathBuf,
    /// Move what is at DIR aside
    #[arg(long)]
    force: bool,
    /// The epoch of the lost cluster, if it was itself restored and left no backup
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u64).range(..EPOCH_MAX.0))]
    lost_epoch: u64,
}

/// A directory from which a node of the new cluster starts.
#[derive(Debug, Serialize)]
pub struct Prepared {
    /// The backup that was used.
    pub backup: String,
    /// The directory.
    pub db: PathBuf,
    /// Where what was there before is now.
    pub moved_aside: Option<PathBuf>,
    /// The new cluster.
    pub cluster_id: String,
    /// Its epoch.
    pub epoch: u64,
    /// The node the directory is for.
    pub id: u32,
    /// Where it will listen.
    pub address: String,
    /// Live keys.
    pub keys: u64,
    /// What clients of the old cluster may have seen at most, as far as the backup knows.
    pub backup_revision: u64,
    /// Where the new cluster's revisions begin.
    pub revision: u64,
    /// Hash over the new cluster's first state.
    pub state_hash: String,
    /// Hash over the state that was backed up.
    pub backup_state_hash: String,
}

impl Preparation {
    /// Makes the directory of one member. `cluster` is the new cluster's id; drawn if there is none yet.
    pub async fn run(
        self,
        context: &Context,
        members: &Members,
        cluster: Option<ClusterId>,
    ) -> Result<Prepared, Failure> {
        let target = Target::check(&self.db, self.force)?;
        let cluster = match cluster {
            Some(cluster) => cluster,
            None => ClusterId(rng("cluster id")?.bytes()),
        };
        // The process is about to end; to take a state of millions of keys apart before would only take time.
        let restored = ManuallyDrop::new(self.loading.load(context, &self.backup).await?);
        let rebased = rebase(&restored, cluster, Epoch(self.lost_epoch));
        let rebased = rebased.map_err(|error| Failure::new(Exit::Refused, error))?;
        let Rebased { cluster, epoch, base } = rebased;
        let identity = Identity { cluster, epoch, node: members.this().node };
        let (keys, revision) = (base.state.keys(), base.state.revision());
        let staged = target.stage(identity, members.all(), base)?;
        let state_hash = staged.state_hash().to_string();
        let moved_aside = staged.publish()?;
        Ok(Prepared {
            backup: restored.metadata.id.to_string(),
            db: self.db,
            moved_aside,
            cluster_id: cluster.to_string(),
            epoch: epoch.0,
            id: members.this().node.member(),
            address: members.this().address.clone(),
            keys,
            backup_revision: restored.metadata.revision,
            revision,
            state_hash,
            backup_state_hash: restored.metadata.state_hash.to_string(),
        })
    }
}

impl Prepared {
    /// What was made, for people.
    pub fn summary(&self) -> String {
        let aside = self.moved_aside.as_ref();
        let aside = aside.map_or(String::new(), |path| {
            format!("\nwhat was there before is at {}", path.display())
        });
        format!(
            "{} keys of backup {} are in {}, for node {} of the new cluster {} (epoch {}){aside}",
            self.keys,
            self.backup,
            self.db.display(),
            self.id,
            self.cluster_id,
            self.epoch,
        )
    }

    /// The command that starts the node.
    pub fn start_command(&self) -> String {
        let db = self.db.display();
        format!("raftkv-node --id {} --data-dir {db} --listen {}", self.id, self.address)
    }
}
