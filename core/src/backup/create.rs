//! Makes a backup: takes a snapshot stream, gives chunks out for sealing, uploads them in order, writes `metadata.json` last.
//!
//! Invariants: memory is bounded by the [`Bounds`], whatever the size of the state; nothing that looks complete exists before every
//! byte of `data.db` is on stable storage in the store; the stream is decoded on its way through, so that a source that breaks off,
//! damages its stream or gives another state than it said makes no backup; after a failure the upload is aborted or the data deleted, unless it is not
//! known whether the metadata arrived: then the data stays, because deleting it could leave a complete-looking backup without data.
//! A new attempt is a new machine, with a new id, salt and data key.

use super::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, ObjectName};
use super::format;
use super::id::BackupId;
use super::label::{header, metadata};
use super::machine::{Action, ActionResult, Machine, Outbox, Progress, Work, WorkDone};
use super::metadata::{Checksum, MAX_METADATA_BYTES, Metadata, MetadataError, MetadataKey, Status};
use super::seal::{Numbers, OutOfNumbers, SealKey, SealedChunk, Trailer, seal_final};
use crate::ids::OpId;
use crate::kv::Item;
use crate::planted::{self, Bug};
use crate::rng::Rng;
use crate::snapshot::Decoder;
use crate::time::Wall;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};

pub use super::outcome::{Cause, Failure, Outcome, Step};
pub use super::settings::{Bounds, Settings, SettingsError, Source};

/// The machine.
#[derive(Debug)]
pub struct Create {
    source: Source,
    settings: Settings,
    metadata: Metadata,
    chunk_key: SealKey,
    metadata_key: MetadataKey,
    outbox: Outbox<Purpose>,
    fence: Fence,
    step: Step,
    upload: Option<OpId>,
    plain: Plain,
    data: Data,
    /// What is taken back after a failure, in this order.
    clean_up: VecDeque<BlobOp>,
    outcome: Option<Outcome>,
}

/// What an operation in the store is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Open,
    Part,
    Finish,
    Found,
    Commit,
    Confirm,
    CleanUp,
}

/// Whether `metadata.json` may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fence {
    /// As soon as the data is whole.
    Open,
    /// Not yet.
    Closed,
    /// Not yet, and nothing else is left to do.
    Reached,
}

/// The plain stream on its way in.
#[derive(Debug)]
struct Plain {
    pending: BytesMut,
    checksum: Sha256,
    len_bytes: u64,
    has_ended: bool,
    decoder: Decoder,
    items: Vec<Item>,
    is_labelled: bool,
}

/// `data.db` on its way out.
#[derive(Debug)]
struct Data {
    numbers: Numbers,
    /// Chunks that were sealed before their predecessors.
    early: BTreeMap<u32, Bytes>,
    next_chunk: u32,
    has_trailer: bool,
    pending: BytesMut,
    checksum: Sha256,
    len_bytes: u64,
    next_part: u32,
}

impl Create {
    /// Begins a backup of `source`. `rng` must be a cryptographic generator with a secret seed, as [`crate::rng`] describes.
    pub fn new(
        source: Source,
        settings: Settings,
        now: Wall,
        rng: &mut Rng,
    ) -> Result<Self, SettingsError> {
        let id = BackupId::draw(rng);
        let mut machine = Create::fenced(id, 1, source, settings, now, rng)?;
        machine.fence = Fence::Open;
        Ok(machine)
    }

    /// As [`Create::new`], for an id that was drawn before and is used only here, with operations numbered from `first_op`. Once the data
    /// is whole, it waits for [`Create::permit_commit`] before `metadata.json` is written; until then it may be abandoned, and leaves nothing.
    pub fn fenced(
        id: BackupId,
        first_op: u64,
        source: Source,
        settings: Settings,
        now: Wall,
        rng: &mut Rng,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        let created =
            format::create(header(&source, &settings, id, now), &settings.recipients, rng);
        let mut machine = Create {
            metadata: metadata(&source, &settings, id, now, created.header.suite),
            source,
            chunk_key: created.chunks,
            metadata_key: created.metadata,
            outbox: Outbox::starting_at(first_op),
            fence: Fence::Closed,
            step: Step::Opening,
            upload: None,
            plain: Plain {
                pending: BytesMut::new(),
                checksum: Sha256::new(),
                len_bytes: 0,
                has_ended: false,
                decoder: Decoder::new(),
                items: Vec::new(),
                is_labelled: false,
            },
            data: Data {
                numbers: Numbers::new(),
                early: BTreeMap::new(),
                next_chunk: 0,
                has_trailer: false,
                pending: BytesMut::new(),
                checksum: Sha256::new(),
                len_bytes: 0,
                next_part: 1,
            },
            clean_up: VecDeque::new(),
            outcome: None,
            settings,
        };
        machine.data.append(&created.bytes);
        let open = BlobOp::PutStart { object: ObjectName::data(id), if_absent: true };
        machine.upload = Some(machine.outbox.blob(Purpose::Open, open));
        Ok(machine)
    }

    /// The backup's id.
    pub fn id(&self) -> BackupId {
        self.metadata.id
    }

    /// Whether more of the stream may be given now.
    pub fn wants_input(&self) -> bool {
        let bounds = self.settings.bounds;
        self.step == Step::Streaming
            && self.outcome.is_none()
            && !self.plain.has_ended
            && self.outbox.working() + self.data.early.len() < bounds.chunks_in_flight
            && self.outbox.count(|purpose| *purpose == Purpose::Part) < bounds.parts_in_flight
    }

    /// Takes the next piece of the snapshot stream, of any length; a piece is best no longer than a chunk.
    pub fn push(&mut self, plain: &[u8]) {
        if self.outcome.is_some() {
            return;
        }
        if let Err(cause) = self.plain.take(plain, &self.source) {
            return self.fail(Cause::Source(cause));
        }
        let chunk_bytes = self.settings.bounds.chunk_bytes as usize;
        while self.plain.pending.len() >= chunk_bytes {
            let chunk = self.plain.pending.split_to(chunk_bytes).freeze();
            self.seal(chunk);
        }
    }

    /// The stream is complete.
    pub fn finish(&mut self) {
        if self.outcome.is_some() || self.plain.has_ended {
            return;
        }
        self.plain.has_ended = true;
        if let Err(error) = std::mem::take(&mut self.plain.decoder).finish() {
            let what = format!("the snapshot stream is not whole: {error}");
            return self.fail(Cause::Source(what));
        }
        let rest = self.plain.pending.split().freeze();
        if !rest.is_empty() {
            self.seal(rest);
        }
        self.advance();
    }

    /// Whether the data is whole, and only [`Create::permit_commit`] is waited for.
    pub fn wants_permit(&self) -> bool {
        self.fence == Fence::Reached && self.outcome.is_none()
    }

    /// `metadata.json` may be written. From here on the backup cannot be abandoned.
    pub fn permit_commit(&mut self) {
        if self.wants_permit() {
            self.fence = Fence::Open;
            self.commit();
        }
    }

    /// The number the next operation would have.
    pub fn next_op(&self) -> u64 {
        self.outbox.next_op()
    }

    /// The stream broke, or the backup is not wanted any more.
    pub fn abandon(&mut self, cause: impl Into<String>) {
        if self.step < Step::Committing {
            self.fail(Cause::Source(cause.into()));
        }
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref().filter(|_| self.outbox.is_idle() && self.clean_up.is_empty())
    }

    fn seal(&mut self, plain: Bytes) {
        match self.data.numbers.take() {
            Ok(number) => self.outbox.work(Work::Seal {
                key: self.chunk_key.clone(),
                number,
                compression: self.settings.compression,
                plain,
            }),
            Err(error @ OutOfNumbers) => self.fail(Cause::Limit(error.to_string())),
        }
    }

    fn sealed(&mut self, chunk: SealedChunk) {
        self.data.early.insert(chunk.number, chunk.bytes);
        while let Some(bytes) = self.data.early.remove(&self.data.next_chunk) {
            self.data.append(&bytes);
            self.data.next_chunk += 1;
        }
    }

    /// Does what has become possible: parts, the trailer, the end of the upload.
    fn advance(&mut self) {
        if self.outcome.is_some() || self.step != Step::Streaming {
            return;
        }
        self.upload_parts(self.settings.bounds.part_bytes);
        if !self.plain.has_ended || self.outbox.working() > 0 {
            return;
        }
        if !self.data.has_trailer {
            self.append_trailer();
            self.upload_parts(self.settings.bounds.part_bytes);
            self.upload_parts(1);
        }
        if self.outbox.is_idle() {
            let upload = self.upload.expect("the upload was begun before streaming");
            if planted::is(Bug::MetadataWrittenFirst) {
                return self.commit();
            }
            self.step = Step::Finishing;
            self.outbox.blob(Purpose::Finish, BlobOp::PutFinish { upload });
        }
    }

    /// Sends what is pending in parts, as long as at least `least_bytes` are.
    fn upload_parts(&mut self, least_bytes: usize) {
        let upload = self.upload.expect("the upload was begun before streaming");
        while self.data.pending.len() >= least_bytes {
            let len = self.data.pending.len().min(self.settings.bounds.part_bytes);
            let bytes = self.data.pending.split_to(len).freeze();
            let number = self.data.next_part;
            self.data.next_part += 1;
            self.outbox.blob(Purpose::Part, BlobOp::PutPart { upload, number, bytes });
        }
    }

    fn append_trailer(&mut self) {
        self.data.has_trailer = true;
        let plain_checksum = self.plain.checksum.clone().finalize().into();
        let trailer = Trailer { plain_bytes: self.plain.len_bytes, plain_checksum };
        match self.data.numbers.take() {
            Ok(number) => {
                let chunk = seal_final(&self.chunk_key, number, &trailer);
                if !planted::is(Bug::FinalChunkNotWritten) {
                    self.data.append(&chunk.bytes);
                }
            }
            Err(error @ OutOfNumbers) => self.fail(Cause::Limit(error.to_string())),
        }
    }

    fn blob_done(&mut self, purpose: Purpose, result: Result<BlobDone, BlobError>) {
        if self.outcome.is_some() {
            return self.cleaned(purpose, &result);
        }
        match (purpose, result) {
            (Purpose::Open, Ok(_)) => self.step = Step::Streaming,
            (Purpose::Part, Ok(_)) => {}
            (Purpose::Finish, Ok(_)) => self.finished(),
            (Purpose::Finish, Err(error)) if error.kind == BlobErrorKind::Unknown => {
                let object = ObjectName::data(self.metadata.id);
                self.outbox.blob(Purpose::Found, BlobOp::Head { object });
            }
            (Purpose::Found, Ok(found)) => self.found(&found),
            (Purpose::Commit, Ok(_)) => self.complete(),
            (Purpose::Commit, Err(error)) => self.commit_failed(error),
            (Purpose::Confirm, result) => self.confirmed(result),
            (_, Err(error)) => self.fail(error.into()),
            (Purpose::CleanUp, Ok(_)) => {}
        }
    }

    fn finished(&mut self) {
        match self.fence {
            Fence::Closed => self.fence = Fence::Reached,
            Fence::Open | Fence::Reached => self.commit(),
        }
    }

    /// The answer to the end of the upload was lost. What is there under an id that only this backup has, and whole, is its data.
    fn found(&mut self, found: &BlobDone) {
        if *found == BlobDone::Length(self.data.len_bytes) {
            return self.finished();
        }
        let message = "data.db is there, but not as it was uploaded".into();
        self.fail(Cause::Store(BlobError { kind: BlobErrorKind::Failed, message }));
    }

    fn commit(&mut self) {
        self.step = Step::Committing;
        self.metadata.size_bytes = self.plain.len_bytes;
        self.metadata.plain_checksum = Checksum(self.plain.checksum.clone().finalize().into());
        self.metadata.data_bytes = self.data.len_bytes;
        self.metadata.checksum = Checksum(self.data.checksum.clone().finalize().into());
        self.metadata.status = Status::Complete;
        let bytes: Bytes = self.metadata.render(&self.metadata_key).into();
        if bytes.len() > MAX_METADATA_BYTES {
            return self.fail(Cause::Limit(MetadataError::TooLong.to_string()));
        }
        let object = ObjectName::metadata(self.metadata.id);
        self.outbox.blob(Purpose::Commit, BlobOp::Put { object, bytes, if_absent: true });
    }

    /// A lost answer, or a retry that met the first try's effect: only the store knows.
    fn commit_failed(&mut self, error: BlobError) {
        if !matches!(error.kind, BlobErrorKind::Exists | BlobErrorKind::Unknown) {
            return self.fail(error.into());
        }
        let object = ObjectName::metadata(self.metadata.id);
        let len_bytes = MAX_METADATA_BYTES as u64;
        self.outbox.blob(Purpose::Confirm, BlobOp::Get { object, offset: 0, len_bytes });
    }

    fn confirmed(&mut self, result: Result<BlobDone, BlobError>) {
        let ours = self.metadata.render(&self.metadata_key);
        let cause = match result {
            Ok(BlobDone::Bytes(bytes)) if bytes == ours => return self.complete(),
            Ok(_) => Cause::Displaced,
            Err(error) => Cause::Unknown(error),
        };
        self.end_failed(cause, true);
    }

    fn complete(&mut self) {
        self.outcome = Some(Outcome::Complete(Box::new(self.metadata.clone())));
    }

    fn fail(&mut self, cause: Cause) {
        if self.outcome.is_some() {
            return;
        }
        self.outbox.cancel_queued();
        let object = ObjectName::data(self.metadata.id);
        if let Some(upload) = self.upload.filter(|_| self.step <= Step::Finishing) {
            self.clean_up.push_back(BlobOp::PutAbort { upload });
        }
        if self.step >= Step::Finishing {
            self.clean_up.push_back(BlobOp::Delete { object });
        }
        self.end_failed(cause, false);
        self.clean_up();
    }

    /// One after the other, when nothing is under way any more: an upload that ends late must not end behind its own clean-up.
    fn clean_up(&mut self) {
        if self.outbox.is_idle()
            && let Some(action) = self.clean_up.pop_front()
        {
            self.outbox.blob(Purpose::CleanUp, action);
        }
    }

    fn end_failed(&mut self, cause: Cause, left_behind: bool) {
        self.metadata.status = Status::Failed;
        self.metadata.error = format!("while {}: {cause}", self.step);
        let metadata = Box::new(self.metadata.clone());
        let failure = Failure { metadata, step: self.step, cause, left_behind };
        self.outcome = Some(Outcome::Failed(failure));
    }

    /// Results that arrive after the end: the clean-up's decides whether something is left.
    fn cleaned(&mut self, purpose: Purpose, result: &Result<BlobDone, BlobError>) {
        if let (Purpose::CleanUp, Err(_), Some(Outcome::Failed(failure))) =
            (purpose, result, &mut self.outcome)
        {
            failure.left_behind = true;
        }
    }
}

impl Machine for Create {
    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll()
    }

    fn handle(&mut self, result: ActionResult) {
        match result {
            ActionResult::Blob { op, result } => {
                if let Some(purpose) = self.outbox.blob_done(op) {
                    self.blob_done(purpose, result);
                }
            }
            ActionResult::Work(WorkDone::Sealed(chunk)) => {
                self.outbox.work_done();
                self.sealed(chunk);
            }
            ActionResult::Work(WorkDone::Opened { .. }) => {}
        }
        self.clean_up();
        self.advance();
    }

    fn is_ended(&self) -> bool {
        self.outcome().is_some()
    }

    fn progress(&self) -> Progress {
        Progress { done_bytes: self.plain.len_bytes, total_bytes: None }
    }
}

impl Plain {
    /// Takes a piece of the stream, and checks as much of it as is there.
    fn take(&mut self, piece: &[u8], source: &Source) -> Result<(), String> {
        self.decoder
            .push_into(piece, &mut self.items)
            .map_err(|error| format!("the snapshot stream is damaged: {error}"))?;
        self.items.clear();
        if let Some(header) = self.decoder.header().filter(|_| !self.is_labelled) {
            self.is_labelled = true;
            source.check(header).map_err(|what| {
                format!(
                    "the snapshot stream holds another state than announced: its {what} differs"
                )
            })?;
        }
        self.checksum.update(piece);
        self.len_bytes += piece.len() as u64;
        self.pending.extend_from_slice(piece);
        Ok(())
    }
}

impl Data {
    fn append(&mut self, bytes: &[u8]) {
        self.checksum.update(bytes);
        self.len_bytes += bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
    }
}
