//! Why a backup was not copied.

use crate::backup::blob::{BlobError, ObjectName};

/// Why there is no copy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// It was removed meanwhile.
    #[error("it was removed while it was being copied")]
    Gone,
    /// It is not what it was when it was found to be whole.
    #[error("{0} has changed since the backup was looked at: copy again")]
    Changed(ObjectName),
    /// It is not what its metadata says.
    #[error("it is damaged where it was to be copied from: {0}")]
    Damaged(String),
    /// Another backup has its name in the target.
    #[error("another metadata.json is in its place in the store that it was to be copied to")]
    Displaced,
    /// No object in the target can be that long.
    #[error(
        "its data.db has {data_bytes} bytes, and the store that it was to be copied to takes {most}"
    )]
    TooLong {
        /// Bytes of `data.db`.
        data_bytes: u64,
        /// How many it may have there.
        most: u64,
    },
    /// It could not be read.
    #[error("reading {object}: {error}")]
    Read {
        /// Which object.
        object: ObjectName,
        /// How it failed.
        error: BlobError,
    },
    /// It could not be written.
    #[error("writing {object}: {error}")]
    Write {
        /// Which object.
        object: ObjectName,
        /// How it failed.
        error: BlobError,
    },
    /// It was not wanted any more.
    #[error("copying was given up")]
    GivenUp,
}
