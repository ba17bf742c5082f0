//! What operators see of nodes, members and snapshots.

use super::data::Revision;
use crate::ids::{Identity, NodeId};
use crate::kv::hash::StateHash;
use serde::{Deserialize, Serialize};

/// What a node does in consensus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Serves writes.
    Leader,
    /// Follows a leader, or waits for one.
    Follower,
    /// Stands for election.
    Candidate,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Receives the log without a vote.
    Learner,
}

/// How a member takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberRole {
    /// Counts for quorums.
    Voter,
    /// Receives the log only.
    Learner,
    /// Receives the log, and becomes a voter as soon as it has caught up.
    Joining,
}

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Its id, with incarnation.
    pub node: NodeId,
    /// Where it listens, `host:port`.
    pub address: String,
    /// How it takes part.
    pub role: MemberRole,
}

/// State of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Cluster, epoch and node.
    pub identity: Identity,
    /// Where it listens.
    pub address: String,
    /// Its role.
    pub role: Role,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// Index of the last entry in its log.
    pub last_index: u64,
    /// Commit index.
    pub commit_index: u64,
    /// Applied index.
    pub applied_index: u64,
    /// The store's revision at the applied index.
    pub revision: Revision,
    /// The oldest readable revision.
    pub compacted: Revision,
    /// Hash over the whole state at the applied index.
    pub state_hash: StateHash,
    /// Live keys.
    pub keys: u64,
    /// Bytes of live keys and values.
    pub bytes: u64,
    /// Leases.
    pub leases: u64,
    /// Open watches on this node.
    pub watches: u64,
    /// Index of the newest durable snapshot.
    pub snapshot_index: u64,
    /// Bytes of log on disk.
    pub log_bytes: u64,
    /// The software's version.
    pub version: String,
}

/// One snapshot on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Log index of the last entry it holds.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The store's revision.
    pub revision: Revision,
    /// File size.
    pub bytes: u64,
    /// Live keys.
    pub keys: u64,
    /// Hash over the whole state.
    pub state_hash: StateHash,
}
