//! What log entries hold: commands, encoded with a version so that old logs stay readable.

use crate::api::{MemberInfo, SessionRef, WriteOp};
use crate::time::Wall;
use serde::{Deserialize, Serialize};

/// A change of the replicated state. Applying one is total: it succeeds or yields a typed error, on every replica alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Log time in milliseconds, as the leader counts it: it runs on by the leader's monotonic clock from where the state stood when
    /// leadership began, so neither a jump of the calendar nor a change of leader ends a lease early.
    pub log_time_ms: u64,
    /// The leader's calendar, for audit and backup stamps only.
    pub wall: Wall,
    /// What to do.
    pub action: Action,
}

/// What a [`Command`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A client's write.
    Write {
        /// Makes it apply once.
        session: Option<SessionRef>,
        /// The write.
        op: WriteOp,
    },
    /// Open a session; its id is the entry's index.
    SessionOpen,
    /// Only log time moves: leases and sessions that are due end.
    Tick,
}

/// Goes with a membership entry: what the member table becomes when it is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChange {
    /// The members after the change, with addresses.
    pub upsert: Vec<MemberInfo>,
    /// Members that leave.
    pub remove: Vec<crate::ids::NodeId>,
}
