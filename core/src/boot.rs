//! From the bytes of a data directory to a running node: what to read, what to trust, when to refuse.
//!
//! A data directory is born in one of two ways, both made of [`DiskOp`]s that the shell carries out before [`Boot`]:
//! [`genesis`] (a new or restored cluster: identity, first snapshot, empty log) or [`joining`] (identity only; the first
//! snapshot comes from the leader). The identity says which, so that a member whose files were lost is never mistaken for a new one.

use crate::api::{MemberInfo, SnapshotInfo};
use crate::ids::Identity;
use crate::io::{DiskError, DiskOp, FileName};
use crate::kv::KvState;
use crate::log::{Entry, HardState};
use crate::wal::WalWriter;
use crate::wire::peer::SnapshotMeta;
use bytes::Bytes;

/// What the shell must do next while booting.
#[derive(Debug)]
pub enum BootStep {
    /// Read this, and hand it to [`Boot::handle`].
    Read {
        /// Which file.
        file: FileName,
        /// From where.
        offset: u64,
        /// At most how much.
        len_bytes: u64,
    },
    /// Do this, and hand `Ok` with no bytes to [`Boot::handle`] when it is done. What a killed process had written but not synced
    /// is read back like everything else; before the node builds on it, it must be made durable. [`Boot::read_only`] asks for none.
    Do(DiskOp),
    /// Everything was read and checked.
    Ready(Box<Image>),
    /// The directory cannot be used.
    Refused(BootError),
}

/// A checked data directory, ready for [`crate::node::Node::new`].
#[derive(Debug)]
pub struct Image {
    /// Whose directory it is.
    pub identity: Identity,
    /// The node waits for its first snapshot; the identity file still says so.
    pub joining: bool,
    /// While joining: who took the node in, and everybody else.
    pub peers: Vec<MemberInfo>,
    /// `commit` is at least the snapshot's index: a durable snapshot proves that much.
    pub hard_state: HardState,
    /// The newest usable snapshot; index 0 while joining.
    pub snapshot: SnapshotMeta,
    /// Its state.
    pub state: KvState,
    /// Complete snapshot files, oldest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// The log behind the snapshot, without gaps.
    pub entries: Vec<Entry>,
    /// The log's writing end.
    pub wal: WalWriter,
    /// Files of no use, to be removed.
    pub leftovers: Vec<FileName>,
    /// For the log: what was found and overcome.
    pub warnings: Vec<String>,
}

/// What a new cluster starts from.
#[derive(Debug)]
pub struct GenesisBase {
    /// Index of the first snapshot, at least 1.
    pub index: u64,
    /// Its term, at least 1.
    pub term: u64,
    /// The state; its members are replaced.
    pub state: KvState,
}

/// Why a data directory cannot be used. Each message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// There is no identity: nothing was ever started here.
    #[error("the data directory is empty")]
    Empty,
    /// A file cannot be read.
    #[error("{file} cannot be read: {error}")]
    Unreadable {
        /// Path below the data directory.
        file: String,
        /// What failed.
        error: DiskError,
    },
    /// A file is damaged where it may not be.
    #[error(
        "{file} is damaged at byte {offset}: {what}. Nothing was changed. Restore the file, or let the member rejoin: move the directory away, and start the node with --join"
    )]
    Damaged {
        /// Path below the data directory.
        file: String,
        /// Where.
        offset: u64,
        /// How.
        what: String,
    },
}

/// Decides what to read, and checks it.
#[derive(Debug)]
pub struct Boot {}

impl Boot {
    /// Starts from the names and lengths of the files in the directory.
    pub fn new(_listing: Vec<(FileName, u64)>) -> Self {
        Boot {}
    }

    /// As [`Boot::new`], but changes nothing in the directory: for looking at a stopped node's data.
    pub fn read_only(_listing: Vec<(FileName, u64)>) -> Self {
        Boot {}
    }

    /// What to do next.
    pub fn poll(&mut self) -> BootStep {
        BootStep::Refused(BootError::Empty)
    }

    /// The outcome of the read or action that was asked for.
    pub fn handle(&mut self, _result: Result<Bytes, DiskError>) {}
}

/// The operations that make the data directory of a member of a new or restored cluster, in order; each only when the one before is
/// done. The same members and base give every member the same snapshot, byte for byte.
pub fn genesis(
    _identity: Identity,
    _members: Vec<MemberInfo>,
    _base: GenesisBase,
) -> impl Iterator<Item = DiskOp> {
    std::iter::empty()
}

/// The operations that make a data directory for a node that will join a cluster, in order. `peers` is whom it can reach before its
/// first snapshot tells it.
pub fn joining(_identity: Identity, _peers: Vec<MemberInfo>) -> Vec<DiskOp> {
    Vec::new()
}

/// The operations that turn a joining node's identity into a member's, once its first snapshot is installed. All of the log lane.
pub fn joined(_identity: Identity) -> Vec<DiskOp> {
    Vec::new()
}
