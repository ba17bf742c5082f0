//! Makes a backup: takes a snapshot stream, gives chunks out for sealing, uploads them in order, writes `metadata.json` last.
//!
//! A backup may have to be in several stores before it counts: each part goes to all of them, and the primary store's `metadata.json` is the
//! very last object, so that what is complete there is complete in all of them.
//!
//! Invariants: memory is bounded by the [`Bounds`], whatever the size of the state; nothing that looks complete exists before every
//! byte of `data.db` is on stable storage in every one of its stores; a stream from elsewhere is decoded on its way through, so that a source that
//! breaks off, damages its stream or gives another state than it said makes no backup; after a failure the upload is aborted or the data deleted, unless it is not
//! known whether the metadata arrived: then the data stays, because deleting it could leave a complete-looking backup without data.
//! A new attempt is a new machine, with a new id, salt and data key.

use super::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, ObjectName, StoreIndex};
use super::format;
use super::id::BackupId;
use super::label::{header, metadata};
use super::machine::{Action, ActionResult, Machine, Outbox, Progress, Work, WorkDone};
use super::metadata::{Checksum, MAX_METADATA_BYTES, Metadata, MetadataError, MetadataKey, Status};
use super::pipe::{Plain, Sealed, make_room};
use super::seal::{OutOfNumbers, SealKey, Trailer, seal_final};
use crate::ids::OpId;
use crate::planted::{self, Bug};
use crate::rng::Rng;
use crate::snapshot::Encoder;
use crate::time::Wall;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

pub use super::bounds::Bounds;
pub use super::outcome::{Cause, Failure, Outcome, Step};
pub use super::settings::{Settings, SettingsError, Source};

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
    /// The upload of `data.db` in each store.
    uploads: BTreeMap<StoreIndex, OpId>,
    plain: Plain,
    data: Sealed,
    /// Stores that have no `metadata.json` yet; the last of them is next.
    uncommitted: Vec<StoreIndex>,
    /// What is taken back after a failure, in this order.
    clean_up: VecDeque<(StoreIndex, BlobOp)>,
    outcome: Option<Outcome>,
}

/// What an operation in the store is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Open,
    Part(StoreIndex),
    Finish(StoreIndex),
    Found(StoreIndex),
    Commit(StoreIndex),
    Confirm(StoreIndex),
    TakeBack(StoreIndex),
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
        mut settings: Settings,
        now: Wall,
        rng: &mut Rng,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        settings.fit(source.stream_bytes)?;
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
            uploads: BTreeMap::new(),
            plain: Plain::default(),
            data: Sealed::new(&created.bytes),
            uncommitted: StoreIndex::first(settings.stores).collect(),
            clean_up: VecDeque::new(),
            outcome: None,
            settings,
        };
        for store in StoreIndex::first(machine.settings.stores) {
            let open = BlobOp::PutStart { object: ObjectName::data(id), if_absent: true };
            let upload = machine.outbox.blob_in(store, Purpose::Open, open);
            machine.uploads.insert(store, upload);
        }
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
            && self.uploads.keys().all(|store| {
                self.outbox.count(|purpose| *purpose == Purpose::Part(*store))
                    < bounds.parts_in_flight
            })
    }

    /// Takes the next piece of the snapshot stream, of any length; a piece is best no longer than a chunk.
    pub fn push(&mut self, plain: &[u8]) {
        if self.outcome.is_none() {
            let taken = self.plain.take(plain, &self.source);
            self.taken(taken);
        }
    }

    /// The stream is complete.
    pub fn finish(&mut self) {
        if self.outcome.is_none() && !self.plain.has_ended {
            let ended = self.plain.end();
            self.taken(ended);
        }
    }

    /// As [`Create::push`] and [`Create::finish`], with the next piece of a stream that this process encodes. One backup takes all of its
    /// stream in one way or the other.
    pub fn pull(&mut self, encoder: &mut Encoder) {
        if self.outcome.is_none() && !self.plain.has_ended {
            let taken = self.plain.take_from(encoder, &self.source);
            self.taken(taken);
        }
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

    /// Gives whole chunks out for sealing, and what is left of the stream when it has ended.
    fn taken(&mut self, taken: Result<(), String>) {
        if let Err(cause) = taken {
            return self.fail(Cause::Source(cause));
        }
        let chunk_bytes = self.settings.bounds.chunk_bytes as usize;
        while self.plain.pending.len() >= chunk_bytes {
            let chunk = self.plain.pending.split_to(chunk_bytes).freeze();
            make_room(&mut self.plain.pending, chunk_bytes);
            self.seal(chunk);
        }
        if self.plain.has_ended {
            let rest = self.plain.pending.split().freeze();
            if !rest.is_empty() {
                self.seal(rest);
            }
            self.advance();
        }
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
            if planted::is(Bug::MetadataWrittenFirst) {
                return self.commit();
            }
            self.step = Step::Finishing;
            for (&store, &upload) in &self.uploads {
                self.outbox.blob_in(store, Purpose::Finish(store), BlobOp::PutFinish { upload });
            }
        }
    }

    /// Sends what is pending in parts, as long as at least `least_bytes` are.
    fn upload_parts(&mut self, least_bytes: usize) {
        let Bounds { part_bytes, max_parts, .. } = self.settings.bounds;
        while let Some((number, bytes)) = self.data.next_part(least_bytes, part_bytes) {
            if number > max_parts {
                let what = format!(
                    "it has more than {max_parts} parts of {part_bytes} bytes, and the store takes no more: compress it better, or compact old revisions"
                );
                return self.fail(Cause::Limit(what));
            }
            for (&store, &upload) in &self.uploads {
                let part = BlobOp::PutPart { upload, number, bytes: bytes.clone() };
                self.outbox.blob_in(store, Purpose::Part(store), part);
            }
        }
    }

    fn append_trailer(&mut self) {
        self.data.has_trailer = true;
        let plain_checksum = self.plain.checksum;
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
            (Purpose::Open, Ok(_)) if self.outbox.count(|it| *it == Purpose::Open) > 0 => {}
            (Purpose::Open, Ok(_)) => self.step = Step::Streaming,
            (Purpose::Part(_), Ok(_)) => {}
            (Purpose::Finish(_), Ok(_)) => self.finished(),
            (Purpose::Finish(store), Err(error)) if error.kind == BlobErrorKind::Unknown => {
                let object = ObjectName::data(self.metadata.id);
                self.outbox.blob_in(store, Purpose::Found(store), BlobOp::Head { object });
            }
            (Purpose::Found(_), Ok(found)) => self.found(&found),
            (Purpose::Commit(_), Ok(_)) => self.committed(),
            (Purpose::Commit(store), Err(error)) => self.commit_failed(store, error),
            (Purpose::Confirm(_), result) => self.confirmed(result),
            (_, Err(error)) => self.fail(error.into()),
            (Purpose::TakeBack(_) | Purpose::CleanUp, Ok(_)) => {}
        }
    }

    /// The data is whole in one more store.
    fn finished(&mut self) {
        if !self.outbox.is_idle() {
            return;
        }
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
        self.metadata.plain_checksum = Checksum(self.plain.checksum);
        self.metadata.data_bytes = self.data.len_bytes;
        self.metadata.checksum = Checksum(self.data.checksum());
        self.metadata.status = Status::Complete;
        if self.metadata.render(&self.metadata_key).len() > MAX_METADATA_BYTES {
            return self.fail(Cause::Limit(MetadataError::TooLong.to_string()));
        }
        self.commit_next();
    }

    /// One store after the other, the primary one last.
    fn commit_next(&mut self) {
        let Some(&store) = self.uncommitted.last() else { return self.complete() };
        let object = ObjectName::metadata(self.metadata.id);
        let bytes = self.metadata.render(&self.metadata_key).into();
        let put = BlobOp::Put { object, bytes, if_absent: true };
        self.outbox.blob_in(store, Purpose::Commit(store), put);
    }

    fn committed(&mut self) {
        self.uncommitted.pop();
        self.commit_next();
    }

    /// A lost answer, or a retry that met the first try's effect: only the store knows.
    fn commit_failed(&mut self, store: StoreIndex, error: BlobError) {
        if !matches!(error.kind, BlobErrorKind::Exists | BlobErrorKind::Unknown) {
            return self.fail(error.into());
        }
        let object = ObjectName::metadata(self.metadata.id);
        let len_bytes = MAX_METADATA_BYTES as u64;
        let get = BlobOp::Get { object, offset: 0, len_bytes };
        self.outbox.blob_in(store, Purpose::Confirm(store), get);
    }

    fn confirmed(&mut self, result: Result<BlobDone, BlobError>) {
        let ours = self.metadata.render(&self.metadata_key);
        let cause = match result {
            Ok(BlobDone::Bytes(bytes)) if bytes == ours => return self.committed(),
            Ok(_) => Cause::Displaced,
            Err(error) => Cause::Unknown(error),
        };
        // Where nothing was committed, nothing is in doubt.
        let id = self.metadata.id;
        let untried = self.uncommitted.iter().rev().skip(1);
        self.clean_up = untried.map(|store| (*store, delete(ObjectName::data(id)))).collect();
        self.end_failed(cause, true);
        self.clean_up();
    }

    fn complete(&mut self) {
        self.outcome = Some(Outcome::Complete(Box::new(self.metadata.clone())));
    }

    fn fail(&mut self, cause: Cause) {
        if self.outcome.is_some() {
            return;
        }
        self.outbox.cancel_queued();
        let id = self.metadata.id;
        for (&store, &upload) in &self.uploads {
            if self.step <= Step::Finishing {
                self.clean_up.push_back((store, BlobOp::PutAbort { upload }));
            }
            if self.step == Step::Committing && !self.uncommitted.contains(&store) {
                self.clean_up.push_back((store, delete(ObjectName::metadata(id))));
            }
            if self.step >= Step::Finishing {
                self.clean_up.push_back((store, delete(ObjectName::data(id))));
            }
        }
        self.end_failed(cause, false);
        self.clean_up();
    }

    /// One after the other, when nothing is under way any more: an upload that ends late must not end behind its own clean-up.
    fn clean_up(&mut self) {
        if self.outbox.is_idle()
            && let Some((store, action)) = self.clean_up.pop_front()
        {
            let is_metadata = action == delete(ObjectName::metadata(self.metadata.id));
            let purpose = if is_metadata { Purpose::TakeBack(store) } else { Purpose::CleanUp };
            self.outbox.blob_in(store, purpose, action);
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
        let Some(Outcome::Failed(failure)) = &mut self.outcome else { return };
        match (purpose, result) {
            (Purpose::CleanUp, Err(_)) => failure.left_behind = true,
            // While its metadata may be there, its data stays.
            (Purpose::TakeBack(store), Err(_)) => {
                failure.left_behind = true;
                self.clean_up.retain(|(place, _)| *place != store);
            }
            _ => {}
        }
    }
}

fn delete(object: ObjectName) -> BlobOp {
    BlobOp::Delete { object }
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
                self.data.take(chunk);
            }
            ActionResult::Work(WorkDone::Opened { .. } | WorkDone::Summed(_)) => {}
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
