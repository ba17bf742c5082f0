//! Copies one complete backup from a store to another, as it is: no key is needed, and nothing is decrypted.
//!
//! Invariants: what is copied is what the catalog judged, and nothing is whose metadata or keys have changed since. What lies beside the data
//! is looked at once more before the copy counts: while the data was on its way, which may take hours, its keys may have been rotated, or
//! the backup removed. `metadata.json` is the last object in the target, written only when every other one is there and the SHA-256 of all
//! bytes of `data.db` is the one that the metadata names, so a damaged backup is never copied and half a copy never looks complete; memory
//! is bounded. No data and no metadata is ever deleted, only written over with the same bytes: a deletion whose answer is lost may happen later,
//! when a next try has made the copy whole. What a try that failed leaves in the target is data without metadata, and the next one replaces it.

mod error;

pub use error::CopyError;

use super::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, ObjectName, Role, StoreIndex};
use super::bounds::Bounds;
use super::catalog::Judged;
use super::id::BackupId;
use super::machine::{Action, ActionResult, Machine, Outbox, Progress};
use super::marker::MAX_MARKER_BYTES;
use super::metadata::{MAX_METADATA_BYTES, Metadata, Signed, Status};
use super::slots::MAX_KEYS_BYTES;
use crate::ids::OpId;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Bytes of one read. So many of these are under way, or wait for their predecessors, as chunks are when a backup is made.
const READ_BYTES: u64 = 1 << 20;

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The store that has it.
    pub from: StoreIndex,
    /// The store that gets it.
    pub to: StoreIndex,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It is there now, of so many bytes.
    Done {
        /// Bytes of `data.db`.
        data_bytes: u64,
    },
    /// It had been there before.
    Already,
}

/// The machine.
#[derive(Debug)]
pub struct CopyBackup {
    id: BackupId,
    route: Route,
    present: Present,
    judged: Judged,
    bounds: Bounds,
    outbox: Outbox<Purpose>,
    step: Step,
    metadata: Bytes,
    /// The metadata that the target has.
    there: Option<Bytes>,
    claims: Option<Metadata>,
    /// What lies beside the data, and is written before the metadata.
    beside: BTreeMap<Role, Bytes>,
    /// What lies there when all of that is written.
    again: BTreeMap<Role, Bytes>,
    upload: Option<OpId>,
    reading: Reading,
    outcome: Option<Result<Copied, CopyError>>,
}

/// `data.db` on its way through.
#[derive(Debug, Default)]
struct Reading {
    asked_bytes: u64,
    taken_bytes: u64,
    early: BTreeMap<u64, Bytes>,
    pending: BytesMut,
    checksum: Sha256,
    parts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Reading what is small, and looking whether it is there already.
    Looking,
    Opening,
    Streaming,
    Finishing,
    Beside,
    LookingAgain,
    Committing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Small(Role),
    There,
    DataThere,
    Open,
    Read { offset: u64 },
    Part,
    Finish,
    Found,
    Beside(Role),
    Again(Role),
    Commit,
    Confirm,
    Abort,
}

/// What to do with metadata that the target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    /// The copy is whole, if it is the same.
    Keep,
    /// It is damaged, or its data is: write everything anew. The old stays until the new is whole.
    Replace,
}

impl CopyBackup {
    /// Begins to copy what was judged by these objects, to a store that takes `max_parts` parts of an object.
    pub fn new(
        id: BackupId,
        judged: Judged,
        route: Route,
        present: Present,
        max_parts: u32,
    ) -> Self {
        let mut outbox = Outbox::new();
        for (role, get) in small(id) {
            outbox.blob_in(route.from, Purpose::Small(role), get);
        }
        if present == Present::Keep {
            outbox.blob_in(route.to, Purpose::There, read_metadata(id));
        }
        CopyBackup {
            id,
            route,
            present,
            judged,
            bounds: Bounds { max_parts, ..Bounds::default() },
            outbox,
            step: Step::Looking,
            metadata: Bytes::new(),
            there: None,
            claims: None,
            beside: BTreeMap::new(),
            again: BTreeMap::new(),
            upload: None,
            reading: Reading::default(),
            outcome: None,
        }
    }

    /// What was done, or why not, once it has ended.
    pub fn outcome(&self) -> Option<&Result<Copied, CopyError>> {
        self.outcome.as_ref().filter(|_| self.outbox.is_idle())
    }

    /// Gives it up, if it is not about to be complete.
    pub fn abandon(&mut self) {
        if self.step < Step::Committing && self.outcome.is_none() {
            self.fail(CopyError::GivenUp);
        }
    }

    fn done(&mut self, purpose: Purpose, done: BlobDone) -> Result<(), CopyError> {
        match (purpose, done) {
            (Purpose::Small(Role::Metadata), BlobDone::Bytes(bytes)) => {
                self.check_unchanged(Role::Metadata, Some(&bytes))?;
                let claims = Signed::parse(&bytes)
                    .map_err(|error| CopyError::Damaged(error.to_string()))?
                    .claims()
                    .clone();
                if claims.id != self.id || claims.status != Status::Complete {
                    let what = "its metadata.json is of another backup, or of none";
                    return Err(CopyError::Damaged(what.into()));
                }
                let (data_bytes, most) = (claims.data_bytes, self.bounds.object_bytes_max());
                if data_bytes > most {
                    return Err(CopyError::TooLong { data_bytes, most });
                }
                self.bounds = self.bounds.for_object(data_bytes);
                (self.metadata, self.claims) = (bytes, Some(claims));
            }
            (Purpose::Small(role), BlobDone::Bytes(bytes)) => {
                self.beside.insert(role, bytes);
            }
            (Purpose::There, BlobDone::Bytes(bytes)) => self.there = Some(bytes),
            (Purpose::DataThere, BlobDone::Length(len)) => {
                let is_whole = self.claims.as_ref().is_some_and(|it| it.data_bytes == len);
                match is_whole {
                    true => self.outcome = Some(Ok(Copied::Already)),
                    false => self.open(),
                }
            }
            (Purpose::Open, _) => self.step = Step::Streaming,
            (Purpose::Read { offset }, BlobDone::Bytes(bytes)) => self.take(offset, bytes)?,
            (Purpose::Finish, _) => self.write_beside(),
            (Purpose::Found, BlobDone::Length(len)) if len == self.reading.taken_bytes => {
                self.write_beside();
            }
            (Purpose::Found, _) => {
                let message = "data.db is there, but not as it was uploaded".into();
                let error = BlobError { kind: BlobErrorKind::Failed, message };
                return Err(self.write_error(Role::Data, error));
            }
            (Purpose::Beside(_), _) => self.look_again(),
            (Purpose::Again(role), BlobDone::Bytes(bytes)) => {
                self.again.insert(role, bytes);
                self.commit()?;
            }
            (Purpose::Commit, _) => self.complete(),
            (Purpose::Confirm, BlobDone::Bytes(bytes)) if bytes == self.metadata => self.complete(),
            (Purpose::Confirm, _) => self.outcome = Some(Err(CopyError::Displaced)),
            _ => {}
        }
        Ok(())
    }

    fn failed(&mut self, purpose: Purpose, error: BlobError) -> Result<(), CopyError> {
        let is_gone = error.kind == BlobErrorKind::NotFound;
        match purpose {
            Purpose::Small(Role::Metadata)
            | Purpose::Again(Role::Metadata)
            | Purpose::Read { .. }
                if is_gone =>
            {
                Err(CopyError::Gone)
            }
            Purpose::Again(_) if is_gone => self.commit(),
            Purpose::Small(role) | Purpose::Again(role) if !is_gone => {
                Err(self.read_error(role, error))
            }
            Purpose::Read { .. } => Err(self.read_error(Role::Data, error)),
            Purpose::Finish if error.kind == BlobErrorKind::Unknown => {
                let object = ObjectName::data(self.id);
                self.outbox.blob_in(self.route.to, Purpose::Found, BlobOp::Head { object });
                Ok(())
            }
            Purpose::Commit
                if matches!(error.kind, BlobErrorKind::Exists | BlobErrorKind::Unknown) =>
            {
                let get = read_metadata(self.id);
                self.outbox.blob_in(self.route.to, Purpose::Confirm, get);
                Ok(())
            }
            // Whether it arrived is not known. Nothing is taken back: a copy is whole, with its metadata or without.
            Purpose::Confirm => {
                self.outcome = Some(Err(self.write_error(Role::Metadata, error)));
                Ok(())
            }
            Purpose::Small(_) | Purpose::Again(_) | Purpose::Abort => Ok(()),
            Purpose::There if is_gone => Ok(()),
            Purpose::DataThere if is_gone => {
                self.open();
                Ok(())
            }
            Purpose::There | Purpose::Commit => Err(self.write_error(Role::Metadata, error)),
            Purpose::Beside(role) => Err(self.write_error(role, error)),
            Purpose::DataThere
            | Purpose::Open
            | Purpose::Part
            | Purpose::Finish
            | Purpose::Found => Err(self.write_error(Role::Data, error)),
        }
    }

    /// Goes on as far as what has ended allows.
    fn advance(&mut self) -> Result<(), CopyError> {
        match self.step {
            _ if self.outcome.is_some() => Ok(()),
            Step::Looking if self.outbox.is_idle() => self.looked(),
            Step::Streaming => self.stream(),
            _ => Ok(()),
        }
    }

    fn check_unchanged(&self, role: Role, bytes: Option<&[u8]>) -> Result<(), CopyError> {
        let object = ObjectName { backup: self.id, role };
        self.judged.is_same(role, bytes).then_some(()).ok_or(CopyError::Changed(object))
    }

    fn looked(&mut self) -> Result<(), CopyError> {
        self.check_unchanged(Role::Keys, self.beside.get(&Role::Keys).map(|bytes| &bytes[..]))?;
        match &self.there {
            Some(there) if *there == self.metadata => {
                let object = ObjectName::data(self.id);
                self.outbox.blob_in(self.route.to, Purpose::DataThere, BlobOp::Head { object });
            }
            Some(_) => return Err(CopyError::Displaced),
            None => self.open(),
        }
        Ok(())
    }

    fn open(&mut self) {
        self.step = Step::Opening;
        let start = BlobOp::PutStart { object: ObjectName::data(self.id), if_absent: false };
        self.upload = Some(self.outbox.blob_in(self.route.to, Purpose::Open, start));
    }

    fn stream(&mut self) -> Result<(), CopyError> {
        let (Some(claims), Some(upload)) = (&self.claims, self.upload) else { return Ok(()) };
        let Bounds { chunks_in_flight, part_bytes, parts_in_flight, .. } = self.bounds;
        let reading = &mut self.reading;
        let is_whole = reading.taken_bytes == claims.data_bytes;
        while reading.pending.len() >= part_bytes || is_whole && !reading.pending.is_empty() {
            if self.outbox.count(|it| *it == Purpose::Part) >= parts_in_flight {
                return Ok(());
            }
            let len = reading.pending.len().min(part_bytes);
            let bytes = reading.pending.split_to(len).freeze();
            reading.parts += 1;
            let part = BlobOp::PutPart { upload, number: reading.parts, bytes };
            self.outbox.blob_in(self.route.to, Purpose::Part, part);
        }
        if is_whole {
            return self.end();
        }
        let reads = |outbox: &Outbox<Purpose>| {
            outbox.count(|it| matches!(it, Purpose::Read { .. })) + self.reading.early.len()
        };
        while reads(&self.outbox) < chunks_in_flight && self.reading.asked_bytes < claims.data_bytes
        {
            let offset = self.reading.asked_bytes;
            let len_bytes = READ_BYTES.min(claims.data_bytes - offset);
            self.reading.asked_bytes += len_bytes;
            let get = BlobOp::Get { object: ObjectName::data(self.id), offset, len_bytes };
            self.outbox.blob_in(self.route.from, Purpose::Read { offset }, get);
        }
        Ok(())
    }

    /// Takes what was read, when its turn comes.
    fn take(&mut self, offset: u64, bytes: Bytes) -> Result<(), CopyError> {
        let total = self.claims.as_ref().map_or(0, |claims| claims.data_bytes);
        if bytes.len() as u64 != READ_BYTES.min(total.saturating_sub(offset)) {
            return Err(CopyError::Damaged("data.db is shorter than metadata.json says".into()));
        }
        let reading = &mut self.reading;
        reading.early.insert(offset, bytes);
        while let Some(bytes) = reading.early.remove(&reading.taken_bytes) {
            reading.checksum.update(&bytes);
            reading.taken_bytes += bytes.len() as u64;
            reading.pending.extend_from_slice(&bytes);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), CopyError> {
        let (Some(claims), Some(upload)) = (&self.claims, self.upload) else { return Ok(()) };
        if self.reading.checksum.clone().finalize()[..] != claims.checksum.0 {
            let what = "data.db has not the SHA-256 that metadata.json says";
            return Err(CopyError::Damaged(what.into()));
        }
        if self.outbox.is_idle() {
            self.step = Step::Finishing;
            self.outbox.blob_in(self.route.to, Purpose::Finish, BlobOp::PutFinish { upload });
        }
        Ok(())
    }

    fn write_beside(&mut self) {
        self.step = Step::Beside;
        for (&role, bytes) in &self.beside {
            let object = ObjectName { backup: self.id, role };
            let put = BlobOp::Put { object, bytes: bytes.clone(), if_absent: false };
            self.outbox.blob_in(self.route.to, Purpose::Beside(role), put);
        }
        // Left there by a removal that broke off, it would say of a whole copy that it is to go.
        let mut unwanted = vec![Role::Removal];
        // What it may be that is damaged there.
        if self.present == Present::Replace && !self.beside.contains_key(&Role::Keys) {
            unwanted.push(Role::Keys);
        }
        for role in unwanted {
            let delete = BlobOp::Delete { object: ObjectName { backup: self.id, role } };
            self.outbox.blob_in(self.route.to, Purpose::Beside(role), delete);
        }
    }

    fn look_again(&mut self) {
        if self.outbox.is_idle() {
            self.step = Step::LookingAgain;
            for (role, get) in small(self.id) {
                self.outbox.blob_in(self.route.from, Purpose::Again(role), get);
            }
        }
    }

    /// Completes the copy, when it is known that everything is still what it was.
    fn commit(&mut self) -> Result<(), CopyError> {
        if !self.outbox.is_idle() {
            return Ok(());
        }
        let now = self.again.remove(&Role::Metadata);
        let metadata = (Role::Metadata, now.as_ref() == Some(&self.metadata));
        let beside = [Role::Keys, Role::Pin]
            .map(|role| (role, self.again.get(&role) == self.beside.get(&role)));
        if let Some((role, _)) = [metadata].into_iter().chain(beside).find(|(_, is_same)| !is_same)
        {
            return Err(CopyError::Changed(ObjectName { backup: self.id, role }));
        }
        self.step = Step::Committing;
        let (object, bytes) = (ObjectName::metadata(self.id), self.metadata.clone());
        let put = BlobOp::Put { object, bytes, if_absent: self.present == Present::Keep };
        self.outbox.blob_in(self.route.to, Purpose::Commit, put);
        Ok(())
    }

    fn complete(&mut self) {
        let data_bytes = self.reading.taken_bytes;
        self.outcome = Some(Ok(Copied::Done { data_bytes }));
    }

    fn fail(&mut self, error: CopyError) {
        if self.outcome.is_some() {
            return;
        }
        self.outbox.cancel_queued();
        if let Some(upload) = self.upload.filter(|_| self.step <= Step::Finishing) {
            self.outbox.blob_in(self.route.to, Purpose::Abort, BlobOp::PutAbort { upload });
        }
        self.outcome = Some(Err(error));
    }

    fn read_error(&self, role: Role, error: BlobError) -> CopyError {
        CopyError::Read { object: ObjectName { backup: self.id, role }, error }
    }

    fn write_error(&self, role: Role, error: BlobError) -> CopyError {
        CopyError::Write { object: ObjectName { backup: self.id, role }, error }
    }
}

/// Everything but the data.
fn small(id: BackupId) -> impl Iterator<Item = (Role, BlobOp)> {
    let all = [
        (Role::Metadata, MAX_METADATA_BYTES),
        (Role::Keys, MAX_KEYS_BYTES),
        (Role::Pin, MAX_MARKER_BYTES),
    ];
    all.into_iter().map(move |(role, max_bytes)| {
        let object = ObjectName { backup: id, role };
        (role, BlobOp::Get { object, offset: 0, len_bytes: max_bytes as u64 + 1 })
    })
}

fn read_metadata(id: BackupId) -> BlobOp {
    let len_bytes = MAX_METADATA_BYTES as u64 + 1;
    BlobOp::Get { object: ObjectName::metadata(id), offset: 0, len_bytes }
}

impl Machine for CopyBackup {
    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll()
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        if let Some(purpose) = self.outbox.blob_done(op)
            && self.outcome.is_none()
        {
            let handled = match result {
                Ok(done) => self.done(purpose, done),
                Err(error) => self.failed(purpose, error),
            };
            if let Err(error) = handled.and_then(|()| self.advance()) {
                self.fail(error);
            }
        }
    }

    fn is_ended(&self) -> bool {
        self.outcome().is_some()
    }

    fn progress(&self) -> Progress {
        let total_bytes = self.claims.as_ref().map(|claims| claims.data_bytes);
        Progress { done_bytes: self.reading.taken_bytes, total_bytes }
    }
}
