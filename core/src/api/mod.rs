//! What clients say to the store and what it answers: plain data, shared by core, shells and command line.
//!
//! The bytes that carry these types are `wire::client`'s; the rules they follow are `kv`'s.

pub mod admin;
pub mod backups;
pub mod data;
pub mod error;
pub mod metrics;
pub mod request;
pub mod response;

pub use admin::{MemberInfo, MemberRole, NodeStatus, Role, SnapshotInfo};
pub use backups::{
    BackupStatus, Backups, CopyReport, Ended, Obstacle, PruneReport, Run, RunOutcome, RunTotals,
    Schedule,
};
pub use data::{Event, EventKind, KeyRange, KeyValue, LeaseId, RangeEnd, Revision};
pub use error::Error;
pub use request::{
    Compare, CompareOp, CompareTarget, Consistency, DeleteRequest, PutRequest, RangeRequest,
    Request, SessionRef, TxnOp, TxnRequest, WatchRequest, WriteOp,
};
pub use response::{LeaseInfo, RangeResponse, Response, TxnOpResult, ViewInfo, WriteResult};
