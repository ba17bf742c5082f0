//! From the bytes of a data directory to a running node: what to read, what to trust, when to refuse.
//!
//! A data directory is born in one of two ways, both made of [`DiskOp`]s that the shell carries out before [`Boot`]:
//! `genesis` (a new or restored cluster: identity, first snapshot, empty log) or [`joining`] (identity only; the first
//! snapshot comes from the leader). The identity says which, so that a member whose files were lost is never mistaken for a new one.

use crate::ids::Identity;
use crate::io::{DiskError, DiskOp, FileName};
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

/// A checked data directory, ready for `Node::new`.
#[derive(Debug)]
pub struct Image {
    /// Whose directory it is.
    pub identity: Identity,
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

/// The operations that make a data directory for a node that will join a cluster. To be done in order.
pub fn joining(_identity: Identity) -> Vec<DiskOp> {
    Vec::new()
}
