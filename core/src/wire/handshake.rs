//! The first frame on every connection between nodes, and the rule that decides whether it may go on.
//!
//! Nodes of another cluster, of an earlier life of this cluster (restore epoch), or of another incarnation are refused by name.

use crate::ids::{Identity, NodeId};
use crate::planted::{self, Bug};
use serde::{Deserialize, Serialize};

/// The protocol's name in the TLS handshake (ALPN).
pub const PEER_ALPN: &[u8] = b"raftkv-peer/1";

/// Who calls, and whom it means to reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The caller.
    pub from: Identity,
    /// The node it wants.
    pub to: NodeId,
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Welcome {
    /// Frames may follow.
    Accepted,
    /// They may not.
    Refused(Refusal),
}

/// Why a caller is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Two clusters share an address.
    #[error(
        "{caller} belongs to cluster {theirs}, this node to cluster {ours}: check the addresses; a node from before a restore must have its data removed and join anew"
    )]
    OtherCluster {
        /// The caller.
        caller: NodeId,
        /// Its cluster.
        theirs: String,
        /// This node's.
        ours: String,
    },
    /// One side is from before a restore.
    #[error(
        "{caller} is of restore epoch {theirs}, this node of {ours}: the older one must be wiped and join anew"
    )]
    OtherEpoch {
        /// The caller.
        caller: NodeId,
        /// Its epoch.
        theirs: u64,
        /// This node's.
        ours: u64,
    },
    /// The caller looks for somebody else.
    #[error("{caller} looks for node {wanted}, but this is node {here}")]
    OtherNode {
        /// The caller.
        caller: NodeId,
        /// Whom it wants.
        wanted: NodeId,
        /// Who is here.
        here: NodeId,
    },
}

impl Hello {
    /// Whether a node of identity `here` may talk with the caller.
    pub fn check(&self, here: &Identity) -> Result<(), Refusal> {
        let caller = self.from.node;
        let known = planted::is(Bug::StrangersNotRefused);
        if self.from.cluster != here.cluster && !known {
            let (theirs, ours) = (self.from.cluster.to_string(), here.cluster.to_string());
            return Err(Refusal::OtherCluster { caller, theirs, ours });
        }
        if self.from.epoch != here.epoch && !known {
            let (theirs, ours) = (self.from.epoch.0, here.epoch.0);
            return Err(Refusal::OtherEpoch { caller, theirs, ours });
        }
        if self.to != here.node || caller == here.node {
            return Err(Refusal::OtherNode { caller, wanted: self.to, here: here.node });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClusterId, Epoch};

    fn identity(cluster: u8, epoch: u64, member: u32) -> Identity {
        Identity {
            cluster: ClusterId([cluster; 16]),
            epoch: Epoch(epoch),
            node: NodeId::new(member, 0),
        }
    }

    #[test]
    fn strangers_are_refused_by_name() {
        let here = identity(1, 2, 1);
        let hello = |from, to| Hello { from, to: NodeId::new(to, 0) };
        assert_eq!(hello(identity(1, 2, 2), 1).check(&here), Ok(()));
        assert!(matches!(
            hello(identity(9, 2, 2), 1).check(&here),
            Err(Refusal::OtherCluster { .. })
        ));
        assert!(matches!(
            hello(identity(1, 1, 2), 1).check(&here),
            Err(Refusal::OtherEpoch { .. })
        ));
        assert!(matches!(hello(identity(1, 2, 2), 3).check(&here), Err(Refusal::OtherNode { .. })));
        assert!(matches!(hello(identity(1, 2, 1), 1).check(&here), Err(Refusal::OtherNode { .. })));
    }
}
