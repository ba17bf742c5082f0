//! Why a backup cannot be read.

use super::blob::{BlobError, BlobErrorKind, ObjectName, Role};
use super::format::FormatError;
use super::id::BackupId;
use super::metadata::{MetadataError, Status};
use super::open::ChunkError;

/// Why a backup cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no metadata: never finished, or never there.
    #[error("backup {id} is not complete, or does not exist: it has no metadata.json")]
    NotComplete {
        /// Which.
        id: BackupId,
    },
    /// Its metadata says that it is not whole.
    #[error("backup {id} is not complete: its metadata.json says {status:?}")]
    NotWhole {
        /// Which.
        id: BackupId,
        /// What it says.
        status: Status,
    },
    /// The store failed.
    #[error("{object}: {error}")]
    Store {
        /// Which object.
        object: ObjectName,
        /// How.
        error: BlobError,
    },
    /// The metadata cannot be used.
    #[error("{id}/metadata.json: {error}")]
    Metadata {
        /// Of which backup.
        id: BackupId,
        /// Why.
        error: MetadataError,
    },
    /// The front of the data cannot be used.
    #[error("{id}/data.db: {error}")]
    Header {
        /// Of which backup.
        id: BackupId,
        /// Why.
        error: FormatError,
    },
    /// An object of another backup.
    #[error("{object} says it belongs to backup {found}: it was moved or copied here")]
    Misplaced {
        /// Which object.
        object: ObjectName,
        /// To which backup it says it belongs.
        found: BackupId,
    },
    /// Two sources of the same fact disagree.
    #[error("backup {id}: {what} is {expected} by metadata.json, but {found} was found")]
    Mismatch {
        /// Which backup.
        id: BackupId,
        /// Which fact.
        what: &'static str,
        /// By the metadata.
        expected: String,
        /// By the data.
        found: String,
    },
    /// A chunk is wrong.
    #[error("backup {id}: {error}")]
    Chunk {
        /// Which backup.
        id: BackupId,
        /// Which chunk, and how.
        error: ChunkError,
    },
    /// The chunks hold more than there should be.
    #[error(
        "backup {id}: its plain bytes go on behind the {claimed_bytes} that there are by metadata.json"
    )]
    Overlong {
        /// Which backup.
        id: BackupId,
        /// How many there should be.
        claimed_bytes: u64,
    },
    /// A read gave fewer bytes than there are.
    #[error(
        "{object}: {found_bytes} bytes were read at {offset} instead of {wanted_bytes}: the object changed under the reader"
    )]
    Short {
        /// Which object.
        object: ObjectName,
        /// Where.
        offset: u64,
        /// How much was asked for.
        wanted_bytes: u64,
        /// How much came.
        found_bytes: u64,
    },
    /// The stream is authentic, but does not make the state it should.
    #[error("backup {id} does not restore: {what}")]
    State {
        /// Which backup.
        id: BackupId,
        /// Why.
        what: String,
    },
}

/// What kind of trouble a [`ReadError`] is, for exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadTrouble {
    /// The backup is damaged, altered or incomplete.
    Verification,
    /// The store could not be read.
    Store,
    /// There is no such backup, or it was never finished.
    NotFound,
    /// The right key is not at hand.
    Key,
    /// Policy forbids it.
    Refused,
}

impl ReadError {
    /// What kind of trouble it is.
    pub fn trouble(&self) -> ReadTrouble {
        match self {
            ReadError::NotComplete { .. } => ReadTrouble::NotFound,
            // Its metadata were there.
            ReadError::Store { object: ObjectName { role: Role::Data, .. }, error }
                if error.kind == BlobErrorKind::NotFound =>
            {
                ReadTrouble::Verification
            }
            ReadError::Store { .. } | ReadError::Short { .. } => ReadTrouble::Store,
            ReadError::Header { error: FormatError::KeyMissing { .. }, .. } => ReadTrouble::Key,
            ReadError::Header { error: FormatError::PlaintextRefused, .. } => ReadTrouble::Refused,
            _ => ReadTrouble::Verification,
        }
    }
}
