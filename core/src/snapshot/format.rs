//! The parts of a snapshot file.
//!
//! ```text
//! file    0   8 bytes  "RAFTKVSN"
//!         8   u32      format version: 1, or 2 where the second item is about backups
//!         12  u32      CRC-32C of the 12 bytes before
//!         16  chunks: one header, any number of items, one footer; nothing behind it
//! chunk   0   u32      CRC-32C over everything behind it in the chunk
//!         4   u32      length of the body
//!         8   u32      number in the file, from 0
//!         12  u8       kind: 1 header, 2 items, 3 footer
//!         13  3 x 0
//!         16  body
//! header  postcard of Header
//! items   a piece of the item stream: for each item a u32 length, then its postcard form. Pieces are cut by size alone, so an item
//!         may span several
//! footer  u64 items, u64 bytes of the file before the footer's chunk, 32 bytes SHA-256 over those
//! ```
//! Invariant: the bytes follow from the header and the items alone, so every replica writes the same file at the same index.

use std::fmt;

/// The newest version this build writes and reads.
pub const VERSION: u32 = 2;
/// What is written where nothing is known about backups: the same bytes as ever.
pub(super) const FIRST_VERSION: u32 = 1;
/// What one chunk of items holds, except the last: small enough that encoding one between two writes is not noticed.
pub const CHUNK_BYTES: usize = 256 << 10;
/// The longest body a reader accepts. A header with a large membership still fits.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// The longest item a reader accepts; far above the longest value that can be configured.
pub const ITEM_BYTES_MAX: usize = 256 << 20;

pub(super) const MAGIC: &[u8; 8] = b"RAFTKVSN";
pub(super) const FILE_HEAD_BYTES: usize = 16;
pub(super) const CHUNK_HEAD_BYTES: usize = 16;
pub(super) const FOOTER_BYTES: usize = 48;

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Header = 1,
    Items = 2,
    Footer = 3,
}

/// What a whole, checked file amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Items in it.
    pub items: u64,
    /// Bytes before the footer's chunk.
    pub bytes: u64,
    /// SHA-256 over those.
    pub sha256: [u8; 32],
}

/// Why a snapshot cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {cause}")]
pub struct SnapshotError {
    /// Offset of the part that is wrong: the file's head, or a chunk.
    pub offset: u64,
    /// What is wrong with it.
    pub cause: SnapshotErrorCause,
}

/// What is wrong with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotErrorCause {
    /// The first bytes are not a snapshot's.
    #[error("this is not a snapshot")]
    NotASnapshot,
    /// A newer build wrote it.
    #[error("snapshot version {0} is not known; this build reads up to {VERSION}")]
    Version(u32),
    /// A chunk is not what was written.
    #[error("a chunk's checksum does not match")]
    Checksum,
    /// A chunk is out of place, or its head is impossible.
    #[error("{0}")]
    Chunk(String),
    /// Bytes that passed their checksum are not what they should be.
    #[error("{0}")]
    Malformed(String),
    /// The whole does not match the footer.
    #[error("the file's SHA-256 or counts do not match its footer")]
    Digest,
    /// The file ends too early.
    #[error("the file ends before its footer")]
    Truncated,
    /// There is something behind the footer.
    #[error("there are bytes behind the footer")]
    Trailing,
    /// The items do not make up a state, or not the one the header names.
    #[error("{0}")]
    State(String),
}

impl Kind {
    pub(super) fn from_byte(byte: u8) -> Option<Kind> {
        match byte {
            1 => Some(Kind::Header),
            2 => Some(Kind::Items),
            3 => Some(Kind::Footer),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Header => "header",
            Kind::Items => "items",
            Kind::Footer => "footer",
        })
    }
}
