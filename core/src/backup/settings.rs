//! What a backup is made of and how, as asked for.

use super::bounds::Bounds;
use super::compress::{Compression, CompressionError};
use super::format::{CHUNK_BYTES_RANGE, MAX_RECIPIENTS};
use super::keys::Key;
use crate::api::{MemberInfo, ViewInfo};
use crate::ids::{ClusterId, Epoch, NodeId};
use crate::kv::StateHash;
use crate::snapshot::Header;

/// No name of the software that made a backup is longer.
pub const MAX_VERSION_BYTES: usize = 128;

/// The state that is backed up, frozen at one log index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its restore epoch.
    pub epoch: Epoch,
    /// The node that gives the stream.
    pub node: NodeId,
    /// The cluster's members.
    pub members: Vec<MemberInfo>,
    /// Log index of the state.
    pub index: u64,
    /// Term of the entry at that index.
    pub term: u64,
    /// Revision of the state.
    pub revision: u64,
    /// Hash over the state.
    pub state_hash: StateHash,
    /// Live keys.
    pub keys: u64,
    /// Length of the stream, roughly.
    pub stream_bytes: u64,
}

/// How the backup is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How chunks are compressed.
    pub compression: Compression,
    /// How many stores, the primary one first, must have it whole before it counts.
    pub stores: u8,
    /// The keys that will open it. None: the backup is not encrypted.
    pub recipients: Vec<Key>,
    /// Whether the configuration says, and does not only leave out, that there is no encryption: [`super::admission`].
    pub plain_is_said: bool,
    /// What the metadata names as the software that made it.
    pub version: String,
    /// Bounds on memory.
    pub bounds: Bounds,
}

/// Why a backup cannot be begun as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The compression cannot be used.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// The chunk length is out of range.
    #[error("chunks of {chunk_bytes} bytes are out of range: use {} to {}", CHUNK_BYTES_RANGE.start(), CHUNK_BYTES_RANGE.end())]
    ChunkBytes {
        /// What was asked for.
        chunk_bytes: u32,
    },
    /// Too many keys.
    #[error("{found} keys are too many: a backup can be sealed for up to {MAX_RECIPIENTS}")]
    TooManyKeys {
        /// How many.
        found: usize,
    },
    /// The software's name is too long for a header.
    #[error("a version of {found_bytes} bytes is too long: use up to {MAX_VERSION_BYTES}")]
    VersionLength {
        /// How long it is.
        found_bytes: usize,
    },
    /// The state is longer than an object can be.
    #[error(
        "a state of about {stream_bytes} bytes is too long uncompressed, since the store takes {most} bytes: enable backup.compression"
    )]
    TooLong {
        /// How long it is, roughly.
        stream_bytes: u64,
        /// How long its data may be.
        most: u64,
    },
    /// A bound is zero, or the number of stores.
    #[error("the bounds on chunks and parts must not be zero, nor the number of stores")]
    ZeroBound,
}

impl Source {
    /// The state that a snapshot's header describes, given by `node`.
    pub fn new(header: &Header, node: NodeId, members: Vec<MemberInfo>) -> Self {
        Source {
            cluster: header.cluster,
            epoch: header.epoch,
            node,
            members,
            index: header.meta.index,
            term: header.meta.term,
            revision: header.revision,
            state_hash: header.state_hash,
            keys: header.keys,
            stream_bytes: header.stream_bytes_estimate(),
        }
    }

    /// Whether a stream with this header holds this state; what differs if not.
    pub(super) fn check(&self, header: &Header) -> Result<(), &'static str> {
        let found = Source::new(header, self.node, self.members.clone());
        let same = [
            ("cluster", found.cluster == self.cluster),
            ("epoch", found.epoch == self.epoch),
            ("index", found.index == self.index),
            ("term", found.term == self.term),
            ("revision", found.revision == self.revision),
            ("state hash", found.state_hash == self.state_hash),
            ("number of keys", found.keys == self.keys),
        ];
        same.into_iter().find(|(_, same)| !same).map_or(Ok(()), |(what, _)| Err(what))
    }
}

impl From<ViewInfo> for Source {
    fn from(info: ViewInfo) -> Self {
        Source {
            cluster: info.identity.cluster,
            epoch: info.identity.epoch,
            node: info.identity.node,
            members: info.members,
            index: info.index,
            term: info.term,
            revision: info.revision,
            state_hash: info.state_hash,
            keys: info.keys,
            stream_bytes: info.stream_bytes_estimate,
        }
    }
}

impl Settings {
    /// Whether a backup can be made like this.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        self.compression.check()?;
        self.compression.check_built()?;
        let Bounds { chunk_bytes, chunks_in_flight, part_bytes, parts_in_flight, max_parts } =
            self.bounds;
        if !CHUNK_BYTES_RANGE.contains(&chunk_bytes) {
            return Err(SettingsError::ChunkBytes { chunk_bytes });
        }
        if self.recipients.len() > MAX_RECIPIENTS {
            return Err(SettingsError::TooManyKeys { found: self.recipients.len() });
        }
        if self.version.len() > MAX_VERSION_BYTES {
            return Err(SettingsError::VersionLength { found_bytes: self.version.len() });
        }
        let counts = [self.stores.into(), max_parts as usize];
        if [chunks_in_flight, part_bytes, parts_in_flight].iter().chain(&counts).any(|it| *it == 0)
        {
            return Err(SettingsError::ZeroBound);
        }
        Ok(())
    }

    /// Settles how long parts are for a stream of about this length. The data is hardly longer than the stream, and mostly much shorter; some room
    /// is left for an estimate that is too low.
    pub(super) fn fit(&mut self, stream_bytes: u64) -> Result<(), SettingsError> {
        let most = self.bounds.object_bytes_max();
        // Compressed it may be short enough: only its end tells.
        if self.compression == Compression::None && stream_bytes > most {
            return Err(SettingsError::TooLong { stream_bytes, most });
        }
        self.bounds = self.bounds.for_object(stream_bytes.saturating_add(stream_bytes / 4));
        Ok(())
    }
}
