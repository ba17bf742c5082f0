//! Whether a cluster may make backups in a store, by what is there already.
//!
//! Not once a cluster does whose restore epoch is higher: what the older one made would count as older than everything of the newer one,
//! however late it was made. Not beside another cluster of the same epoch: nothing tells which of their backups is the newest, and a restore
//! would bring back one cluster's state in the other's place. No plain backups beside encrypted ones, unless the configuration says that there is to
//! be no encryption: lines that get lost in an edit must not end it.

use super::catalog::Catalog;
use super::create::{Settings, Source};
use super::format::{Plaintext, Suite};
use super::id::BackupId;
use crate::ids::{ClusterId, Epoch};

/// Why nothing is made in a store. What is there must change, or the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A cluster that was restored from the one that asks has its backups there.
    #[error(
        "backup {backup} in this store is of cluster {cluster}, which was restored from this one or from one before it (epoch {}; this one has {}): \
         its backups count as newer than any that this one makes. If this cluster is to live on, give it a prefix of its own; if not, stop its backups",
        .epoch.0,
        .own.0
    )]
    Heir {
        /// Its newest backup.
        backup: BackupId,
        /// Which cluster that is.
        cluster: ClusterId,
        /// Its restore epoch.
        epoch: Epoch,
        /// That of the cluster that asks.
        own: Epoch,
    },
    /// A cluster that has nothing to do with the one that asks has its backups there.
    #[error(
        "backup {backup} in this store is of another cluster, {cluster}; this one is {own}: nobody could tell which of their backups is the newest. \
         Give each a prefix of its own; if the other one is gone for good, and its backups are not needed any more, delete them"
    )]
    OtherCluster {
        /// Its newest backup.
        backup: BackupId,
        /// Which cluster that is.
        cluster: ClusterId,
        /// The one that asks.
        own: ClusterId,
    },
    /// Backups there are encrypted, and this one would not be.
    #[error(
        "backup {backup} in this store is encrypted, and this configuration names no key: nothing is written in plain text. Name the key under backup.encryption; \
         if there is to be no encryption any more, say so: encryption: {{enabled: false}}"
    )]
    WouldBePlain {
        /// The newest of them.
        backup: BackupId,
    },
}

/// Judges a cluster by the state that it would back up, and how.
///
/// # Errors
/// [`Refusal`]
pub fn check(
    catalog: &Catalog,
    plaintext: Plaintext,
    source: &Source,
    settings: &Settings,
) -> Result<(), Refusal> {
    let (own, cluster) = (source.epoch, source.cluster);
    let newest_first = || catalog.entries.iter().rev();
    let mut genuine = newest_first().filter_map(|entry| entry.genuine(plaintext));
    if let Some(heir) = genuine.find(|metadata| metadata.epoch > own) {
        let (backup, cluster, epoch) = (heir.id, heir.cluster, heir.epoch);
        return Err(Refusal::Heir { backup, cluster, epoch, own });
    }
    let rival = catalog.rival(cluster, own, plaintext);
    if let Some(other) = rival.and_then(|entry| entry.metadata.as_ref()) {
        let (backup, of) = (other.id, other.cluster);
        return Err(Refusal::OtherCluster { backup, cluster: of, own: cluster });
    }
    if settings.recipients.is_empty() && !settings.plain_is_said {
        let complete = newest_first().filter(|entry| entry.is_complete());
        let mut sealed = complete.filter_map(|entry| entry.metadata.as_ref());
        if let Some(sealed) = sealed.find(|metadata| metadata.suite != Suite::Plain) {
            return Err(Refusal::WouldBePlain { backup: sealed.id });
        }
    }
    Ok(())
}
