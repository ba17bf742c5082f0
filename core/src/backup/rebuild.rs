//! Rebuilds a lost `metadata.json` from `data.db` alone.
//!
//! Everything is read, opened and rebuilt in memory: what is written is as true as what a restore would find. From format 2 on the document is
//! the very one that was lost. Format 1 does not say when, where and by what software it was made: then the time is that of the
//! last command in the state, the node is 0 and the version is empty.
//!
//! Invariants: metadata that is there is never replaced; nothing is written unless every byte was authentic and the state has its hash.

use super::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, ObjectName};
use super::format::{FormatError, MAX_PREAMBLE_BYTES, Made, Preamble, Suite};
use super::id::BackupId;
use super::machine::{Action, ActionResult, Machine, Outbox, Progress};
use super::metadata::{Checksum, Metadata, MetadataKey, Status};
use super::open::{ChunkError, ChunkFault, Frames, OpenKey, Opened, open_chunk};
use super::read::Access;
use super::read_error::ReadError;
use super::seal::Trailer;
use super::slots::MAX_KEYS_BYTES;
use crate::ids::NodeId;
use crate::kv::{Builder, Item, KvState};
use crate::snapshot::Decoder;
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Bytes of one read.
const WINDOW_BYTES: u64 = 4 << 20;

/// The machine.
#[derive(Debug)]
pub struct RebuildMetadata {
    id: BackupId,
    access: Access,
    outbox: Outbox<Purpose>,
    later_slots: Option<Bytes>,
    end: u64,
    next_offset: u64,
    checksum: Sha256,
    stream: Option<Box<Stream>>,
    metadata: Option<Metadata>,
    outcome: Option<Result<Metadata, ReadError>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Keys,
    Length,
    Window(u64),
    Commit,
}

/// The plain stream on its way to a state.
#[derive(Debug)]
struct Stream {
    preamble: Preamble,
    key: OpenKey,
    metadata_key: MetadataKey,
    frames: Frames,
    plain_checksum: Sha256,
    plain_bytes: u64,
    trailer: Option<Trailer>,
    decoder: Decoder,
    items: Vec<Item>,
    builder: Builder,
}

impl RebuildMetadata {
    /// Begins.
    pub fn new(id: BackupId, access: Access) -> Self {
        let mut outbox = Outbox::new();
        let (object, len_bytes) = (ObjectName::keys(id), MAX_KEYS_BYTES as u64 + 1);
        outbox.blob(Purpose::Keys, BlobOp::Get { object, offset: 0, len_bytes });
        RebuildMetadata {
            id,
            access,
            outbox,
            later_slots: None,
            end: 0,
            next_offset: 0,
            checksum: Sha256::new(),
            stream: None,
            metadata: None,
            outcome: None,
        }
    }

    /// The metadata that was written, or why none was.
    pub fn outcome(&self) -> Option<&Result<Metadata, ReadError>> {
        self.outcome.as_ref()
    }

    fn done(
        &mut self,
        purpose: Purpose,
        result: Result<BlobDone, BlobError>,
    ) -> Result<(), ReadError> {
        match (purpose, result) {
            (Purpose::Keys, Err(error)) if error.kind == BlobErrorKind::NotFound => {
                self.ask_length();
            }
            (Purpose::Keys, Ok(BlobDone::Bytes(bytes))) => {
                self.later_slots = Some(bytes);
                self.ask_length();
            }
            (Purpose::Length, Ok(BlobDone::Length(length))) => {
                self.end = length;
                self.ask_window();
            }
            (Purpose::Window(wanted_bytes), Ok(BlobDone::Bytes(bytes))) => {
                self.window(wanted_bytes, &bytes)?;
            }
            (Purpose::Commit, Ok(_)) => self.outcome = self.metadata.take().map(Ok),
            (_, Ok(_)) => {
                let message = "the shell answered another question than was asked".into();
                return Err(
                    self.store_error(purpose, BlobError { kind: BlobErrorKind::Failed, message })
                );
            }
            (_, Err(error)) => return Err(self.store_error(purpose, error)),
        }
        Ok(())
    }

    fn ask_length(&mut self) {
        self.outbox.blob(Purpose::Length, BlobOp::Head { object: ObjectName::data(self.id) });
    }

    fn ask_window(&mut self) {
        let (object, offset) = (ObjectName::data(self.id), self.next_offset);
        let len_bytes = WINDOW_BYTES.min(self.end - offset);
        self.outbox.blob(Purpose::Window(len_bytes), BlobOp::Get { object, offset, len_bytes });
    }

    fn window(&mut self, wanted_bytes: u64, bytes: &[u8]) -> Result<(), ReadError> {
        let (offset, found_bytes) = (self.next_offset, bytes.len() as u64);
        if found_bytes != wanted_bytes {
            let object = ObjectName::data(self.id);
            return Err(ReadError::Short { object, offset, wanted_bytes, found_bytes });
        }
        self.next_offset += found_bytes;
        self.checksum.update(bytes);
        let mut stream = match self.stream.take() {
            Some(mut stream) => {
                stream.frames.push(bytes);
                stream
            }
            None => Box::new(self.front(bytes)?),
        };
        stream.take(self.id)?;
        match self.next_offset < self.end {
            true => self.ask_window(),
            false => return self.commit(*stream),
        }
        self.stream = Some(stream);
        Ok(())
    }

    fn front(&self, bytes: &[u8]) -> Result<Stream, ReadError> {
        let id = self.id;
        let header_error = |error: FormatError| ReadError::Header { id, error };
        let mut preamble = Preamble::decode(&bytes[..bytes.len().min(MAX_PREAMBLE_BYTES)])
            .map_err(header_error)?;
        let found = preamble.header.backup_id().map_err(header_error)?;
        if found != id {
            return Err(ReadError::Misplaced { object: ObjectName::data(id), found });
        }
        if let Some(later) =
            self.later_slots.as_ref().filter(|_| preamble.header.suite != Suite::Plain)
        {
            preamble = preamble.with_later_slots(later).map_err(header_error)?;
        }
        let unlocked =
            preamble.unlock(&self.access.keys, self.access.plaintext).map_err(header_error)?;
        let offset = preamble.len_bytes;
        let mut frames = Frames::new(&preamble.header, offset as u64, self.end);
        frames.push(&bytes[offset..]);
        Ok(Stream {
            preamble,
            key: unlocked.chunks,
            metadata_key: unlocked.metadata,
            frames,
            plain_checksum: Sha256::new(),
            plain_bytes: 0,
            trailer: None,
            decoder: Decoder::new(),
            items: Vec::new(),
            builder: Builder::new(),
        })
    }

    fn commit(&mut self, stream: Stream) -> Result<(), ReadError> {
        let checksum = Checksum(self.checksum.clone().finalize().into());
        let key = stream.metadata_key.clone();
        let metadata = stream.metadata(self.id, self.end, checksum)?;
        let (object, bytes) = (ObjectName::metadata(self.id), metadata.render(&key).into());
        self.outbox.blob(Purpose::Commit, BlobOp::Put { object, bytes, if_absent: true });
        self.metadata = Some(metadata);
        Ok(())
    }

    fn store_error(&self, purpose: Purpose, error: BlobError) -> ReadError {
        let object = match purpose {
            Purpose::Keys => ObjectName::keys(self.id),
            Purpose::Length | Purpose::Window(_) => ObjectName::data(self.id),
            Purpose::Commit => ObjectName::metadata(self.id),
        };
        ReadError::Store { object, error }
    }
}

impl Stream {
    /// Takes every chunk that is whole by now.
    fn take(&mut self, id: BackupId) -> Result<(), ReadError> {
        let chunk_error = |error| ReadError::Chunk { id, error };
        while let Some(frame) = self.frames.next_frame().map_err(chunk_error)? {
            let plain = match open_chunk(&self.key, &frame).map_err(chunk_error)? {
                Opened::Data(plain) => plain,
                Opened::End(trailer) => {
                    self.trailer = Some(trailer);
                    continue;
                }
            };
            self.plain_checksum.update(&plain);
            self.plain_bytes += plain.len() as u64;
            let broken = |what: String| ReadError::State { id, what };
            self.decoder
                .push_into(&plain, &mut self.items)
                .map_err(|error| broken(error.to_string()))?;
            for item in self.items.drain(..) {
                self.builder.push(item).map_err(|error| broken(error.to_string()))?;
            }
        }
        Ok(())
    }

    fn metadata(
        self,
        id: BackupId,
        data_bytes: u64,
        checksum: Checksum,
    ) -> Result<Metadata, ReadError> {
        let broken = |what: String| ReadError::State { id, what };
        let plain_checksum: [u8; 32] = self.plain_checksum.finalize().into();
        let truncated = || {
            let (number, fault) = (0, ChunkFault::Truncated);
            ReadError::Chunk { id, error: ChunkError { number, offset: data_bytes, fault } }
        };
        let trailer = self.trailer.ok_or_else(truncated)?;
        if (trailer.plain_bytes, trailer.plain_checksum) != (self.plain_bytes, plain_checksum) {
            return Err(broken(
                "the plain stream is not the one that the final chunk tells of".into(),
            ));
        }
        let (snapshot, _) = self.decoder.finish().map_err(|error| broken(error.to_string()))?;
        let state = self.builder.finish().map_err(|error| broken(error.to_string()))?;
        let header = &self.preamble.header;
        let same = [
            ("cluster", snapshot.cluster == header.cluster),
            ("epoch", snapshot.epoch == header.epoch),
            ("log index", snapshot.meta.index == header.index),
            ("term", snapshot.meta.term == header.term),
            ("revision", state.revision() == header.revision),
            ("state hash", state.hash() == header.state_hash),
        ];
        if let Some((what, _)) = same.into_iter().find(|(_, same)| !same) {
            return Err(broken(format!("its {what} is not the one in the header of data.db")));
        }
        let made = header.made.clone().unwrap_or_else(|| made_by_format_1(&state));
        Ok(Metadata {
            id,
            timestamp: made.timestamp,
            status: Status::Complete,
            error: String::new(),
            cluster: header.cluster,
            epoch: header.epoch,
            node: made.node,
            members: state.members().cloned().collect(),
            index: header.index,
            term: header.term,
            revision: header.revision,
            state_hash: header.state_hash,
            keys: state.keys(),
            size_bytes: self.plain_bytes,
            plain_checksum: Checksum(plain_checksum),
            data_bytes,
            checksum,
            compression: header.compression.into(),
            suite: header.suite,
            key_ids: self.preamble.key_ids(),
            version: made.version,
        })
    }
}

fn made_by_format_1(state: &KvState) -> Made {
    Made { timestamp: state.wall(), node: NodeId::new(0, 0), version: String::new() }
}

impl Machine for RebuildMetadata {
    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll()
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        if let Some(purpose) = self.outbox.blob_done(op)
            && let Err(error) = self.done(purpose, result)
        {
            self.outcome = Some(Err(error));
        }
    }

    fn is_ended(&self) -> bool {
        self.outcome.is_some()
    }

    fn progress(&self) -> Progress {
        Progress { done_bytes: self.next_offset, total_bytes: Some(self.end) }
    }
}
