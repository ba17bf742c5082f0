//! Log entries as this project sees them, and the events worth a log line.

use crate::ids::NodeId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A [`crate::kv::Command`], or nothing: a leader's first entry.
    Normal,
    /// A change of membership.
    Membership,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place, from 1, without gaps.
    pub index: u64,
    /// The term of the leader that appended it.
    pub term: u64,
    /// What `data` is.
    pub kind: EntryKind,
    /// Encoded by the proposer.
    pub data: Bytes,
}

/// What must survive a crash beside the entries. Paper: figure 2, "persistent state".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The newest term seen.
    pub term: u64,
    /// Who got this node's vote in it; [`NodeId::NONE`] for nobody.
    pub vote: NodeId,
    /// The commit index as last known; may be behind.
    pub commit: u64,
}

/// The membership consensus runs on. Thesis §4.3 (joint consensus).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfState {
    /// Voters, or incoming voters during a joint change.
    pub voters: Vec<NodeId>,
    /// Non-voting receivers of the log.
    pub learners: Vec<NodeId>,
    /// Voters before a joint change that is under way.
    pub voters_outgoing: Vec<NodeId>,
    /// Voters that become learners when the joint change ends.
    pub learners_next: Vec<NodeId>,
    /// Whether the joint change ends by itself.
    pub auto_leave: bool,
}

impl ConfState {
    /// Everybody in it, now and then twice.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        [&self.voters, &self.voters_outgoing, &self.learners, &self.learners_next]
            .into_iter()
            .flatten()
            .copied()
    }
}

/// How bad an [`Event`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For following a run in detail.
    Debug,
    /// A step of normal life.
    Info,
    /// Something an operator may want to look at.
    Warn,
    /// Something an operator must look at. In a simulation, an error fails the run.
    Error,
}

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How bad.
    pub level: Level,
    /// The line. Never holds keys, values or secrets.
    pub message: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.level, self.message)
    }
}
