//! What a node answers.

use super::admin::{MemberInfo, NodeStatus, SnapshotInfo};
use super::backups::BackupStatus;
use super::data::{Event, KeyValue, LeaseId, Revision};
use super::error::Error;
use super::request::JoinGrant;
use crate::ids::Identity;
use crate::kv::hash::StateHash;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To `Range`.
    Range(RangeResponse),
    /// To `Write`.
    Write(WriteResult),
    /// To `SessionOpen`: the session's id.
    SessionOpened {
        /// To be named in every write of the session.
        session: u64,
    },
    /// To `Watch`, many times. The first says `events: []` and from where the watch runs.
    Watch {
        /// Every event up to and including this revision has been sent.
        revision: Revision,
        /// Oldest first, by revision and key. Those of one revision come together; only where they are too many for one
        /// answer does `revision` stay below them until their last part.
        events: Vec<Event>,
    },
    /// To `LeaseList`.
    Leases(Vec<LeaseInfo>),
    /// To `Status`.
    Status(Box<NodeStatus>),
    /// To `MemberList`.
    Members(Vec<MemberInfo>),
    /// To member changes, leader transfer, watch cancel and view close: done.
    Done,
    /// To `Join`.
    Joined {
        /// Cluster, epoch and the new node's id.
        identity: Identity,
        /// The id again, and where everyone listens.
        grant: JoinGrant,
    },
    /// To `SnapshotSave`.
    SnapshotSaved(SnapshotInfo),
    /// To `SnapshotList`, oldest first.
    Snapshots(Vec<SnapshotInfo>),
    /// To `ViewOpen`.
    ViewOpened(ViewInfo),
    /// To `ViewRead`.
    ViewChunk {
        /// A piece of the snapshot stream.
        bytes: Bytes,
        /// Nothing follows; the view is gone.
        last: bool,
    },
    /// To anything: it was not done, or whether it was done is not known (see [`Error::outcome_unknown`]).
    Error(Error),
    /// To `BackupSchedule`, `BackupPause`, `BackupRun` and `BackupStatus`.
    Backups(Box<BackupStatus>),
}

/// Keys read at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeResponse {
    /// The store's revision when the read was served.
    pub revision: Revision,
    /// Matching keys in order, as far as limit and response size allow.
    pub kvs: Vec<KeyValue>,
    /// How many keys match, whatever the limit.
    pub count: u64,
    /// There are more keys than were returned.
    pub more: bool,
}

/// The outcome of a write that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteResult {
    /// Of a put.
    Put {
        /// The revision the write made.
        revision: Revision,
        /// The version before, when asked for.
        previous: Option<KeyValue>,
    },
    /// Of a delete.
    Delete {
        /// The revision after; unchanged when nothing was there.
        revision: Revision,
        /// How many keys were deleted.
        deleted: u64,
        /// The versions before, when asked for.
        previous: Vec<KeyValue>,
    },
    /// Of a transaction.
    Txn {
        /// The revision after; unchanged when nothing was written.
        revision: Revision,
        /// Whether the compares held.
        succeeded: bool,
        /// One result per operation done.
        results: Vec<TxnOpResult>,
    },
    /// Of a lease operation.
    Lease {
        /// The revision after.
        revision: Revision,
        /// Which lease.
        id: LeaseId,
        /// Its time to live, 0 when it ended.
        ttl_ms: u64,
    },
    /// Of a compaction.
    Compact {
        /// The oldest revision that stays readable.
        compacted: Revision,
    },
    /// Of a retry whose first attempt was applied but whose full answer was too large to keep.
    AppliedBefore {
        /// The revision after the first attempt.
        revision: Revision,
    },
}

/// The outcome of one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnOpResult {
    /// Of a read.
    Range(RangeResponse),
    /// Of a put: the version before, when asked for.
    Put(Option<KeyValue>),
    /// Of a delete.
    Delete {
        /// How many keys were deleted.
        deleted: u64,
        /// The versions before, when asked for.
        previous: Vec<KeyValue>,
    },
}

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseInfo {
    /// Its id.
    pub id: LeaseId,
    /// Its time to live when granted or kept alive, in milliseconds.
    pub ttl_ms: u64,
    /// Milliseconds of log time left, as the asked node knows it.
    pub remaining_ms: u64,
    /// Attached keys.
    pub keys: u64,
}

/// The exact point at which a view was frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewInfo {
    /// To be named in `ViewRead`.
    pub view: u64,
    /// The node that serves it, its cluster and epoch.
    pub identity: Identity,
    /// Log index of the last applied entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The store's revision.
    pub revision: Revision,
    /// Hash over the whole state.
    pub state_hash: StateHash,
    /// Live keys.
    pub keys: u64,
    /// Bytes of live keys and values.
    pub bytes: u64,
    /// The snapshot stream's exact length is not known before it is made; this is an estimate.
    pub stream_bytes_estimate: u64,
    /// Who was a member.
    pub members: Vec<MemberInfo>,
}

impl From<Result<WriteResult, Error>> for Response {
    fn from(result: Result<WriteResult, Error>) -> Self {
        match result {
            Ok(result) => Response::Write(result),
            Err(error) => Response::Error(error),
        }
    }
}

impl WriteResult {
    /// The store's revision after the write; for a compaction, the oldest readable one.
    pub fn revision(&self) -> Revision {
        match self {
            WriteResult::Put { revision, .. }
            | WriteResult::Delete { revision, .. }
            | WriteResult::Txn { revision, .. }
            | WriteResult::Lease { revision, .. }
            | WriteResult::AppliedBefore { revision } => *revision,
            WriteResult::Compact { compacted } => *compacted,
        }
    }
}
