//! Snapshots: the whole state at one log index as a stream of checked chunks.

use crate::ids::Identity;
use crate::kv::StateHash;
use crate::wire::peer::SnapshotMeta;
use serde::{Deserialize, Serialize};

/// What a snapshot says about itself before its items come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Cluster and epoch it was taken in. Equal on every replica, so it holds no node.
    pub cluster: crate::ids::ClusterId,
    /// The cluster's restore epoch.
    pub epoch: crate::ids::Epoch,
    /// Index, term and membership.
    pub meta: SnapshotMeta,
    /// The store's revision.
    pub revision: crate::api::Revision,
    /// Hash over all items.
    pub state_hash: StateHash,
    /// Live keys.
    pub keys: u64,
    /// Bytes of live keys and values.
    pub bytes: u64,
}

impl Header {
    /// Whether a node of this identity may use the snapshot.
    pub fn belongs_to(&self, identity: &Identity) -> bool {
        self.cluster == identity.cluster && self.epoch == identity.epoch
    }
}
