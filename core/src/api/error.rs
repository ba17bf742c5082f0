//! Why a request was not done, as the client sees it. Each message says what to do.

use super::data::{LeaseId, Revision};
use crate::ids::NodeId;
use serde::{Deserialize, Serialize};

/// A typed refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    /// Ask the leader, if one is named.
    #[error("this node is not the leader{}", leader.as_ref().map(|(id, at)| format!("; ask node {id} at {at}")).unwrap_or_else(|| "; none is known, retry".into()))]
    NotLeader {
        /// The leader and its address, when known.
        leader: Option<(NodeId, String)>,
    },
    /// Leadership changed while the write was under way: it may or may not be applied later.
    #[error(
        "leadership changed while the request was under way: whether it was applied is not known"
    )]
    Unknown,
    /// Too much is under way; nothing was done.
    #[error("the node is busy ({what}); retry after a moment")]
    Busy {
        /// Which bound was reached.
        what: String,
    },
    /// A bound on sizes was exceeded.
    #[error("{what} is {got} bytes or items, the limit is {limit}")]
    TooLarge {
        /// What was too large.
        what: String,
        /// Its size.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// The request contradicts itself or names something impossible.
    #[error("bad request: {0}")]
    Invalid(String),
    /// The revision was compacted away.
    #[error(
        "revision {asked} is compacted; the oldest readable one is {oldest}: list again and watch from there"
    )]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest revision still readable.
        oldest: Revision,
    },
    /// The revision does not exist yet.
    #[error("revision {asked} is in the future; the newest is {newest}")]
    FutureRevision {
        /// What was asked for.
        asked: Revision,
        /// The newest revision.
        newest: Revision,
    },
    /// No such lease.
    #[error("no lease {0}")]
    LeaseNotFound(LeaseId),
    /// The lease id is taken.
    #[error("lease {0} exists already")]
    LeaseExists(LeaseId),
    /// The session is not known: it expired, or its cluster was restored. Open a new one.
    #[error("session {0} is not known: it expired; open a new one")]
    SessionUnknown(u64),
    /// The answer to this number was acknowledged before and is forgotten.
    #[error("write {sequence} of session {session} was acknowledged before")]
    SequenceForgotten {
        /// The session.
        session: u64,
        /// The number.
        sequence: u64,
    },
    /// No such member, view, watch or snapshot.
    #[error("{0} not found")]
    NotFound(String),
    /// Another change of the kind is under way; nothing was done.
    #[error("{0}; retry when it is done")]
    Conflict(String),
    /// The request would break a safety rule.
    #[error("refused: {0}")]
    Refused(String),
    /// The node is starting, stopping, or has no quorum in time.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl Error {
    /// Whether the request may nevertheless have been applied, or be applied later.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Error::Unknown)
    }

    /// Whether sending the same request again, here or to another node, can succeed.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Error::NotLeader { .. }
                | Error::Unknown
                | Error::Busy { .. }
                | Error::Conflict(_)
                | Error::Unavailable(_)
        )
    }
}
