//! Snapshots: the whole state at one log index as a stream of checked chunks.
//!
//! [`mod@format`] is the file; [`Encoder`] and [`Decoder`] turn items into its bytes and back, in bounded memory. Around them:
//! [`trigger`] (when one is due), [`writer`] and [`pace`] (to disk without holding up writes), [`send`] and [`receive`] (to a peer that is far
//! behind), [`retention`] (which files may go), [`json`] (the portable form) and [`inspect`] (a summary, even of
//! a damaged file).
//!
//! Invariant: same index, same bytes, on every replica. Source: Raft paper §7; thesis §5.

pub mod decode;
pub mod digest;
pub mod encode;
pub mod format;
pub mod inspect;
pub mod json;
pub mod load;
pub mod pace;
pub mod receive;
pub mod retention;
pub mod send;
pub mod sums;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod trigger;
pub mod writer;

pub use decode::Decoder;
pub use encode::Encoder;
pub use format::{Footer, SnapshotError, SnapshotErrorCause};
pub use inspect::{Inspector, Summary};
pub use load::Loader;
pub use pace::Pace;
pub use receive::{Installed, Receiver, ReceiverStep};
pub use send::{Sender, SenderStep};
pub use sums::{Sum, Summed};
pub use trigger::Trigger;
pub use writer::{Writer, WriterStep};

use crate::api::SnapshotInfo;
use crate::ids::Identity;
use crate::kv::{KvState, StateHash};
use crate::wire::peer::SnapshotMeta;
use serde::{Deserialize, Serialize};

/// Bytes of a key's item beside key and value, roughly.
const ITEM_BYTES: u64 = 32;

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
    /// The header of a state as it stands at `meta.index`.
    pub fn of(identity: &Identity, meta: SnapshotMeta, state: &KvState) -> Self {
        Header {
            cluster: identity.cluster,
            epoch: identity.epoch,
            meta,
            revision: state.revision(),
            state_hash: state.hash(),
            keys: state.keys(),
            bytes: state.bytes(),
        }
    }

    /// Length of the stream, roughly: it is not known before the stream is made.
    pub fn stream_bytes_estimate(&self) -> u64 {
        self.bytes.saturating_add(self.keys.saturating_mul(ITEM_BYTES))
    }

    /// Whether a node of this identity may use the snapshot.
    pub fn belongs_to(&self, identity: &Identity) -> bool {
        self.cluster == identity.cluster && self.epoch == identity.epoch
    }
}

/// What operators see of a snapshot file of `file_bytes`.
pub fn info(header: &Header, file_bytes: u64) -> SnapshotInfo {
    SnapshotInfo {
        index: header.meta.index,
        term: header.meta.term,
        revision: header.revision,
        bytes: file_bytes,
        keys: header.keys,
        state_hash: header.state_hash,
    }
}
