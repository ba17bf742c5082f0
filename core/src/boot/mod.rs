//! From the bytes of a data directory to a running node: what to read, what to trust, when to refuse.
//!
//! A data directory is born in one of two ways, both made of [`DiskOp`]s that the shell carries out before [`Boot`]:
//! [`genesis`] (a new or restored cluster: first snapshot, log, identity) or [`joining`] (log and identity only; the first
//! snapshot comes from the leader). The identity says which, so that a member whose files were lost is never mistaken for a new one.
//!
//! ```text
//! identity -> snapshots, newest first, until one is whole -> headers of the older ones -> segments of the log -> merge
//!          -> make all of it durable -> ready
//! ```
//! Invariants: nothing is written before everything was read and checked; what was read back is made durable before the node builds
//! on it, because a killed process may have left it in memory only; a damaged directory is refused by file and byte, unchanged.

mod genesis;
pub mod identity;
mod machine;
mod merge;
mod replay;
#[cfg(test)]
mod tests;

pub use genesis::{Genesis, GenesisBase, genesis, joined, joining};
pub use identity::Standing;
pub use machine::Boot;
pub use replay::{ReplayError, Replayed, replay};

use crate::api::{MemberInfo, SnapshotInfo};
use crate::ids::Identity;
use crate::io::{DiskError, DiskOp, FileName};
use crate::kv::KvState;
use crate::log::{Entry, HardState};
use crate::snapshot::Sum;
use crate::wal::WalWriter;
use crate::wire::peer::SnapshotMeta;

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
    /// Make this sum, on any thread, and hand it to [`Boot::take_sum`]; go on meanwhile.
    Sum(Sum),
    /// Hand in a sum before anything else.
    AwaitSum,
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
    /// `term` and `commit` are at least the snapshot's: a durable snapshot proves that much.
    pub hard_state: HardState,
    /// The newest usable snapshot; index 0 while joining.
    pub snapshot: SnapshotMeta,
    /// Its state.
    pub state: KvState,
    /// Usable snapshot files, oldest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// The log behind the snapshot, without gaps.
    pub entries: Vec<Entry>,
    /// The log's writing end.
    pub wal: WalWriter,
    /// Unfinished files that nothing needs, to be removed.
    pub leftovers: Vec<FileName>,
    /// What an operator should know: a damaged snapshot that was passed over, a torn write that was cut.
    pub warnings: Vec<String>,
}

/// Why a data directory cannot be used. Each message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// There is no identity: nothing was ever started here, or its making was cut short.
    #[error("the data directory is empty")]
    Empty,
    /// A file cannot be read or written.
    #[error("{file} cannot be used: {error}")]
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
