//! Whether a cluster may still make backups in a store. Not once a cluster does whose restore epoch is higher: what the older one made would
//! count as older than everything of the newer one, however late it was made, and would keep retention from telling one from the other.

use super::catalog::Catalog;
use super::format::Plaintext;
use super::id::BackupId;
use crate::ids::{ClusterId, Epoch};

/// Another cluster has the place of the one that asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "backup {backup} in this store is of cluster {cluster}, which was restored from this one or from one before it (epoch {}; this one has {}): \
     its backups count as newer than any that this one makes. If this cluster is to live on, give it a prefix of its own; if not, stop its backups",
    .epoch.0,
    .own.0
)]
pub struct Heir {
    /// Its newest backup.
    pub backup: BackupId,
    /// Which cluster that is.
    pub cluster: ClusterId,
    /// Its restore epoch.
    pub epoch: Epoch,
    /// That of the cluster that asks.
    pub own: Epoch,
}

/// Refuses a cluster of this epoch where a genuine backup has a higher one.
pub fn check(catalog: &Catalog, plaintext: Plaintext, own: Epoch) -> Result<(), Heir> {
    let newest_first = catalog.entries.iter().rev();
    let mut genuine = newest_first.filter_map(|entry| entry.genuine(plaintext));
    match genuine.find(|metadata| metadata.epoch > own) {
        None => Ok(()),
        Some(metadata) => {
            Err(Heir { backup: metadata.id, cluster: metadata.cluster, epoch: metadata.epoch, own })
        }
    }
}
