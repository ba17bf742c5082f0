//! What a backup says of itself before its first byte: the header of `data.db`, and the metadata in progress.

use super::format::{Header, Made, Suite};
use super::id::BackupId;
use super::keys::Key;
use super::metadata::{Checksum, Metadata, Status};
use super::settings::{Settings, Source};
use crate::time::Wall;

/// The header of `data.db`; suite and salt are filled in when it is sealed.
pub(super) fn header(source: &Source, settings: &Settings, id: BackupId, now: Wall) -> Header {
    Header {
        suite: Suite::Plain,
        compression: settings.compression,
        chunk_bytes: settings.bounds.chunk_bytes,
        id: *id.as_bytes(),
        cluster: source.cluster,
        epoch: source.epoch,
        index: source.index,
        term: source.term,
        revision: source.revision,
        state_hash: source.state_hash,
        salt: [0; 32],
        made: Some(Made { timestamp: now, node: source.node, version: settings.version.clone() }),
    }
}

/// The metadata as far as it is known before the first byte.
pub(super) fn metadata(
    source: &Source,
    settings: &Settings,
    id: BackupId,
    now: Wall,
    suite: Suite,
) -> Metadata {
    Metadata {
        id,
        timestamp: now,
        status: Status::InProgress,
        error: String::new(),
        cluster: source.cluster,
        epoch: source.epoch,
        node: source.node,
        members: source.members.clone(),
        index: source.index,
        term: source.term,
        revision: source.revision,
        state_hash: source.state_hash,
        keys: source.keys,
        size_bytes: 0,
        plain_checksum: Checksum::default(),
        data_bytes: 0,
        checksum: Checksum::default(),
        compression: settings.compression.into(),
        suite,
        key_ids: settings.recipients.iter().map(Key::id).collect(),
        version: settings.version.clone(),
    }
}
