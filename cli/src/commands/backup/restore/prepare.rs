//! What every restore does: read and verify the backup, make a data directory of the new cluster, move it to its place; unless the same
//! command has done all that before.

use super::members::Members;
use super::place;
use super::repeat::{Asked, Finished, Record};
use super::stage::{self, Target};
use crate::commands::backup::load::Loading;
use crate::commands::backup::setup::rng;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::say::say;
use clap::{Args, value_parser};
use raftkv_core::api::Revision;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::restore::{EPOCH_MAX, Rebased, rebase};
use raftkv_core::ids::{ClusterId, Epoch, Identity};
use raftkv_node::disk::directory::sync_directory;
use serde::Serialize;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
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
    /// Makes the directory of one member. `cluster` is the new cluster's id; drawn if there is none yet. Members that begin with different
    /// states would never notice, so one that is not the first names its backup so that no other can be meant.
    pub async fn run(
        self,
        context: &Context,
        members: &Members,
        cluster: Option<ClusterId>,
    ) -> Result<Prepared, Failure> {
        let is_named = self.backup.parse::<BackupId>().is_ok() && !self.loading.or_older;
        if cluster.is_some() && !is_named {
            let what = "with --cluster-id, name the very backup that the cluster's first member was made from: --backup with its whole id, \
                        as that restore printed it, and no --or-older";
            return Err(Failure::new(Exit::Usage, what));
        }
        let asked = self.asked(members, cluster);
        stage::end_publishing(&self.db)?;
        if let Some(prepared) = self.made_before(&asked, members).await? {
            return Ok(prepared);
        }
        let target = Target::check(&self.db, self.force)?;
        let is_further = cluster.is_some();
        let cluster = match cluster {
            Some(cluster) => cluster,
            None => ClusterId(rng("cluster id")?.bytes()),
        };
        let picked = self.loading.pick(&self.backup).await?;
        let id = picked.id;
        // What any cluster of before gave out is not given out again. The first member has found that out for all.
        let before = if is_further { Epoch::default() } else { picked.highest_epoch };
        let lost = before.max(Epoch(self.lost_epoch));
        // The process is about to end; to take a state of millions of keys apart before would only take time.
        let restored = ManuallyDrop::new(self.loading.read(context, picked).await?);
        let rebased = rebase(&restored, cluster, lost);
        let rebased = rebased.map_err(|error| Failure::new(Exit::Refused, error))?;
        let Rebased { cluster, epoch, base } = rebased;
        let identity = Identity { cluster, epoch, node: members.this().node };
        let (keys, revision) = (base.state.keys(), base.state.revision());
        let staged = target.stage(identity, members.all(), base)?;
        let record = Record::new(asked, id, &restored.metadata, staged.state_hash());
        let record = staged.publish(record)?;
        Ok(Prepared::new(self.db, members, &identity, (keys, revision), &record))
    }

    /// What the same command made before, if nothing has come of it since.
    async fn made_before(
        &self,
        asked: &Asked,
        members: &Members,
    ) -> Result<Option<Prepared>, Failure> {
        let Some(finished) = Finished::find(&self.db, asked)? else { return Ok(None) };
        let picked = self.loading.pick(&self.backup).await?;
        let Some((record, image)) = finished.check(picked.id) else { return Ok(None) };
        // Whoever made it may have been killed before it was.
        let synced = sync_directory(place::parent(&self.db));
        synced.map_err(|error| Failure::file("replaced", &self.db, error))?;
        let db = self.db.clone();
        say!("{} was restored by this command before", db.display());
        let state = (image.state.keys(), image.state.revision());
        Ok(Some(Prepared::new(db, members, &image.identity, state, record)))
    }

    fn asked(&self, members: &Members, cluster: Option<ClusterId>) -> Asked {
        Asked {
            backup: self.backup.clone(),
            or_older: self.loading.or_older,
            allow_plaintext: self.loading.allow_plaintext,
            force: self.force,
            members: members.to_string(),
            id: members.this().node.member(),
            cluster_id: cluster.map(|cluster| cluster.to_string()),
            lost_epoch: self.lost_epoch,
        }
    }
}

impl Prepared {
    fn new(
        db: PathBuf,
        members: &Members,
        identity: &Identity,
        (keys, revision): (u64, Revision),
        record: &Record,
    ) -> Self {
        Prepared {
            backup: record.backup.to_string(),
            moved_aside: record.moved_aside.map(|number| place::aside(&db, number)),
            db,
            cluster_id: identity.cluster.to_string(),
            epoch: identity.epoch.0,
            id: identity.node.member(),
            address: members.this().address.clone(),
            keys,
            backup_revision: record.backup_revision,
            revision,
            state_hash: record.state_hash.to_string(),
            backup_state_hash: record.backup_state_hash.to_string(),
        }
    }

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
        start_command(self.id, &self.db.display().to_string(), &self.address, None)
    }
}

/// What else a node is to be told, which no backup knows.
pub const BACKUPS_AGAIN: &str = "give each node its backup configuration again (--backup-config FILE), or it makes no backups; beside a cluster that lives on, \
     one with a prefix of its own, or that cluster makes none any more";

/// The command that starts a node. Without certificates it listens on loopback only, and calls nobody elsewhere.
pub fn start_command(id: u32, db: &str, address: &str, seed: Option<&str>) -> String {
    let mut command = format!("raftkv-node --id {id} --data-dir {db} --listen {address}");
    if !is_loopback(address) || !seed.is_none_or(is_loopback) {
        command.push_str(" --cert-dir DIR");
    }
    if let Some(seed) = seed {
        command.push_str(&format!(" --join {seed}"));
    }
    command
}

fn is_loopback(address: &str) -> bool {
    address.parse().is_ok_and(|address: SocketAddr| address.ip().is_loopback())
}
