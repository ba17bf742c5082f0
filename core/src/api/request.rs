//! Everything a client or operator can ask of a node.

use super::backups::Schedule;
use super::data::{KeyRange, LeaseId, Revision};
use crate::ids::NodeId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One request. Each is answered by exactly one final [`super::Response`]; only a watch answers many times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Read a range of keys.
    Range(RangeRequest),
    /// Change the state.
    Write {
        /// Makes retries apply once; without it a retry may apply again.
        session: Option<SessionRef>,
        /// What to change.
        op: WriteOp,
    },
    /// Open a session for exactly-once writes. Answered by `Response::SessionOpened`.
    SessionOpen,
    /// Start a watch; events come as `Response::Watch` until cancelled.
    Watch(WatchRequest),
    /// End the watch that was started by this connection's request of the same id.
    WatchCancel {
        /// The `ReqId` the shell gave the watch request.
        watch: u64,
    },
    /// List leases.
    LeaseList,
    /// State of the asked node itself.
    Status,
    /// The members of the cluster.
    MemberList,
    /// Add a member as a learner, or as a voter once it has caught up.
    MemberAdd {
        /// The operator's number for it.
        member: u32,
        /// Where it listens, `host:port`.
        address: String,
        /// Stay a learner.
        learner: bool,
    },
    /// Make a learner a voter.
    MemberPromote {
        /// The member's number.
        member: u32,
    },
    /// Remove a member.
    MemberRemove {
        /// The member's number.
        member: u32,
    },
    /// Hand leadership to another voter.
    LeaderTransfer {
        /// The member's number.
        member: u32,
    },
    /// A new or wiped node asks to be taken in; answered with `Response::Joined`.
    Join {
        /// The operator's number for it.
        member: u32,
        /// Where it listens, `host:port`.
        address: String,
        /// Stay a learner.
        learner: bool,
    },
    /// Write a snapshot now, and answer when it is durable.
    SnapshotSave,
    /// Snapshots on the asked node's disk.
    SnapshotList,
    /// Freeze the state at the node's applied index and read it as a snapshot stream.
    ViewOpen,
    /// The next chunk of a view. Asking for the same number again gives the same bytes.
    ViewRead {
        /// From `Response::ViewOpened`.
        view: u64,
        /// Chunk number, from 0.
        chunk: u64,
    },
    /// Drop a view before its end.
    ViewClose {
        /// From `Response::ViewOpened`.
        view: u64,
    },
    /// Set when the cluster makes backups, or end that. Answered, as all that follow, by `Response::Backups`.
    BackupSchedule {
        /// When; `None`: never.
        schedule: Option<Schedule>,
    },
    /// Pause the schedule, or resume it.
    BackupPause {
        /// Which of the two.
        paused: bool,
    },
    /// Make a backup now; answered when it has begun.
    BackupRun,
    /// What the asked node knows of the cluster's backups.
    BackupStatus,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began.
    #[default]
    Linearizable,
    /// Whatever the asked node has applied; may be old.
    Stale,
}

/// Read a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// As of this revision; 0 means the newest.
    pub revision: Revision,
    /// At most this many keys; 0 means no limit but the response's size.
    pub limit: u64,
    /// Leave values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// How fresh; not looked at inside a transaction.
    pub consistency: Consistency,
}

/// A change of the state, applied by every replica at the same log index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteOp {
    /// Write one key.
    Put(PutRequest),
    /// Delete a range of keys.
    Delete(DeleteRequest),
    /// Compare, then one of two lists of operations, as one.
    Txn(TxnRequest),
    /// Create a lease; `id` 0 lets the store choose.
    LeaseGrant {
        /// The wanted id, or 0.
        id: LeaseId,
        /// Time to live, in milliseconds of log time.
        ttl_ms: u64,
    },
    /// End a lease and delete its keys.
    LeaseRevoke {
        /// Which lease.
        id: LeaseId,
    },
    /// Start a lease's time to live anew.
    LeaseKeepAlive {
        /// Which lease.
        id: LeaseId,
    },
    /// Forget history before this revision.
    Compact {
        /// The oldest revision that stays readable.
        revision: Revision,
    },
}

/// Write one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutRequest {
    /// The key; not empty.
    pub key: Bytes,
    /// Its new value.
    pub value: Bytes,
    /// Attach to this lease; 0 means none.
    pub lease: LeaseId,
    /// Return the version before.
    pub return_previous: bool,
}

/// Delete a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRequest {
    /// Which keys.
    pub range: KeyRange,
    /// Return the versions before.
    pub return_previous: bool,
}

/// If every compare holds, `success`, else `failure`; all at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnRequest {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// Done in order when they do.
    pub success: Vec<TxnOp>,
    /// Done in order when they do not.
    pub failure: Vec<TxnOp>,
}

/// One step of a transaction. Steps see the effects of earlier ones; no key is written twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnOp {
    /// Read.
    Range(RangeRequest),
    /// Write.
    Put(PutRequest),
    /// Delete.
    Delete(DeleteRequest),
}

/// A condition on every key of a range (a key that does not exist has version 0 and revisions 0).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Which keys. For a range, it must hold for every existing key of it.
    pub range: KeyRange,
    /// How `target` of the key relates to the given value.
    pub op: CompareOp,
    /// What is compared, and with what.
    pub target: CompareTarget,
}

/// How the key's side relates to the request's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareOp {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// The key's is greater.
    Greater,
    /// The key's is less.
    Less,
}

/// What a [`Compare`] looks at, with the request's side of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareTarget {
    /// The value's bytes; false for a key that does not exist.
    Value(Bytes),
    /// The version counter.
    Version(u64),
    /// The creation revision.
    CreateRevision(Revision),
    /// The revision of the newest version.
    ModRevision(Revision),
    /// The lease.
    Lease(LeaseId),
}

/// Ties a write to a session so that it applies once however often it is sent.
/// Thesis §6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRef {
    /// From `Response::SessionOpened`.
    pub session: u64,
    /// The write's number within the session, from 1. A retry keeps its number.
    pub sequence: u64,
    /// Answers to numbers below this have arrived and may be forgotten.
    pub acknowledged_below: u64,
}

/// Follow changes of a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRequest {
    /// Which keys.
    pub range: KeyRange,
    /// First revision wanted; 0 means from now on.
    pub from_revision: Revision,
    /// Send the version before with each event.
    pub with_previous: bool,
}

impl Request {
    /// Whether only the leader can answer.
    pub fn needs_leader(&self) -> bool {
        matches!(
            self,
            Request::Write { .. }
                | Request::SessionOpen
                | Request::MemberAdd { .. }
                | Request::MemberPromote { .. }
                | Request::MemberRemove { .. }
                | Request::LeaderTransfer { .. }
                | Request::Join { .. }
                | Request::BackupSchedule { .. }
                | Request::BackupPause { .. }
                | Request::BackupRun
        )
    }
}

impl RangeRequest {
    /// A plain linearizable read of the newest versions in `range`.
    pub fn new(range: KeyRange) -> Self {
        RangeRequest {
            range,
            revision: 0,
            limit: 0,
            keys_only: false,
            count_only: false,
            consistency: Consistency::Linearizable,
        }
    }
}

/// Names a node of the join answer. Kept here so that both sides of a join see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinGrant {
    /// The id the new node must use.
    pub node: NodeId,
    /// Where the members listen.
    pub members: Vec<super::admin::MemberInfo>,
}
