//! Reads a backup back: metadata, header, chunks in bounded windows, opened in parallel, given on in order.
//!
//! Invariants: what a [`Sink`] is given is authentic, in order and without gaps, but it may turn out incomplete: only the end of the
//! machine without an error says that everything was there and agreed with everything else. It is never given more than the metadata
//! says there is. Memory is bounded by [`ReadBounds`].

use super::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, ObjectName};
use super::format::{FormatError, MAX_PREAMBLE_BYTES, Plaintext, Preamble, Suite};
use super::id::BackupId;
use super::keys::{KeyId, KeyRing};
use super::machine::{Action, ActionResult, Machine, Outbox, Progress, Work, WorkDone};
use super::metadata::{
    Checksum, CompressionType, MAX_METADATA_BYTES, Metadata, MetadataError, Signed, Status,
};
use super::open::{ChunkError, ChunkFault, Frames, OpenKey, Opened};
use super::seal::Trailer;
use super::slots::MAX_KEYS_BYTES;
use super::verify::Level;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

pub use super::read_error::{ReadError, ReadTrouble};
pub use super::sink::{Discard, Sink};

/// With what a backup may be read.
#[derive(Clone, Debug)]
pub struct Access {
    /// The keys at hand.
    pub keys: KeyRing,
    /// Whether an unencrypted backup is acceptable.
    pub plaintext: Plaintext,
}

/// Bounds on what is in memory at once: about `windows` windows and twice `chunks_in_flight` chunks, and a few MiB to be summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBounds {
    /// Bytes of one read; at least [`MAX_PREAMBLE_BYTES`].
    pub window_bytes: u64,
    /// Reads under way, or done and waiting for their turn.
    pub windows: usize,
    /// Chunks being opened, or opened and waiting for their turn, and sums being made over what was opened.
    pub chunks_in_flight: usize,
}

/// The machine.
#[derive(Debug)]
pub struct Reader<S> {
    id: BackupId,
    level: Level,
    access: Access,
    bounds: ReadBounds,
    outbox: Outbox<Purpose>,
    signed: Option<Signed>,
    later_slots: Option<Bytes>,
    windows: Windows,
    chunks: Option<Chunks>,
    sink: S,
    outcome: Option<Result<Metadata, ReadError>>,
}

/// What an operation in the store is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Metadata,
    Keys,
    Length,
    Window { offset: u64, len_bytes: u64 },
}

/// `data.db` on its way in.
#[derive(Debug)]
struct Windows {
    /// Its length, once known.
    end: u64,
    /// Where the next read begins.
    next_offset: u64,
    /// Where the next bytes to be used begin.
    used: u64,
    arrived: BTreeMap<u64, Bytes>,
    checksum: Sha256,
}

/// Its chunks on their way through.
#[derive(Debug)]
struct Chunks {
    metadata: Metadata,
    key: OpenKey,
    frames: Frames,
    /// Chunks that were opened before their predecessors.
    early: BTreeMap<u32, Opened>,
    next: u32,
    plain_bytes: u64,
    trailer: Option<Trailer>,
}

impl Default for ReadBounds {
    fn default() -> Self {
        ReadBounds { window_bytes: 4 << 20, windows: 4, chunks_in_flight: 8 }
    }
}

impl<S: Sink> Reader<S> {
    /// Begins to read a backup, as far as `level` asks.
    pub fn new(id: BackupId, level: Level, access: Access, bounds: ReadBounds, sink: S) -> Self {
        let mut outbox = Outbox::new();
        let len_bytes = MAX_METADATA_BYTES as u64 + 1;
        let object = ObjectName::metadata(id);
        outbox.blob(Purpose::Metadata, BlobOp::Get { object, offset: 0, len_bytes });
        let windows = Windows {
            end: 0,
            next_offset: 0,
            used: 0,
            arrived: BTreeMap::new(),
            checksum: Sha256::new(),
        };
        Reader {
            id,
            level,
            access,
            bounds: ReadBounds {
                window_bytes: bounds.window_bytes.max(MAX_PREAMBLE_BYTES as u64),
                windows: bounds.windows.max(1),
                chunks_in_flight: bounds.chunks_in_flight.max(1),
            },
            outbox,
            signed: None,
            later_slots: None,
            windows,
            chunks: None,
            sink,
            outcome: None,
        }
    }

    /// How it ended, once it has: the metadata, authentic from [`Level::Decrypt`] on.
    pub fn outcome(&self) -> Option<&Result<Metadata, ReadError>> {
        self.outcome.as_ref().filter(|_| self.outbox.is_idle())
    }

    /// The sink, and how it ended. `None` while it has not.
    pub fn into_parts(self) -> Option<(Result<Metadata, ReadError>, S)> {
        Some((self.outcome.filter(|_| self.outbox.is_idle())?, self.sink))
    }

    fn blob_done(&mut self, purpose: Purpose, done: BlobDone) -> Result<(), ReadError> {
        match (purpose, done) {
            (Purpose::Metadata, BlobDone::Bytes(bytes)) => self.metadata(&bytes),
            (Purpose::Keys, BlobDone::Bytes(bytes)) => {
                self.later_slots = Some(bytes);
                self.ask_length();
                Ok(())
            }
            (Purpose::Length, BlobDone::Length(length)) => self.length(length),
            (Purpose::Window { offset, len_bytes }, BlobDone::Bytes(bytes)) => {
                self.window(offset, len_bytes, bytes)
            }
            (purpose, _) => {
                let message = "the shell answered another question than was asked".into();
                let error = BlobError { kind: BlobErrorKind::Failed, message };
                Err(ReadError::Store { object: self.object(purpose), error })
            }
        }
    }

    fn metadata(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let signed = Signed::parse(bytes).map_err(|error| self.metadata_error(error))?;
        let claims = signed.claims();
        if claims.id != self.id {
            let object = ObjectName::metadata(self.id);
            return Err(ReadError::Misplaced { object, found: claims.id });
        }
        if claims.status != Status::Complete {
            return Err(ReadError::NotWhole { id: self.id, status: claims.status });
        }
        let is_sealed = claims.suite != Suite::Plain;
        self.signed = Some(signed);
        if is_sealed && self.level >= Level::Decrypt {
            let (object, len_bytes) = (ObjectName::keys(self.id), MAX_KEYS_BYTES as u64 + 1);
            self.outbox.blob(Purpose::Keys, BlobOp::Get { object, offset: 0, len_bytes });
        } else {
            self.ask_length();
        }
        Ok(())
    }

    fn ask_length(&mut self) {
        self.outbox.blob(Purpose::Length, BlobOp::Head { object: ObjectName::data(self.id) });
    }

    fn length(&mut self, found: u64) -> Result<(), ReadError> {
        let claims = self.claims().clone();
        self.agree("the length of data.db", claims.data_bytes, found)?;
        self.windows.end = found;
        if self.level == Level::Exists {
            self.outcome = Some(Ok(claims));
        } else if found == 0 {
            let error = FormatError::Truncated { len_bytes: 0 };
            return Err(ReadError::Header { id: self.id, error });
        } else {
            self.ask_window();
        }
        Ok(())
    }

    fn window(&mut self, offset: u64, wanted_bytes: u64, bytes: Bytes) -> Result<(), ReadError> {
        let found_bytes = bytes.len() as u64;
        if found_bytes != wanted_bytes {
            let object = ObjectName::data(self.id);
            return Err(ReadError::Short { object, offset, wanted_bytes, found_bytes });
        }
        if offset == 0 {
            self.front(&bytes)?;
        }
        self.windows.arrived.insert(offset, bytes);
        Ok(())
    }

    /// The first window: header, keys, and whether metadata and header agree.
    fn front(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let id = self.id;
        let header_error = |error| ReadError::Header { id, error };
        let mut preamble = Preamble::decode(bytes).map_err(header_error)?;
        let found = preamble.header.backup_id().map_err(header_error)?;
        if found != id {
            return Err(ReadError::Misplaced { object: ObjectName::data(id), found });
        }
        if let Some(later_slots) = &self.later_slots {
            preamble = preamble.with_later_slots(later_slots).map_err(header_error)?;
        }
        if self.level < Level::Decrypt {
            let claims = self.claims().clone();
            return self.agree_with_header(&claims, &preamble);
        }
        let unlocked =
            preamble.unlock(&self.access.keys, self.access.plaintext).map_err(header_error)?;
        let signed = self.signed.clone().expect("metadata comes before data");
        let metadata =
            signed.verify(&unlocked.metadata).map_err(|error| self.metadata_error(error))?;
        self.agree_with_header(&metadata, &preamble)?;
        let offset = preamble.len_bytes as u64;
        self.chunks = Some(Chunks {
            metadata,
            key: unlocked.chunks,
            frames: Frames::new(&preamble.header, offset, self.windows.end),
            early: BTreeMap::new(),
            next: 0,
            plain_bytes: 0,
            trailer: None,
        });
        Ok(())
    }

    fn agree_with_header(&self, m: &Metadata, preamble: &Preamble) -> Result<(), ReadError> {
        let header = &preamble.header;
        self.agree("the cluster", m.cluster, header.cluster)?;
        self.agree("the epoch", m.epoch.0, header.epoch.0)?;
        self.agree("the log index", m.index, header.index)?;
        self.agree("the term", m.term, header.term)?;
        self.agree("the revision", m.revision, header.revision)?;
        self.agree("the state hash", m.state_hash, header.state_hash)?;
        self.agree("the encryption", m.suite.name(), header.suite.name())?;
        let names = |ids: &[KeyId]| ids.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ");
        self.agree("the keys", names(&m.key_ids), names(&preamble.key_ids()))?;
        let found = CompressionType::from(header.compression);
        self.agree("the compression", format!("{:?}", m.compression), format!("{found:?}"))
    }

    /// Does what has become possible: use windows, open chunks, ask for more, end.
    fn advance(&mut self) -> Result<(), ReadError> {
        if self.outcome.is_some() || self.windows.end == 0 {
            return Ok(());
        }
        loop {
            self.open_chunks()?;
            if self.outbox.working() >= self.bounds.chunks_in_flight || self.sink.is_backlogged() {
                break;
            }
            let Some(bytes) = self.windows.arrived.remove(&self.windows.used) else { break };
            self.use_window(&bytes);
        }
        while self.outbox.count(|_| true) + self.windows.arrived.len() < self.bounds.windows
            && self.windows.used > 0
            && self.windows.next_offset < self.windows.end
        {
            self.ask_window();
        }
        if self.windows.used == self.windows.end && self.outbox.working() == 0 {
            self.end()?;
        }
        Ok(())
    }

    fn ask_window(&mut self) {
        let offset = self.windows.next_offset;
        let len_bytes = self.bounds.window_bytes.min(self.windows.end - offset);
        self.windows.next_offset += len_bytes;
        let object = ObjectName::data(self.id);
        self.outbox
            .blob(Purpose::Window { offset, len_bytes }, BlobOp::Get { object, offset, len_bytes });
    }

    fn use_window(&mut self, bytes: &[u8]) {
        self.windows.checksum.update(bytes);
        let skipped = match self.windows.used {
            0 => self.chunks.as_ref().map_or(0, |chunks| chunks.frames.offset() as usize),
            _ => 0,
        };
        self.windows.used += bytes.len() as u64;
        if let Some(chunks) = &mut self.chunks {
            chunks.frames.push(&bytes[skipped..]);
        }
    }

    fn open_chunks(&mut self) -> Result<(), ReadError> {
        let id = self.id;
        let Some(chunks) = &mut self.chunks else { return Ok(()) };
        while self.outbox.working() + chunks.early.len() < self.bounds.chunks_in_flight
            && !self.sink.is_backlogged()
        {
            let frame = chunks.frames.next_frame();
            let frame = frame.map_err(|error| ReadError::Chunk { id, error })?;
            let Some(frame) = frame else { break };
            self.outbox.work(Work::Open { key: chunks.key.clone(), frame });
        }
        Ok(())
    }

    fn opened(&mut self, number: u32, result: Result<Opened, ChunkError>) -> Result<(), ReadError> {
        let id = self.id;
        let Some(chunks) = &mut self.chunks else { return Ok(()) };
        chunks.early.insert(number, result.map_err(|error| ReadError::Chunk { id, error })?);
        while let Some(opened) = chunks.early.remove(&chunks.next) {
            chunks.next += 1;
            match opened {
                Opened::Data(plain) => {
                    chunks.plain_bytes += plain.len() as u64;
                    let claimed_bytes = chunks.metadata.size_bytes;
                    if chunks.plain_bytes > claimed_bytes {
                        return Err(ReadError::Overlong { id, claimed_bytes });
                    }
                    self.sink.push(plain).map_err(|what| ReadError::State { id, what })?;
                }
                Opened::End(trailer) => chunks.trailer = Some(trailer),
            }
        }
        Ok(())
    }

    fn ask_sums(&mut self) {
        while let Some(sum) = self.sink.poll_sum() {
            self.outbox.work(Work::Sum(sum));
        }
    }

    /// Every byte was used: the last comparisons.
    fn end(&mut self) -> Result<(), ReadError> {
        let claims = self.claims().clone();
        if let Some(chunks) = &self.chunks
            && !chunks.frames.is_at_end()
        {
            return Ok(());
        }
        let checksum = Checksum(self.windows.checksum.clone().finalize().into());
        self.agree("the SHA-256 of data.db", claims.checksum, checksum)?;
        let Some(chunks) = &self.chunks else {
            self.outcome = Some(Ok(claims));
            return Ok(());
        };
        let Some(trailer) = chunks.trailer else {
            let error = ChunkError {
                number: chunks.next,
                offset: self.windows.end,
                fault: ChunkFault::Truncated,
            };
            return Err(ReadError::Chunk { id: self.id, error });
        };
        let plain_checksum = Checksum(self.sink.sha256());
        self.agree("the plain length", claims.size_bytes, chunks.plain_bytes)?;
        self.agree("the plain SHA-256", claims.plain_checksum, plain_checksum)?;
        self.agree("the plain length in the trailer", claims.size_bytes, trailer.plain_bytes)?;
        self.agree(
            "the plain SHA-256 in the trailer",
            claims.plain_checksum,
            Checksum(trailer.plain_checksum),
        )?;
        let finished = self.sink.finish(&chunks.metadata);
        finished.map_err(|what| ReadError::State { id: self.id, what })?;
        self.outcome = Some(Ok(chunks.metadata.clone()));
        Ok(())
    }

    fn fail(&mut self, error: ReadError) {
        if self.outcome.is_none() {
            self.outbox.cancel_queued();
            self.outcome = Some(Err(error));
        }
    }

    fn claims(&self) -> &Metadata {
        self.signed.as_ref().expect("metadata comes before data").claims()
    }

    fn agree<T: PartialEq + ToString>(
        &self,
        what: &'static str,
        expected: T,
        found: T,
    ) -> Result<(), ReadError> {
        if expected == found {
            return Ok(());
        }
        let (expected, found) = (expected.to_string(), found.to_string());
        Err(ReadError::Mismatch { id: self.id, what, expected, found })
    }

    fn metadata_error(&self, error: MetadataError) -> ReadError {
        ReadError::Metadata { id: self.id, error }
    }

    fn object(&self, purpose: Purpose) -> ObjectName {
        match purpose {
            Purpose::Metadata => ObjectName::metadata(self.id),
            Purpose::Keys => ObjectName::keys(self.id),
            Purpose::Length | Purpose::Window { .. } => ObjectName::data(self.id),
        }
    }

    fn store_error(&self, purpose: Purpose, error: BlobError) -> ReadError {
        if purpose == Purpose::Metadata && error.kind == BlobErrorKind::NotFound {
            return ReadError::NotComplete { id: self.id };
        }
        ReadError::Store { object: self.object(purpose), error }
    }

    fn take(&mut self, result: ActionResult) -> Result<(), ReadError> {
        match result {
            ActionResult::Blob { op, result } => {
                let Some(purpose) = self.outbox.blob_done(op) else { return Ok(()) };
                if self.outcome.is_some() {
                    return Ok(());
                }
                match result {
                    // Its keys were never changed.
                    Err(error)
                        if purpose == Purpose::Keys && error.kind == BlobErrorKind::NotFound =>
                    {
                        self.ask_length();
                    }
                    Err(error) => return Err(self.store_error(purpose, error)),
                    Ok(done) => self.blob_done(purpose, done)?,
                }
            }
            ActionResult::Work(WorkDone::Opened { number, result }) => {
                self.outbox.work_done();
                if self.outcome.is_none() {
                    self.opened(number, result)?;
                    self.ask_sums();
                }
            }
            ActionResult::Work(WorkDone::Summed(sum)) => {
                self.outbox.work_done();
                if self.outcome.is_none() {
                    self.sink.take_sum(sum);
                    self.ask_sums();
                }
            }
            ActionResult::Work(WorkDone::Sealed(_)) => {}
        }
        self.advance()
    }
}

impl<S: Sink> Machine for Reader<S> {
    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll()
    }

    fn handle(&mut self, result: ActionResult) {
        if let Err(error) = self.take(result) {
            self.fail(error);
        }
    }

    fn is_ended(&self) -> bool {
        self.outcome().is_some()
    }

    fn progress(&self) -> Progress {
        let total_bytes = self.signed.as_ref().map(|signed| signed.claims().data_bytes);
        Progress { done_bytes: self.windows.used, total_bytes }
    }
}
