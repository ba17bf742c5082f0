//! What nodes say to each other. raft's own protobuf never sees bytes from the wire: these frames are ours.

use crate::api::RunOutcome;
use crate::ids::NodeId;
use crate::log::{ConfState, Entry};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One frame from node to node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerFrame {
    /// A message of consensus.
    Raft(Box<RaftMessage>),
    /// A piece of a snapshot file. Chunks of one snapshot are sent in order, the next after the last was acknowledged.
    SnapshotChunk {
        /// Which snapshot.
        snapshot: SnapshotMeta,
        /// The sender's term.
        term: u64,
        /// Where in the file.
        offset: u64,
        /// The file's whole length.
        total_bytes: u64,
        /// The piece.
        bytes: Bytes,
    },
    /// The receiver has everything before `next_offset`, and wants what follows. Equal to the whole length: installed.
    SnapshotAck {
        /// The snapshot's index.
        index: u64,
        /// Where to go on.
        next_offset: u64,
    },
    /// The receiver cannot take this snapshot.
    SnapshotRefused {
        /// The snapshot's index.
        index: u64,
        /// Why.
        reason: String,
    },
    /// The leader tells a node that it is no member any more, and that the others can do without it.
    Removed,
    /// The leader asks who could make a backup now.
    BackupAsk {
        /// Names the question.
        round: u64,
    },
    /// Answer to `BackupAsk`.
    BackupAnswer {
        /// Which question.
        round: u64,
        /// The life of the node that can, or nothing.
        life: Option<u64>,
    },
    /// The node that makes a backup tells the leader how it goes.
    BackupReport {
        /// Which run.
        number: u64,
        /// How it goes.
        report: BackupReport,
    },
    /// A node that was removed, or may have been, asks whether the others can do without it.
    MayLeave,
    /// Answer to `BackupAsk`: not now, but it could.
    BackupBusy {
        /// Which question.
        round: u64,
    },
}

/// What a node that makes a backup says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupReport {
    /// It goes on.
    Alive,
    /// Everything but `metadata.json` is in the store.
    WantsCommit,
    /// It is over.
    Ended(RunOutcome),
}

/// What identifies a snapshot to consensus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// Index of the last entry it holds.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The membership at that point.
    pub conf: ConfState,
}

/// raft's message kinds, by their numbers in raft's own protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RaftKind {
    /// Entries, or a probe.
    Append,
    /// Answer to `Append` and `Snapshot`.
    AppendResponse,
    /// A candidate asks for a vote.
    RequestVote,
    /// Answer to `RequestVote`.
    RequestVoteResponse,
    /// A snapshot is offered; its bytes travel as chunks.
    Snapshot,
    /// The leader lives.
    Heartbeat,
    /// Answer to `Heartbeat`.
    HeartbeatResponse,
    /// The leader asks the receiver to stand for election now.
    TimeoutNow,
    /// A follower asks the leader for a read index.
    ReadIndex,
    /// Answer to `ReadIndex`.
    ReadIndexResponse,
    /// A pre-candidate asks whether it could win.
    RequestPreVote,
    /// Answer to `RequestPreVote`.
    RequestPreVoteResponse,
    /// A follower asks the leader to hand over to it.
    TransferLeader,
}

/// One message of consensus. Field names are raft's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftMessage {
    /// What it is.
    pub kind: RaftKind,
    /// To whom.
    pub to: NodeId,
    /// From whom.
    pub from: NodeId,
    /// The sender's term; 0 where raft leaves it out.
    pub term: u64,
    /// Term of the entry before `entries`.
    pub log_term: u64,
    /// Index of the entry before `entries`, or the one answered.
    pub index: u64,
    /// The entries.
    pub entries: Vec<Entry>,
    /// The sender's commit index.
    pub commit: u64,
    /// Term of the entry at `commit`.
    pub commit_term: u64,
    /// With `Snapshot`.
    pub snapshot: Option<SnapshotMeta>,
    /// The follower wants a snapshot at or above this index.
    pub request_snapshot: u64,
    /// A refusal.
    pub reject: bool,
    /// With a refusal: where to try next.
    pub reject_hint: u64,
    /// Carried along: read contexts, kinds of campaign.
    pub context: Bytes,
    /// The candidate's priority.
    pub priority: i64,
}
