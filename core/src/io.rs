//! The whole boundary: what goes into the core and what comes out.
//!
//! Invariants: ids, never channels or callbacks; every `Output::Disk` is answered by exactly one `Input::Disk` with the same
//! `OpId`, every `Output::Blob` by one `Input::Blob`, every `Output::Work` by one `Input::Work`; every `Input::Client` by exactly one final `Output::Reply` (watches: many, see [`crate::api::Response`]).

use crate::api::{Request, Response};
use crate::backup::blob::{BlobDone, BlobError, BlobOp, StoreIndex};
use crate::backup::machine::{Work, WorkDone};
use crate::ids::{NodeId, OpId, ReqId};
use crate::wire::peer::PeerFrame;
use bytes::Bytes;
use std::fmt;

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A timer may be due. Spurious ones are harmless.
    Timeout,
    /// A client asks. `req` is fresh.
    Client {
        /// Names the request in its replies.
        req: ReqId,
        /// What is asked.
        request: Request,
    },
    /// The client that sent `req` has gone: no reply is wanted any more.
    ClientGone {
        /// The request.
        req: ReqId,
    },
    /// A frame from a peer whose identity the handshake has proved.
    Peer {
        /// Who sent it.
        from: NodeId,
        /// The frame.
        frame: PeerFrame,
    },
    /// Frames to this peer are being dropped: it cannot be reached.
    PeerUnreachable {
        /// Who.
        peer: NodeId,
    },
    /// An operation of [`Output::Disk`] has ended.
    Disk {
        /// Which.
        op: OpId,
        /// How.
        result: Result<DiskDone, DiskError>,
    },
    /// An operation of [`Output::Blob`] has ended.
    Blob {
        /// Which.
        op: OpId,
        /// How.
        result: Result<BlobDone, BlobError>,
    },
    /// Work of [`Output::Work`] has ended.
    Work {
        /// Which.
        op: OpId,
        /// What came of it.
        done: WorkDone,
    },
    /// Stop soon: hand over leadership, then [`Output::Halt`] with [`Halt::Stopped`].
    Shutdown,
}

/// Something the core wants done.
#[derive(Debug)]
pub enum Output {
    /// Send a frame. It may be lost, duplicated or overtaken; order is only a help to speed.
    Send {
        /// To whom.
        to: NodeId,
        /// The frame.
        frame: PeerFrame,
    },
    /// Do something on disk. Operations of one [`Lane`] are done in the order given. Once one of [`Lane::Log`] has failed, reads apart,
    /// all later ones of that lane fail, too: a log must not go on behind a gap.
    Disk {
        /// Names the operation in its completion.
        op: OpId,
        /// What to do.
        action: DiskOp,
    },
    /// Do something in a backup store. Only nodes that were told to make backups ask for it. Ids are this output's own.
    Blob {
        /// In which.
        store: StoreIndex,
        /// Names the operation in its completion, and an upload in the operations that belong to it.
        op: OpId,
        /// What to do.
        action: BlobOp,
    },
    /// Do work that takes a processor for long, on any thread but the node's.
    Work {
        /// Names the work in its completion.
        op: OpId,
        /// What to do.
        work: Work,
    },
    /// Answer a client.
    Reply {
        /// Which request.
        req: ReqId,
        /// The answer.
        response: Response,
    },
    /// The address book changed: these are all peers now, without this node.
    Peers(Vec<(NodeId, String)>),
    /// Something worth a log line.
    Event(crate::log::Event),
    /// Stop the process. Nothing comes after it.
    Halt(Halt),
}

/// Names a file of the data directory. The core knows no paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// Who this directory belongs to: `identity`.
    Identity,
    /// An identity being rewritten: `identity.tmp`. Deleted at start.
    IdentityTemp,
    /// A segment of the write-ahead log: `wal/{number:016}.wal`.
    Wal(u64),
    /// A complete snapshot by the index of its last entry: `snapshots/snapshot-{index:09}.snap`.
    Snapshot(u64),
    /// A snapshot being made or received: `snapshots/snapshot-{index:09}.tmp`. Deleted at start.
    SnapshotTemp(u64),
}

/// One action on the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Create (or empty) a file, reserve `reserve_bytes` of zeroes, write `bytes` at its start.
    /// When done: contents and directory entry are on stable storage.
    Create {
        /// Which file.
        file: FileName,
        /// Length of the file afterwards, if `bytes` is shorter.
        reserve_bytes: u64,
        /// First bytes.
        bytes: Bytes,
    },
    /// Write at an offset. When done and `sync`: on stable storage, with every earlier write to the file.
    Write {
        /// Which file.
        file: FileName,
        /// Where.
        offset: u64,
        /// What.
        bytes: Bytes,
        /// Whether completion waits for stable storage. Neighbours in a lane share one fdatasync.
        sync: bool,
    },
    /// Sync a file and give it another name in the same directory, replacing what was there.
    /// When done: the new name is on stable storage.
    Publish {
        /// The finished file.
        from: FileName,
        /// Its new name.
        to: FileName,
    },
    /// Make a file that exists safe: when done, its contents, length and directory entry are on stable storage, whoever wrote them.
    Sync {
        /// Which file.
        file: FileName,
    },
    /// Read up to `len_bytes` from `offset`; fewer only at the end of the file.
    Read {
        /// Which file.
        file: FileName,
        /// Where.
        offset: u64,
        /// How much at most.
        len_bytes: u64,
    },
    /// Remove a file; done also when it was not there. When done: gone from stable storage.
    Remove {
        /// Which file.
        file: FileName,
    },
}

/// How a disk operation ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskDone {
    /// It is done.
    Done,
    /// To [`DiskOp::Read`].
    Bytes(Bytes),
}

/// How a disk operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct DiskError {
    /// What kind of failure.
    pub kind: DiskErrorKind,
    /// The operating system's words, with the file's path.
    pub message: String,
}

/// Kinds of disk failure the core tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskErrorKind {
    /// No space left, or over quota.
    Full,
    /// No such file.
    Missing,
    /// Anything else.
    Failed,
}

impl fmt::Display for DiskErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskErrorKind::Full => "disk full",
            DiskErrorKind::Missing => "file missing",
            DiskErrorKind::Failed => "disk failed",
        })
    }
}

/// Disk work is ordered within a lane; lanes may overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The write-ahead log and the identity: every write waits for it.
    Log,
    /// Snapshots: large, and nobody waits.
    Bulk,
}

impl DiskOp {
    /// Which lane the operation belongs to.
    pub fn lane(&self) -> Lane {
        match self.file() {
            FileName::Identity | FileName::IdentityTemp | FileName::Wal(_) => Lane::Log,
            FileName::Snapshot(_) | FileName::SnapshotTemp(_) => Lane::Bulk,
        }
    }

    /// What it writes.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            DiskOp::Create { bytes, .. } | DiskOp::Write { bytes, .. } => Some(bytes),
            DiskOp::Publish { .. }
            | DiskOp::Sync { .. }
            | DiskOp::Read { .. }
            | DiskOp::Remove { .. } => None,
        }
    }

    /// The file it works on (for `Publish`, the one it takes).
    pub fn file(&self) -> FileName {
        match self {
            DiskOp::Create { file, .. }
            | DiskOp::Write { file, .. }
            | DiskOp::Publish { from: file, .. }
            | DiskOp::Sync { file }
            | DiskOp::Read { file, .. }
            | DiskOp::Remove { file } => *file,
        }
    }
}

impl FileName {
    /// The path below the data directory, with `/` between its parts.
    pub fn path(self) -> String {
        match self {
            FileName::Identity => "identity".into(),
            FileName::IdentityTemp => "identity.tmp".into(),
            FileName::Wal(number) => format!("wal/{number:016}.wal"),
            FileName::Snapshot(index) => format!("snapshots/snapshot-{index:09}.snap"),
            FileName::SnapshotTemp(index) => format!("snapshots/snapshot-{index:09}.tmp"),
        }
    }

    /// The name a path below the data directory stands for; `None` for files that are not the core's.
    pub fn from_path(path: &str) -> Option<FileName> {
        let number = |text: &str| -> Option<u64> {
            (text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
        };
        let name = if path == "identity" {
            FileName::Identity
        } else if path == "identity.tmp" {
            FileName::IdentityTemp
        } else if let Some(name) = path.strip_prefix("wal/") {
            FileName::Wal(number(name.strip_suffix(".wal")?)?)
        } else {
            let name = path.strip_prefix("snapshots/snapshot-")?;
            match name.strip_suffix(".snap") {
                Some(index) => FileName::Snapshot(number(index)?),
                None => FileName::SnapshotTemp(number(name.strip_suffix(".tmp")?)?),
            }
        };
        (name.path() == path).then_some(name)
    }
}

/// Why the node stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// It was asked to, and everything is flushed.
    #[error("stopped as asked")]
    Stopped,
    /// A write or sync failed: what the file holds now is not known, so nothing more is promised from here. Restart after mending
    /// the disk; the log is read back and checked.
    #[error(
        "{file} cannot be written ({error}); the node stops rather than promise what it cannot keep. Mend the disk and start again"
    )]
    DiskFailed {
        /// Path below the data directory.
        file: String,
        /// What failed.
        error: DiskError,
    },
    /// A committed entry makes no sense to this build: it was written by a newer one, or memory is failing.
    #[error(
        "log entry {index} cannot be read ({what}): upgrade this node to the version of its peers; if it is, let the member rejoin"
    )]
    Unreadable {
        /// Which entry.
        index: u64,
        /// Why.
        what: String,
    },
    /// This node was removed from its cluster.
    #[error(
        "this node ({node}) was removed from its cluster; to bring the member back, start it with --join and an empty data directory"
    )]
    Removed {
        /// The id it had.
        node: NodeId,
    },
    /// The cluster remembers more of this node than its disk does: the disk was rolled back or lied.
    #[error(
        "this node's log is older than what it told its peers ({detail}): its disk was rolled back. Remove the member, then start it with --join and an empty data directory"
    )]
    RolledBack {
        /// What gave it away.
        detail: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_files_and_nothing_else() {
        for file in [
            FileName::Identity,
            FileName::IdentityTemp,
            FileName::Wal(3),
            FileName::Snapshot(12),
            FileName::SnapshotTemp(1_234_567_890),
        ] {
            assert_eq!(FileName::from_path(&file.path()), Some(file));
        }
        for path in ["wal/3.wal", "snapshots/snapshot-+12.snap", "../identity", "lock", "wal/x.wal"]
        {
            assert_eq!(FileName::from_path(path), None, "{path}");
        }
    }
}
